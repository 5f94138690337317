// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages between the processes of one machine, without a broker.
//!
//! A process [spawns](Spawn) a *bus*, which is a message store, and hands its [connection string](ConnectionString) to
//! others. Any process that has the string [connects](connect()) under a name, sends messages to names, and reads its
//! own. How messages travel is a [protocol](Protocol), how they are encoded a [serializer]; both are picked in the
//! connection string, so the same program runs over files for debugging, and over something faster or more durable
//! when the string says so.
//!
//! ```
//! use ipc_manager::{Spawn, connect};
//!
//! let mut bus = Spawn::builder().protocol("MessageFiles").spawn()?;
//! let info = bus.info().clone(); // in another process: std::env::var("IPCM_BUS")?.parse()?
//! let mut boss = connect("boss", &info)?;
//! let mut worker = connect("worker", &info)?;
//! boss.send("worker", &serde_json::json!({"job": 7}))?;
//! let message = worker.recv()?;
//! assert_eq!((message.from().as_str(), &message.content()["job"]), ("boss", &7.into()));
//! drop((boss, worker));
//! assert!(bus.shutdown()?.is_balanced()); // every message that was sent was read
//! # Ok::<(), ipc_manager::Error>(())
//! ```
//!
//! # How this differs from a channel
//!
//! - Peers have names, and are processes that come, go, crash and come back. A name outlives its holder if that
//!   [suspends](Client::suspend) or is killed: [`reconnect`] continues it, with its mailbox.
//! - A send is done when the store has the message. Nobody need be there to read it; the [`Receipt`] says whether
//!   somebody is.
//! - Order is first in, first out for each sender and recipient. Across senders a batch is sorted by time.
//! - Whoever is killed loses nothing but what it had in hand: one message with [`recv`](Client::recv), the batch with
//!   [`get_messages`](Client::get_messages).
//! - Where even that is too much, [`receive`](Client::receive) leaves a message in the store until it is
//!   [acknowledged](Delivery::acknowledge).
//! - Nothing runs behind your back: no thread, no runtime, no broker. Waiting is poll(2) on
//!   [descriptors](Client::wake) that you can have, too.
//!
//! The store and the wire are those of the Perl distribution IPC::Manager, so peers of both share a bus.
//!
//! # Features
//!
//! - `zstd` (on by default): the serializer `JSON::Zstd`. Builds a C library.
//! - `sqlite` (on by default): the protocol `SQLite`. Builds a C library.
//! - `postgresql`: the protocol `PostgreSQL`, and private servers of it.
//! - `mysql`: the protocols `MariaDB` and `MySQL`, and private servers of them.
//! - `tls`: encrypted connections to servers. Builds a C library. Without it a route that asks for encryption is refused.

mod bus;
mod client;
mod connection_string;
mod error;
mod group;
mod json;
mod limits;
mod message;
mod name;
mod protocol;
mod route;
pub mod serializer;
mod service;
mod short_text;
mod stats;
mod system;

pub use bus::{Audit, Cleaved, Gc, GcReport, Observer, Signal, Spawn, SpawnBuilder, spawn};
#[cfg(any(feature = "sqlite", feature = "postgresql", feature = "mysql"))]
pub use client::Posted;
pub use client::{Client, ClientBuilder, Delivery, Suspend, Typed, Wait, WaitFor, connect, local_clients, reconnect};
pub use connection_string::{ConnectionString, ProtocolName};
pub use error::{Error, ErrorKind, Place, Result, Stored};
pub use group::Group;
pub use limits::Limits;
pub use message::{Content, Message, MessageBuilder, MessageId, Origin, Stamp};
pub use name::PeerName;
pub use protocol::{
    Capabilities, Cleaning, Connection, ConnectionRecord, Connections, CreateOptions, Credentials, Damaged, Dead,
    Deliveries, Directory, Durability, Envelope, Fate, Held, Hold, Inbox, Leave, Leftover, LeftoverKind, Mode,
    NotViable, OpenOptions, Opened, Payloads, PeerRecord, PeerState, Protocol, Receipt, Registry, WaitMechanism, Wake,
    Wanted,
};
#[cfg(any(feature = "sqlite", feature = "postgresql", feature = "mysql"))]
pub use protocol::{Database, SqlValue, Transaction};
pub use route::Route;
pub use serializer::{Serializer, SerializerSpec};
pub use service::{
    Activity, Answer, Callback, CallbackId, Description, Ended, Exec, Handle, Launched, Method, Peer, PeerChange,
    Remote, Reply, Request, RequestId, Response, Service, ServiceBuilder, ServiceResult, Ticket, When,
};
pub use stats::Stats;
#[doc(hidden)]
pub use system::poll::without_rings;

#[cfg(test)]
mod fuzz;
