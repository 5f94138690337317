// SPDX-License-Identifier: MIT OR Apache-2.0
//! Buses in databases: one engine, and for each database its texts, its driver and its routes. The tables are those of
//! the reference implementation; see `docs/formats.md`, "SQL stores".

mod connection;
mod dialect;
mod listing;
mod mailbox;
mod message_row;
mod names;
mod outgoing;
mod schema;
mod statements;
mod store;
mod value;

#[cfg(feature = "sqlite")]
pub(super) mod sqlite;
