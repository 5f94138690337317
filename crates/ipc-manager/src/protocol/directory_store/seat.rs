// SPDX-License-Identifier: MIT OR Apache-2.0
//! A name that is held on a bus whose mailboxes are in the kernel: what AtomicPipe, UnixSocket and ConnectionUnix do
//! alike. The entry is only the door; what was sent and not read goes with the process that holds the mailbox.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Claimed, Listing, Sidecar, Store, claim};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::message::Message;
use crate::name::PeerName;
use crate::protocol::{Damaged, Directory, Envelope, Inbox, Leave, OpenOptions, Wake, Wanted};
use crate::serializer::Serializer;
use crate::stats::Stats;
use crate::system::files;
use crate::system::lock::LifeLock;
use crate::system::watch::{Interest, Watch};

/// How often to look where the kernel tells of messages and of the end of the store.
const LOOK_ALL_THE_SAME: Duration = Duration::from_secs(15);
/// How often to look for the end of the store where the kernel does not tell of it.
const LOOK_FOR_REMOVAL: Duration = Duration::from_secs(1);

/// For how long a store that was there is taken to be there still.
const GOOD_FOR: Duration = Duration::from_micros(200);

/// See the module. Holds everything of a connection but the transport.
#[derive(Debug)]
pub(in crate::protocol) struct Seat {
    pub(in crate::protocol) store: Arc<Store>,
    pub(in crate::protocol) name: PeerName,
    pub(in crate::protocol) disk: OsString,
    pub(in crate::protocol) serializer: Arc<dyn Serializer>,
    pub(in crate::protocol) limits: Limits,
    /// Device and inode of the entry that was made.
    entry: (u64, u64),
    life: LifeLock,
    listing: Listing,
    /// Tells of the end of the store; rung while something waits that no descriptor of the kernel tells of.
    watch: Option<Watch>,
    has_rung: Cell<bool>,
    may_have_resumed: bool,
    /// Messages that were put back and read again, but not handed out.
    resumed: std::collections::VecDeque<Message>,
    /// Damage that was found while nobody was collecting.
    reports: Inbox,
    is_unlisted: bool,
    /// When it was last seen to that the store is there.
    checked: Option<Instant>,
}

/// What taking a seat gave.
#[derive(Debug)]
pub(in crate::protocol) struct Seated<T> {
    pub(in crate::protocol) seat: Seat,
    /// The transport.
    pub(in crate::protocol) door: T,
    pub(in crate::protocol) stats: Stats,
    pub(in crate::protocol) discarded: usize,
}

impl Seat {
    /// Takes a name. `make` makes the entry under the name that it is given, which is a temporary one, complete and
    /// ready for use; it gets its own name in one step after that.
    pub(in crate::protocol) fn take<T>(
        store: Store,
        options: OpenOptions,
        make: impl FnOnce(&Store, &OsStr) -> std::io::Result<T>,
    ) -> Result<Seated<T>> {
        let OpenOptions { name, mode, serializer, limits, .. } = options;
        let store = Arc::new(store);
        let mut door = None;
        let put_in_place = |store: &Store, disk: &OsStr| {
            let prepared = OsString::from(format!(".new-{}", files::random_suffix()));
            let made = make(store, &prepared).and_then(|made| {
                let stat = files::stat_at(store.dir(), &prepared)?.ok_or(std::io::ErrorKind::NotFound)?;
                files::rename_new(store.dir(), &prepared, disk)?;
                Ok((made, files::identity(&stat)))
            });
            door = Some(made.inspect_err(|_| {
                let _ = files::remove_file(store.dir(), &prepared);
            })?);
            Ok(())
        };
        let claimed = claim::take(&store, &name, mode, &*serializer, put_in_place)?;
        let Claimed { disk, life, stats, discarded, .. } = claimed;
        // A name is taken only by making its entry, here without exception.
        let (door, entry) = door.ok_or_else(|| Error::new(ErrorKind::Store, "the entry was not made"))?;
        let watch = Watch::new(store.dir(), Interest::Removal)
            .inspect_err(|error| log::debug!("{name}: no inotify for the end of the store: {error}"))
            .ok();
        let listing = Listing::new(Arc::clone(&store), Some(disk.clone()), Arc::clone(&serializer));
        let seat = Self {
            store,
            name,
            disk,
            serializer,
            limits,
            entry,
            life,
            listing,
            watch,
            has_rung: Cell::new(false),
            may_have_resumed: true,
            resumed: std::collections::VecDeque::new(),
            reports: Inbox::default(),
            is_unlisted: false,
            checked: None,
        };
        Ok(Seated { seat, door, stats, discarded })
    }

