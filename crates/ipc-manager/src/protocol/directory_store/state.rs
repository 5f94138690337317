// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the holder of an entry is up to: by lock and process identity where it is one of ours, by pid otherwise.

use std::ffi::{OsStr, OsString};
use std::time::{Duration, SystemTime};

use super::{Sidecar, Store, leaving_name, life_name};
use crate::error::Result;
use crate::protocol::PeerState;
use crate::system::files;
use crate::system::lock::{self, Holder};
use crate::system::process::{self, Identity};

/// An entry without a pid, a lock and statistics is being made, unless it has been so for this long.
const MAKING_DEADLINE: Duration = Duration::from_secs(10);

/// An entry and its holder.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::protocol) struct EntryState {
    pub(in crate::protocol) state: PeerState,
    pub(in crate::protocol) pid: Option<u32>,
    /// The holder's identity, if it left one.
    pub(in crate::protocol) identity: Option<Identity>,
    /// What the entry is called right now; differs from its name while the holder is leaving or died doing so.
    pub(in crate::protocol) entry: OsString,
}

impl Store {
    /// The state of the entry under a name on disk; `None` if there is none.
    pub(in crate::protocol) fn state(&self, disk: &OsStr) -> Result<Option<EntryState>> {
        let entry = self.entry_of(disk)?;
        let life = life_name(disk);
        let holder = lock::holder(self.dir(), &life)
            .map_err(|error| self.failed(&life, "the lock of a peer cannot be asked", error))?;
        let pid = self.read_pid(disk)?;
        let Some(entry) = entry else {
            // Its mailbox is gone, but it has not stored its counters yet.
            let Holder::Alive(identity) = holder else { return Ok(None) };
            let known = identity.as_ref().map(|identity| identity.pid).or(pid);
            let entry = leaving_name(disk);
            return Ok(Some(EntryState { state: PeerState::Leaving, pid: known, identity, entry }));
        };
        let is_leaving = entry != disk;
        let (state, pid, identity) = match (holder, pid) {
            (Holder::Alive(identity), pid) => {
                // The lock is published before the pid, so it is the newer word on who it is.
                let state = match pid {
                    _ if is_leaving => PeerState::Leaving,
                    None => PeerState::Starting,
                    Some(_) => PeerState::Active,
                };
                let known = identity.as_ref().map(|identity| identity.pid);
                (state, pid.and(known).or(pid), identity)
            }
            // The pid is not the one that held the lock: a peer that knows no locks has taken the name since.
            (Holder::Dead(Some(identity)), Some(pid)) if identity.pid != pid => by_pid(pid),
            (Holder::None, Some(pid)) if !is_leaving => by_pid(pid),
            (Holder::Dead(identity), pid) => (PeerState::Dead, pid, identity),
            (Holder::None, pid) if is_leaving => match pid {
                // A peer that knows no locks drains its mailbox under this name.
                Some(pid) if process::pid_is_alive(pid) => (PeerState::Leaving, Some(pid), None),
                pid => (PeerState::Dead, pid, None),
            },
            (Holder::None, _) => match self.state_without_pid(disk)? {
                Some(state) => (state, None, None),
                None => return Ok(None),
            },
        };
        Ok(Some(EntryState { state, pid, identity, entry }))
    }

    /// What the entry is called right now, if there is one.
    fn entry_of(&self, disk: &OsStr) -> Result<Option<OsString>> {
        for name in [disk.to_owned(), leaving_name(disk)] {
            let stat = files::stat_at(self.dir(), &name);
            let stat = stat.map_err(|error| self.failed(&name, "an entry cannot be read", error))?;
            if stat.is_some_and(|stat| (self.kind.is_entry)(&stat)) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Suspended, being made, or left half-made; `None` for what is nobody's entry.
    fn state_without_pid(&self, disk: &OsStr) -> Result<Option<PeerState>> {
        let until = self.read_suspend(disk)?;
        if self.kind.keeps_mailbox && (until.is_some() || self.has_sidecar(disk, Sidecar::Stats)?) {
            return Ok(Some(PeerState::Suspended { until }));
        }
        if !self.may_remove(disk) {
            return Ok(None);
        }
        let stat = files::stat_at(self.dir(), disk).ok().flatten();
        let changed = stat.and_then(|stat| {
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(stat.st_ctime).ok()?))
        });
        let age = changed.and_then(|changed| SystemTime::now().duration_since(changed).ok()).unwrap_or_default();
        Ok(Some(if age > MAKING_DEADLINE { PeerState::Dead } else { PeerState::Starting }))
    }
}

fn by_pid(pid: u32) -> (PeerState, Option<u32>, Option<Identity>) {
    let state = if process::pid_is_alive(pid) { PeerState::Active } else { PeerState::Dead };
    (state, Some(pid), None)
}

/// A holder that was seen alive, in a form that is cheap to ask again: the same lock file, the same process.
#[derive(Debug)]
pub(in crate::protocol) struct Holding {
    life: (u64, u64),
    process: process::Watched,
}

impl Holding {
    pub(in crate::protocol) fn new(store: &Store, disk: &OsStr, identity: &Identity) -> Option<Self> {
        let life = Self::life_of(store, disk)?;
        let process = process::Watched::new(identity)?;
        Some(Self { life, process })
    }

    /// Whether the same process still holds the name. It lets go of the lock file when it leaves.
    pub(in crate::protocol) fn is_unchanged(&self, store: &Store, disk: &OsStr) -> bool {
        Self::life_of(store, disk) == Some(self.life) && !self.process.has_ended()
    }

    fn life_of(store: &Store, disk: &OsStr) -> Option<(u64, u64)> {
        let stat = files::stat_at(store.dir(), &life_name(disk)).ok().flatten()?;
        Some(files::identity(&stat))
    }
}
