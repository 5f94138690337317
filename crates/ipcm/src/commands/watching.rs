// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looking at a bus from outside again and again, woken by what happens on it.

use std::time::{Duration, Instant};

use ipc_manager::{ErrorKind, Observer};

use crate::failure::{Failure, Outcome};
use crate::signals::{Signals, Woken};

/// How a watch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched<T> {
    /// What was looked for is so.
    Seen(T),
    /// The time is up.
    TimedOut,
    /// A signal asks the command to end.
    Signal(i32),
}

/// Looks at the bus until there is an answer, the time is up, or a signal comes. Nothing tells of what happens within a
/// mailbox, so `every` says how often to look all the same.
pub(crate) fn watch<T>(
    bus: &mut Observer,
    signals: &Signals,
    timeout: Option<Duration>,
    every: Duration,
    mut look: impl FnMut(&mut Observer) -> ipc_manager::Result<Option<T>>,
) -> Outcome<Watched<T>> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    bus.watch(true);
    loop {
        // Asked before looking: what changes in between rings.
        if let Err(error) = bus.peers()
            && error.kind() == ErrorKind::NoSuchBus
        {
            return Err(Failure::from(error));
        }
        if let Some(seen) = look(bus)? {
            return Ok(Watched::Seen(seen));
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(Watched::TimedOut);
        }
        let wake = bus.wake();
        let most = wake.look_every.min(every).min(left.unwrap_or(Duration::MAX));
        if let Woken::Signal(signal) = signals.wait(&wake.descriptors, false, Some(most))? {
            return Ok(Watched::Signal(signal));
        }
    }
}