    /// Hands out messages that were put back, which come before all others.
    pub(in crate::protocol) fn collect_resumed(&mut self, most: usize, bytes: usize, inbox: &mut Inbox) -> Result<()> {
        if self.may_have_resumed {
            self.read_resumed(inbox)?;
        }
        inbox.damaged.append(&mut self.reports.damaged);
        let mut taken = 0;
        while let Some(message) = self.resumed.front().filter(|_| inbox.len() < most) {
            let size = message.raw_content().as_json().len();
            if !inbox.is_empty() && taken + size > bytes {
                break;
            }
            taken += size;
            if let Some(message) = self.resumed.pop_front() {
                inbox.accept_again(message);
            }
        }
        Ok(())
    }

    fn read_resumed(&mut self, inbox: &mut Inbox) -> Result<()> {
        let Some(resumed) = self.store.read_resume(&self.disk)? else {
            self.may_have_resumed = false;
            return Ok(());
        };
        let file = Sidecar::Resume.of(&self.disk);
        if resumed.damaged.is_some() {
            let mut kept = file.clone();
            kept.push(".bad");
            let set_aside = files::rename(self.store.dir(), &file, &kept);
            if let Some(error) = resumed.damaged {
                let damaged = Damaged::new(error);
                inbox.set_aside(if set_aside.is_ok() { damaged.kept_at(self.store.path(&kept)) } else { damaged });
            }
        }
        // They are handed out from memory: whoever is killed in between loses them, as all that waits in the kernel.
        self.store.remove_sidecar(&self.disk, Sidecar::Resume)?;
        self.may_have_resumed = false;
        for payload in resumed.payloads {
            match self.decode(&payload) {
                Ok(message) => self.resumed.push_back(message),
                Err(error) => inbox.set_aside(Damaged::new(self.store.place(error).at_path(self.store.path(&file)))),
            }
        }
        self.resumed.make_contiguous().sort_by_key(Message::order_key);
        Ok(())
    }

    /// Whether messages wait that were put back.
    pub(in crate::protocol) fn has_resumed(&self) -> Result<bool> {
        Ok(!self.resumed.is_empty() || (self.may_have_resumed && self.store.has_resume(&self.disk)?))
    }

