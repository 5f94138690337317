// SPDX-License-Identifier: MIT OR Apache-2.0
//! One peer on a bus in a JSON file.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::Duration;

use super::claim;
use super::delivery::{Hand, attempts_of};
use super::file::{Change, LARGEST, Seen, StateFile};
use super::listing::Listing;
use super::state::State;
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::limits::Limits;
use crate::message::{Message, MessageId};
use crate::name::PeerName;
use crate::protocol::beside::{Beside, Holder};
use crate::protocol::room::Room;
use crate::protocol::{
    Connection, Connections, Damaged, Deliveries, Directory, Envelope, Inbox, Leave, OpenOptions, Opened, Payloads,
    PeerState, Receipt, Wake, Wanted,
};
use crate::stats::Stats;
use crate::system::bell::Bell;
use crate::system::doorbell::{Doorbell, Ringer};
use crate::system::rings::{self, Rings};

/// How often to look for room, which nothing tells of.
const POLL_ROOM: Duration = Duration::from_millis(20);
/// How often to look where a bell tells: only for the case that a ring was lost.
const LOOK_ALL_THE_SAME: Duration = Duration::from_secs(15);
/// How often to look while a peer is there that does not ring.
const LOOK_FOR_FOREIGN: Duration = Duration::from_millis(100);
/// How often to look where nothing tells.
const POLL: Duration = Duration::from_millis(20);

/// The key that says that a message was put back by its reader, which had counted it.
pub(super) const PUT_BACK: &str = "ipcm_again";

/// How often a message was handed out and not acknowledged.
pub(super) const ATTEMPTS: &str = "ipcm_attempts";

/// See the module.
#[derive(Debug)]
pub(super) struct JsonFileConnection {
    pub(super) listing: Listing,
    pub(super) name: PeerName,
    holder: Holder,
    pub(super) limits: Limits,
    bell: Option<Doorbell>,
    pub(super) ringer: Option<Ringer>,
    /// Readable while something is left that is known of, where there is no doorbell to ring.
    left_over: Bell,
    has_rung: bool,
    /// How the file was when nothing waited in it.
    pub(super) empty: Option<Seen>,
    pub(super) hand: Hand,
    is_unlisted: bool,
}

pub(super) fn open(file: StateFile, options: OpenOptions) -> Result<Opened> {
    let OpenOptions { name, mode, limits, .. } = options;
    let left_over = Bell::new().map_err(|error| Error::system(error, "a descriptor to wait for cannot be had"))?;
    let mut bell = file.beside().and_then(Beside::bell);
    let holder = Holder::own(bell.as_ref(), mode);
    let ringer = file.beside().and_then(|beside| Ringer::new(beside.porch()).ok());
    let (stats, discarded) = claim::take(&file, &name, mode, &holder)?;
    if let Some(Err(error)) = bell.as_mut().map(Doorbell::publish) {
        log::warn!("{name}: the doorbell cannot be hung up, so this peer polls: {error}");
    }
    let mut listing = Listing::new(file, Some(name.clone()));
    // The name is taken, so nothing may fail any more: who else is there is found out at the first look, too.
    match listing.file.read() {
        Ok((state, _)) => listing.note(&state),
        Err(error) => log::debug!("{name}: peers without a bell cannot be looked for: {error}"),
    }
    let connection = JsonFileConnection {
        listing,
        name,
        holder,
        limits,
        bell,
        ringer,
        left_over,
        has_rung: false,
        empty: None,
        hand: Hand::default(),
        is_unlisted: false,
    };
    Ok(Opened { connection: Box::new(connection), stats, discarded })
}

impl JsonFileConnection {
    /// Forgets the rings until now, before looking.
    pub(super) fn note_rings(&mut self) {
        if let Some(bell) = &self.bell {
            bell.clear();
        }
        if self.has_rung {
            self.left_over.clear();
            self.has_rung = false;
        }
    }

    /// Keeps the descriptors readable while something is known to be there.
    pub(super) fn ring_if(&mut self, is_left: bool) {
        if is_left && !self.has_rung {
            self.left_over.ring();
            self.has_rung = true;
        }
    }

    /// Whether a message waits.
    pub(super) fn look(&mut self) -> Result<bool> {
        let now = self.listing.file.seen()?;
        if self.empty.is_some_and(|empty| empty.is_unchanged(&now)) {
            return Ok(false);
        }
        let (state, seen) = self.listing.file.read()?;
        self.listing.note(&state);
        let standing = state.standing(self.name.as_str());
        if standing.holder() != Some(&self.current_holder()) {
            let error = Error::new(ErrorKind::NoSuchPeer, "this client's mailbox was removed by somebody else");
            return Err(self.listing.file.place(error.about_peer(self.name.as_str())).with_retryable(false));
        }
        let name = self.name.as_str();
        let in_hand = self.hand.len();
        let has_message = state.has_message(name) && (in_hand == 0 || state.waiting(name)? > in_hand);
        self.empty = (!has_message).then_some(seen);
        Ok(has_message)
    }

