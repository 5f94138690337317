// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a store says of a peer.

use std::fmt;
use std::time::SystemTime;

use crate::name::PeerName;

/// What the store says of a peer.
///
/// ```
/// use ipc_manager::{PeerName, PeerRecord, PeerState};
/// let (name, state) = (PeerName::new("b")?, PeerState::Active);
/// let record = PeerRecord { name, pid: Some(4711), since: None, state, unread: Some(2) };
/// assert!(record.state.is_alive());
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct PeerRecord {
    /// Its name.
    pub name: PeerName,
    /// The process that holds or held the name, if one is on record.
    pub pid: Option<u32>,
    /// When that process was put on record, where the protocol can tell. Who started later is not that process.
    pub since: Option<SystemTime>,
    /// What it is up to.
    pub state: PeerState,
    /// How many messages wait for it, where the protocol can tell.
    pub unread: Option<u64>,
}

/// What a peer is up to.
///
/// ```
/// use ipc_manager::{PeerState, Spawn};
/// let bus = Spawn::builder().protocol("MessageFiles").spawn()?;
/// let (mut a, _b) = (bus.connect("a")?, bus.connect("b")?);
/// assert_eq!(a.peer("b")?.map(|peer| peer.state), Some(PeerState::Active));
/// assert_eq!(PeerState::Suspended { until: None }.to_string(), "suspended");
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum PeerState {
    /// Its process lives, or it cannot be known.
    Active,
    /// It is registering: there, but no process is on record yet.
    Starting,
    /// It is on its way out: no longer reachable, not yet gone.
    Leaving,
    /// It left and keeps its mailbox.
    Suspended {
        /// When waiting for it ends.
        until: Option<SystemTime>,
    },
    /// Its process is gone.
    Dead,
}

impl PeerState {
    /// Whether a process is behind the name.
    #[must_use]
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Active | Self::Starting | Self::Leaving)
    }

    /// Whether messages can be sent to it and it counts as a peer: alive and reachable, or suspended.
    #[must_use]
    pub fn is_listed(self) -> bool {
        matches!(self, Self::Active | Self::Starting | Self::Suspended { .. })
    }
}

impl fmt::Display for PeerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Starting => "starting",
            Self::Leaving => "leaving",
            Self::Suspended { .. } => "suspended",
            Self::Dead => "dead",
        })
    }
}
