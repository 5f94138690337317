// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver of PostgreSQL, bare.

use std::io;
use std::path::Path;

use ipc_manager_servers::Engine;
use postgres::{Client, Config, NoTls, Statement};

use super::database::{MOST, Table, refused, stamp};
use super::server::{self, Server};

const TABLES: &str = r#"
    CREATE TABLE ipcm_peers (id VARCHAR(512) NOT NULL PRIMARY KEY, pid INTEGER, active NUMERIC, stats BYTEA,
        suspend_expires NUMERIC, ipcm_holder TEXT);
    CREATE TABLE ipcm_messages (id UUID NOT NULL PRIMARY KEY,
        "to" VARCHAR(512) NOT NULL REFERENCES ipcm_peers(id) ON DELETE CASCADE,
        "from" VARCHAR(512) NOT NULL REFERENCES ipcm_peers(id) ON DELETE CASCADE,
        stamp NUMERIC NOT NULL, content BYTEA NOT NULL, broadcast BOOL NOT NULL DEFAULT FALSE, ipcm_more TEXT,
        ipcm_seq BIGSERIAL);
    CREATE INDEX ipcm_messages_to ON ipcm_messages ("to", ipcm_seq);
    CREATE INDEX ipcm_messages_from ON ipcm_messages ("from");
    ALTER TABLE ipcm_messages SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000);"#;
const SETTINGS: &str = "SET default_transaction_isolation = 'read committed'; \
     SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off; SET jit = off; \
     SET ipcm.rings = 'itself'";
const PEER: &str = "INSERT INTO ipcm_peers (id, pid, active) VALUES ($1, NULL, NULL) ON CONFLICT (id) DO NOTHING";
const INSERT: &str = r#"INSERT INTO ipcm_messages (id, "to", "from", stamp, content, broadcast)
    VALUES (CAST(CAST($1 AS text) AS uuid), $2, $3, CAST(CAST($4 AS text) AS numeric), $5, FALSE)"#;
const LOOK: &str = r#"SELECT 1 FROM ipcm_messages WHERE "to" = $1 LIMIT 1"#;
const TAKE: &str = r#"DELETE FROM ipcm_messages WHERE ctid = ANY (ARRAY(SELECT ctid FROM ipcm_messages WHERE "to" = $1
    ORDER BY ipcm_seq LIMIT $2 FOR UPDATE SKIP LOCKED))
    RETURNING ipcm_seq, CAST(id AS text), "from", CAST(stamp AS text), content, broadcast"#;

pub(super) struct Postgresql {
    client: Client,
    insert: Statement,
    look: Statement,
    take: Statement,
    name: String,
    /// It lives as long as this worker.
    _server: Server,
}

fn connect(server: &Server) -> io::Result<Client> {
    let directory = server.socket.parent().unwrap_or(Path::new("/"));
    let mut config = Config::new();
    config.host_path(directory).user(&server.user).dbname(&server.database);
    config.connect(NoTls).map_err(refused)
}

impl Postgresql {
    pub(super) fn new(directory: &Path, name: &str) -> io::Result<Self> {
        let server = server::join(Engine::PostgreSQL, directory, |server| {
            connect(server)?.batch_execute(TABLES).map_err(refused)
        })?;
        Self::at(server, name)
    }

    /// Opens the database of a bus.
    pub(super) fn at(server: Server, name: &str) -> io::Result<Self> {
        let mut client = connect(&server)?;
        let mut prepare = || {
            client.batch_execute(SETTINGS)?;
            client.execute(PEER, &[&name])?;
            Ok((client.prepare(INSERT)?, client.prepare(LOOK)?, client.prepare(TAKE)?))
        };
        let (insert, look, take) = prepare().map_err(|error: postgres::Error| refused(error))?;
        Ok(Self { client, insert, look, take, name: name.to_owned(), _server: server })
    }
}

impl Table for Postgresql {
    fn insert(&mut self, to: &str, ids: &[String], content: &[u8]) -> io::Result<()> {
        let (name, insert) = (&self.name, &self.insert);
        let mut put = || {
            if let [id] = ids {
                return self.client.execute(insert, &[id, &to, name, &stamp().to_string(), &content]).map(drop);
            }
            let mut transaction = self.client.transaction()?;
            for id in ids {
                transaction.execute(insert, &[id, &to, name, &stamp().to_string(), &content])?;
            }
            transaction.commit()
        };
        put().map_err(refused)
    }

    fn has_row(&mut self) -> io::Result<bool> {
        let rows = self.client.query(&self.look, &[&self.name]).map_err(refused)?;
        Ok(!rows.is_empty())
    }

    fn take(&mut self) -> io::Result<usize> {
        let most = i64::from(MOST);
        let rows = self.client.query(&self.take, &[&self.name, &most]).map_err(refused)?;
        let taken: Vec<(i64, String, Vec<u8>)> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(4))).collect();
        Ok(taken.len())
    }
}