    /// The message that a text is, without what is ours in it; whether reading it counts; how often it was handed out.
    pub(super) fn read(&self, text: &str) -> Result<(Message, bool, u32)> {
        let message = Message::from_json(text.as_bytes(), &self.limits)?;
        if message.to() != Some(&self.name) {
            let error = Error::new(ErrorKind::Corrupt, "the message is addressed to somebody else");
            return Err(error.about_message(message.id().as_str()));
        }
        let attempts = attempts_of(&message);
        let (message, put_back) = message.without_extra(PUT_BACK);
        Ok((message.without_extra(ATTEMPTS).0, put_back.is_none(), attempts))
    }

    /// Takes messages out of the mailbox; returns whether there may be more.
    fn take(&mut self, most: usize, bytes: usize, inbox: &mut Inbox) -> Result<bool> {
        if !self.look()? {
            return Ok(false);
        }
        let wanted = most.saturating_sub(inbox.len());
        let name = self.name.as_str();
        let hand = &self.hand;
        let taken = self.listing.file.change(|state| match hand.len() {
            0 => state.take(name, wanted, bytes).map(Change::Some),
            _ => hand.take_others(state, name, wanted, bytes).map(Change::Some),
        })?;
        for text in &taken {
            // Decoded after they were taken: the state was read under the lock, and holds up everybody.
            match self.read(text) {
                Ok((message, true, _)) => inbox.accept(message),
                Ok((message, false, _)) => inbox.accept_again(message),
                Err(error) => self.set_aside(error, text, inbox),
            }
        }
        Ok(taken.len() >= wanted)
    }

    fn current_holder(&self) -> Holder {
        if self.is_unlisted { self.holder.leaving() } else { self.holder.clone() }
    }

    pub(super) fn text_of(&self, message: &Message) -> Result<String> {
        let json = message.to_json(&self.limits)?;
        let limit = self.limits.encoded_bytes.min(LARGEST / 2);
        if json.len() > limit {
            let detail = format!("the encoded message has {} bytes, and the limit is {limit}", json.len());
            return Err(Error::new(ErrorKind::TooLarge, detail));
        }
        Ok(json)
    }
}

/// Puts a message into a mailbox, if that is there and has room; and says whose bell to ring.
fn append(
    state: &mut State,
    porch: Option<&crate::system::doorbell::Porch>,
    room: &mut Room<PeerName>,
    to: &PeerName,
    text: String,
) -> Result<(Receipt, Option<OsString>)> {
    let standing = state.standing(to.as_str());
    let held = standing.state(porch).filter(|_| standing.is_active);
    let Some(held) = held else {
        return Err(Error::new(ErrorKind::NoSuchPeer, "no peer of that name is on the bus"));
    };
    room.take(to, |_| state.unread(to.as_str()))?;
    state.append(to.as_str(), text);
    let is_there = held == PeerState::Active;
    let bell = standing.holder().filter(|_| is_there).and_then(Holder::bell);
    Ok((if is_there { Receipt::Delivered } else { Receipt::Stored }, bell))
}

impl Rings for JsonFileConnection {
    fn forget_rings(&mut self) {
        self.note_rings();
    }

    fn ring_on(&mut self) {
        self.ring_if(true);
    }
}

