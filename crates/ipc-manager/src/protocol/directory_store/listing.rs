// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is in the store: the [`Directory`] of all protocols whose store is a directory.

use std::ffi::{OsStr, OsString};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use super::{Sidecar, Store, claim, disk_name};
use crate::error::Result;
use crate::name::PeerName;
use crate::protocol::{Directory, PeerRecord, Wake};
use crate::serializer::Serializer;
use crate::stats::Stats;
use crate::system::watch::{Interest, Watch};

/// How often to look for peers that come and go where nothing tells of them.
const POLL_PEERS: Duration = Duration::from_millis(50);
/// How often to look where the kernel tells: departures by kill make no event.
const LOOK_FOR_DEAD: Duration = Duration::from_secs(1);

/// The store as one peer, or an observer, sees it.
#[derive(Debug)]
pub(in crate::protocol) struct Listing {
    pub(in crate::protocol) store: Arc<Store>,
    /// The name on disk of whoever looks; an observer has none, and counts unread messages.
    own: Option<OsString>,
    serializer: Arc<dyn Serializer>,
    is_watching: bool,
    watch: Option<Watch>,
}

impl Store {
    /// The names on disk of all entries, also of those whose holder is leaving or died doing so; sorted, each once.
    pub(in crate::protocol) fn entries(&self) -> Result<Vec<OsString>> {
        let mut names = Vec::new();
        let listed = crate::system::files::for_each_name(self.dir(), |name, _| {
            let raw = name.as_bytes();
            // A held lock without an entry is somebody who is almost gone.
            if let Some(disk) = raw.strip_prefix(b".live-") {
                names.push(OsStr::from_bytes(disk).to_owned());
            } else if !raw.starts_with(b".") && Sidecar::split(name).is_none() && !raw.ends_with(b".pend") {
                names.push(OsStr::from_bytes(raw.strip_prefix(b"_").unwrap_or(raw)).to_owned());
            }
            ControlFlow::Continue(())
        });
        listed.map_err(|error| self.failed(OsStr::new(""), "the store cannot be listed", error))?;
        if names.is_empty() && self.is_gone() {
            return Err(self.removed());
        }
        names.sort();
        names.dedup();
        Ok(names)
    }
}

impl Listing {
    pub(in crate::protocol) fn new(store: Arc<Store>, own: Option<OsString>, serializer: Arc<dyn Serializer>) -> Self {
        Self { store, own, serializer, is_watching: false, watch: None }
    }

    /// Takes note of what the kernel tells, before looking.
    fn take_note(&self) {
        if let Some(watch) = &self.watch {
            watch.take_changed();
        }
    }

    fn record(&self, name: PeerName, disk: &OsStr) -> Result<Option<PeerRecord>> {
        let Some(entry) = self.store.state(disk)? else { return Ok(None) };
        let unread = self.store.kind.unread.filter(|_| self.own.is_none()).map(|unread| {
            let put_back = self.store.read_resume(disk).ok().flatten().map_or(0, |resumed| resumed.payloads.len());
            unread(self.store.dir(), &entry.entry) + put_back as u64
        });
        let since = entry.pid.and_then(|_| self.store.pid_written(disk));
        Ok(Some(PeerRecord { name, pid: entry.pid, since, state: entry.state, unread }))
    }
}

impl Directory for Listing {
    fn peers(&mut self) -> Result<Vec<PeerRecord>> {
        self.take_note();
        let mut peers = Vec::new();
        for disk in self.store.entries()? {
            if self.own.as_deref() == Some(&disk) {
                continue;
            }
            match self.store.real_name(&disk).and_then(|name| name.map_or(Ok(None), |name| self.record(name, &disk))) {
                Ok(record) => peers.extend(record),
                // One entry that cannot be read does not hide the others.
                Err(error) => log::warn!("left out of the peers: {error}"),
            }
        }
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(peers)
    }

    fn peer(&mut self, name: &PeerName) -> Result<Option<PeerRecord>> {
        self.take_note();
        // A name that does not fit on disk belongs to nobody.
        let Ok(disk) = disk_name(&self.store, name) else { return Ok(None) };
        let record = self.record(name.clone(), &disk)?;
        if record.is_none() && self.store.is_gone() {
            return Err(self.store.removed());
        }
        Ok(record)
    }

    fn continues(&mut self, name: &PeerName) -> Result<Option<bool>> {
        let Ok(disk) = disk_name(&self.store, name) else { return Ok(None) };
        claim::continues(&self.store, &disk)
    }

    fn sweep(&mut self) -> Result<Vec<PeerName>> {
        claim::sweep(&self.store, self.own.as_deref())
    }

    fn stats(&mut self) -> Result<Vec<(PeerName, Stats)>> {
        let mut all = Vec::new();
        let names = crate::system::files::names(self.store.dir())
            .map_err(|error| self.store.failed(OsStr::new(""), "the store cannot be listed", error))?;
        if names.is_empty() && self.store.is_gone() {
            return Err(self.store.removed());
        }
        for file in names {
            let Some((disk, Sidecar::Stats)) = Sidecar::split(&file) else { continue };
            if let Some(name) = self.store.real_name(disk)?
                && let Ok(Some(stats)) = self.store.read_stats(disk, &*self.serializer)
            {
                all.push((name, stats));
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    fn save_stats(&mut self, name: &PeerName, stats: &Stats) -> Result<()> {
        let disk = disk_name(&self.store, name)?;
        self.store.write_stats(&disk, stats, &*self.serializer)
    }

    fn watch_peers(&mut self, on: bool) {
        self.is_watching = on;
        self.watch = if on { Watch::new(self.store.dir(), Interest::Entries).ok() } else { None };
    }

    fn wake(&self) -> Wake<'_> {
        match (&self.watch, self.is_watching) {
            (Some(watch), _) => Wake { descriptors: watch.descriptors().to_vec(), look_every: LOOK_FOR_DEAD },
            (None, true) => Wake { descriptors: vec![], look_every: POLL_PEERS },
            (None, false) => Wake { descriptors: vec![], look_every: Duration::MAX },
        }
    }
}
