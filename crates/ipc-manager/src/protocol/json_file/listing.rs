// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is in the state, as one peer or an observer sees it.

use std::time::Duration;

use super::file::{Change, StateFile};
use super::state::State;
use crate::error::Result;
use crate::name::PeerName;
use crate::protocol::beside::Beside;
use crate::protocol::{Directory, PeerRecord, PeerState, Wake};
use crate::stats::Stats;
use crate::system::doorbell::Porch;
use crate::system::watch::{Interest, Watch};

/// How often to look for peers that come and go where nothing tells of them.
const POLL_PEERS: Duration = Duration::from_millis(50);
/// How often to look where the folder of doorbells tells: departures by kill, and peers without a bell, make no event.
const LOOK_FOR_DEAD: Duration = Duration::from_secs(1);
/// How often to look while a peer is there that has no bell.
const LOOK_FOR_FOREIGN: Duration = Duration::from_millis(200);

/// The store as one peer, or an observer, sees it.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) file: StateFile,
    own: Option<PeerName>,
    is_watching: bool,
    watch: Option<Watch>,
    /// Whether a peer that has no bell was there at the last look.
    has_foreign: bool,
}

impl Listing {
    pub(super) fn new(file: StateFile, own: Option<PeerName>) -> Self {
        Self { file, own, is_watching: false, watch: None, has_foreign: false }
    }

    pub(super) fn porch(&self) -> Option<&Porch> {
        self.file.beside().map(|beside| &**Beside::porch(beside))
    }

    /// Whether somebody may write to a mailbox without ringing.
    pub(super) fn has_foreign(&self) -> bool {
        self.has_foreign
    }

    /// Takes note of who is there.
    pub(super) fn note(&mut self, state: &State) {
        self.has_foreign = state.names().iter().any(|name| {
            let standing = state.standing(name);
            standing.is_foreign(self.porch()) && standing.state(self.porch()).is_some_and(PeerState::is_alive)
        });
    }

    /// Takes note of what the kernel tells, and then looks.
    fn look(&mut self) -> Result<State> {
        if let Some(watch) = &self.watch {
            watch.take_changed();
        }
        let (state, _) = self.file.read()?;
        self.note(&state);
        Ok(state)
    }

    fn record(&self, state: &State, name: &PeerName) -> Result<Option<PeerRecord>> {
        let standing = state.standing(name.as_str());
        let Some(is) = standing.state(self.porch()) else { return Ok(None) };
        let pid = if matches!(is, PeerState::Suspended { .. }) { None } else { standing.pid() };
        let unread = match self.own {
            Some(_) => None,
            None => Some(state.waiting(name.as_str()).map_err(|error| self.file.place(error))? as u64),
        };
        Ok(Some(PeerRecord { name: name.clone(), pid, since: standing.since, state: is, unread }))
    }
}

impl Directory for Listing {
    fn peers(&mut self) -> Result<Vec<PeerRecord>> {
        let state = self.look()?;
        let mut peers = Vec::new();
        for name in state.names().iter().filter_map(|name| PeerName::foreign(name).ok()) {
            if self.own.as_ref() != Some(&name) {
                peers.extend(self.record(&state, &name)?);
            }
        }
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(peers)
    }

    fn peer(&mut self, name: &PeerName) -> Result<Option<PeerRecord>> {
        let state = self.look()?;
        self.record(&state, name)
    }

    fn continues(&mut self, name: &PeerName) -> Result<Option<bool>> {
        Ok(self.look()?.standing(name.as_str()).continues())
    }

    fn sweep(&mut self) -> Result<Vec<PeerName>> {
        if let Some(porch) = self.porch() {
            porch.remove_dead_bells();
        }
        let own = self.own.as_ref().map(|own| own.as_str().to_owned());
        self.file.change(|state| {
            let mut swept = Vec::new();
            for name in state.names() {
                let is_dead = state.standing(&name).state(self.porch()) == Some(PeerState::Dead);
                if is_dead && own.as_ref() != Some(&name) {
                    state.remove(&name)?;
                    state.set_stats(&name, None)?;
                    swept.extend(PeerName::foreign(&name));
                }
            }
            Ok(if swept.is_empty() { Change::None(swept) } else { Change::Some(swept) })
        })
    }

    fn stats(&mut self) -> Result<Vec<(PeerName, Stats)>> {
        let state = self.look()?;
        let counted = state.counted().into_iter().filter_map(|name| {
            let stats = state.stats(&name)?;
            Some((PeerName::foreign(&name).ok()?, stats))
        });
        let mut all: Vec<_> = counted.collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    fn save_stats(&mut self, name: &PeerName, stats: &Stats) -> Result<()> {
        self.file.change(|state| state.set_stats(name.as_str(), Some(stats)).map(Change::Some))
    }

    fn watch_peers(&mut self, on: bool) {
        self.is_watching = on;
        let watch = self.porch().filter(|_| on).and_then(|porch| Watch::new(porch.dir(), Interest::Entries).ok());
        self.watch = watch;
    }

    fn wake(&self) -> Wake<'_> {
        match (&self.watch, self.is_watching) {
            (Some(watch), _) => {
                let look_every = if self.has_foreign { LOOK_FOR_FOREIGN } else { LOOK_FOR_DEAD };
                Wake { descriptors: watch.descriptors().to_vec(), look_every }
            }
            (None, true) => Wake { descriptors: vec![], look_every: POLL_PEERS },
            (None, false) => Wake { descriptors: vec![], look_every: Duration::MAX },
        }
    }
}