impl Connection for JsonFileConnection {
    fn deliver(&mut self, envelopes: &[Envelope<'_>], receipts: &mut Vec<Receipt>) -> Result<()> {
        let mut texts = Vec::with_capacity(envelopes.len());
        let mut refused = None;
        for envelope in envelopes {
            let message = envelope.message();
            match MessageId::new(message.id().as_str()).and_then(|_| self.text_of(message)) {
                Ok(text) => texts.push(text),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        let (porch, most_unread) = (self.listing.porch(), self.limits.unread_messages);
        let put = |state: &mut State| {
            let (mut done, mut bells, mut refused) = (Vec::new(), BTreeSet::new(), None);
            // For this change only: the whole state is at hand.
            let mut room = Room::new(most_unread);
            for (envelope, text) in envelopes.iter().zip(texts) {
                match append(state, porch, &mut room, envelope.to(), text) {
                    Ok((receipt, bell)) => {
                        done.push(receipt);
                        bells.extend(bell);
                    }
                    Err(error) => {
                        refused = Some(error);
                        break;
                    }
                }
            }
            let is_changed = !done.is_empty();
            let outcome = (done, bells, refused);
            Ok(if is_changed { Change::Some(outcome) } else { Change::None(outcome) })
        };
        let ring = |(_, bells, _): &(Vec<Receipt>, BTreeSet<OsString>, Option<Error>)| {
            if let Some(ringer) = &self.ringer {
                for bell in bells {
                    ringer.ring(bell);
                }
            }
        };
        let stored = rings::store(|| self.listing.file.change(put), ring);
        let first = receipts.len();
        let outcome = stored.and_then(|(done, _, not_there)| {
            receipts.extend(done);
            not_there.or(refused).map_or(Ok(()), Err)
        });
        outcome.map_err(|error| {
            let at = (receipts.len() - first).min(envelopes.len().saturating_sub(1));
            let Some(envelope) = envelopes.get(at) else { return error };
            let error = error.about_peer(envelope.to().as_str()).about_message(envelope.message().id().as_str());
            self.listing.file.place(error).with_stored(Stored::No)
        })
    }

    fn room(&self, _: &PeerName) -> Wake<'_> {
        Wake { descriptors: vec![], look_every: POLL_ROOM }
    }

    fn connections(&mut self) -> Option<&mut dyn Connections> {
        None
    }

    fn collect(&mut self, most: usize, bytes: usize, inbox: &mut Inbox) -> Result<()> {
        rings::look(self, |own| own.take(most, bytes, inbox), |is_left| *is_left).map(drop)
    }

    fn is_ready(&mut self) -> Result<bool> {
        rings::look(self, Self::look, |is_ready| *is_ready)
    }

    fn is_pending(&mut self) -> Result<bool> {
        Ok(false)
    }

    fn put_back(&mut self, messages: &[Message]) -> Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        let mut texts = Vec::with_capacity(messages.len());
        for message in messages {
            let message = message.clone().addressed_to(self.name.clone()).with_extra(PUT_BACK, 1);
            texts.push(self.text_of(&message)?);
        }
        let name = self.name.as_str();
        self.listing.file.change(|state| {
            state.put_in_front(name, texts);
            Ok(Change::Some(()))
        })?;
        self.empty = None;
        self.ring_if(true);
        Ok(())
    }

    fn wake(&self, wanted: Wanted) -> Wake<'_> {
        let mut wake = Wake { descriptors: vec![], look_every: Duration::MAX };
        if wanted.messages {
            wake.look_every = match self.bell.as_ref().filter(|bell| bell.is_hung()) {
                Some(_) if self.listing.has_foreign() => LOOK_FOR_FOREIGN,
                Some(_) => LOOK_ALL_THE_SAME,
                None => POLL,
            };
            wake.descriptors.extend(self.bell.as_ref().and_then(Doorbell::descriptor));
            wake.descriptors.push(self.left_over.descriptor());
        }
        if wanted.peers {
            let peers = self.listing.wake();
            wake.descriptors.extend(peers.descriptors);
            wake.look_every = wake.look_every.min(peers.look_every);
        }
        wake
    }

    fn directory(&mut self) -> &mut dyn Directory {
        &mut self.listing
    }

    fn payloads(&mut self) -> Option<&mut dyn Payloads> {
        None
    }

    fn deliveries(&mut self) -> Option<&mut dyn Deliveries> {
        Some(self)
    }

    fn unlist(&mut self) -> Result<()> {
        if self.is_unlisted {
            return Ok(());
        }
        let (name, holder) = (self.name.as_str(), &self.holder);
        self.listing.file.change(|state| {
            // Somebody else's by now: nothing to give up.
            if state.standing(name).holder() != Some(holder) {
                return Ok(Change::None(()));
            }
            state.unlist(name, holder);
            Ok(Change::Some(()))
        })?;
        self.is_unlisted = true;
        self.empty = None;
        Ok(())
    }

    fn seal(&mut self, inbox: &mut Inbox) -> Result<()> {
        // Unlisting and sending exclude each other, so what came is all that will.
        while matches!(self.look(), Ok(true)) {
            self.collect(inbox.len().saturating_add(self.limits.batch_messages), usize::MAX, inbox)?;
        }
        Ok(())
    }

    fn close(&mut self, leave: Leave, stats: &Stats) -> Result<()> {
        let (name, holder) = (self.name.as_str(), self.current_holder());
        self.listing.file.change(|state| {
            let is_ours = state.standing(name).holder() == Some(&holder);
            match leave {
                Leave::Disconnect if is_ours => drop(state.remove(name)?),
                Leave::Disconnect => {}
                Leave::Suspend { until } if is_ours => state.suspend(name, until),
                Leave::Suspend { .. } => {
                    let error = Error::new(ErrorKind::NoSuchPeer, "this client's mailbox was removed by somebody else");
                    return Err(error.about_peer(name));
                }
            }
            state.set_stats(name, Some(stats))?;
            Ok(Change::Some(()))
        })?;
        // Store first, ring second: those who watch the bells look at the store now.
        self.bell = None;
        Ok(())
    }
}

impl JsonFileConnection {
    /// Reports something that is no message; its text goes into a file beside the state.
    pub(super) fn set_aside(&self, error: Error, text: &str, inbox: &mut Inbox) {
        let error = self.listing.file.place(error.about_peer(self.name.as_str()));
        let damaged = Damaged::new(error);
        let kept = self.listing.file.beside().and_then(|beside| beside.keep_damaged(text.as_bytes()));
        inbox.set_aside(match kept {
            Some(path) => damaged.kept_at(path),
            None => damaged,
        });
    }
}
