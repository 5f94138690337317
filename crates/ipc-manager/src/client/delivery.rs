// SPDX-License-Identifier: MIT OR Apache-2.0
//! Getting messages out, written once for all protocols: in order, waiting for room or holding back what has none.

use std::time::{Duration, Instant};

use super::outbox::Parcel;
use super::{Away, Client};
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::message::Message;
use crate::name::PeerName;
use crate::protocol::{Connection, Envelope, Receipt};
use crate::system::poll;
use crate::system::{Backoff, Deadline};

/// First and longest pause between two attempts where nothing tells of room.
const ROOM_PAUSES: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(20));
/// How often to try again where descriptors tell of room.
const TRY_ALL_THE_SAME: Duration = Duration::from_secs(1);
/// After so many attempts in vain the word of descriptors is no longer taken for room: others may be faster each time.
const TRUSTED_ATTEMPTS: u32 = 8;
/// For so long attempts in vain only let others run in between: a reader that is at it makes room sooner than the kernel
/// could wake us, and all of it at once.
const QUICK_ATTEMPTS: Duration = Duration::from_micros(50);
/// Most messages of a backlog that are handed to the protocol at once.
const DRAIN_BATCH: usize = 256;
/// Most bytes of room that are kept from one message for the next.
const MOST_ROOM: usize = 16 << 10;
/// Most rooms that are kept: as many as a batch has messages, or nearly.
const MOST_ROOMS: usize = 64;
/// Most errors of messages that were held back that are kept for whoever asks.
const MOST_UNSENT: usize = 10_000;

impl Client {
    pub(super) fn send_one(
        &mut self,
        operation: &'static str,
        message: Message,
        deadline: Option<Deadline>,
    ) -> Result<Receipt> {
        let message = [message.sent_by(&self.name)];
        let mut receipts = std::mem::take(&mut self.receipts);
        receipts.clear();
        let sent = self.checked(operation).and_then(|client| client.store(&message, deadline, &mut receipts));
        self.count_sent(message.iter().zip(&receipts));
        let receipt = receipts.first().copied();
        let unsent = receipts.len();
        self.receipts = receipts;
        if let Err(error) = sent {
            return Err(error.during(operation).with_messages(message.into_iter().skip(unsent).collect()));
        }
        // One message without an error has one receipt; an empty list would break the contract of `deliver`.
        receipt.ok_or_else(|| Error::new(ErrorKind::Store, "the protocol gave no receipt"))
    }

    /// Stores messages in order; without a deadline what has no room is held back or refused at once.
    pub(super) fn deliver(
        &mut self,
        operation: &'static str,
        mut messages: Vec<Message>,
        deadline: Option<Deadline>,
    ) -> Result<Vec<Receipt>> {
        for message in &mut messages {
            message.set_sender(&self.name);
        }
        let mut receipts = Vec::with_capacity(messages.len());
        let sent = self.checked(operation).and_then(|client| client.store(&messages, deadline, &mut receipts));
        self.count_sent(messages.iter().zip(&receipts));
        match sent {
            Ok(()) => Ok(receipts),
            Err(error) => Err(error.during(operation).with_messages(messages.split_off(receipts.len()))),
        }
    }

    fn store(&mut self, messages: &[Message], deadline: Option<Deadline>, receipts: &mut Vec<Receipt>) -> Result<()> {
        match deadline {
            Some(deadline) => self.store_all(messages, deadline, receipts),
            None => self.store_or_hold_back(messages, receipts),
        }
    }

