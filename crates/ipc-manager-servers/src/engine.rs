// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engines, and what tells them apart.

use std::fmt;

use rustix::process::Signal;

/// A database server that can be started.
///
/// ```
/// assert_eq!(ipc_manager_servers::Engine::MariaDb.to_string(), "MariaDB");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Engine {
    /// PostgreSQL.
    PostgreSQL,
    /// MariaDB.
    MariaDb,
    /// MySQL, by Oracle. A MariaDB that calls itself `mysqld` is not taken for it.
    MySql,
}

impl Engine {
    /// Every engine there is.
    pub const ALL: [Self; 3] = [Self::PostgreSQL, Self::MariaDb, Self::MySql];

    /// Its name as its makers write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PostgreSQL => "PostgreSQL",
            Self::MariaDb => "MariaDB",
            Self::MySql => "MySQL",
        }
    }

    /// The environment variable with the one folder to look for its programs in.
    ///
    /// ```
    /// assert_eq!(ipc_manager_servers::Engine::MySql.folder_variable(), "IPCM_MYSQL_BIN");
    /// ```
    #[must_use]
    pub const fn folder_variable(self) -> &'static str {
        match self {
            Self::PostgreSQL => "IPCM_POSTGRESQL_BIN",
            Self::MariaDb => "IPCM_MARIADB_BIN",
            Self::MySql => "IPCM_MYSQL_BIN",
        }
    }

    /// The system users that a server of this kind may run as when root starts it, best first.
    pub(crate) const fn accounts(self) -> [&'static str; 2] {
        match self {
            Self::PostgreSQL => ["postgres", "nobody"],
            Self::MariaDb | Self::MySql => ["mysql", "nobody"],
        }
    }

    /// The signal that ends it at once and leaves nothing outside its directory. PostgreSQL keeps a System V shared
    /// memory segment, which it removes on this signal but cannot when it is killed.
    pub(crate) const fn end_signal(self) -> Signal {
        match self {
            Self::PostgreSQL => Signal::QUIT,
            Self::MariaDb | Self::MySql => Signal::KILL,
        }
    }

    /// The signal that has it shut down in order.
    pub(crate) const fn stop_signal(self) -> Signal {
        match self {
            // "Fast": connections are ended, not waited for.
            Self::PostgreSQL => Signal::INT,
            Self::MariaDb | Self::MySql => Signal::TERM,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
