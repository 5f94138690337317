// SPDX-License-Identifier: MIT OR Apache-2.0
//! The texts of MariaDB and MySQL.

use crate::protocol::sql::dialect::{Dialect, Kind, Taking};

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Maker {
    MariaDb,
    MySql,
}

/// See the module.
#[derive(Debug)]
pub(super) struct MysqlDialect(pub(super) Maker);

impl MysqlDialect {
    fn id_type(&self) -> &'static str {
        match self.0 {
            Maker::MariaDb => "UUID",
            Maker::MySql => "VARCHAR(36)",
        }
    }
}

impl Dialect for MysqlDialect {
    fn protocol(&self) -> &'static str {
        match self.0 {
            Maker::MariaDb => super::MARIADB_NAME,
            Maker::MySql => super::MYSQL_NAME,
        }
    }

    fn quote(&self) -> char {
        '`'
    }

    fn parameter(&self, _: Kind, _: usize) -> String {
        "?".to_owned()
    }

    fn readable(&self, column: &str) -> String {
        column.to_owned()
    }

    fn same(&self) -> &'static str {
        "<=>"
    }

    fn unless_there(&self, table: &str) -> String {
        // Changes nothing. The form that ignores errors would ignore all others, too.
        format!("ON DUPLICATE KEY UPDATE {table}.id = {table}.id")
    }

    fn share_lock(&self) -> &'static str {
        "LOCK IN SHARE MODE"
    }

    fn update_lock(&self) -> &'static str {
        "FOR UPDATE"
    }

    fn sequence(&self) -> &'static str {
        "ipcm_seq"
    }

    fn front(&self) -> &'static str {
        // Before an empty mailbox, too: what comes in meanwhile is behind. It is where the numbers begin.
        "SELECT COALESCE(MIN(ipcm_seq), 1099511627776) FROM ipcm_messages WHERE [to] = :text"
    }

    fn taking(&self) -> Taking {
        match self.0 {
            Maker::MariaDb => Taking::Returning,
            Maker::MySql => Taking::LockThenDelete,
        }
    }

    fn take(&self, columns: &str, order: &str) -> String {
        // With the name in the order, too: for a deletion the planner does not see that the index gives it, and sorts all.
        format!("DELETE FROM ipcm_messages WHERE [to] = :text ORDER BY [to], {order} LIMIT :int RETURNING {columns}")
    }

    fn sends_by_values(&self) -> bool {
        // An insert of what is selected locks the counter of the table.
        true
    }

    fn stores_outright(&self) -> bool {
        true
    }

    fn insert_unchecked(&self) -> Option<&'static str> {
        Some(match self.0 {
            Maker::MariaDb => "SET STATEMENT foreign_key_checks = 0 FOR INSERT INTO",
            Maker::MySql => "INSERT /*+ SET_VAR(foreign_key_checks = 0) */ INTO",
        })
    }

    fn tables(&self) -> Vec<String> {
        let now = match self.0 {
            Maker::MariaDb => "unix_timestamp()",
            Maker::MySql => "NULL",
        };
        // Names that differ in letter case are different names.
        let end = "ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
        let id = self.id_type();
        vec![
            format!(
                "CREATE TABLE IF NOT EXISTS ipcm_peers (\
                 id VARCHAR(512) NOT NULL PRIMARY KEY, \
                 pid INTEGER DEFAULT NULL, \
                 active DOUBLE DEFAULT {now}, \
                 stats LONGBLOB DEFAULT NULL, \
                 suspend_expires DOUBLE DEFAULT NULL) {end}"
            ),
            format!(
                "CREATE TABLE IF NOT EXISTS ipcm_messages (\
                 id {id} NOT NULL PRIMARY KEY, \
                 [to] VARCHAR(512) NOT NULL, \
                 [from] VARCHAR(512) NOT NULL, \
                 stamp DOUBLE NOT NULL, \
                 content LONGBLOB NOT NULL, \
                 broadcast BOOL NOT NULL DEFAULT 0, \
                 FOREIGN KEY ([to]) REFERENCES ipcm_peers(id) ON DELETE CASCADE, \
                 FOREIGN KEY ([from]) REFERENCES ipcm_peers(id) ON DELETE CASCADE) {end}"
            ),
        ]
    }

    fn extras(&self) -> Vec<String> {
        let id = self.id_type();
        let taken =
            format!("CREATE TABLE IF NOT EXISTS ipcm_taken (id {id} NOT NULL PRIMARY KEY, taken DOUBLE NOT NULL)");
        let statements = [
            "ALTER TABLE ipcm_peers ADD COLUMN suspend_expires DOUBLE DEFAULT NULL",
            "ALTER TABLE ipcm_peers ADD COLUMN ipcm_holder TEXT DEFAULT NULL",
            "ALTER TABLE ipcm_messages ADD COLUMN ipcm_more LONGTEXT DEFAULT NULL",
            // With room in front of all for messages that are put back; in one statement, so that nobody numbers without.
            "ALTER TABLE ipcm_messages ADD COLUMN ipcm_seq BIGINT NOT NULL AUTO_INCREMENT, \
             ADD KEY ipcm_messages_seq (ipcm_seq), AUTO_INCREMENT = 1099511627776",
            "CREATE TABLE IF NOT EXISTS ipcm_damaged (id VARCHAR(255) NOT NULL, [to] TEXT, [from] TEXT, stamp TEXT, \
             content LONGBLOB, broadcast TEXT, reason TEXT, found DOUBLE) DEFAULT CHARACTER SET utf8mb4",
            &taken,
            "CREATE INDEX ipcm_messages_to ON ipcm_messages ([to], ipcm_seq)",
        ];
        statements.map(str::to_owned).to_vec()
    }

    fn columns(&self) -> &'static str {
        "SELECT TABLE_NAME, COLUMN_NAME, CASE WHEN COLUMN_NAME = 'content' THEN CHARACTER_MAXIMUM_LENGTH END \
         FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() \
         AND TABLE_NAME IN ('ipcm_peers', 'ipcm_messages', 'ipcm_damaged', 'ipcm_dead', 'ipcm_taken', 'ipcm_made') \
         UNION ALL SELECT INDEX_NAME, INDEX_NAME, NULL FROM information_schema.STATISTICS \
         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'ipcm_messages'"
    }

    fn packet_limit(&self) -> Option<&'static str> {
        // Room for the other fields.
        Some("SELECT @@max_allowed_packet - 65536")
    }

    fn lowers_ids(&self) -> bool {
        self.0 == Maker::MariaDb
    }

    fn takes_id(&self, id: &str) -> bool {
        match self.0 {
            Maker::MariaDb => crate::protocol::sql::dialect::is_uuid(id),
            Maker::MySql => id.len() <= 36,
        }
    }
}