    fn count_sent<'a>(&self, sent: impl Iterator<Item = (&'a Message, &'a Receipt)>) {
        self.registered.count(|stats| {
            for (message, receipt) in sent {
                if !matches!(receipt, Receipt::AlreadyStored | Receipt::Queued) {
                    stats.count_sent(message.to().map_or("", PeerName::as_str));
                }
            }
        });
    }

    /// Stores messages in order, waiting for room until the deadline. What was held back for the same recipients goes
    /// first.
    fn store_all(&mut self, messages: &[Message], deadline: Deadline, receipts: &mut Vec<Receipt>) -> Result<()> {
        if !self.outbox.is_empty() {
            for message in messages {
                self.flush_to(message, deadline)?;
            }
        }
        let (mut alone, mut many) = ([None], Vec::new());
        let payloads = match messages.len() {
            1 => alone.as_mut_slice(),
            count => {
                many.resize(count, None);
                many.as_mut_slice()
            }
        };
        let stored = self.attempt(messages, payloads, Some(deadline), receipts);
        if let Err(error) = &stored
            && error.kind() == ErrorKind::Timeout
            && error.stored() == Some(Stored::Maybe)
        {
            // A part of it is out. Whatever comes next to that peer comes after the rest of it.
            self.hold_back(&messages[receipts.len()], payloads[receipts.len()].take());
        }
        stored
    }

    /// Keeps the buffer of a payload for the next, but neither a large one for ever nor many.
    pub(super) fn keep_room(&mut self, payload: Vec<u8>) {
        if payload.capacity() <= MOST_ROOM && self.rooms.len() < MOST_ROOMS {
            self.rooms.push(payload);
        }
    }

    /// Waits until what was held back for a message's recipient is out.
    fn flush_to(&mut self, message: &Message, deadline: Deadline) -> Result<()> {
        let Some(to) = message.to().cloned() else { return Ok(()) };
        let mut pauses = Pauses::new();
        loop {
            let before = self.outbox.count_to(&to);
            if before == 0 {
                return Ok(());
            }
            pauses.attempted(self.drain_to(&to) > 0);
            if self.outbox.count_to(&to) == 0 {
                return Ok(());
            }
            if deadline.has_passed() {
                let detail = format!("there was no room in time; {before} earlier messages are held back");
                let error = Error::new(ErrorKind::Timeout, detail).about_peer(to.as_str());
                return Err(error.about_message(message.id().as_str()).with_stored(Stored::No));
            }
            self.wait_for_room(&to, deadline, &mut pauses)?;
        }
    }

    /// Stores messages in order without waiting; what has no room is held back where the protocol says so.
    fn store_or_hold_back(&mut self, messages: &[Message], receipts: &mut Vec<Receipt>) -> Result<()> {
        if !self.capabilities.queues {
            return self.attempt(messages, &mut vec![None; messages.len()], None, receipts);
        }
        let begun = receipts.len();
        while let Some(rest) = messages.get(receipts.len() - begun..).filter(|rest| !rest.is_empty()) {
            let waits =
                |client: &Self, message: &Message| message.to().is_some_and(|to| client.outbox.count_to(to) > 0);
            if waits(self, &rest[0])
                && let Some(to) = rest[0].to().cloned()
            {
                self.drain_to(&to);
            }
            let run = rest.iter().take_while(|message| !waits(self, message)).count();
            let mut payloads = vec![None; run.max(1)];
            let stored = match run {
                0 => Err(Error::new(ErrorKind::WouldBlock, "earlier messages to this peer wait for room")),
                _ => self.attempt(&rest[..run], &mut payloads, None, receipts),
            };
            match stored {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let next = receipts.len() - begun;
                    let message = &messages[next];
                    let has_begun = error.stored() == Some(Stored::Maybe);
                    if !has_begun && !self.outbox.has_room(message, &self.limits) {
                        return Err(error.about_message(message.id().as_str()).with_stored(Stored::No));
                    }
                    let payload = payloads.swap_remove(next.saturating_sub(messages.len() - rest.len()));
                    self.hold_back(message, payload);
                    receipts.push(Receipt::Queued);
                }
                stored => stored?,
            }
        }
        Ok(())
    }

    fn hold_back(&mut self, message: &Message, payload: Option<Vec<u8>>) {
        if let Some(to) = message.to().cloned() {
            self.outbox.push(to, Parcel { message: message.clone(), payload });
        }
    }

    /// Sends what is held back, to all recipients, as far as there is room.
    pub(super) fn drain(&mut self) -> usize {
        let recipients: Vec<PeerName> = self.outbox.recipients().cloned().collect();
        recipients.iter().map(|to| self.drain_to(to)).sum()
    }

    /// Sends what is held back for one recipient as far as there is room; returns how many messages that finished.
    fn drain_to(&mut self, to: &PeerName) -> usize {
        let mut finished = 0;
        // Few at first, so that an attempt in vain costs the same however much is held back.
        let mut most = 1;
        loop {
            let (messages, mut payloads): (Vec<_>, Vec<_>) =
                self.outbox.take_first(to, most).map(|parcel| (parcel.message, parcel.payload)).unzip();
            if messages.is_empty() {
                return finished;
            }
            let mut receipts = Vec::with_capacity(messages.len());
            let stored = self.attempt(&messages, &mut payloads, None, &mut receipts);
            self.count_sent(messages.iter().zip(&receipts));
            finished += receipts.len();
            let mut rest = messages.into_iter().zip(payloads).skip(receipts.len());
            let is_blocked = match stored {
                Ok(()) => false,
                Err(error) if error.kind() == ErrorKind::WouldBlock => true,
                Err(error) => {
                    let failed = rest.next().map(|(message, _)| message).into_iter().collect();
                    self.note_unsent(error.during("drain_pending").with_messages(failed));
                    false
                }
            };
            self.outbox.put_first(to, rest.map(|(message, payload)| Parcel { message, payload }));
            if is_blocked {
                return finished;
            }
            most = (most * 4).min(DRAIN_BATCH);
        }
    }

    fn note_unsent(&mut self, error: Error) {
        log::warn!("{}: a message that was held back was not sent: {error}", self.name);
        if self.unsent.len() < MOST_UNSENT {
            self.unsent.push(error);
        }
    }

    /// Sends what is held back until all is out or the deadline passes; what is not out then is given up. Returns the
    /// messages given up, which are in the list of what was not sent, too.
    pub(super) fn drain_or_give_up(&mut self, deadline: Deadline) -> Vec<Message> {
        let mut pauses = Backoff::new(ROOM_PAUSES.0, ROOM_PAUSES.1);
        while !self.outbox.is_empty() && !deadline.has_passed() {
            if self.drain() == 0 && !self.outbox.is_empty() {
                let room = self.room_for_backlog();
                let most = if room.descriptors.is_empty() { pauses.next() } else { TRY_ALL_THE_SAME };
                let _ = poll::either(&[], &room.descriptors, deadline.left(most));
            }
        }
        let recipients: Vec<PeerName> = self.outbox.recipients().cloned().collect();
        let mut given_up = Vec::new();
        for to in recipients {
            for parcel in self.outbox.take(&to) {
                let error = Error::new(ErrorKind::Timeout, "there was no room until this client left");
                let error = error.about_peer(to.as_str()).about_message(parcel.message.id().as_str());
                self.note_unsent(error.during("disconnect").with_messages(vec![parcel.message.clone()]));
                given_up.push(parcel.message);
            }
        }
        given_up
    }

    /// Delivers what has no receipt yet, again and again while there is no room and time is left. Payloads of what was not
    /// delivered are handed back where they were made.
    fn attempt(
        &mut self,
        messages: &[Message],
        payloads: &mut [Option<Vec<u8>>],
        deadline: Option<Deadline>,
        receipts: &mut Vec<Receipt>,
    ) -> Result<()> {
        let begun = receipts.len();
        let Self { connection, serializer, limits, rooms, patience, .. } = self;
        if let ([message], [payload]) = (messages, &mut *payloads) {
            // The usual case, without a list.
            let envelope = Envelope::encoded(message, &**serializer, limits, payload.take())?;
            let envelope = [envelope.with_room(rooms.pop().unwrap_or_default())];
            let delivered = deliver_all(&mut **connection, &envelope, deadline, *patience, receipts);
            let [envelope] = envelope;
            *payload = envelope.into_payload();
            if receipts.len() > begun
                && let Some(payload) = payload.take()
            {
                self.keep_room(payload);
            }
            return delivered;
        }
        let mut envelopes = Vec::with_capacity(messages.len());
        for (message, payload) in messages.iter().zip(payloads.iter_mut()) {
            let envelope = Envelope::encoded(message, &**serializer, limits, payload.take())?;
            envelopes.push(envelope.with_room(rooms.pop().unwrap_or_default()));
        }
        let delivered = deliver_all(&mut **connection, &envelopes, deadline, *patience, receipts);
        let made: Vec<_> = envelopes.into_iter().map(Envelope::into_payload).collect();
        for (at, made) in made.into_iter().enumerate() {
            match made {
                Some(sent) if at < receipts.len() - begun => self.keep_room(sent),
                made => payloads[at] = made,
            }
        }
        delivered
    }

    fn wait_for_room(&self, to: &PeerName, deadline: Deadline, pauses: &mut Pauses) -> Result<()> {
        wait_for_room(&*self.connection, to, deadline, pauses)
    }
}

