// SPDX-License-Identifier: MIT OR Apache-2.0
//! Storing messages in others' mailboxes.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::layout;
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::message::MessageId;
use crate::protocol::directory_store::{EntryState, Holding, Store, disk_name, is_reserved};
use crate::protocol::room::Room;
use crate::protocol::{Durability, Envelope, PeerState, Receipt};
use crate::system::files::{self, Untrusted};

/// How often a message that is sent again may have been handed out already, and is found.
const MOST_ATTEMPTS: u32 = 16;
/// Most recipients whose process is watched between two sends.
const MOST_HOLDING: usize = 64;

/// The sending half of a connection.
#[derive(Debug)]
pub(super) struct Outgoing {
    store: Arc<Store>,
    sync: files::Sync,
    /// Recipients that were alive at the last send, in a form that is cheap to ask again.
    alive: HashMap<OsString, Holding>,
    /// The newest id that was stored, of those that the thread makes that uses this.
    newest: Option<MessageId>,
    room: Room<OsString>,
}

impl Outgoing {
    pub(super) fn new(store: Arc<Store>, durability: Durability, most_unread: Option<usize>) -> Self {
        let sync = if durability == Durability::Power { files::Sync::Disk } else { files::Sync::Kernel };
        Self { store, sync, alive: HashMap::new(), newest: None, room: Room::new(most_unread) }
    }

    /// Stores one message. An error means that it is not there and never will be.
    pub(super) fn store(&mut self, envelope: &Envelope<'_>) -> Result<Receipt> {
        let message = envelope.message();
        self.put(envelope).map_err(|error| {
            let error = error.about_peer(envelope.to().as_str()).about_message(message.id().as_str());
            let stored = error.stored().unwrap_or(Stored::No);
            self.store.place(error).with_stored(stored)
        })
    }

    fn put(&mut self, envelope: &Envelope<'_>) -> Result<Receipt> {
        let to = envelope.to();
        let payload = envelope.payload()?;
        let disk = disk_name(&self.store, to)?;
        if is_reserved(&disk) {
            return Err(no_such_peer());
        }
        let dir = match files::open_dir_at(self.store.dir(), &disk) {
            Ok(dir) => dir,
            Err(error) if is_missing(&error) => return Err(self.missing()),
            Err(error) => return Err(self.store.failed(&disk, "the recipient's mailbox cannot be opened", error)),
        };
        // An id that another implementation chose may be passed on only where it can be a file name.
        let id = MessageId::new(envelope.message().id().as_str())?;
        let (pending, ready) = (layout::pending(&id), layout::ready(&id));
        let unread = |_| Ok(usize::try_from(layout::unread(self.store.dir(), &disk)).unwrap_or(usize::MAX));
        self.room.take(disk.as_os_str(), unread)?;
        self.write(dir.as_fd(), &disk, &pending, payload)?;
        let is_in_hand =
            if self.is_new(&id) { Ok(false) } else { self.is_in_hand(dir.as_fd(), &disk, &ready, payload) };
        if !matches!(is_in_hand, Ok(false)) {
            let _ = files::remove_file(dir.as_fd(), &pending);
            return is_in_hand.map(|_| Receipt::AlreadyStored);
        }
        // Asked before it is stored: a reader may take it and be gone in the same moment.
        let receipt = self.receipt(&disk);
        match files::rename_new(dir.as_fd(), &pending, &ready) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let _ = files::remove_file(dir.as_fd(), &pending);
                self.is_the_same(dir.as_fd(), &disk, &ready, payload)?;
                return Ok(Receipt::AlreadyStored);
            }
            // The recipient left meanwhile and took the half-written message out of the way.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.missing()),
            Err(error) => {
                let _ = files::remove_file(dir.as_fd(), &pending);
                return Err(self.store.failed(&disk, "the message cannot be put in place", error));
            }
        }
        if self.sync == files::Sync::Disk {
            files::sync_dir(dir.as_fd()).map_err(|error| {
                let error = self.store.failed(&disk, "the message may not outlive a power cut", error);
                error.with_stored(Stored::Maybe)
            })?;
        }
        Ok(receipt)
    }

    fn write(&self, dir: BorrowedFd<'_>, disk: &OsStr, pending: &OsStr, payload: &[u8]) -> Result<()> {
        let mut written = files::create_whole(dir, pending, payload, self.sync, self.store.access);
        if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists)
            && files::stat_at(dir, pending).ok().flatten().is_some_and(|stat| layout::is_stale(&stat))
        {
            // Its writer died with this id; the same message is being sent again.
            let _ = files::remove_file(dir, pending);
            written = files::create_whole(dir, pending, payload, self.sync, self.store.access);
        }
        written.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Error::new(ErrorKind::Store, "a message with this id is just being sent").with_retryable(true)
            }
            io::ErrorKind::NotFound => self.missing(),
            _ => self.store.failed(disk, "the message cannot be written", error),
        })
    }

    /// Whether this thread has just made the id, so that nobody can have sent it before.
    fn is_new(&mut self, id: &MessageId) -> bool {
        if !id.is_of_this_thread() || self.newest.as_ref().is_some_and(|newest| id.as_str() <= newest.as_str()) {
            return false;
        }
        self.newest = Some(id.clone());
        true
    }

    /// Whether the message is there already, under the name that it has once it was handed out. One that was handed out
    /// more often than is asked for here counts as read.
    fn is_in_hand(&self, dir: BorrowedFd<'_>, disk: &OsStr, ready: &OsStr, payload: &[u8]) -> Result<bool> {
        for attempts in 1..=MOST_ATTEMPTS {
            let tried = layout::tried(ready, attempts);
            if files::stat_at(dir, &tried).is_ok_and(|stat| stat.is_some()) {
                return self.is_the_same(dir, disk, &tried, payload).map(|()| true);
            }
        }
        Ok(false)
    }

    /// Sending again what is there already is fine; another message under the same id is not.
    fn is_the_same(&self, dir: BorrowedFd<'_>, disk: &OsStr, ready: &OsStr, payload: &[u8]) -> Result<()> {
        let there = files::read_untrusted(dir, ready, payload.len(), self.store.access)
            .map_err(|error| self.store.failed(disk, "a waiting message cannot be read", error))?;
        match there {
            Untrusted::Content(there) if there == payload => Ok(()),
            _ => Err(Error::new(ErrorKind::Store, "another message with this id waits there already")),
        }
    }

    fn missing(&self) -> Error {
        if self.store.is_gone() { self.store.removed() } else { no_such_peer() }
    }

    /// Whether somebody is there to read it.
    fn receipt(&mut self, disk: &OsStr) -> Receipt {
        if let Some(holding) = self.alive.get(disk) {
            if holding.is_unchanged(&self.store, disk) {
                return Receipt::Delivered;
            }
            self.alive.remove(disk);
        }
        match self.store.state(disk) {
            Ok(Some(EntryState { state: PeerState::Active | PeerState::Starting, identity, .. })) => {
                if self.alive.len() >= MOST_HOLDING {
                    self.alive.clear();
                }
                let holding = identity.and_then(|identity| Holding::new(&self.store, disk, &identity));
                self.alive.extend(holding.map(|holding| (disk.to_owned(), holding)));
                Receipt::Delivered
            }
            _ => Receipt::Stored,
        }
    }
}

fn no_such_peer() -> Error {
    Error::new(ErrorKind::NoSuchPeer, "no peer of that name is on the bus")
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || files::is_no_directory(error)
}
