// SPDX-License-Identifier: MIT OR Apache-2.0
//! One peer on a bus of MessageFiles.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::mailbox::Mailbox;
use super::outgoing::Outgoing;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::message::Message;
use crate::name::PeerName;
use crate::protocol::directory_store::{self, Listing, Sidecar, Store, leaving_name};
use crate::protocol::{
    Connection, Connections, Damaged, Deliveries, Directory, Envelope, Inbox, Leave, Mode, OpenOptions, Opened,
    Payloads, Receipt, Wake, Wanted,
};
use crate::serializer::Serializer;
use crate::stats::Stats;
use crate::system::files;
use crate::system::lock::LifeLock;
use crate::system::rings::{self, Rings};
use crate::system::watch::{Interest, Watch};
use crate::system::{Deadline, poll};

/// How often to look for room, which nothing tells of.
const POLL_ROOM: Duration = Duration::from_millis(20);
/// How often to look where the kernel tells of messages: only for the case that something else wrote past it.
const LOOK_ALL_THE_SAME: Duration = Duration::from_secs(15);
/// How often to look where nothing tells.
const POLL: Duration = Duration::from_millis(20);

/// How long the removal of a store may take from its first mailbox to the last.
const REMOVAL: Duration = Duration::from_millis(200);
/// How often a mailbox is drained and removed until something in it must be immovable: senders lose this race at once,
/// since they open the mailbox by the name that it no longer has.
const MOST_ROUNDS: usize = 1_000;

/// See [`super::MessageFiles`].
#[derive(Debug)]
pub(super) struct MessageFilesConnection {
    pub(super) store: Arc<Store>,
    pub(super) name: PeerName,
    disk: OsString,
    life: LifeLock,
    pub(super) serializer: Arc<dyn Serializer>,
    pub(super) limits: Limits,
    pub(super) mailbox: Mailbox,
    outgoing: Outgoing,
    listing: Listing,
    watch: Option<Watch>,
    /// Whether the directory may hold what was not looked at.
    pub(super) is_dirty: bool,
    /// Whether messages may have been put back that were not taken in again.
    may_have_resumed: bool,
    /// Damage that was found while nobody was collecting.
    reports: Inbox,
    /// Whether the descriptor was made readable since changes were last asked for.
    has_rung: bool,
    looked: Instant,
    is_unlisted: bool,
}

pub(super) fn open(store: Store, options: OpenOptions) -> Result<Opened> {
    let OpenOptions { name, mode, serializer, limits, durability, .. } = options;
    let store = Arc::new(store);
    let make = |store: &Store, disk: &OsStr| files::make_dir_whole(store.dir(), disk, store.access);
    let claimed = directory_store::take(&store, &name, mode, &*serializer, make)?;
    let directory_store::Claimed { disk, life, stats, discarded, was_suspended_until } = claimed;
    let opened = Mailbox::new(Arc::clone(&store), disk.clone(), name.clone(), limits.clone())
        .and_then(|mailbox| Ok((mailbox, files::open_dir_at(store.dir(), &disk)?)));
    let (mailbox, dir) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let _ = match mode {
                Mode::Connect => files::remove_empty_dir(store.dir(), &disk)
                    .map_err(|error| store.failed(&disk, "the mailbox cannot be removed", error))
                    .and_then(|_| directory_store::give_up(&store, &disk, &life)),
                Mode::Reconnect => directory_store::keep_for_later(&store, &disk, &life, was_suspended_until),
            };
            return Err(store.failed(&disk, "the mailbox cannot be opened", error));
        }
    };
    let watch = Watch::new(dir.as_fd(), Interest::Messages)
        .inspect_err(|error| log::debug!("{name}: polling, since inotify cannot be had: {error}"))
        .ok();
    if let Some(watch) = &watch {
        // What came before the watch has rung nobody.
        watch.ring();
    }
    let connection = MessageFilesConnection {
        mailbox,
        outgoing: Outgoing::new(Arc::clone(&store), durability, limits.unread_messages),
        listing: Listing::new(Arc::clone(&store), Some(disk.clone()), Arc::clone(&serializer)),
        store,
        name,
        disk,
        life,
        serializer,
        limits,
        watch,
        is_dirty: true,
        may_have_resumed: true,
        reports: Inbox::default(),
        has_rung: false,
        looked: Instant::now(),
        is_unlisted: false,
    };
    Ok(Opened { connection: Box::new(connection), stats, discarded })
}

impl MessageFilesConnection {
    pub(super) fn failed(&mut self, detail: &str, error: std::io::Error) -> Error {
        if self.mailbox.is_gone() && !self.is_unlisted {
            return self.removed();
        }
        self.store.failed(&self.disk, detail, error).about_peer(self.name.as_str())
    }

