// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages that stay in the mailbox until they are acknowledged. What is in hand keeps a name that every implementation
//! reads, so a crash leaves nothing to mend; how often it was handed out is in the name, too.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::connection::MessageFilesConnection;
use super::layout::{self, FileKind};
use super::mailbox::{Entry, Mailbox, decode};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Stamp;
use crate::name::PeerName;
use crate::protocol::directory_store::{disk_name, is_reserved};
use crate::protocol::{Dead, Deliveries, Held, Inbox, tell_of_death};
use crate::serializer::Serializer;
use crate::system::files::{self, Untrusted};

/// What was handed out, with its place in the order.
#[derive(Debug, Default)]
pub(super) struct Hand {
    held: BTreeMap<u64, ((Stamp, u64, u64), Entry)>,
    files: HashSet<OsString>,
    last: u64,
}

impl Hand {
    pub(super) fn files(&self) -> impl Iterator<Item = &OsString> {
        self.files.iter()
    }

    pub(super) fn has(&self, file: &OsStr) -> bool {
        self.files.contains(file)
    }

    fn put(&mut self, key: (Stamp, u64, u64), entry: Entry) -> u64 {
        self.last += 1;
        self.files.extend(entry.file.clone());
        self.held.insert(self.last, (key, entry));
        self.last
    }

    fn take(&mut self, mark: u64) -> Option<((Stamp, u64, u64), Entry)> {
        let taken = self.held.remove(&mark)?;
        taken.1.file.as_ref().map(|file| self.files.remove(file));
        Some(taken)
    }
}

impl Mailbox {
    /// Takes the first message of the index into the hand.
    fn hold(&mut self, serializer: &dyn Serializer, inbox: &mut Inbox) -> io::Result<Option<Held>> {
        if !self.has_index() {
            return Ok(None);
        }
        let dir = self.dir()?;
        while let Some((key, mut entry)) = self.index.pop_first() {
            self.no_longer_keeps(&entry);
            let Some(file) = entry.file.clone() else {
                // One that was put back, and is nowhere else any more.
                let Some(message) = entry.message.clone() else { continue };
                return Ok(Some(self.held(key, entry, message, 1, false)));
            };
            let message = match entry.message.take() {
                Some(message) => message,
                None => match self.load(dir.as_fd(), &file, serializer, inbox)? {
                    Some((message, _)) => message,
                    None => continue,
                },
            };
            let before = layout::attempts(&file);
            if before >= self.limits.delivery_attempts {
                self.bury(dir.as_fd(), &file)?;
                continue;
            }
            let tried = layout::tried(&file, before.saturating_add(1));
            match files::rename(dir.as_fd(), &file, &tried) {
                Ok(()) => entry.file = Some(tried),
                // Somebody else removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // Better handed out uncounted than not at all.
                Err(error) if files::is_full(&error) || error.kind() == io::ErrorKind::InvalidFilename => {}
                Err(error) => {
                    self.index.insert(key, entry);
                    return Err(error);
                }
            }
            let counts = !layout::is_put_back(&file);
            return Ok(Some(self.held(key, entry, message, before.saturating_add(1), counts)));
        }
        Ok(None)
    }

    fn held(
        &mut self,
        key: (Stamp, u64, u64),
        entry: Entry,
        message: crate::message::Message,
        attempts: u32,
        counts: bool,
    ) -> Held {
        Held { mark: self.hand.put(key, entry), message, attempts, counts }
    }

    /// Removes a message in hand; if that fails it is unread again.
    fn acknowledge(&mut self, mark: u64) -> io::Result<()> {
        let Some((key, entry)) = self.hand.take(mark) else { return Ok(()) };
        let Some(file) = &entry.file else { return Ok(()) };
        let removed = self.dir().and_then(|dir| match files::remove_file(dir.as_fd(), file)? {
            // Somebody else took it; but not if the whole mailbox is gone.
            false if self.is_gone() => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(()),
        });
        if removed.is_err() {
            self.index.insert(key, entry);
        }
        self.release();
        removed
    }

    /// Makes a message in hand unread again, or dead.
    fn let_go(&mut self, mark: u64) -> io::Result<()> {
        let Some((key, entry)) = self.hand.take(mark) else { return Ok(()) };
        let file = entry.file.as_ref().filter(|file| layout::attempts(file) >= self.limits.delivery_attempts);
        let buried = match file.cloned() {
            Some(file) => self.dir().and_then(|dir| self.bury(dir.as_fd(), &file)).map(|()| true),
            None => Ok(false),
        };
        if !matches!(buried, Ok(true)) {
            self.index.insert(key, entry);
        }
        self.release();
        buried.map(drop)
    }

