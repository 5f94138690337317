// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver of MariaDB and MySQL, bare.

use std::io;
use std::path::Path;

use ipc_manager_servers::Engine;
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder, Row, Statement, Value};

use super::database::{MOST, Table, refused, stamp};
use super::server::{self, Server};

const SETTINGS: [&str; 3] = [
    "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'",
];
const PEERS: &str = "CREATE TABLE ipcm_peers (id VARCHAR(512) NOT NULL PRIMARY KEY, pid INTEGER, active DOUBLE, \
     stats LONGBLOB, suspend_expires DOUBLE, ipcm_holder TEXT) ENGINE = InnoDB \
     DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
const PEER: &str =
    "INSERT INTO ipcm_peers (id, pid, active) VALUES (?, NULL, NULL) ON DUPLICATE KEY UPDATE id = ipcm_peers.id";
const INSERT: &str =
    "INSERT INTO ipcm_messages (id, `to`, `from`, stamp, content, broadcast) VALUES (?, ?, ?, ?, ?, 0)";
const LOOK: &str = "SELECT 1 FROM ipcm_messages WHERE `to` = ? LIMIT 1";
const TAKE: &str = "DELETE FROM ipcm_messages WHERE `to` = ? ORDER BY `to`, ipcm_seq LIMIT ? \
     RETURNING ipcm_seq, id, `from`, stamp, content, broadcast";
/// MySQL gives nothing back from a deletion.
const LOCK: &str = "SELECT ipcm_seq, id, `from`, stamp, content, broadcast FROM ipcm_messages \
     WHERE `to` = ? ORDER BY ipcm_seq LIMIT ? FOR UPDATE";

pub(super) struct Mysql {
    connection: Conn,
    insert: Statement,
    look: Statement,
    take: Statement,
    gives_back: bool,
    name: String,
    /// It lives as long as this worker.
    _server: Server,
}

fn connect(server: &Server) -> io::Result<Conn> {
    let options = OptsBuilder::new()
        .user(Some(&server.user))
        .db_name(Some(&server.database))
        .socket(server.socket.to_str())
        .prefer_socket(false)
        .stmt_cache_size(Some(2 * usize::from(MOST)))
        .init(SETTINGS.map(str::to_owned).to_vec());
    Conn::new(options).map_err(refused)
}

fn make_tables(server: &Server, id: &str) -> io::Result<()> {
    let messages = format!(
        "CREATE TABLE ipcm_messages (id {id} NOT NULL PRIMARY KEY, `to` VARCHAR(512) NOT NULL, \
         `from` VARCHAR(512) NOT NULL, stamp DOUBLE NOT NULL, content LONGBLOB NOT NULL, \
         broadcast BOOL NOT NULL DEFAULT 0, ipcm_more LONGTEXT DEFAULT NULL, \
         ipcm_seq BIGINT NOT NULL AUTO_INCREMENT, KEY (ipcm_seq), KEY (`to`, ipcm_seq), \
         FOREIGN KEY (`to`) REFERENCES ipcm_peers(id) ON DELETE CASCADE, \
         FOREIGN KEY (`from`) REFERENCES ipcm_peers(id) ON DELETE CASCADE) \
         ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    );
    let mut connection = connect(server)?;
    [PEERS, &messages].into_iter().try_for_each(|sql| connection.query_drop(sql)).map_err(refused)
}

impl Mysql {
    pub(super) fn new(engine: Engine, directory: &Path, name: &str) -> io::Result<Self> {
        let gives_back = engine == Engine::MariaDb;
        let id = if gives_back { "UUID" } else { "VARCHAR(36)" };
        Self::at(engine, server::join(engine, directory, |server| make_tables(server, id))?, name)
    }

    /// Opens the database of a bus.
    pub(super) fn at(engine: Engine, server: Server, name: &str) -> io::Result<Self> {
        let gives_back = engine == Engine::MariaDb;
        let mut connection = connect(&server)?;
        let mut prepare = || {
            connection.exec_drop(PEER, (name,))?;
            let take = if gives_back { TAKE } else { LOCK };
            Ok((connection.prep(INSERT)?, connection.prep(LOOK)?, connection.prep(take)?))
        };
        let (insert, look, take) = prepare().map_err(|error: mysql::Error| refused(error))?;
        Ok(Self { connection, insert, look, take, gives_back, name: name.to_owned(), _server: server })
    }

    fn insert_rows(&mut self, to: &str, ids: &[String], content: &[u8]) -> mysql::Result<()> {
        let alone = ids.len() == 1;
        if !alone {
            self.connection.query_drop("BEGIN")?;
        }
        for id in ids {
            self.connection.exec_drop(&self.insert, (id, to, &self.name, stamp(), content))?;
        }
        if alone { Ok(()) } else { self.connection.query_drop("COMMIT") }
    }

    fn take_rows(&mut self) -> mysql::Result<usize> {
        if self.gives_back {
            let rows: Vec<Row> = self.connection.exec(&self.take, (&self.name, MOST))?;
            return Ok(rows.len());
        }
        self.connection.query_drop("BEGIN")?;
        let rows: Vec<Row> = self.connection.exec(&self.take, (&self.name, MOST))?;
        let ids: Vec<Value> = rows.into_iter().filter_map(|mut row| row.take(1)).collect();
        if !ids.is_empty() {
            let marks = vec!["?"; ids.len()].join(", ");
            let delete = format!("DELETE FROM ipcm_messages WHERE id IN ({marks})");
            self.connection.exec_drop(delete, ids.clone())?;
        }
        self.connection.query_drop("COMMIT")?;
        Ok(ids.len())
    }
}

impl Table for Mysql {
    fn insert(&mut self, to: &str, ids: &[String], content: &[u8]) -> io::Result<()> {
        self.insert_rows(to, ids, content).map_err(refused)
    }

    fn has_row(&mut self) -> io::Result<bool> {
        let row: Option<u8> = self.connection.exec_first(&self.look, (&self.name,)).map_err(refused)?;
        Ok(row.is_some())
    }

    fn take(&mut self) -> io::Result<usize> {
        self.take_rows().map_err(refused)
    }
}
