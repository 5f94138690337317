// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is on the bus, looked at when something says that it changed, and not in between. Joining and leaving is told by
//! the store; a process that is killed by a descriptor of its own.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::activity::PeerChange;
use crate::client::Client;
use crate::error::Result;
use crate::name::PeerName;
use crate::protocol::{PeerState, Wanted};
use crate::system::{children, poll, process};

/// How often to look where no descriptor tells of everybody.
const LOOK_ALL_THE_SAME: Duration = Duration::from_secs(1);
/// Most processes that are watched.
const MOST_WATCHED: usize = 256;

/// See the module. Nothing is watched until it is switched on.
#[derive(Debug)]
pub(super) struct PeerWatch {
    is_on: bool,
    seen: BTreeMap<PeerName, Seen>,
    /// Whether somebody is there whose end no descriptor tells of.
    has_unwatched: bool,
    /// Whether somebody who left is dead, and what it left can be removed.
    pub(super) has_dead: bool,
    looked: Instant,
}

#[derive(Debug)]
struct Seen {
    pid: Option<u32>,
    end: Option<OwnedFd>,
}

impl PeerWatch {
    pub(super) fn new() -> Self {
        let looked = Instant::now();
        Self { is_on: false, seen: BTreeMap::new(), has_unwatched: false, has_dead: false, looked }
    }

    /// Begins to watch, or no longer does. What is there at the beginning is where changes count from.
    ///
    /// # Errors
    /// What the store says.
    pub(super) fn switch(&mut self, client: &mut Client, on: bool) -> Result<()> {
        if on == self.is_on {
            return Ok(());
        }
        client.keep_watching_peers(on);
        self.is_on = on;
        self.seen.clear();
        if on { self.look(client).map(drop) } else { Ok(()) }
    }

    /// Who came and went, if anything says that somebody did.
    ///
    /// # Errors
    /// What the store says.
    pub(super) fn changes(&mut self, client: &mut Client) -> Result<PeerChange> {
        if !self.is_on || !self.is_due(client)? {
            return Ok(PeerChange::default());
        }
        self.look(client)
    }

    fn is_due(&self, client: &Client) -> Result<bool> {
        if self.look_within(client)?.is_some_and(|left| left.is_zero()) {
            return Ok(true);
        }
        let mut told = client.wake_for(Wanted::PEERS)?.descriptors;
        told.extend(self.ends());
        Ok(!told.is_empty() && poll::readable(&told, Duration::ZERO).is_ok_and(|woken| woken == poll::Woken::Ready))
    }

    /// How long until it is time to look all the same; `None` if descriptors tell of everything.
    pub(super) fn look_within(&self, client: &Client) -> Result<Option<Duration>> {
        if !self.is_on {
            return Ok(None);
        }
        let wake = client.wake_for(Wanted::PEERS)?;
        let every = if wake.descriptors.is_empty() {
            wake.look_every.min(LOOK_ALL_THE_SAME)
        } else if self.has_unwatched {
            LOOK_ALL_THE_SAME
        } else {
            return Ok(None);
        };
        Ok(Some(every.saturating_sub(self.looked.elapsed())))
    }

    fn look(&mut self, client: &mut Client) -> Result<PeerChange> {
        let records = client.all_peers()?;
        self.looked = Instant::now();
        self.has_unwatched = false;
        let mut before = std::mem::take(&mut self.seen);
        let mut change = PeerChange::default();
        for record in &records {
            let known = before.get(&record.name).is_some_and(|seen| seen.pid == record.pid);
            let was_there = before.remove(&record.name);
            if !record.state.is_listed() {
                // Where a dead one was never seen alive there is nothing to tell, only something to remove.
                self.has_dead |= record.state == PeerState::Dead;
                change.left.extend(was_there.map(|_| record.name.clone()));
                continue;
            }
            if was_there.is_none() {
                change.came.push(record.name.clone());
            }
            let pid = record.pid.filter(|pid| record.state.is_alive() && *pid != process::own_pid());
            let end = match was_there {
                Some(seen) if known => seen.end,
                _ if self.seen.len() < MOST_WATCHED => pid.and_then(children::end_of),
                _ => None,
            };
            self.has_unwatched |= pid.is_some() && end.is_none();
            self.seen.insert(record.name.clone(), Seen { pid: record.pid, end });
        }
        change.left.extend(before.into_keys());
        change.left.sort();
        Ok(change)
    }

    fn ends(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.seen.values().filter_map(|seen| seen.end.as_ref()).map(AsFd::as_fd)
    }

    /// Whether changes are watched for.
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Descriptors that tell of the end of those who are there.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.ends().collect()
    }
}
