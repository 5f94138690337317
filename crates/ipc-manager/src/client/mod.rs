// SPDX-License-Identifier: MIT OR Apache-2.0
//! Clients: building, sending, receiving, waiting, peers, leaving. Everything that is alike over all protocols.

mod acknowledge;
mod again;
mod away;
mod backlog;
mod builder;
mod connections;
mod delivery;
mod desk;
mod leave;
mod local;
mod outbox;
mod peers;
mod receive;
mod send;
#[cfg(any(feature = "sqlite", feature = "postgresql", feature = "mysql"))]
mod transaction;
mod typed;
mod wait;
mod watching;

use std::sync::Arc;
use std::time::Duration;

pub use acknowledge::Delivery;
pub(crate) use away::Away;
pub use builder::{ClientBuilder, connect, reconnect};
pub use leave::Suspend;
pub use local::local_clients;
pub(crate) use local::local_clients_on;
#[cfg(any(feature = "sqlite", feature = "postgresql", feature = "mysql"))]
pub use transaction::Posted;
pub use typed::Typed;
pub use wait::{Wait, WaitFor};

use crate::connection_string::ConnectionString;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::name::PeerName;
use crate::protocol::{Capabilities, Connection, Damaged, Inbox, Receipt, Wake, Wanted};
use crate::serializer::Serializer;
use crate::stats::Stats;
use crate::system::access::Access;
use crate::system::process::own_pid;
use local::Registered;
use outbox::Outbox;

/// One peer on a bus: a value in this process, without a thread of its own.
///
/// Unlike an end of a channel it has a name that others send to, outlives neither its process nor its
/// [`disconnect`](Client::disconnect) unless it [suspends](Client::suspend), and a send is done when the store has the
/// message, not when somebody took it.
///
/// Dropping a client disconnects it; what it left unread is gone then, and only logged. One that received
/// [deliveries](Delivery) and left something is suspended instead, where the protocol allows. A forked child's copy is dead:
/// every call is [`WrongProcess`](ErrorKind::WrongProcess), and dropping it does nothing.
///
/// ```
/// let bus = ipc_manager::Spawn::builder().protocol("MessageFiles").spawn()?;
/// let mut a = bus.connect("a")?;
/// let mut b = bus.connect("b")?;
/// a.send("b", &serde_json::json!({"hello": "world"}))?;
/// assert_eq!(b.recv()?.content()["hello"], "world");
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug)]
pub struct Client {
    name: PeerName,
    info: ConnectionString,
    pid: u32,
    capabilities: Capabilities,
    /// For whom the bus is.
    #[cfg_attr(
        not(any(feature = "sqlite", feature = "postgresql", feature = "mysql")),
        allow(dead_code, reason = "asked by transactions of databases")
    )]
    access: Access,
    connection: Box<dyn Connection>,
    serializer: Arc<dyn Serializer>,
    limits: Limits,
    registered: Registered,
    damaged: Vec<Damaged>,
    discarded: usize,
    is_connected: bool,
    is_blocking: bool,
    /// How long a send that has no deadline waits for a store that is away.
    patience: Duration,
    /// Messages for which there was no room yet.
    outbox: Outbox,
    /// What became of messages that were held back and then could not be sent.
    unsent: Vec<Error>,
    /// Room for the receipt of one message, and for the next one that is taken; both are empty between calls.
    receipts: Vec<Receipt>,
    /// Rooms for the payloads of messages, left by those that were sent.
    rooms: Vec<Vec<u8>>,
    /// Whether the protocol takes a message as its JSON text.
    ships_text: bool,
    /// Whom the last message was made for.
    last_to: std::cell::RefCell<Option<PeerName>>,
    inbox: Inbox,
    /// What was received and is not acknowledged yet; there once something was.
    desk: Option<Arc<desk::Desk>>,
    /// For how long a delivery is held unless it says otherwise; `None` as long as the client lives.
    hold: Option<std::time::Duration>,
    short_waits: again::ShortWaits,
    /// Peers at the last look, while changes are waited for.
    seen: Option<Vec<PeerName>>,
    /// Whether peers are watched until somebody says otherwise, and not only during a wait.
    keeps_watching: bool,
}

