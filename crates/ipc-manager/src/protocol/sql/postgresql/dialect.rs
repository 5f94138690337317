// SPDX-License-Identifier: MIT OR Apache-2.0
//! PostgreSQL's texts.

use crate::protocol::sql::dialect::{Dialect, Kind, Taking};

/// See the module.
#[derive(Debug)]
pub(super) struct PostgresDialect;

impl Dialect for PostgresDialect {
    fn protocol(&self) -> &'static str {
        super::NAME
    }

    fn quote(&self) -> char {
        '"'
    }

    fn parameter(&self, kind: Kind, number: usize) -> String {
        // What a parameter is for the driver must not depend on where it stands.
        match kind {
            Kind::Id => format!("CAST(CAST(${number} AS text) AS uuid)"),
            Kind::Seconds => format!("CAST(CAST(${number} AS text) AS numeric)"),
            Kind::Text => format!("CAST(${number} AS text)"),
            Kind::Integer => format!("CAST(${number} AS bigint)"),
            Kind::Bytes => format!("CAST(${number} AS bytea)"),
            Kind::Bool => format!("CAST(${number} AS boolean)"),
        }
    }

    fn readable(&self, column: &str) -> String {
        format!("CAST({column} AS text)")
    }

    fn same(&self) -> &'static str {
        "IS NOT DISTINCT FROM"
    }

    fn unless_there(&self, _: &str) -> String {
        "ON CONFLICT (id) DO NOTHING".to_owned()
    }

    fn share_lock(&self) -> &'static str {
        "FOR SHARE"
    }

    fn update_lock(&self) -> &'static str {
        "FOR UPDATE"
    }

    fn sequence(&self) -> &'static str {
        "ipcm_seq"
    }

    fn front(&self) -> &'static str {
        // Before an empty mailbox, too: what comes in meanwhile is behind. It is where the numbers begin.
        "SELECT COALESCE(MIN(ipcm_seq), 1) FROM ipcm_messages WHERE [to] = :text"
    }

    fn taking(&self) -> Taking {
        Taking::Returning
    }

    fn take(&self, columns: &str, order: &str) -> String {
        // By their place, so that no plan for the deletion reads the whole table.
        format!(
            "DELETE FROM ipcm_messages WHERE ctid = ANY (ARRAY(SELECT ctid FROM ipcm_messages WHERE [to] = :text \
             ORDER BY {order} LIMIT :int FOR UPDATE SKIP LOCKED)) RETURNING {columns}"
        )
    }

    fn noting(&self, take: &str) -> Option<String> {
        Some(format!(
            "WITH taken AS ({take}), noted AS (INSERT INTO ipcm_taken (id, taken) \
             SELECT CAST(id AS uuid), :seconds FROM taken ON CONFLICT (id) DO NOTHING) SELECT * FROM taken"
        ))
    }

    fn given(&self, columns: usize) -> Option<String> {
        // Thousands of parameters would take longer than the rows; so would lists that are put together first.
        let list = |number: usize, kind: &str| format!("unnest(CAST(${number} AS {kind}[]))");
        let more = if columns > 6 { format!(", {}", list(7, "text")) } else { String::new() };
        Some(format!(
            "CAST({} AS uuid), {}, {}, CAST({} AS numeric), {}, {}{more}",
            list(1, "text"),
            list(2, "text"),
            list(3, "text"),
            list(4, "text"),
            list(5, "bytea"),
            list(6, "boolean"),
        ))
    }

    fn tables(&self) -> Vec<String> {
        let peers = "CREATE TABLE IF NOT EXISTS ipcm_peers (\
             id VARCHAR(512) NOT NULL PRIMARY KEY, \
             pid INTEGER DEFAULT NULL, \
             active NUMERIC DEFAULT EXTRACT(epoch FROM now()), \
             stats BYTEA DEFAULT NULL, \
             suspend_expires NUMERIC DEFAULT NULL)";
        let messages = "CREATE TABLE IF NOT EXISTS ipcm_messages (\
             id UUID NOT NULL PRIMARY KEY, \
             [to] VARCHAR(512) NOT NULL REFERENCES ipcm_peers(id) ON DELETE CASCADE, \
             [from] VARCHAR(512) NOT NULL REFERENCES ipcm_peers(id) ON DELETE CASCADE, \
             stamp NUMERIC NOT NULL, \
             content BYTEA NOT NULL, \
             broadcast BOOL NOT NULL DEFAULT FALSE)";
        vec![peers.to_owned(), messages.to_owned()]
    }

    fn extras(&self) -> Vec<String> {
        let statements = [
            "ALTER TABLE ipcm_peers ADD COLUMN IF NOT EXISTS suspend_expires NUMERIC DEFAULT NULL",
            "ALTER TABLE ipcm_peers ADD COLUMN IF NOT EXISTS ipcm_holder TEXT DEFAULT NULL",
            "ALTER TABLE ipcm_messages ADD COLUMN IF NOT EXISTS ipcm_more TEXT DEFAULT NULL",
            "ALTER TABLE ipcm_messages ADD COLUMN IF NOT EXISTS ipcm_seq BIGSERIAL",
            "CREATE TABLE IF NOT EXISTS ipcm_damaged (id TEXT NOT NULL, [to] TEXT, [from] TEXT, stamp TEXT, \
             content BYTEA, broadcast TEXT, reason TEXT, found DOUBLE PRECISION)",
            "CREATE TABLE IF NOT EXISTS ipcm_taken (id UUID NOT NULL PRIMARY KEY, taken DOUBLE PRECISION NOT NULL)",
            "CREATE INDEX IF NOT EXISTS ipcm_messages_to ON ipcm_messages ([to], ipcm_seq)",
            "CREATE INDEX IF NOT EXISTS ipcm_messages_from ON ipcm_messages ([from])",
            // A mailbox is emptied as fast as it is filled, so what was deleted must go soon.
            "ALTER TABLE ipcm_messages SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000)",
            "CREATE OR REPLACE FUNCTION ipcm_ring() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_notify('ipcm_' || md5(NEW.[to]), ''); RETURN NULL; END $$",
            // Not for those who ring by themselves: telling takes as long as the rest of an insert.
            "CREATE TRIGGER ipcm_ring AFTER INSERT ON ipcm_messages FOR EACH ROW \
             WHEN (current_setting('ipcm.rings', true) IS DISTINCT FROM 'itself') EXECUTE FUNCTION ipcm_ring()",
        ];
        statements.map(str::to_owned).to_vec()
    }

    fn rings(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static str {
        "SELECT CAST(table_name AS text), CAST(column_name AS text), CAST(NULL AS bigint) \
         FROM information_schema.columns WHERE table_schema = ANY (current_schemas(false)) \
         AND table_name IN ('ipcm_peers', 'ipcm_messages', 'ipcm_damaged', 'ipcm_dead', 'ipcm_taken', 'ipcm_made') \
         UNION ALL SELECT 'ipcm_ring', CAST(tgname AS text), NULL FROM pg_trigger \
         WHERE tgrelid = to_regclass('ipcm_messages') AND tgname = 'ipcm_ring' \
         UNION ALL SELECT CAST(relname AS text), CAST(relname AS text), NULL FROM pg_index \
         JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = to_regclass('ipcm_messages')"
    }

    fn packet_limit(&self) -> Option<&'static str> {
        None
    }

    fn lowers_ids(&self) -> bool {
        true
    }

    fn takes_id(&self, id: &str) -> bool {
        crate::protocol::sql::dialect::is_uuid(id)
    }
}
