// SPDX-License-Identifier: MIT OR Apache-2.0
//! MariaDB and MySQL: a bus in a database of a server. One driver, and a few texts that differ.

mod dialect;
mod driver;
#[cfg(feature = "tls")]
mod tls;

use super::address::Family;
use super::server::{ServerKind, ServerProtocol};
use dialect::{Maker, MysqlDialect};
use driver::MysqlDriver;

const MARIADB_NAME: &str = "MariaDB";
const MYSQL_NAME: &str = "MySQL";

/// Buses on MariaDB.
pub(in crate::protocol) static MARIADB: ServerProtocol = ServerProtocol(&ServerKind {
    family: Family {
        protocol: MARIADB_NAME,
        drivers: &["MariaDB", "mysql"],
        schemes: &["mariadb", "mysql"],
        prefixes: &["mariadb_", "mysql_"],
        host_may_be_directory: false,
    },
    dialect: &MysqlDialect(Maker::MariaDb),
    open: |address, credentials| Ok(Box::new(MysqlDriver::open(address, credentials, true)?)),
    private: ipc_manager_servers::Engine::MariaDb,
    removal: &[],
});

/// Buses on MySQL. The reference implementation reaches it by the driver of MariaDB.
pub(in crate::protocol) static MYSQL: ServerProtocol = ServerProtocol(&ServerKind {
    family: Family {
        protocol: MYSQL_NAME,
        drivers: &["MariaDB", "mysql"],
        schemes: &["mysql"],
        prefixes: &["mariadb_", "mysql_"],
        host_may_be_directory: false,
    },
    dialect: &MysqlDialect(Maker::MySql),
    open: |address, credentials| Ok(Box::new(MysqlDriver::open(address, credentials, false)?)),
    private: ipc_manager_servers::Engine::MySql,
    removal: &[],
});