impl Client {
    /// Starts to build a client that joins a bus under a name.
    #[must_use]
    pub fn builder(name: &str, info: &ConnectionString) -> ClientBuilder {
        ClientBuilder::new(name, info)
    }

    /// The name on the bus.
    #[must_use]
    pub fn name(&self) -> &PeerName {
        &self.name
    }

    /// The bus.
    #[must_use]
    pub fn info(&self) -> &ConnectionString {
        &self.info
    }

    /// What the protocol promises.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Whether this client has not left the bus.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// How many unread messages of a dead holder of the name were discarded by connecting.
    #[must_use]
    pub fn discarded(&self) -> usize {
        self.discarded
    }

    /// Messages sent and read so far; continued over a reconnect.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.registered.stats()
    }

    /// Writes the counters to the store, where [`all_stats`](Client::all_stats) finds them. Leaving does it, too.
    ///
    /// # Errors
    /// What the store says.
    pub fn write_stats(&mut self) -> Result<()> {
        let stats = self.checked("write_stats")?.registered.stats_to_store();
        let name = self.name.clone();
        self.connection.directory().save_stats(&name, &stats).map_err(|error| error.during("write_stats"))
    }

    /// Reads one's own counters back from the store.
    ///
    /// # Errors
    /// What the store says.
    pub fn read_stats(&mut self) -> Result<Stats> {
        let name = self.name.clone();
        Ok(self.all_stats()?.remove(&name).unwrap_or_default())
    }

    /// The counters of all who stored theirs, by name.
    ///
    /// # Errors
    /// What the store says.
    pub fn all_stats(&mut self) -> Result<std::collections::BTreeMap<PeerName, Stats>> {
        let stats = self.checked("all_stats")?.connection.directory().stats();
        Ok(stats.map_err(|error| error.during("all_stats"))?.into_iter().collect())
    }

    /// What to poll in an event loop of one's own. Level-triggered: readable until the next receiving call.
    ///
    /// # Errors
    /// [`Disconnected`](ErrorKind::Disconnected), [`WrongProcess`](ErrorKind::WrongProcess).
    pub fn wake(&self) -> Result<Wake<'_>> {
        self.check("wake")?;
        Ok(self.wake_with_returns(Wanted::MESSAGES))
    }

    /// The store as this client sees it, for what the owner of a bus asks.
    pub(crate) fn directory(&mut self) -> &mut dyn crate::protocol::Directory {
        self.connection.directory()
    }

    /// Refuses what a client that left, or a forked copy, is asked to do.
    fn check(&self, operation: &'static str) -> Result<()> {
        let refused = if self.pid != own_pid() {
            Error::new(ErrorKind::WrongProcess, format!("the client belongs to process {}", self.pid))
        } else if !self.is_connected {
            Error::new(ErrorKind::Disconnected, "the client has left the bus")
        } else {
            return Ok(());
        };
        let protocol = self.info.protocol().short();
        Err(refused
            .during(operation)
            .about_peer(self.name.as_str())
            .in_protocol(&protocol)
            .on_route(self.info.route().as_str()))
    }

    fn checked(&mut self, operation: &'static str) -> Result<&mut Self> {
        self.check(operation)?;
        self.registered.touch();
        Ok(self)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.pid != own_pid() {
            // The parent's: nothing is flushed, read or removed here. What the connection holds is descriptors, and a
            // copy in memory of what belongs to the parent; leaking it keeps its own clean-up from running.
            let copy = std::mem::replace(&mut self.connection, Box::new(gone::Gone));
            std::mem::forget(copy);
        } else if self.is_connected
            && let Err(error) =
                if self.has_deliveries_left() { self.suspend(Suspend::open_ended()) } else { self.disconnect() }
        {
            log::warn!("{}: {error}", self.name);
        }
    }
}

mod gone;
