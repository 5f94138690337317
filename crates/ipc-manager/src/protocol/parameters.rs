// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a protocol is told, and what it answers.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::traits::Connection;
use super::{Credentials, Durability};
use crate::limits::Limits;
use crate::name::PeerName;
use crate::route::Route;
use crate::serializer::Serializer;
use crate::stats::Stats;

/// Why a protocol cannot work on this machine: one sentence.
///
/// ```
/// let reason = ipc_manager::NotViable("the program `initdb` is missing".into());
/// assert!(reason.to_string().contains("initdb"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotViable(pub String);

impl fmt::Display for NotViable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotViable {}

/// How to make a store.
///
/// ```
/// assert!(ipc_manager::CreateOptions::default().route.is_none());
/// ```
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// Where. Without one the protocol makes a fresh, private place.
    pub route: Option<Route>,
    /// As whom one makes it: who one is to the server that it is on, and the group that it is for, where there is one.
    pub credentials: Credentials,
    /// Whether it is to outlive its owner.
    pub lasting: bool,
}

/// Ownership of a store; given up when dropped.
///
/// ```
/// let kept = std::sync::Arc::new(());
/// let hold = ipc_manager::Hold::new(std::sync::Arc::clone(&kept));
/// drop(hold);
/// assert_eq!(std::sync::Arc::strong_count(&kept), 1);
/// ```
pub struct Hold(
    #[allow(dead_code, reason = "what matters is when it is dropped")] Option<Box<dyn std::any::Any + Send>>,
);

impl Hold {
    /// Keeps something alive for as long as the store is owned.
    #[must_use]
    pub fn new(kept: impl std::any::Any + Send) -> Self {
        Self(Some(Box::new(kept)))
    }

    /// For stores that need no record of their owner.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hold")
    }
}

/// Whether a name is taken afresh, or one taken before is continued.
///
/// ```
/// assert_ne!(ipc_manager::Mode::Connect, ipc_manager::Mode::Reconnect);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Take a free name, or that of a dead peer. The mailbox is empty.
    Connect,
    /// Take over a name with its mailbox and counters; its holder suspended or died.
    Reconnect,
}

/// How to join a store.
///
/// ```
/// use ipc_manager::{CreateOptions, Credentials, Durability, Limits, Mode, OpenOptions, PeerName, Registry};
/// use ipc_manager::serializer::Json;
/// let options = OpenOptions {
///     name: PeerName::new("a")?,
///     mode: Mode::Connect,
///     serializer: std::sync::Arc::new(Json::new()),
///     limits: Limits::default(),
///     durability: Durability::Process,
///     listen: true,
///     credentials: Credentials::default(),
/// };
/// let registry = Registry::standard();
/// let protocol = registry.get("LocalMemory")?;
/// let route = protocol.create(&CreateOptions::default())?;
/// let first = protocol.open(&route, options.clone())?;
/// let refused = protocol.open(&route, options).unwrap_err();
/// assert_eq!(refused.kind(), ipc_manager::ErrorKind::NameInUse);
/// # drop(first);
/// # protocol.destroy(&route, &Credentials::default())?;
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// The name to join under.
    pub name: PeerName,
    /// Afresh, or continuing.
    pub mode: Mode,
    /// What payloads and counters are encoded with.
    pub serializer: Arc<dyn Serializer>,
    /// What is believed and what is sent.
    pub limits: Limits,
    /// What an acknowledged message must outlive.
    pub durability: Durability,
    /// Whether others may connect. Always true where the protocol has no connections.
    pub listen: bool,
    /// As whom one comes: who one is to the server that the store is on, and the group that shares it, where there is one.
    pub credentials: Credentials,
}

/// A store that was joined.
///
/// ```
/// use ipc_manager::{CreateOptions, Credentials, Durability, Limits, Mode, OpenOptions, PeerName, Registry};
/// use ipc_manager::serializer::Json;
/// # let options = OpenOptions {
/// #     name: PeerName::new("a")?,
/// #     mode: Mode::Connect,
/// #     serializer: std::sync::Arc::new(Json::new()),
/// #     limits: Limits::default(),
/// #     durability: Durability::Process,
/// #     listen: true,
/// #     credentials: Credentials::default(),
/// # };
/// let registry = Registry::standard();
/// let protocol = registry.get("LocalMemory")?;
/// let route = protocol.create(&CreateOptions::default())?;
/// let opened = protocol.open(&route, options)?;
/// assert_eq!((opened.discarded, opened.stats.sent.len()), (0, 0)); // the name is new
/// # drop(opened);
/// # protocol.destroy(&route, &Credentials::default())?;
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug)]
pub struct Opened {
    /// The connection.
    pub connection: Box<dyn Connection>,
    /// Counters that an earlier holder of the name left.
    pub stats: Stats,
    /// How many unread messages of a dead holder were discarded; 0 when continuing.
    pub discarded: usize,
}

/// What became of a message that was sent.
///
/// ```
/// assert_eq!(ipc_manager::Receipt::Stored.to_string(), "stored");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Receipt {
    /// In the mailbox of a peer that is there.
    Delivered,
    /// In the mailbox of a peer that is suspended or dead: it waits for whoever continues the name.
    Stored,
    /// It was there already, under the same id: sent again, it arrives once and is counted once.
    AlreadyStored,
    /// There was no room, so the client holds it back, in order. Not sent yet, and not counted yet.
    Queued,
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Delivered => "delivered",
            Self::Stored | Self::AlreadyStored => "stored",
            Self::Queued => "queued",
        })
    }
}

/// How a connection is left.
///
/// ```
/// use ipc_manager::Leave;
/// assert_ne!(Leave::Disconnect, Leave::Suspend { until: None });
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Leave {
    /// For good.
    Disconnect,
    /// For a while: the mailbox stays, until the deadline if there is one.
    Suspend {
        /// When waiting for this peer ends.
        until: Option<SystemTime>,
    },
}