/// Delivers, again and again while there is no room, or the store is away, and time is left. What may have been stored
/// before the store went away is delivered again under its id.
fn deliver_all(
    connection: &mut dyn Connection,
    envelopes: &[Envelope<'_>],
    deadline: Option<Deadline>,
    patience: Duration,
    receipts: &mut Vec<Receipt>,
) -> Result<()> {
    let begun = receipts.len();
    let mut pauses = Pauses::new();
    let (mut away, mut is_in_doubt) = (None, false);
    loop {
        let done = receipts.len() - begun;
        let error = match connection.deliver(&envelopes[done..], receipts) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let Some(deadline) = deadline else { return Err(error) };
        let is_moving = receipts.len() - begun > done;
        if is_moving {
            (away, is_in_doubt) = (None, false);
        }
        is_in_doubt |= error.is_away() && error.stored() == Some(Stored::Maybe);
        let error = if is_in_doubt { error.with_stored(Stored::Maybe) } else { error };
        if error.is_away() {
            let (attempts, until) = away.get_or_insert_with(|| (Away::new(), deadline.or_after(patience)));
            attempts.ride_out(error, *until)?;
            continue;
        }
        if error.kind() != ErrorKind::WouldBlock {
            return Err(error);
        }
        if deadline.has_passed() {
            return Err(error.with_kind(ErrorKind::Timeout));
        }
        pauses.attempted(is_moving);
        let to = envelopes[receipts.len() - begun].to();
        wait_for_room(connection, to, deadline, &mut pauses)?;
    }
}

/// Sleeps until a recipient may have room: told by descriptors where there are any.
fn wait_for_room(connection: &dyn Connection, to: &PeerName, deadline: Deadline, pauses: &mut Pauses) -> Result<()> {
    if pauses.is_short() {
        std::thread::yield_now();
        return Ok(());
    }
    let room = connection.room(to);
    let slept = if room.descriptors.is_empty() || pauses.in_vain > TRUSTED_ATTEMPTS {
        poll::either(&[], &[], deadline.left(pauses.growing.next()))
    } else {
        poll::either(&[], &room.descriptors, deadline.left(TRY_ALL_THE_SAME))
    };
    slept.map(drop).map_err(|error| Error::system(error, "waiting for room failed"))
}

/// How long to wait between attempts, as they go.
struct Pauses {
    growing: Backoff,
    begun: Option<Instant>,
    in_vain: u32,
}

impl Pauses {
    fn new() -> Self {
        Self { growing: Backoff::new(ROOM_PAUSES.0, ROOM_PAUSES.1), begun: None, in_vain: 0 }
    }

    fn attempted(&mut self, is_moving: bool) {
        if is_moving {
            *self = Self::new();
        }
    }

    /// Whether it is too early to sleep. Counts the attempts from then on.
    fn is_short(&mut self) -> bool {
        let is_short = self.begun.get_or_insert_with(Instant::now).elapsed() < QUICK_ATTEMPTS;
        self.in_vain += u32::from(!is_short);
        is_short
    }
}
