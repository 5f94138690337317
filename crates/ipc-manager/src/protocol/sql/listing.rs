// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is in the store, as one peer or an observer sees it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::names;
use super::store::{PeerRow, Store};
use super::value::Param;
use crate::error::Result;
use crate::name::PeerName;
use crate::protocol::{Directory, PeerRecord, PeerState, Wake};
use crate::stats::Stats;
use crate::system::watch::{Interest, Watch};

/// How often to look for peers that come and go where nothing tells of them.
const POLL_PEERS: Duration = Duration::from_millis(50);
/// How often to look where the folder of doorbells tells: departures by kill, and peers that have no bell, make no event.
const LOOK_FOR_DEAD: Duration = Duration::from_secs(1);
/// How often to look while a peer is there that has no bell.
const LOOK_FOR_FOREIGN: Duration = Duration::from_millis(200);

/// The store as one peer, or an observer, sees it.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) store: Store,
    own: Option<PeerName>,
    is_watching: bool,
    watch: Option<Watch>,
    /// Whether a peer that has no bell was there at the last look, and when that was.
    foreign: Option<(bool, Instant)>,
}

/// The rows of all that are registered, or on their way out.
pub(super) fn rows(store: &mut Store) -> Result<Vec<PeerRow>> {
    let rows = store.query("the peers cannot be listed", |texts| &texts.peers, &[])?;
    Ok(rows.into_iter().filter_map(PeerRow::listed).collect())
}

impl Listing {
    pub(super) fn new(store: Store, own: Option<PeerName>) -> Self {
        Self { store, own, is_watching: false, watch: None, foreign: None }
    }

    /// Takes note of what the kernel tells, before looking.
    fn take_note(&self) {
        if let Some(watch) = &self.watch {
            watch.take_changed();
        }
    }

    /// Whether somebody may write to a mailbox without ringing: a peer that has no doorbell is there. Asked of the store
    /// from time to time only.
    pub(super) fn has_foreign_peers(&mut self, every: Duration) -> Result<bool> {
        if let Some((foreign, asked)) = self.foreign
            && asked.elapsed() < every
        {
            return Ok(foreign);
        }
        self.rows().map(|_| self.foreign.is_some_and(|(foreign, _)| foreign))
    }

    /// What was found when last asked.
    pub(super) fn had_foreign_peers(&self) -> bool {
        self.foreign.is_some_and(|(foreign, _)| foreign)
    }

    fn rows(&mut self) -> Result<Vec<(PeerRow, PeerState)>> {
        let rows = rows(&mut self.store)?;
        let porch = self.store.porch();
        let known: Vec<_> =
            rows.into_iter().filter_map(|row| row.standing.state(porch).map(|state| (row, state))).collect();
        let is_foreign = |(row, state): &(PeerRow, PeerState)| row.standing.is_foreign(porch) && state.is_alive();
        self.foreign = Some((known.iter().any(is_foreign), Instant::now()));
        Ok(known)
    }
}

fn record(row: &PeerRow, state: PeerState, unread: Option<u64>) -> Option<PeerRecord> {
    let name = PeerName::foreign(&row.id).ok()?;
    let pid = if matches!(state, PeerState::Suspended { .. }) { None } else { row.standing.pid() };
    Some(PeerRecord { name, pid, since: row.standing.since, state, unread })
}

impl Directory for Listing {
    fn peers(&mut self) -> Result<Vec<PeerRecord>> {
        self.take_note();
        let mut unread: HashMap<String, u64> = HashMap::new();
        let counts = self.own.is_none();
        if counts {
            for mut row in self.store.query("waiting messages cannot be counted", |texts| &texts.unread, &[])? {
                if let (Some(to), Some(count)) = (row.next().into_text(), row.next().as_integer()) {
                    unread.insert(to, u64::try_from(count).unwrap_or(0));
                }
            }
        }
        let own = self.own.clone();
        let mut peers: Vec<PeerRecord> = self
            .rows()?
            .iter()
            .filter(|(row, _)| own.as_ref().is_none_or(|own| own.as_str() != row.id))
            .filter_map(|(row, state)| record(row, *state, counts.then(|| unread.get(&row.id).copied().unwrap_or(0))))
            .collect();
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(peers)
    }

    fn peer(&mut self, name: &PeerName) -> Result<Option<PeerRecord>> {
        self.take_note();
        let Some(row) = self.store.peer_row(name.as_str())? else { return Ok(None) };
        let Some(state) = row.standing.state(self.store.porch()) else { return Ok(None) };
        let unread = match self.own {
            Some(_) => None,
            None => {
                let params = [Param::Text(name.as_str())];
                let rows = self.store.query("waiting messages cannot be counted", |texts| &texts.unread_of, &params)?;
                let count = rows.into_iter().next().and_then(|mut row| row.next().as_integer());
                Some(count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
            }
        };
        Ok(record(&row, state, unread))
    }

    fn continues(&mut self, name: &PeerName) -> Result<Option<bool>> {
        Ok(self.store.peer_row(name.as_str())?.and_then(|row| row.standing.continues()))
    }

    fn sweep(&mut self) -> Result<Vec<PeerName>> {
        let own = self.own.clone();
        names::sweep(&mut self.store, own.as_ref())
    }

    fn stats(&mut self) -> Result<Vec<(PeerName, Stats)>> {
        let rows = self.store.query("the counters cannot be read", |texts| &texts.all_stats, &[])?;
        let mut all = Vec::new();
        for mut row in rows {
            if let (Some(id), Some(payload)) = (row.next().into_text(), row.next().into_bytes())
                && let (Ok(name), Some(stats)) = (PeerName::foreign(&id), self.store.decode_stats(&payload))
            {
                all.push((name, stats));
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    fn save_stats(&mut self, name: &PeerName, stats: &Stats) -> Result<()> {
        let payload = self.store.encode_stats(stats)?;
        let params = [Param::Bytes(&payload), Param::Text(name.as_str())];
        self.store.execute("the counters cannot be stored", |texts| &texts.save_stats, &params).map(drop)
    }

    fn watch_peers(&mut self, on: bool) {
        self.is_watching = on;
        let porch = self.store.porch();
        self.watch = porch.filter(|_| on).and_then(|porch| Watch::new(porch.dir(), Interest::Entries).ok());
    }

    fn wake(&self) -> Wake<'_> {
        match (&self.watch, self.is_watching) {
            (Some(watch), _) => {
                let look_every = if self.had_foreign_peers() { LOOK_FOR_FOREIGN } else { LOOK_FOR_DEAD };
                Wake { descriptors: watch.descriptors().to_vec(), look_every }
            }
            (None, true) => Wake { descriptors: vec![], look_every: POLL_PEERS },
            (None, false) => Wake { descriptors: vec![], look_every: Duration::MAX },
        }
    }
}
