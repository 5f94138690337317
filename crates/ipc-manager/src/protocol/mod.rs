// SPDX-License-Identifier: MIT OR Apache-2.0
//! Protocols: how messages travel. Two traits that implementers write, the list of what is built in, and selection.

mod capabilities;
mod cleaning;
mod connections;
mod credentials;
mod deliveries;
mod envelope;
mod inbox;
mod parameters;
mod payloads;
mod peer;
mod registry;
mod room;
mod traits;
mod wake;

mod atomic_pipe;
#[cfg_attr(
    not(all(feature = "sqlite", feature = "postgresql", feature = "mysql")),
    allow(dead_code, reason = "not every protocol uses all of it")
)]
mod beside;
mod connection_unix;
mod directory_store;
mod json_file;
mod local_memory;
mod message_files;
#[cfg(any(feature = "sqlite", feature = "postgresql", feature = "mysql"))]
#[cfg_attr(
    not(all(feature = "sqlite", feature = "postgresql", feature = "mysql")),
    allow(dead_code, reason = "not every protocol uses all of it")
)]
mod sql;
mod unix_socket;

use std::sync::Arc;

#[cfg(any(feature = "sqlite", feature = "postgresql", feature = "mysql"))]
pub use sql::{Database, SqlValue, Transaction};
#[cfg(any(feature = "sqlite", feature = "postgresql", feature = "mysql"))]
pub(crate) use sql::{Posting, place_of, post};

pub use capabilities::{Capabilities, Durability, WaitMechanism};
pub use cleaning::{Cleaning, Fate, Leftover, LeftoverKind};
pub use connections::{ConnectionRecord, Connections};
pub use credentials::Credentials;
pub(crate) use deliveries::tell_of_death;
pub use deliveries::{Dead, Deliveries, Held};
pub use envelope::Envelope;
pub use inbox::{Damaged, Inbox};
pub use parameters::{CreateOptions, Hold, Leave, Mode, NotViable, OpenOptions, Opened, Receipt};
pub use payloads::Payloads;
pub use peer::{PeerRecord, PeerState};
pub use registry::Registry;
pub use traits::{Connection, Directory, Protocol};
pub use wake::{Wake, Wanted};

/// Every built-in protocol, in the order in which `spawn` tries them.
fn standard() -> Vec<Arc<dyn Protocol>> {
    vec![
        Arc::new(atomic_pipe::AtomicPipe),
        Arc::new(unix_socket::UnixSocket),
        Arc::new(connection_unix::ConnectionUnix),
        #[cfg(feature = "sqlite")]
        Arc::new(sql::sqlite::Sqlite),
        #[cfg(feature = "postgresql")]
        Arc::new(sql::postgresql::POSTGRESQL),
        #[cfg(feature = "mysql")]
        Arc::new(sql::mysql::MARIADB),
        #[cfg(feature = "mysql")]
        Arc::new(sql::mysql::MYSQL),
        Arc::new(message_files::MessageFiles),
        Arc::new(json_file::JsonFile),
        Arc::new(local_memory::LocalMemory),
    ]
}
