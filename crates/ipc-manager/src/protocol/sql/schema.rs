// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tables: making them, finding out which columns they have, bringing older ones up to date.

use super::dialect::{Dialect, Driver, Runner, render};
use super::value::{Failure, Trouble};

/// The tables of the reference implementation, and ours beside them.
pub(super) const PEERS: &str = "ipcm_peers";
pub(super) const MESSAGES: &str = "ipcm_messages";
pub(super) const DAMAGED: &str = "ipcm_damaged";
const DEAD: &str = "ipcm_dead";
const TAKEN: &str = "ipcm_taken";
/// What finds the messages of a mailbox in order.
const INDEX: &str = "ipcm_messages_to";
/// A table that says by being there that this implementation made the others.
const OURS: &str = "ipcm_made";

/// Which of the columns that not every version has are there. Without one its use is done without.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Schema {
    /// Whether the tables of the reference implementation are there at all.
    pub(super) is_bus: bool,
    /// Whether one of them is.
    has_any: bool,
    /// `ipcm_peers.suspend_expires`: deadlines of suspended peers.
    pub(super) suspend: bool,
    /// `ipcm_peers.ipcm_holder`: which process holds a name, beyond its pid.
    pub(super) holder: bool,
    /// `ipcm_messages.ipcm_more`: what else a message has.
    pub(super) more: bool,
    /// The column that counts up with each message.
    pub(super) sequence: bool,
    /// The table of what is no message.
    pub(super) damaged: bool,
    /// The table of ids that were taken, where a sender can lose its connection without knowing what became of its
    /// message.
    pub(super) taken: bool,
    /// The table of messages that were handed out too often; made when something is received that is to be acknowledged.
    pub(super) dead: bool,
    /// Whether the database tells readers of what anybody wrote.
    pub(super) rings: bool,
    /// Whether the index of the mailboxes is there.
    pub(super) index: bool,
    /// Whether the tables were made by this implementation.
    pub(super) is_ours: bool,
    /// Largest content in bytes that the column and the connection take.
    pub(super) largest: Option<u64>,
}

impl Schema {
    /// Finds out what is there.
    pub(super) fn find(driver: &mut dyn Runner, dialect: &dyn Dialect) -> Result<Self, Failure> {
        let mut schema = Self { sequence: dialect.sequence() == "rowid", ..Self::default() };
        let (mut peers, mut messages) = (false, false);
        for mut row in driver.query(dialect.columns(), &[])? {
            let (table, column, limit) = (row.next().into_text(), row.next().into_text(), row.next().as_integer());
            match (table.as_deref(), column.as_deref()) {
                (Some(PEERS), Some("id")) => peers = true,
                (Some(PEERS), Some("suspend_expires")) => schema.suspend = true,
                (Some(PEERS), Some("ipcm_holder")) => schema.holder = true,
                (Some(MESSAGES), Some("content")) => {
                    messages = true;
                    schema.largest = limit.and_then(|limit| u64::try_from(limit).ok());
                }
                (Some(MESSAGES), Some("ipcm_more")) => schema.more = true,
                (Some(MESSAGES), Some(column)) if column == dialect.sequence() => schema.sequence = true,
                (Some(DAMAGED), Some("id")) => schema.damaged = true,
                (Some(TAKEN), Some("id")) => schema.taken = true,
                (Some(DEAD), Some("id")) => schema.dead = true,
                (Some(OURS), Some(_)) => schema.is_ours = true,
                (Some("ipcm_ring"), Some(_)) => schema.rings = true,
                (Some(INDEX), Some(_)) => schema.index = true,
                _ => {}
            }
        }
        (schema.is_bus, schema.has_any) = (peers && messages, peers || messages);
        if let Some(packet) = dialect.packet_limit() {
            let limit = driver.query(packet, &[])?.into_iter().next().and_then(|mut row| row.next().as_integer());
            let limit = limit.and_then(|limit| u64::try_from(limit).ok());
            schema.largest = schema.largest.into_iter().chain(limit).min();
        }
        Ok(schema)
    }

    /// Whether everything is there that we use, down to what is made last.
    fn is_complete(&self, dialect: &dyn Dialect) -> bool {
        let is_last_there = self.index && (self.rings || !dialect.rings()) && (self.taken || !dialect.notes_taken());
        is_last_there && self.is_bus && self.suspend && self.holder && self.more && self.sequence && self.damaged
    }
}

/// Makes the tables where they are missing. What one who was killed on the way has begun is finished.
pub(super) fn make(driver: &mut dyn Driver, dialect: &dyn Dialect) -> Result<(), Failure> {
    let before = Schema::find(driver, dialect)?;
    if !before.is_bus {
        // First, so that whatever is made is known to be ours, however far that comes.
        let note = (!before.has_any).then(|| format!("CREATE TABLE IF NOT EXISTS {OURS} (note INTEGER)"));
        for statement in note.iter().chain(&dialect.tables()) {
            match driver.execute(&render(dialect, statement), &[]) {
                // Two who make the same table at once: one is told so.
                Err(failure) if failure.trouble == Trouble::Duplicate => {}
                made => drop(made?),
            }
        }
    }
    bring_up_to_date(driver, dialect).map(drop)
}

/// Adds what we need to tables that somebody else made, or an older version. What may not be added is done without.
pub(super) fn bring_up_to_date(driver: &mut dyn Driver, dialect: &dyn Dialect) -> Result<Schema, Failure> {
    let schema = Schema::find(driver, dialect)?;
    if !schema.is_bus || schema.is_complete(dialect) {
        return Ok(schema);
    }
    for statement in dialect.extras() {
        if let Err(failure) = driver.execute(&render(dialect, &statement), &[]) {
            match failure.trouble {
                // It is there already, or this user may not: done without.
                Trouble::Other | Trouble::Denied | Trouble::Duplicate => {
                    log::debug!("{}: done without: {statement}: {failure}", dialect.protocol());
                }
                _ => return Err(failure),
            }
        }
    }
    Schema::find(driver, dialect)
}

/// Removes what the bus put into a database that is somebody else's. The note that it is ours goes last, or all at once.
pub(super) fn remove(driver: &mut dyn Driver, dialect: &dyn Dialect) -> Result<(), Failure> {
    let tables = [DAMAGED, DEAD, TAKEN, MESSAGES, PEERS, OURS];
    if dialect.drops_many() {
        return driver.execute(&format!("DROP TABLE IF EXISTS {}", tables.join(", ")), &[]).map(drop);
    }
    for table in tables {
        driver.execute(&format!("DROP TABLE IF EXISTS {table}"), &[])?;
    }
    Ok(())
}
