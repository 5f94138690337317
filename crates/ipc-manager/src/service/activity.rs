// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one turn of the event loop found.

use std::collections::BTreeMap;
use std::process::ExitStatus;

use crate::bus::Signal;
use crate::message::Message;
use crate::name::PeerName;

/// What one turn of the event loop found, and is not handled yet. A callback for [`When::Activity`](crate::When) may
/// take things out.
///
/// ```
/// assert!(ipc_manager::Activity::default().is_empty());
/// ```
#[derive(Debug, Default)]
pub struct Activity {
    /// Messages, in order.
    pub messages: Vec<Message>,
    /// Whether the interval has passed since it was last handled.
    pub interval: bool,
    /// Who came and went.
    pub peers: PeerChange,
    /// Children that were reaped, with how they ended; no workers.
    pub children: Vec<(u32, ExitStatus)>,
    /// Signals, and how often each came.
    pub signals: BTreeMap<Signal, u32>,
    /// A watched process that has ended.
    pub watched_ended: Option<u32>,
    /// The value that the service was terminated with while it waited.
    pub terminated: Option<i32>,
}

impl Activity {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && !self.interval
            && self.peers.is_empty()
            && self.children.is_empty()
            && self.signals.is_empty()
            && self.watched_ended.is_none()
            && self.terminated.is_none()
    }
}

/// Who came and went.
///
/// ```
/// assert!(ipc_manager::PeerChange::default().is_empty());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerChange {
    /// Names that were not there before.
    pub came: Vec<PeerName>,
    /// Names that are no longer there.
    pub left: Vec<PeerName>,
}

impl PeerChange {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.came.is_empty() && self.left.is_empty()
    }
}
