// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections between peers, where a protocol has such.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::error::Result;
use crate::name::PeerName;

/// The connections that a peer holds to others, where a protocol has such.
///
/// ```
/// use std::time::Duration;
/// use ipc_manager::{Connections, Credentials, Durability, Inbox, Limits, Mode, OpenOptions, PeerName, Registry, Spawn};
/// let bus = Spawn::builder().protocol("ConnectionUnix").serializer("JSON").spawn()?;
/// # let options = OpenOptions {
/// #     name: PeerName::new("b")?,
/// #     mode: Mode::Connect,
/// #     serializer: std::sync::Arc::new(ipc_manager::serializer::Json::new()),
/// #     limits: Limits::default(),
/// #     durability: Durability::Process,
/// #     listen: true,
/// #     credentials: Credentials::default(),
/// # };
/// let mut b = Registry::standard().get("ConnectionUnix")?.open(bus.route(), options)?.connection;
/// let mut a = bus.connect("a")?;
/// a.send("b", "hello")?;
/// let mut inbox = Inbox::default();
/// b.collect(1, 1 << 20, &mut inbox)?;
/// assert_eq!(inbox.len(), 1);
/// let connections: &mut dyn Connections = b.connections().expect("this protocol has connections");
/// assert_eq!(connections.open_connections().len(), 1);
/// assert_eq!(connections.close_to(&PeerName::new("a")?)?, 1);
/// assert_eq!(connections.close_idle(Duration::ZERO)?, 0); // there is none left
/// # Ok::<(), ipc_manager::Error>(())
/// ```
pub trait Connections: Send + fmt::Debug {
    /// All open ones, the oldest first, also those of which it is not known yet whose they are.
    fn open_connections(&self) -> Vec<ConnectionRecord>;

    /// Closes those with one peer; what came over them is kept, and what is sent next opens another one. Returns how many
    /// there were.
    ///
    /// # Errors
    /// What the system says.
    fn close_to(&mut self, peer: &PeerName) -> Result<usize>;

    /// Closes those that were not used for so long, as [`close_to`](Connections::close_to). Returns how many.
    ///
    /// # Errors
    /// What the system says.
    fn close_idle(&mut self, idle: Duration) -> Result<usize>;

    /// Whether a peer lets others connect; `None` if there is no such peer.
    ///
    /// # Errors
    /// Of the store as a whole.
    fn is_listener(&mut self, peer: &PeerName) -> Result<Option<bool>>;
}

/// A connection to another peer.
///
/// ```
/// use ipc_manager::{PeerName, Spawn};
/// let bus = Spawn::builder().protocol("ConnectionUnix").spawn()?;
/// let (mut a, _b) = (bus.connect("a")?, bus.connect("b")?);
/// assert!(a.connections()?.is_empty());
/// a.send("b", "hello")?;
/// assert_eq!(a.connections()?[0].peer, Some(PeerName::new("b")?));
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionRecord {
    /// Who is at the other end; `None` while it has not said so, or where another process holds the name that it said.
    pub peer: Option<PeerName>,
    /// The process at the other end, where the system tells.
    pub pid: Option<u32>,
    /// Whether this side opened it.
    pub is_opened_here: bool,
    /// When it was opened, or a message last went over it.
    pub last_activity: SystemTime,
}
