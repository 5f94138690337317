// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a client has handed out and what came back, shared with the deliveries, which may be in other threads.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::system::bell::Bell;
use crate::system::process::own_pid;

/// See the module.
#[derive(Debug)]
pub(super) struct Desk {
    pid: u32,
    out: Mutex<BTreeMap<u64, Until>>,
    /// Rings when something comes back, for whoever sleeps meanwhile.
    bell: Bell,
}

/// For how long something is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// It came back.
    Now,
    Then(Instant),
    /// As long as the client lives.
    TheEnd,
}

impl Desk {
    pub(super) fn new() -> Result<Self> {
        let bell = Bell::new().map_err(|error| Error::system(error, "a descriptor to wait for cannot be had"))?;
        Ok(Self { pid: own_pid(), out: Mutex::default(), bell })
    }

    fn out(&self) -> MutexGuard<'_, BTreeMap<u64, Until>> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note that something is handed out, perhaps for so long only.
    pub(super) fn hand_out(&self, mark: u64, hold: Option<Duration>) {
        self.out().insert(mark, until(hold));
    }

    /// Sets anew for how long something is handed out; false if it is no longer.
    pub(super) fn extend(&self, mark: u64, hold: Duration) -> bool {
        self.out().get_mut(&mark).filter(|held| **held != Until::Now).map(|held| *held = until(Some(hold))).is_some()
    }

    /// Takes something off the desk for good; false if it is not handed out any more.
    pub(super) fn take(&self, mark: u64) -> bool {
        self.out().remove(&mark).is_some_and(|held| held != Until::Now)
    }

    /// Gives something back. A forked child's copy is not its to give.
    pub(super) fn give_back(&self, mark: u64) {
        if self.pid == own_pid()
            && let Some(held) = self.out().get_mut(&mark)
        {
            *held = Until::Now;
            self.bell.ring();
        }
    }

    /// Everything that came back or whose time is up; from now on it is not handed out any more.
    pub(super) fn take_returned(&self) -> Vec<u64> {
        self.bell.clear();
        let (now, mut out) = (Instant::now(), self.out());
        let is_back = |held: Until| match held {
            Until::Now => true,
            Until::Then(then) => then <= now,
            Until::TheEnd => false,
        };
        let returned: Vec<u64> = out.iter().filter(|(_, held)| is_back(**held)).map(|(mark, _)| *mark).collect();
        out.retain(|_, held| !is_back(*held));
        returned
    }

    /// Everything that is handed out; from now on it is not any more.
    pub(super) fn take_all(&self) -> Vec<u64> {
        std::mem::take(&mut *self.out()).into_keys().collect()
    }

    /// How long until the time of something is up.
    pub(super) fn next_return(&self) -> Duration {
        let left = |held: &Until| match held {
            Until::Now => Some(Duration::ZERO),
            Until::Then(then) => Some(then.saturating_duration_since(Instant::now())),
            Until::TheEnd => None,
        };
        self.out().values().filter_map(left).min().unwrap_or(Duration::MAX)
    }

    /// Readable when something came back.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.bell.descriptor()
    }
}

/// What is to be held longer than the clock can tell is held to the end.
fn until(hold: Option<Duration>) -> Until {
    hold.and_then(|hold| Instant::now().checked_add(hold)).map_or(Until::TheEnd, Until::Then)
}
