// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an implementer of a protocol writes: small, object-safe, synchronous traits without default methods.
//!
//! Nothing behind them waits (beyond short critical sections), retries, counts, or orders across collects; that is
//! written once, in the client.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Capabilities, Cleaning, Connections, Credentials, Durability, Envelope, Inbox, PeerRecord, Wake, Wanted};
use crate::connection_string::ProtocolName;
use crate::error::Result;
use crate::limits::Limits;
use crate::message::Message;
use crate::name::PeerName;
use crate::route::Route;
use crate::serializer::Serializer;
use crate::stats::Stats;

/// A way for messages to travel. Stateless: one value per kind, shared by all buses of that kind.
///
/// `examples/custom_protocol.rs` is one in full.
///
/// ```
/// let registry = ipc_manager::Registry::standard();
/// let protocol = registry.get("LocalMemory")?;
/// assert!(protocol.viable().is_ok() && !protocol.capabilities().crosses_processes);
/// # Ok::<(), ipc_manager::Error>(())
/// ```
pub trait Protocol: Send + Sync + fmt::Debug {
    /// Its name in connection strings.
    fn name(&self) -> ProtocolName;

    /// What it promises.
    fn capabilities(&self) -> Capabilities;

    /// Whether it can work on this machine, now.
    ///
    /// # Errors
    /// [`NotViable`] says what is missing.
    fn viable(&self) -> Result<(), NotViable>;

    /// Makes a store, or takes the one that the options name. Nothing is left behind on an error. If the process dies
    /// half-way, an empty store may stay.
    ///
    /// # Errors
    /// What the system says, with its place.
    fn create(&self, options: &CreateOptions) -> Result<Route>;

    /// Puts on record that this process owns the store, for as long as the value lives. What a guarded owner leaves
    /// behind when it is killed may be removed by [`clean`](Protocol::clean), once no peer is alive on it.
    ///
    /// `instead_of` is the ownership that this one replaces.
    ///
    /// # Errors
    /// `name_in_use` if another owner is alive; else what the system says, with its place.
    fn hold(&self, route: &Route, credentials: &Credentials, guarded: bool, instead_of: Option<Hold>) -> Result<Hold>;

    /// Joins a store under a name. A refused one has changed nothing: not the store, and not the name's holder. Others
    /// see either no such peer or a live one. If the process dies half-way, the name can be taken again.
    ///
    /// # Errors
    /// `no_such_bus`, `name_in_use`, `no_such_peer` for [`Mode::Reconnect`], `permission`, `store`.
    fn open(&self, route: &Route, options: OpenOptions) -> Result<Opened>;

    /// Looks at a store without joining it. Changes nothing.
    ///
    /// # Errors
    /// `no_such_bus`, `permission`, `store`, or `unsupported` where one must join to look.
    fn observe(
        &self,
        route: &Route,
        credentials: &Credentials,
        serializer: Arc<dyn Serializer>,
    ) -> Result<Box<dyn Directory>>;

    /// Removes what guarded owners left that were killed: stores of this protocol, in the places that
    /// [`create`](Protocol::create) picks by itself, or the one that is meant. Only what is this user's, what
    /// [`create`](Protocol::create) made, what nobody is alive on, and what holds nothing unknown; decided and done under a
    /// lock that whoever joins takes, too. What cannot be looked at is none of it; what cannot be removed is
    /// [noted](Cleaning::note) with the reason. If the process dies half-way, the next one finishes it.
    fn clean(&self, cleaning: &mut Cleaning);

    /// Removes a store with all in it. That it is gone already is fine.
    ///
    /// # Errors
    /// What the system says, with its place.
    fn destroy(&self, route: &Route, credentials: &Credentials) -> Result<()>;
}