    /// Makes a message that was handed out too often a dead one.
    fn bury(&self, dir: BorrowedFd<'_>, file: &OsStr) -> io::Result<()> {
        match files::rename(dir, file, &layout::dead(file)) {
            Ok(()) => {
                tell_of_death(&self.own, &layout::id_in(file), layout::attempts(file));
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl MessageFilesConnection {
    /// A mailbox, one's own or another's.
    fn mailbox_of(&mut self, of: &PeerName) -> Result<Arc<OwnedFd>> {
        if *of == self.name {
            return self.mailbox.dir().map_err(|error| match error.kind() {
                io::ErrorKind::NotFound if self.store.is_gone() => self.store.removed(),
                _ => self.failed("the mailbox cannot be opened", error),
            });
        }
        let disk = disk_name(&self.store, of)?;
        let no_such_peer = || self.store.place(Error::new(ErrorKind::NoSuchPeer, "no peer of that name is on the bus"));
        if is_reserved(&disk) {
            return Err(no_such_peer());
        }
        match files::open_dir_at(self.store.dir(), &disk) {
            Ok(dir) => Ok(Arc::new(dir)),
            Err(_) if self.store.is_gone() => Err(self.store.removed()),
            Err(error) if error.kind() == io::ErrorKind::NotFound || files::is_no_directory(&error) => {
                Err(no_such_peer())
            }
            Err(error) => Err(self.store.failed(&disk, "the mailbox cannot be opened", error)),
        }
    }

    /// The dead messages in a mailbox with their files, oldest first. What cannot be read is none.
    fn dead_in(&self, dir: BorrowedFd<'_>) -> io::Result<Vec<(OsString, Dead)>> {
        let read =
            |file: OsString| match files::read_untrusted(dir, &file, self.limits.encoded_bytes, self.store.access)
                .ok()?
            {
                Untrusted::Content(payload) => {
                    let message = decode(&payload, &*self.serializer, &self.limits).ok()?;
                    let dead = Dead::new(message, layout::attempts(&file));
                    Some((file, dead))
                }
                _ => None,
            };
        let mut dead: Vec<_> = layout::all(dir, FileKind::Dead)?.into_iter().filter_map(read).collect();
        dead.sort_by_key(|(_, dead)| dead.message.order_key());
        Ok(dead)
    }
}

impl Deliveries for MessageFilesConnection {
    fn hold(&mut self, inbox: &mut Inbox) -> Result<Option<Held>> {
        self.prepare(inbox)?;
        let serializer = Arc::clone(&self.serializer);
        let held = self.mailbox.hold(&*serializer, inbox);
        self.mailbox.release();
        let is_left = self.mailbox.has_known();
        self.ring_if(is_left);
        held.map_err(|error| self.failed("a message cannot be taken into the hand", error))
    }

    fn acknowledge(&mut self, mark: u64) -> Result<()> {
        self.mailbox.acknowledge(mark).map_err(|error| self.failed("a message cannot be acknowledged", error))
    }

    fn release(&mut self, mark: u64) -> Result<()> {
        let released = self.mailbox.let_go(mark);
        let is_left = self.mailbox.has_known();
        self.ring_if(is_left);
        released.map_err(|error| self.failed("a message cannot be set aside", error))
    }

    fn dead(&mut self, of: &PeerName) -> Result<Vec<Dead>> {
        let dir = self.mailbox_of(of)?;
        let dead = self.dead_in(dir.as_fd());
        Ok(dead
            .map_err(|error| self.failed("a mailbox cannot be read", error))?
            .into_iter()
            .map(|(_, dead)| dead)
            .collect())
    }

    fn revive(&mut self, of: &PeerName, id: Option<&str>) -> Result<usize> {
        let dir = self.mailbox_of(of)?;
        let dead = self.dead_in(dir.as_fd()).map_err(|error| self.failed("a mailbox cannot be read", error))?;
        let mut count = 0;
        for (file, _) in dead.iter().filter(|(_, dead)| id.is_none_or(|id| dead.message.id().as_str() == id)) {
            let mut revived = files::rename_new(dir.as_fd(), file, &layout::revived(file));
            if revived.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
                // The same message was sent again.
                revived = files::rename_new(dir.as_fd(), file, &layout::tried(&layout::revived(file), 0));
            }
            match revived {
                Ok(()) => count += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.failed("a dead message cannot be made unread", error)),
            }
        }
        self.is_dirty |= *of == self.name && count > 0;
        Ok(count)
    }
}
