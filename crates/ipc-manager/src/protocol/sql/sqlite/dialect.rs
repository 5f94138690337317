// SPDX-License-Identifier: MIT OR Apache-2.0
//! SQLite's texts.

use crate::protocol::sql::dialect::{Dialect, Kind, Taking};

/// See the module.
#[derive(Debug)]
pub(super) struct SqliteDialect;

impl Dialect for SqliteDialect {
    fn protocol(&self) -> &'static str {
        super::NAME
    }

    fn quote(&self) -> char {
        '`'
    }

    fn parameter(&self, _: Kind, number: usize) -> String {
        format!("?{number}")
    }

    fn readable(&self, column: &str) -> String {
        column.to_owned()
    }

    fn same(&self) -> &'static str {
        "IS"
    }

    fn unless_there(&self, _: &str) -> String {
        "ON CONFLICT (id) DO NOTHING".to_owned()
    }

    // A transaction that writes locks the whole database.
    fn share_lock(&self) -> &'static str {
        ""
    }

    fn update_lock(&self) -> &'static str {
        ""
    }

    fn sequence(&self) -> &'static str {
        "rowid"
    }

    fn front(&self) -> &'static str {
        // The numbers of all mailboxes are unique together.
        "SELECT MIN(rowid) FROM ipcm_messages WHERE :text IS NOT NULL"
    }

    fn taking(&self) -> Taking {
        Taking::Returning
    }

    fn take(&self, columns: &str, order: &str) -> String {
        format!(
            "DELETE FROM ipcm_messages WHERE rowid IN \
             (SELECT rowid FROM ipcm_messages WHERE [to] = :text ORDER BY {order} LIMIT :int) RETURNING {columns}"
        )
    }

    fn tables(&self) -> Vec<String> {
        let peers = "CREATE TABLE IF NOT EXISTS ipcm_peers (\
             [id] VARCHAR(512) NOT NULL PRIMARY KEY, \
             [pid] INTEGER DEFAULT NULL, \
             [active] REAL DEFAULT (strftime('%s', 'now')), \
             [stats] BLOB DEFAULT NULL, \
             [suspend_expires] REAL DEFAULT NULL)";
        let messages = "CREATE TABLE IF NOT EXISTS ipcm_messages (\
             [id] UUID NOT NULL PRIMARY KEY, \
             [to] VARCHAR(512) NOT NULL REFERENCES ipcm_peers(id) ON DELETE CASCADE, \
             [from] VARCHAR(512) NOT NULL REFERENCES ipcm_peers(id) ON DELETE CASCADE, \
             [stamp] REAL NOT NULL, \
             [content] BLOB NOT NULL, \
             [broadcast] BOOL NOT NULL DEFAULT 0)";
        vec![peers.to_owned(), messages.to_owned()]
    }

    fn extras(&self) -> Vec<String> {
        let statements = [
            "ALTER TABLE ipcm_peers ADD COLUMN suspend_expires REAL DEFAULT NULL",
            "ALTER TABLE ipcm_peers ADD COLUMN ipcm_holder TEXT DEFAULT NULL",
            "ALTER TABLE ipcm_messages ADD COLUMN ipcm_more TEXT DEFAULT NULL",
            "CREATE TABLE IF NOT EXISTS ipcm_damaged (id TEXT NOT NULL, [to] TEXT, [from] TEXT, stamp TEXT, \
             content BLOB, broadcast TEXT, reason TEXT, found REAL)",
            // Each entry of an index ends in the number of the row, so this is the mailbox in order.
            "CREATE INDEX IF NOT EXISTS ipcm_messages_to ON ipcm_messages ([to])",
            "CREATE INDEX IF NOT EXISTS ipcm_messages_from ON ipcm_messages ([from])",
        ];
        statements.map(str::to_owned).to_vec()
    }

    fn notes_taken(&self) -> bool {
        false
    }

    fn drops_many(&self) -> bool {
        false
    }

    fn columns(&self) -> &'static str {
        "SELECT 'ipcm_peers', name, NULL FROM pragma_table_info('ipcm_peers') UNION ALL \
         SELECT 'ipcm_messages', name, NULL FROM pragma_table_info('ipcm_messages') UNION ALL \
         SELECT 'ipcm_damaged', name, NULL FROM pragma_table_info('ipcm_damaged') UNION ALL \
         SELECT 'ipcm_dead', name, NULL FROM pragma_table_info('ipcm_dead') UNION ALL \
         SELECT 'ipcm_made', name, NULL FROM pragma_table_info('ipcm_made') UNION ALL \
         SELECT name, name, NULL FROM pragma_index_list('ipcm_messages')"
    }

    fn packet_limit(&self) -> Option<&'static str> {
        None
    }

    fn lowers_ids(&self) -> bool {
        false
    }

    fn takes_id(&self, id: &str) -> bool {
        // The column's type is a made-up one, so what looks like a number becomes one and loses its spelling.
        let looks_like_number = id.trim().parse::<f64>().is_ok();
        !looks_like_number || id.parse::<i64>().is_ok_and(|number| number.to_string() == id)
    }
}
