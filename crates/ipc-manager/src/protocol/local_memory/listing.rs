// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is on a bus in memory.

use std::sync::{Arc, Weak};

use super::connection::{LOOK_ALL_THE_SAME, decode_stats};
use super::store::{Bus, Entry, Holder};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::name::PeerName;
use crate::protocol::{Directory, PeerRecord, PeerState, Wake};
use crate::serializer::Serializer;
use crate::stats::Stats;
use crate::system::bell::Bell;
use crate::system::process::own_pid;

/// The bus as one peer, or an observer, sees it.
#[derive(Debug)]
pub(super) struct Listing {
    bus: Arc<Bus>,
    own: Option<PeerName>,
    serializer: Arc<dyn Serializer>,
    bell: Arc<Bell>,
    is_watching: bool,
}

impl Listing {
    pub(super) fn new(bus: Arc<Bus>, own: Option<PeerName>, serializer: Arc<dyn Serializer>) -> Result<Self> {
        let bell = Bell::new().map_err(|error| Error::system(error, "a descriptor to wait for cannot be had"))?;
        Ok(Self { bus, own, serializer, bell: Arc::new(bell), is_watching: false })
    }
}

fn record(name: &PeerName, entry: &Entry) -> PeerRecord {
    let state = match entry.holder {
        Holder::Connection(_) => PeerState::Active,
        Holder::Leaving(_) => PeerState::Leaving,
        Holder::Suspended(until) => PeerState::Suspended { until },
        Holder::Dead => PeerState::Dead,
    };
    let pid = state.is_alive().then(own_pid);
    PeerRecord { name: name.clone(), pid, since: Some(entry.since), state, unread: Some(entry.messages.len() as u64) }
}

impl Directory for Listing {
    fn peers(&mut self) -> Result<Vec<PeerRecord>> {
        self.bell.clear();
        let peers = self.bus.peers()?;
        let others = peers.entries.iter().filter(|(name, _)| Some(*name) != self.own.as_ref());
        Ok(others.map(|(name, entry)| record(name, entry)).collect())
    }

    fn peer(&mut self, name: &PeerName) -> Result<Option<PeerRecord>> {
        self.bell.clear();
        Ok(self.bus.peers()?.entries.get(name).map(|entry| record(name, entry)))
    }

    fn continues(&mut self, name: &PeerName) -> Result<Option<bool>> {
        let peers = self.bus.peers()?;
        let held = peers.entries.get(name).filter(|entry| matches!(entry.holder, Holder::Connection(_)));
        Ok(held.map(|entry| entry.continues))
    }

    fn sweep(&mut self) -> Result<Vec<PeerName>> {
        let mut peers = self.bus.peers()?;
        let dead = peers
            .entries
            .iter()
            .filter(|(name, entry)| entry.holder == Holder::Dead && Some(*name) != self.own.as_ref());
        let dead: Vec<PeerName> = dead.map(|(name, _)| name.clone()).collect();
        for name in &dead {
            peers.entries.remove(name);
            peers.stats.remove(name);
        }
        peers.ring_watchers();
        Ok(dead)
    }

    fn stats(&mut self) -> Result<Vec<(PeerName, Stats)>> {
        let peers = self.bus.peers()?;
        let decoded = peers.stats.iter().filter_map(|(name, payload)| {
            Some((name.clone(), decode_stats(payload, &*self.serializer, &Limits::DEFAULT)?))
        });
        Ok(decoded.collect())
    }

    fn save_stats(&mut self, name: &PeerName, stats: &Stats) -> Result<()> {
        let (mut text, mut payload) = (String::new(), Vec::new());
        crate::json::to_wire(stats, &Limits::DEFAULT, &mut text)?;
        self.serializer.encode(&text, &mut payload)?;
        self.bus.peers()?.stats.insert(name.clone(), payload);
        Ok(())
    }

    fn watch_peers(&mut self, on: bool) {
        self.is_watching = on;
        let mut peers = self.bus.lock();
        peers.watchers.retain(|watcher| watcher.strong_count() > 0 && watcher.as_ptr() != Arc::as_ptr(&self.bell));
        if on {
            peers.watchers.push(Arc::downgrade(&self.bell) as Weak<Bell>);
        }
    }

    fn wake(&self) -> Wake<'_> {
        let descriptors = if self.is_watching { vec![self.bell.descriptor()] } else { vec![] };
        Wake { descriptors, look_every: LOOK_ALL_THE_SAME }
    }
}
