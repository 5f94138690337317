// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an implementer of a protocol writes: small, object-safe, synchronous traits without default methods.
//!
//! Nothing behind them waits (beyond short critical sections), retries, counts, or orders across collects; that is
//! written once, in the client.

use std::fmt;
use std::sync::Arc;

use super::parameters::{CreateOptions, Hold, Leave, NotViable, OpenOptions, Opened, Receipt};
use super::{
    Capabilities, Cleaning, Connections, Credentials, Deliveries, Envelope, Inbox, Payloads, PeerRecord, Wake, Wanted,
};
use crate::connection_string::ProtocolName;
use crate::error::Result;
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
    /// `no_such_bus`, `name_in_use`, `no_such_peer` for [`Mode::Reconnect`](super::Mode::Reconnect), `permission`, `store`.
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
/// use ipc_manager::{Inbox, Registry, Spawn};
/// # use ipc_manager::{Durability, Leave, Limits, Mode, OpenOptions, PeerName, Stats, serializer::Json};
/// let bus = Spawn::builder().protocol("LocalMemory").serializer("JSON").spawn()?;
/// let registry = Registry::standard();
/// let protocol = registry.get("LocalMemory")?;
/// let options = OpenOptions {
///     name: PeerName::new("b")?,
///     mode: Mode::Connect,
///     serializer: std::sync::Arc::new(Json::new()),
///     limits: Limits::default(),
///     durability: Durability::Process,
///     listen: true,
///     credentials: Default::default(),
/// };
/// let mut b = protocol.open(bus.route(), options)?.connection;
/// bus.connect("a")?.send("b", "hello")?;
/// assert!(b.is_ready()?);
/// let mut inbox = Inbox::default();
/// b.collect(1, 1 << 20, &mut inbox)?;
/// assert_eq!(inbox.len(), 1);
/// b.unlist()?;
/// b.seal(&mut inbox)?;
/// b.close(Leave::Disconnect, &Stats::default())?;
/// # Ok::<(), ipc_manager::Error>(())
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

    /// The short way of single messages; `None` where the protocol does not store a message as its payload.
    fn payloads(&mut self) -> Option<&mut dyn Payloads>;

    /// The messages that stay in the store until they are acknowledged; `None` where the protocol cannot keep them.
    fn deliveries(&mut self) -> Option<&mut dyn Deliveries>;

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
/// use std::sync::Arc;
/// use ipc_manager::{Credentials, PeerState, Registry, Spawn, serializer::Json};
/// let bus = Spawn::builder().protocol("LocalMemory").serializer("JSON").spawn()?;
/// let (mut a, b) = (bus.connect("a")?, bus.connect("b")?);
/// a.send("b", "hello")?;
/// let registry = Registry::standard();
/// let protocol = registry.get("LocalMemory")?;
/// let mut directory = protocol.observe(bus.route(), &Credentials::default(), Arc::new(Json::new()))?;
/// let peers = directory.peers()?;
/// assert_eq!(peers.iter().map(|peer| peer.unread).collect::<Vec<_>>(), [Some(0), Some(1)]);
/// assert!(peers.iter().all(|peer| peer.state == PeerState::Active));
/// # drop((a, b));
/// # Ok::<(), ipc_manager::Error>(())
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

    /// Whether who has a name continued the mailbox that was there before, rather than beginning an empty one. `None` if
    /// nobody has it, or it cannot be known.
    ///
    /// # Errors
    /// Of the store as a whole.
    fn continues(&mut self, _name: &PeerName) -> Result<Option<bool>> {
        Ok(None)
    }

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
