// SPDX-License-Identifier: MIT OR Apache-2.0
//! SQLite, bare: the journal, the tables and the indexes of a bus that goes with its owner.

use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::database::{MOST, Table, refused, stamp};

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS ipcm_peers (id VARCHAR(512) NOT NULL PRIMARY KEY, pid INTEGER, active REAL, stats BLOB,
        suspend_expires REAL, ipcm_holder TEXT);
    CREATE TABLE IF NOT EXISTS ipcm_messages (id UUID NOT NULL PRIMARY KEY,
        `to` VARCHAR(512) NOT NULL REFERENCES ipcm_peers(id) ON DELETE CASCADE,
        `from` VARCHAR(512) NOT NULL REFERENCES ipcm_peers(id) ON DELETE CASCADE,
        stamp REAL NOT NULL, content BLOB NOT NULL, broadcast BOOL NOT NULL DEFAULT 0, ipcm_more TEXT DEFAULT NULL);
    CREATE INDEX IF NOT EXISTS ipcm_messages_to ON ipcm_messages (`to`);
    CREATE INDEX IF NOT EXISTS ipcm_messages_from ON ipcm_messages (`from`);";
const INSERT: &str =
    "INSERT INTO ipcm_messages (id, `to`, `from`, stamp, content, broadcast) VALUES (?1, ?2, ?3, ?4, ?5, 0)";
const LOOK: &str = "SELECT 1 FROM ipcm_messages WHERE `to` = ?1 LIMIT 1";
const TAKE: &str = "DELETE FROM ipcm_messages WHERE rowid IN \
     (SELECT rowid FROM ipcm_messages WHERE `to` = ?1 ORDER BY rowid LIMIT ?2) \
     RETURNING rowid, id, `from`, stamp, content, broadcast";

const FIRST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

pub(super) struct Sqlite {
    connection: Connection,
    name: String,
}

/// The pauses that a bus makes: those of the library itself are longer.
fn wait_for_lock(count: i32) -> bool {
    let doublings = u32::try_from(count).unwrap_or(0).min(5);
    std::thread::sleep((FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE)); // as asked to
    count < 10_000
}

impl Sqlite {
    /// Opens the file of a bus.
    pub(super) fn at(path: &Path, name: &str) -> io::Result<Self> {
        let open = || -> rusqlite::Result<Connection> {
            let mut connection = Connection::open(path)?;
            connection.busy_handler(Some(wait_for_lock))?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.pragma_update(None, "foreign_keys", false)?;
            Ok(connection)
        };
        Ok(Self { connection: open().map_err(refused)?, name: name.to_owned() })
    }

    pub(super) fn new(directory: &Path, name: &str) -> io::Result<Self> {
        // Changing the journal needs the file for itself.
        let _alone = super::database::alone(directory)?;
        let sqlite = Self::at(&directory.join("floor.sqlite"), name)?;
        let connection = &sqlite.connection;
        let made = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
            .and_then(|()| connection.execute_batch(TABLES));
        made.map(|()| sqlite).map_err(refused)
    }

    fn insert_rows(&self, to: &str, ids: &[String], content: &[u8]) -> rusqlite::Result<()> {
        let mut insert = self.connection.prepare_cached(INSERT)?;
        if let [id] = ids {
            return insert.execute(params![id, to, self.name, stamp(), content]).map(drop);
        }
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for id in ids {
            insert.execute(params![id, to, self.name, stamp(), content])?;
        }
        self.connection.prepare_cached("COMMIT")?.execute([]).map(drop)
    }
}

impl Table for Sqlite {
    fn insert(&mut self, to: &str, ids: &[String], content: &[u8]) -> io::Result<()> {
        self.insert_rows(to, ids, content).map_err(refused)
    }

    fn has_row(&mut self) -> io::Result<bool> {
        let look = || self.connection.prepare_cached(LOOK)?.exists(params![self.name]);
        look().map_err(refused)
    }

    fn take(&mut self) -> io::Result<usize> {
        let take = || -> rusqlite::Result<usize> {
            let mut take = self.connection.prepare_cached(TAKE)?;
            let mut rows = take.query(params![self.name, i64::from(MOST)])?;
            let mut taken = Vec::new();
            while let Some(row) = rows.next()? {
                let row: (i64, String, String, f64, Vec<u8>) =
                    (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
                taken.push(row);
            }
            Ok(taken.len())
        };
        take().map_err(refused)
    }
}