    /// Takes note of what the kernel tells. To be asked before looking: what comes after the question is told again.
    fn note_changes(&mut self) {
        self.has_rung = false;
        self.is_dirty |= match &self.watch {
            Some(watch) => watch.take_changed() || self.looked.elapsed() >= LOOK_ALL_THE_SAME,
            None => true,
        };
    }

    fn has_looked(&mut self) {
        self.is_dirty = false;
        self.looked = Instant::now();
    }

    /// Keeps the descriptor readable while something is known to be there.
    pub(super) fn ring_if(&mut self, is_ready: bool) {
        if let Some(watch) = self.watch.as_ref().filter(|_| is_ready && !self.has_rung) {
            watch.ring();
            self.has_rung = true;
        }
    }

    /// Makes the index say what comes next.
    pub(super) fn prepare(&mut self, inbox: &mut Inbox) -> Result<()> {
        inbox.damaged.append(&mut self.reports.damaged);
        // First of all, so that they come before what is newer, also in the middle of a backlog.
        let is_used_up = !self.mailbox.has_index();
        if is_used_up || self.may_have_resumed {
            self.take_back_resumed(inbox)?;
        }
        if is_used_up { self.look(inbox) } else { Ok(()) }
    }

    /// Looks at the directory if it may hold something new.
    fn look(&mut self, inbox: &mut Inbox) -> Result<()> {
        self.note_changes();
        if !self.is_dirty && !self.mailbox.has_known() {
            return Ok(());
        }
        loop {
            let looked = self.mailbox.look(&*self.serializer, inbox);
            if self.is_unlisted && looked.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
                // Somebody else removed it: nothing is left to drain.
                return Ok(());
            }
            looked.map_err(|error| self.failed("the mailbox cannot be read", error))?;
            // What only the second listing showed is there for the first listing of the next look.
            if self.mailbox.has_index() || !self.mailbox.has_known() {
                self.has_looked();
                return Ok(());
            }
        }
    }

    fn removed(&mut self) -> Error {
        // Stays so: every later look says it again.
        self.is_dirty = true;
        // Mailboxes go before the store that they are in; a moment tells which of the two was removed.
        let moment = Deadline::after(REMOVAL);
        while !self.store.is_gone() && !moment.has_passed() {
            let _ = poll::readable(&[], Duration::from_millis(1));
        }
        if self.store.is_gone() {
            return self.store.removed();
        }
        let error = Error::new(ErrorKind::NoSuchPeer, "this client's mailbox was removed by somebody else");
        self.store.place(error.about_peer(self.name.as_str())).with_retryable(false)
    }

    /// Moves messages that were put back from their file into the mailbox. Idempotent, so a crash half-way loses and
    /// doubles nothing.
    fn take_back_resumed(&mut self, inbox: &mut Inbox) -> Result<()> {
        self.may_have_resumed = false;
        if !self.store.has_resume(&self.disk)? {
            return Ok(());
        }
        self.may_have_resumed = true;
        let Some(resumed) = self.store.read_resume(&self.disk)? else { return Ok(()) };
        for (done, payload) in resumed.payloads.iter().enumerate() {
            match self.mailbox.restore(payload, &*self.serializer) {
                Ok(()) => {}
                Err(error) if files::is_full(&error) => {
                    // Readers must be able to empty a full disk. The records make room, and memory keeps the rest.
                    self.store.remove_sidecar(&self.disk, Sidecar::Resume)?;
                    for payload in &resumed.payloads[done..] {
                        if self.mailbox.restore(payload, &*self.serializer).is_err() {
                            self.mailbox.keep(payload, &*self.serializer, inbox);
                        }
                    }
                    break;
                }
                Err(error) => return Err(self.failed("a message that was put back cannot be taken in", error)),
            }
        }
        self.may_have_resumed = false;
        let file = Sidecar::Resume.of(&self.disk);
        let Some(error) = resumed.damaged else {
            return self.store.remove_sidecar(&self.disk, Sidecar::Resume).map(drop);
        };
        let mut kept = file.clone();
        kept.push(".bad");
        match files::rename(self.store.dir(), &file, &kept) {
            Ok(()) => inbox.set_aside(Damaged::new(error).kept_at(self.store.path(&kept))),
            Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => inbox.set_aside(Damaged::new(error)),
            Err(error) => return Err(self.failed("a damaged file of messages cannot be set aside", error)),
        }
        Ok(())
    }
}

impl Rings for MessageFilesConnection {
    fn forget_rings(&mut self) {
        self.note_changes();
    }

