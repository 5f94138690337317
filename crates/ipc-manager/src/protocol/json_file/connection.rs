// SPDX-License-Identifier: MIT OR Apache-2.0
//! One peer on a bus in a JSON file.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::Duration;

use super::claim;
use super::file::{Change, LARGEST, Seen, StateFile};
use super::listing::Listing;
use super::state::State;
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::limits::Limits;
use crate::message::{Message, MessageId};
use crate::name::PeerName;
use crate::protocol::beside::{Beside, Holder};
use crate::protocol::{
    Connection, Connections, Damaged, Directory, Envelope, Inbox, Leave, OpenOptions, Opened, PeerState, Receipt, Wake,
    Wanted,
};
use crate::stats::Stats;
use crate::system::bell::Bell;
use crate::system::doorbell::{Doorbell, Ringer};

/// How often to look for room, which nothing tells of.
const POLL_ROOM: Duration = Duration::from_millis(20);
/// How often to look where a bell tells: only for the case that a ring was lost.
const LOOK_ALL_THE_SAME: Duration = Duration::from_secs(15);
/// How often to look while a peer is there that does not ring.
const LOOK_FOR_FOREIGN: Duration = Duration::from_millis(100);
/// How often to look where nothing tells.
const POLL: Duration = Duration::from_millis(20);

/// The key that says that a message was put back by its reader, which had counted it.
const PUT_BACK: &str = "ipcm_again";

/// See the module.
#[derive(Debug)]
struct JsonFileConnection {
    listing: Listing,
    name: PeerName,
    holder: Holder,
    limits: Limits,
    bell: Option<Doorbell>,
    ringer: Option<Ringer>,
    /// Readable while something is left that is known of, where there is no doorbell to ring.
    left_over: Bell,
    has_rung: bool,
    /// How the file was when nothing waited in it.
    empty: Option<Seen>,
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
    let (state, _) = listing.file.read()?;
    listing.note(&state);
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
        is_unlisted: false,
    };
    Ok(Opened { connection: Box::new(connection), stats, discarded })
}

impl JsonFileConnection {
    /// Forgets the rings until now, before looking.
    fn note_rings(&mut self) {
        if let Some(bell) = &self.bell {
            bell.clear();
        }
        if self.has_rung {
            self.left_over.clear();
            self.has_rung = false;
        }
    }

    /// Keeps the descriptors readable while something is known to be there.
    fn ring_if(&mut self, is_left: bool) {
        if is_left && !self.has_rung {
            self.left_over.ring();
            self.has_rung = true;
        }
    }

    /// Whether a message waits.
    fn look(&mut self) -> Result<bool> {
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
        let has_message = state.has_message(self.name.as_str());
        self.empty = (!has_message).then_some(seen);
        Ok(has_message)
    }

    fn current_holder(&self) -> Holder {
        if self.is_unlisted { self.holder.leaving() } else { self.holder.clone() }
    }

    fn text_of(&self, message: &Message) -> Result<String> {
        let json = message.to_json(&self.limits)?;
        let limit = self.limits.encoded_bytes.min(LARGEST / 2);
        if json.len() > limit {
            let detail = format!("the encoded message has {} bytes, and the limit is {limit}", json.len());
            return Err(Error::new(ErrorKind::TooLarge, detail));
        }
        Ok(json)
    }
}

/// Puts a message into a mailbox, if that is there; and says whose bell to ring.
fn append(
    state: &mut State,
    porch: Option<&crate::system::doorbell::Porch>,
    to: &PeerName,
    text: String,
) -> Result<(Receipt, Option<OsString>)> {
    let standing = state.standing(to.as_str());
    let held = standing.state(porch).filter(|_| standing.is_active);
    let Some(held) = held else {
        return Err(Error::new(ErrorKind::NoSuchPeer, "no peer of that name is on the bus"));
    };
    state.append(to.as_str(), text);
    let is_there = held == PeerState::Active;
    let bell = standing.holder().filter(|_| is_there).and_then(Holder::bell);
    Ok((if is_there { Receipt::Delivered } else { Receipt::Stored }, bell))
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
        let porch = self.listing.porch();
        let stored = self.listing.file.change(|state| {
            let (mut done, mut bells, mut refused) = (Vec::new(), BTreeSet::new(), None);
            for (envelope, text) in envelopes.iter().zip(texts) {
                match append(state, porch, envelope.to(), text) {
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
        });
        let first = receipts.len();
        let outcome = stored.and_then(|(done, bells, not_there)| {
            receipts.extend(done);
            // Store first, ring second.
            if let Some(ringer) = &self.ringer {
                for bell in &bells {
                    ringer.ring(bell);
                }
            }
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
        self.note_rings();
        if !self.look()? {
            return Ok(());
        }
        let wanted = most.saturating_sub(inbox.len());
        let name = self.name.as_str();
        let taken = self.listing.file.change(|state| state.take(name, wanted, bytes).map(Change::Some))?;
        for text in &taken {
            // Decoded after they were taken: the state was read under the lock, and holds up everybody.
            match Message::from_json(text.as_bytes(), &self.limits) {
                Ok(message) if message.to() == Some(&self.name) => match message.without_extra(PUT_BACK) {
                    (message, Some(_)) => inbox.accept_again(message),
                    (message, None) => inbox.accept(message),
                },
                Ok(message) => {
                    let error = Error::new(ErrorKind::Corrupt, "the message is addressed to somebody else");
                    self.set_aside(error.about_message(message.id().as_str()), text, inbox);
                }
                Err(error) => self.set_aside(error, text, inbox),
            }
        }
        self.ring_if(taken.len() >= wanted);
        Ok(())
    }

    fn is_ready(&mut self) -> Result<bool> {
        self.note_rings();
        let is_ready = self.look()?;
        self.ring_if(is_ready);
        Ok(is_ready)
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
            wake.descriptors.extend(self.bell.as_ref().map(Doorbell::descriptor));
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
    fn set_aside(&self, error: Error, text: &str, inbox: &mut Inbox) {
        let error = self.listing.file.place(error.about_peer(self.name.as_str()));
        let damaged = Damaged::new(error);
        let kept = self.listing.file.beside().and_then(|beside| beside.keep_damaged(text.as_bytes()));
        inbox.set_aside(match kept {
            Some(path) => damaged.kept_at(path),
            None => damaged,
        });
    }
}