/// One peer on one bus.
///
/// ```
/// use ipc_manager::{Connection, Inbox, Result};
/// fn first(connection: &mut dyn Connection) -> Result<Inbox> {
///     let mut inbox = Inbox::default();
///     connection.collect(1, 1 << 20, &mut inbox).map(|()| inbox)
/// }
/// ```
pub trait Connection: Send + fmt::Debug {
    /// Stores messages in order, adding one receipt for each that is stored, and stops at the first that is not. A
    /// message is seen whole or not at all. If the process dies half-way, those with a receipt are stored, one more may
    /// be, and the rest are not.
    ///
    /// Never waits for room. `would_block` with [`Stored::Maybe`](crate::Stored::Maybe) says that a part of the message
    /// is out: to be delivered again, where it goes on from there, before any other message to its recipient.
    ///
    /// # Errors
    /// Of the first message without a receipt: `no_such_peer`, `peer_gone`, `not_listening`, `too_large`,
    /// `would_block`, `store`, with [`Stored`](crate::Stored) set where it is in doubt.
    fn deliver(&mut self, envelopes: &[Envelope<'_>], receipts: &mut Vec<Receipt>) -> Result<()>;

    /// What to wait for, after `would_block`, until there may be room: descriptors that become *writable*, or fail.
    fn room(&self, to: &PeerName) -> Wake<'_>;

    /// Takes at most so many messages, and so many bytes where that leaves at least one, out of the mailbox. Damaged
    /// ones are set aside. Never waits. If the process dies half-way, only messages already in the inbox are lost.
    ///
    /// # Errors
    /// Of the store as a whole, never of one message; what was taken before stays in the inbox.
    fn collect(&mut self, most: usize, bytes: usize, inbox: &mut Inbox) -> Result<()>;

    /// Whether a complete message waits.
    ///
    /// # Errors
    /// Of the store as a whole.
    fn is_ready(&mut self) -> Result<bool>;

    /// Whether something is arriving that is not complete yet.
    ///
    /// # Errors
    /// Of the store as a whole.
    fn is_pending(&mut self) -> Result<bool>;

    /// Puts messages back for this or a later holder of the name, as they are, in front of what came later.
    ///
    /// # Errors
    /// What the system says; then none of them is stored.
    fn put_back(&mut self, messages: &[Message]) -> Result<()>;

    /// What to poll for what is wanted, and for nothing else. Level-triggered: readable as long as a message is there,
    /// or peers have changed since they were last asked for; maybe once too often, never once too little.
    fn wake(&self, wanted: Wanted) -> Wake<'_>;

    /// The store as this peer sees it.
    fn directory(&mut self) -> &mut dyn Directory;

    /// The connections to other peers; `None` where the protocol has none.
    fn connections(&mut self) -> Option<&mut dyn Connections>;

    /// Makes the name unreachable for senders; the mailbox can still be collected. Idempotent. If the process dies
    /// after it, whoever reconnects finds the mailbox.
    ///
    /// # Errors
    /// What the system says, with its place.
    fn unlist(&mut self) -> Result<()>;

    /// Removes the unlisted mailbox: from here on no send to it succeeds. Messages that came since the last collect
    /// are added to the inbox.
    ///
    /// # Errors
    /// What the system says, with its place.
    fn seal(&mut self, inbox: &mut Inbox) -> Result<()>;

    /// Leaves: stores the counters, and then gives the name up ([`Leave::Disconnect`], after
    /// [`seal`](Connection::seal)) or keeps it with its mailbox ([`Leave::Suspend`]). A disconnect lets go of the name
    /// also where the counters could not be stored; a suspend that fails has changed nothing.
    ///
    /// # Errors
    /// `unsupported` for a suspend that the protocol does not offer; else what the system says.
    fn close(&mut self, leave: Leave, stats: &Stats) -> Result<()>;
}

/// Who is on a bus.
///
/// ```
/// use ipc_manager::{Directory, Result};
/// fn unread(directory: &mut dyn Directory) -> Result<u64> {
///     Ok(directory.peers()?.iter().filter_map(|peer| peer.unread).sum())
/// }
/// ```
pub trait Directory: Send + fmt::Debug {
    /// Every name in the store but one's own, whatever its state, sorted.
    ///
    /// # Errors
    /// Of the store as a whole.
    fn peers(&mut self) -> Result<Vec<PeerRecord>>;

    /// One name, one's own too. `None` if the store has no such peer.
    ///
    /// # Errors
    /// Of the store as a whole.
    fn peer(&mut self, name: &PeerName) -> Result<Option<PeerRecord>>;

    /// Removes what dead peers left: registration, mailbox, statistics. Suspended and unknown ones stay. Returns the
    /// names removed.
    ///
    /// # Errors
    /// Of the store as a whole.
    fn sweep(&mut self) -> Result<Vec<PeerName>>;

    /// The counters of all who ever stored theirs.
    ///
    /// # Errors
    /// Of the store as a whole; damaged counters of one peer are left out.
    fn stats(&mut self) -> Result<Vec<(PeerName, Stats)>>;

    /// Stores one's own counters.
    ///
    /// # Errors
    /// What the system says.
    fn save_stats(&mut self, name: &PeerName, stats: &Stats) -> Result<()>;

    /// Starts or stops to make [`Connection::wake`] and [`Directory::wake`] tell of peers that come and go. Asking for
    /// peers, or for one, takes note of the changes until then.
    fn watch_peers(&mut self, on: bool);

    /// What to wait for while watching peers.
    fn wake(&self) -> Wake<'_>;
}

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
    /// Who one is to the server that it is on, where there is one.
    pub credentials: Credentials,
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
/// use ipc_manager::{Mode, OpenOptions};
/// fn is_fresh(options: &OpenOptions) -> bool {
///     options.mode == Mode::Connect
/// }
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
    /// Who one is to the server that the store is on, where there is one.
    pub credentials: Credentials,
}

/// A store that was joined.
///
/// ```
/// fn told(opened: &ipc_manager::Opened) -> String {
///     format!("{} unread messages were discarded", opened.discarded)
/// }
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
