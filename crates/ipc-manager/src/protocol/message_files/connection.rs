// SPDX-License-Identifier: MIT OR Apache-2.0
//! One peer on a bus of MessageFiles.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::Mode as FileMode;

use super::mailbox::Mailbox;
use super::outgoing::Outgoing;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::message::Message;
use crate::name::PeerName;
use crate::protocol::directory_store::{self, Listing, Sidecar, Store, leaving_name};
use crate::protocol::{Connection, Damaged, Directory, Envelope, Inbox, Leave, OpenOptions, Opened, Receipt, Wake};
use crate::serializer::Serializer;
use crate::stats::Stats;
use crate::system::files;
use crate::system::lock::LifeLock;
use crate::system::watch::{Interest, Watch};

/// How often to look where the kernel tells of messages: only for the case that something else wrote past it.
const LOOK_ALL_THE_SAME: Duration = Duration::from_secs(15);
/// How often to look where nothing tells.
const POLL: Duration = Duration::from_millis(20);

/// See [`super::MessageFiles`].
#[derive(Debug)]
struct MessageFilesConnection {
    store: Arc<Store>,
    name: PeerName,
    disk: OsString,
    life: LifeLock,
    serializer: Arc<dyn Serializer>,
    limits: Limits,
    mailbox: Mailbox,
    outgoing: Outgoing,
    listing: Listing,
    watch: Option<Watch>,
    /// Whether the directory may hold what was not looked at.
    is_dirty: bool,
    looked: Instant,
    is_unlisted: bool,
}

pub(super) fn open(store: Store, options: OpenOptions) -> Result<Opened> {
    let OpenOptions { name, mode, serializer, limits, durability } = options;
    let store = Arc::new(store);
    let claimed = directory_store::take(&store, &name, mode, &*serializer, |store, disk| {
        Ok(rustix::fs::mkdirat(store.dir(), disk, FileMode::RWXU)?)
    })?;
    let directory_store::Claimed { disk, life, stats, discarded } = claimed;
    let dir = match files::open_dir_at(store.dir(), &disk) {
        Ok(dir) => dir,
        Err(error) => {
            let _ = directory_store::give_up(&store, &disk, &life);
            return Err(store.failed(&disk, "the mailbox cannot be opened", error));
        }
    };
    let watch = Watch::new(dir.as_fd(), Interest::Messages)
        .inspect_err(|error| log::debug!("{name}: polling, since inotify cannot be had: {error}"))
        .ok();
    let connection = MessageFilesConnection {
        mailbox: Mailbox::new(dir, store.path(&disk), name.clone(), limits.clone()),
        outgoing: Outgoing::new(Arc::clone(&store), durability),
        listing: Listing::new(Arc::clone(&store), Some(disk.clone()), Arc::clone(&serializer)),
        store,
        name,
        disk,
        life,
        serializer,
        limits,
        watch,
        is_dirty: true,
        looked: Instant::now(),
        is_unlisted: false,
    };
    Ok(Opened { connection: Box::new(connection), stats, discarded })
}

impl MessageFilesConnection {
    fn failed(&self, detail: &str, error: std::io::Error) -> Error {
        self.store.failed(&self.disk, detail, error).about_peer(self.name.as_str())
    }

    /// Takes note of what the kernel tells. To be asked before looking: what comes after the question is told again.
    fn note_changes(&mut self) {
        self.is_dirty |= match &self.watch {
            Some(watch) => watch.take_changed() || self.looked.elapsed() >= LOOK_ALL_THE_SAME,
            None => true,
        };
    }

    /// Takes note that the mailbox was seen empty. `Ok(false)`, or an error if it is not there any more.
    fn has_looked(&mut self) -> Result<bool> {
        self.is_dirty = false;
        self.looked = Instant::now();
        if self.mailbox.is_gone() { Err(self.removed()) } else { Ok(false) }
    }

    /// Looks at the directory if it may hold something new.
    fn look(&mut self, inbox: &mut Inbox) -> Result<()> {
        self.note_changes();
        if !self.is_dirty && !self.mailbox.has_known() {
            return Ok(());
        }
        self.take_back_resumed(inbox)?;
        loop {
            let looked = self.mailbox.look(&*self.serializer, inbox);
            looked.map_err(|error| self.failed("the mailbox cannot be read", error))?;
            // What only the second listing showed is there for the first listing of the next look.
            if self.mailbox.has_index() {
                self.is_dirty = false;
                self.looked = Instant::now();
                return Ok(());
            }
            if !self.mailbox.has_known() {
                return self.has_looked().map(drop);
            }
        }
    }

