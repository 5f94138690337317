// SPDX-License-Identifier: MIT OR Apache-2.0
//! PostgreSQL: a bus in a database of a server, which also tells readers of messages that others wrote.

mod dialect;
mod driver;
mod session;
mod stream;
#[cfg(feature = "tls")]
mod tls;

use super::address::Family;
use super::server::{ServerKind, ServerProtocol};
use dialect::PostgresDialect;
use driver::PostgresDriver;
use session::Pump as SessionPump;

const NAME: &str = "PostgreSQL";

/// The protocol; see the module.
pub(in crate::protocol) static POSTGRESQL: ServerProtocol = ServerProtocol(&ServerKind {
    family: Family {
        protocol: NAME,
        drivers: &["Pg"],
        schemes: &["postgres", "postgresql"],
        prefixes: &[],
        host_may_be_directory: true,
    },
    dialect: &PostgresDialect,
    open: |address, credentials| Ok(Box::new(PostgresDriver::open(address, credentials)?)),
    private: ipc_manager_servers::Engine::PostgreSQL,
    removal: &["DROP FUNCTION IF EXISTS ipcm_ring"],
});