    fn ring_on(&mut self) {
        self.ring_if(true);
    }
}

impl Connection for MessageFilesConnection {
    fn deliver(&mut self, envelopes: &[Envelope<'_>], receipts: &mut Vec<Receipt>) -> Result<()> {
        for envelope in envelopes {
            receipts.push(self.outgoing.store(envelope)?);
        }
        Ok(())
    }

    fn room(&self, _: &PeerName) -> Wake<'_> {
        Wake { descriptors: vec![], look_every: POLL_ROOM }
    }

    fn collect(&mut self, most: usize, bytes: usize, inbox: &mut Inbox) -> Result<()> {
        self.prepare(inbox)?;
        let taken = self.mailbox.take(most, bytes, &*self.serializer, inbox);
        let is_left = self.mailbox.has_known();
        self.ring_if(is_left);
        taken.map_err(|error| self.failed("a message cannot be taken from the mailbox", error))
    }

    fn is_ready(&mut self) -> Result<bool> {
        let look = |own: &mut Self| {
            let mut is_ready = own.mailbox.has_known();
            if !is_ready && own.is_dirty {
                let ready = own.mailbox.any_ready();
                is_ready = ready.map_err(|error| own.failed("the mailbox cannot be read", error))?
                    || own.store.has_resume(&own.disk)?;
                if !is_ready {
                    own.has_looked();
                }
            }
            Ok(is_ready)
        };
        rings::look(self, look, |is_ready| *is_ready)
    }

    fn is_pending(&mut self) -> Result<bool> {
        self.mailbox.any_pending().map_err(|error| self.failed("the mailbox cannot be read", error))
    }

    fn put_back(&mut self, messages: &[Message]) -> Result<()> {
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
            let taken = self.take_back_resumed(&mut reports);
            self.reports = reports;
            taken?;
        }
        self.store.append_resume(&self.disk, &payloads)?;
        self.is_dirty = true;
        self.may_have_resumed = true;
        self.ring_if(true);
        Ok(())
    }

    fn wake(&self, wanted: Wanted) -> Wake<'_> {
        let mut wake = match &self.watch {
            _ if !wanted.messages => Wake { descriptors: vec![], look_every: Duration::MAX },
            Some(watch) => Wake { descriptors: watch.descriptors().to_vec(), look_every: LOOK_ALL_THE_SAME },
            None => Wake { descriptors: vec![], look_every: POLL },
        };
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

    fn connections(&mut self) -> Option<&mut dyn Connections> {
        None
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
        let _section = self.store.enter()?;
        let leaving = leaving_name(&self.disk);
        // What a dead namesake left there would be in the way, and nobody can reach it any more.
        crate::system::tree::remove(self.store.dir(), &leaving)
            .map_err(|error| self.failed("what an earlier peer left cannot be removed", error))?;
        match files::rename(self.store.dir(), &self.disk, &leaving) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.store.is_gone() => {
                return Err(self.store.removed());
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(self.failed("the mailbox cannot be made unreachable", error)),
        }
        self.mailbox.renamed(leaving);
        self.is_unlisted = true;
        self.is_dirty = true;
        Ok(())
    }

    fn seal(&mut self, inbox: &mut Inbox) -> Result<()> {
        for _ in 0..MOST_ROUNDS {
            let removed = self.mailbox.remove();
            if removed.map_err(|error| self.failed("the mailbox cannot be removed", error))? {
                return Ok(());
            }
            // A sender was faster than the removal: its message was acknowledged, so it counts.
            self.is_dirty = true;
            while {
                let before = inbox.len();
                self.collect(before.saturating_add(self.limits.batch_messages), usize::MAX, inbox)?;
                inbox.len() > before
            } {}
        }
        let error = Error::new(ErrorKind::Store, "something in the mailbox can be neither read nor removed");
        Err(self.store.place(error.about_peer(self.name.as_str())))
    }

    fn close(&mut self, leave: Leave, stats: &Stats) -> Result<()> {
        let saved = self.store.write_stats(&self.disk, stats, &*self.serializer);
        if leave != Leave::Disconnect {
            let only_here: Vec<Message> = self.mailbox.only_in_memory().cloned().collect();
            self.put_back(&only_here)?;
        }
        match leave {
            Leave::Disconnect => directory_store::give_up(&self.store, &self.disk, &self.life).and(saved),
            // Without its counters on record a suspended entry would look like one that was never finished.
            Leave::Suspend { until } => {
                saved.and_then(|()| directory_store::keep_for_later(&self.store, &self.disk, &self.life, until))
            }
        }
    }
}