    /// Puts messages back, for whoever holds the name next, too.
    pub(in crate::protocol) fn put_back(&mut self, messages: &[Message]) -> Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        let mut payloads = Vec::with_capacity(messages.len());
        for message in messages {
            let message = message.clone().addressed_to(self.name.clone());
            payloads.push(Envelope::new(&message, &*self.serializer, &self.limits)?.payload()?.to_vec());
        }
        // Behind half a record, which a writer that was killed left, nothing would be found again.
        if self.store.read_resume(&self.disk)?.is_some_and(|resumed| resumed.damaged.is_some()) {
            let mut reports = std::mem::take(&mut self.reports);
            let read = self.read_resumed(&mut reports);
            self.reports = reports;
            read?;
        }
        self.store.append_resume(&self.disk, &payloads)?;
        self.may_have_resumed = true;
        Ok(())
    }

    /// Decodes a payload that came for this peer.
    pub(in crate::protocol) fn decode(&self, payload: &[u8]) -> Result<Message> {
        let text = self.serializer.decode(payload, self.limits.decoded_bytes)?;
        Message::from_json(&text, &self.limits)
    }

    /// Refuses to go on once the store was removed. To be asked when nothing was there.
    ///
    /// Who looks again at once is not told anew each time: an answer is good for a moment.
    pub(in crate::protocol) fn check_store(&mut self) -> Result<()> {
        let now = Instant::now();
        let is_recent = self.checked.is_some_and(|checked| now.duration_since(checked) < GOOD_FOR);
        if is_recent && !self.has_rung.get() {
            return Ok(());
        }
        self.checked = Some(now);
        if let Some(watch) = &self.watch {
            watch.take_changed();
        }
        self.has_rung.set(false);
        if self.store.is_gone() && !self.is_unlisted { Err(self.store.removed()) } else { Ok(()) }
    }

    /// What tells that [`check_store`](Seat::check_store) has something to find; `None` where nothing does.
    pub(in crate::protocol) fn news_of_store(&self) -> Option<[BorrowedFd<'_>; 2]> {
        self.watch.as_ref().map(Watch::descriptors)
    }

    /// Makes the descriptors quiet once nothing waits in this process any more. That they are readable while something
    /// does is seen to by [`Seat::wake`], since most who take messages one by one never poll in between.
    pub(in crate::protocol) fn ring_if(&mut self, is_waiting: bool) {
        if !is_waiting
            && self.has_rung.replace(false)
            && let Some(watch) = &self.watch
        {
            watch.take_changed();
        }
    }

    /// What to poll, with the descriptors of the transport. `is_waiting`: whether something waits in this process.
    pub(in crate::protocol) fn wake<'a>(
        &'a self,
        wanted: Wanted,
        transport: impl IntoIterator<Item = BorrowedFd<'a>>,
        is_waiting: bool,
    ) -> Wake<'a> {
        if wanted.messages
            && is_waiting
            && !self.has_rung.replace(true)
            && let Some(watch) = &self.watch
        {
            watch.ring();
        }
        let mut wake = match &self.watch {
            _ if !wanted.messages => Wake { descriptors: vec![], look_every: Duration::MAX },
            Some(watch) => Wake { descriptors: watch.descriptors().to_vec(), look_every: LOOK_ALL_THE_SAME },
            None if is_waiting => Wake { descriptors: vec![], look_every: Duration::ZERO },
            None => Wake { descriptors: vec![], look_every: LOOK_FOR_REMOVAL },
        };
        if wanted.messages {
            wake.descriptors.extend(transport);
        }
        if wanted.peers {
            let peers = Directory::wake(&self.listing);
            wake.descriptors.extend(peers.descriptors);
            wake.look_every = wake.look_every.min(peers.look_every);
        }
        wake
    }

    pub(in crate::protocol) fn directory(&mut self) -> &mut dyn Directory {
        &mut self.listing
    }

    /// Removes the entry, if it is still the one that was made here.
    pub(in crate::protocol) fn unlist(&mut self) -> Result<()> {
        if self.is_unlisted {
            return Ok(());
        }
        let _section = self.store.enter()?;
        let failed = |error| self.store.failed(&self.disk, "the entry cannot be removed", error);
        let there = files::stat_at(self.store.dir(), &self.disk).map_err(failed)?;
        if there.is_some_and(|stat| files::identity(&stat) == self.entry) {
            files::remove_file(self.store.dir(), &self.disk).map_err(failed)?;
        }
        self.is_unlisted = true;
        Ok(())
    }

    /// Stores the counters and gives the name up.
    pub(in crate::protocol) fn close(&mut self, leave: Leave, stats: &Stats) -> Result<()> {
        if let Leave::Suspend { .. } = leave {
            let error = Error::new(ErrorKind::Unsupported, "a mailbox in the kernel goes with its process");
            return Err(self.store.place(error.about_peer(self.name.as_str())));
        }
        let saved = self.store.write_stats(&self.disk, stats, &*self.serializer);
        claim::give_up(&self.store, &self.disk, &self.life).and(saved)
    }

    /// An error of the system about this peer's own mailbox.
    pub(in crate::protocol) fn failed(&self, detail: &str, error: impl Into<std::io::Error>) -> Error {
        self.store.failed(&self.disk, detail, error.into()).about_peer(self.name.as_str())
    }
}
