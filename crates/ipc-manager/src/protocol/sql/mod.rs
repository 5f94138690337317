// SPDX-License-Identifier: MIT OR Apache-2.0
//! Buses in databases: one engine, and for each database its texts, its driver and its routes. The tables are those of
//! the reference implementation; see `docs/formats.md`, "SQL stores".

#[cfg(any(feature = "postgresql", feature = "mysql"))]
mod address;
mod connection;
mod delivery;
mod dialect;
mod drivers;
#[cfg(any(feature = "postgresql", feature = "mysql"))]
mod encryption;
mod listing;
mod mailbox;
mod message_row;
mod names;
mod outgoing;
mod outright;
mod posting;
#[cfg(any(feature = "postgresql", feature = "mysql"))]
mod private;
mod questions;
mod recipient;
mod schema;
#[cfg(any(feature = "postgresql", feature = "mysql"))]
mod secret;
#[cfg(any(feature = "postgresql", feature = "mysql"))]
mod server;
mod statements;
mod store;
#[cfg(all(feature = "tls", any(feature = "postgresql", feature = "mysql")))]
mod tls;
mod value;

#[cfg(feature = "mysql")]
pub(super) mod mysql;
#[cfg(feature = "postgresql")]
pub(super) mod postgresql;
#[cfg(feature = "sqlite")]
pub(super) mod sqlite;

pub use posting::{Database, SqlValue, Transaction};
pub(crate) use posting::{Posting, place_of, post};

#[cfg(test)]
mod fuzz;