    fn removed(&mut self) -> Error {
        // Stays so: every later look says it again.
        self.is_dirty = true;
        if self.store.is_gone() {
            return self.store.removed();
        }
        let error = Error::new(ErrorKind::NoSuchPeer, "this client's mailbox was removed by somebody else");
        self.store.place(error.about_peer(self.name.as_str())).with_retryable(false)
    }

    /// Moves messages that were put back from their file into the mailbox. Idempotent, so a crash half-way loses and
    /// doubles nothing.
    fn take_back_resumed(&mut self, inbox: &mut Inbox) -> Result<()> {
        if !self.store.has_resume(&self.disk)? {
            return Ok(());
        }
        let Some(resumed) = self.store.read_resume(&self.disk)? else { return Ok(()) };
        for payload in &resumed.payloads {
            let restored = self.mailbox.restore(payload, &*self.serializer);
            restored.map_err(|error| self.failed("a message that was put back cannot be taken in", error))?;
        }
        let file = Sidecar::Resume.of(&self.disk);
        let Some(error) = resumed.damaged else {
            return self.store.remove_sidecar(&self.disk, Sidecar::Resume).map(drop);
        };
        let mut kept = file.clone();
        kept.push(".bad");
        files::rename(self.store.dir(), &file, &kept)
            .map_err(|error| self.failed("a damaged file of messages cannot be set aside", error))?;
        inbox.set_aside(Damaged::new(error).kept_at(self.store.path(&kept)));
        Ok(())
    }
}

impl Connection for MessageFilesConnection {
    fn deliver(&mut self, envelopes: &[Envelope<'_>], receipts: &mut Vec<Receipt>) -> Result<()> {
        for envelope in envelopes {
            receipts.push(self.outgoing.store(envelope)?);
        }
        Ok(())
    }

    fn collect(&mut self, most: usize, bytes: usize, inbox: &mut Inbox) -> Result<()> {
        if !self.mailbox.has_index() {
            self.look(inbox)?;
        }
        let taken = self.mailbox.take(most, bytes, &*self.serializer, inbox);
        taken.map_err(|error| self.failed("a message cannot be taken from the mailbox", error))
    }

    fn is_ready(&mut self) -> Result<bool> {
        self.note_changes();
        if self.mailbox.has_known() {
            return Ok(true);
        }
        if !self.is_dirty {
            return Ok(false);
        }
        let ready = self.mailbox.any_ready().map_err(|error| self.failed("the mailbox cannot be read", error))?;
        if ready || self.store.has_resume(&self.disk)? {
            return Ok(true);
        }
        self.has_looked()
    }

    fn is_pending(&mut self) -> Result<bool> {
        self.mailbox.any_pending().map_err(|error| self.failed("the mailbox cannot be read", error))
    }

    fn put_back(&mut self, messages: &[Message]) -> Result<()> {
        let mut payloads = Vec::with_capacity(messages.len());
        for message in messages {
            let message = message.clone().addressed_to(self.name.clone());
            payloads.push(Envelope::new(&message, &*self.serializer, &self.limits)?.payload()?.to_vec());
        }
        self.is_dirty = true;
        self.store.append_resume(&self.disk, &payloads)
    }

    fn wake(&self) -> Wake<'_> {
        let mut wake = match &self.watch {
            Some(watch) => Wake { descriptors: watch.descriptors().to_vec(), look_every: LOOK_ALL_THE_SAME },
            None => Wake { descriptors: vec![], look_every: POLL },
        };
        let peers = self.listing.wake();
        wake.descriptors.extend(peers.descriptors);
        wake.look_every = wake.look_every.min(peers.look_every);
        wake
    }

    fn directory(&mut self) -> &mut dyn Directory {
        &mut self.listing
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
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(self.failed("the mailbox cannot be made unreachable", error)),
        }
        self.is_unlisted = true;
        self.is_dirty = true;
        Ok(())
    }

    fn seal(&mut self, inbox: &mut Inbox) -> Result<()> {
        loop {
            let removed = self.mailbox.remove(self.store.dir(), &leaving_name(&self.disk));
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
    }

    fn close(&mut self, leave: Leave, stats: &Stats) -> Result<()> {
        self.watch = None;
        let saved = self.store.write_stats(&self.disk, stats, &*self.serializer);
        match leave {
            Leave::Disconnect => directory_store::give_up(&self.store, &self.disk, &self.life)?,
            Leave::Suspend { until } => {
                directory_store::keep_for_later(&self.store, &self.disk, &self.life, until)?;
            }
        }
        saved
    }
}
