// SPDX-License-Identifier: MIT OR Apache-2.0
//! What differs from database to database: texts, and the driver. Everything else is the engine's.

use std::fmt;
use std::os::fd::BorrowedFd;

use super::value::{Column, Failure, Param, Row};

/// What runs statements. It never tries one again.
pub(super) trait Runner: fmt::Debug {
    /// Runs a statement; returns how many rows it changed.
    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, Failure>;

    /// Runs a statement that gives rows.
    fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Failure>;
}

/// A connection to a database. It waits for locks of others, so long at most.
pub(super) trait Driver: Runner + Send {
    /// Begins a transaction that writes.
    fn begin(&mut self) -> Result<(), Failure>;

    /// Ends it, and keeps what it did.
    fn commit(&mut self) -> Result<(), Failure>;

    /// Ends it, and undoes what it did. What cannot be undone now is undone by the end of the connection.
    fn rollback(&mut self);

    /// Runs a statement that takes many rows at once, column by column; returns how many rows it changed. None: rows are
    /// taken by their values here.
    fn execute_columns(&mut self, _sql: &str, _columns: &[Column<'_>]) -> Option<Result<u64, Failure>> {
        None
    }

    /// Whether the database is still the one that was opened.
    fn check(&mut self) -> Result<(), Failure>;

    /// Listens for what the database itself tells about this mailbox, where it can.
    fn listen(&mut self, name: &str) -> Result<(), Failure>;

    /// Has the database tell a mailbox that something is there. It does so by itself where somebody else wrote.
    fn tell(&mut self, _name: &str) -> Result<(), Failure> {
        Ok(())
    }

    /// Takes note of what the database told until now. Returns whether it did.
    fn take_notice(&mut self) -> bool;

    /// What becomes readable when the database tells something.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

/// The type that a parameter has for the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Id,
    Text,
    Seconds,
    Integer,
    Bytes,
    Bool,
}

/// How messages are taken out of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taking {
    /// By one statement that deletes them and gives them back.
    Returning,
    /// By a statement that locks and gives them, and one that deletes them.
    LockThenDelete,
}

/// The texts of one database.
pub(super) trait Dialect: Send + Sync + fmt::Debug {
    /// The protocol's short name.
    fn protocol(&self) -> &'static str;

    /// What quotes an identifier.
    fn quote(&self) -> char;

    /// The placeholder of the n-th parameter, counted from 1.
    fn parameter(&self, kind: Kind, number: usize) -> String;

    /// An expression that gives a column of ids or numbers as a type that the driver reads.
    fn readable(&self, column: &str) -> String;

    /// The comparison that takes two nulls for equal.
    fn same(&self) -> &'static str;

    /// What is appended to an insert into a table so that a row that is there already is no error.
    fn unless_there(&self, table: &str) -> String;

    /// What is appended to a select so that nobody changes the rows meanwhile.
    fn share_lock(&self) -> &'static str;

    /// What is appended to a select so that nobody else locks the rows meanwhile.
    fn update_lock(&self) -> &'static str;

    /// The column that counts up with each insert.
    fn sequence(&self) -> &'static str;

    /// The statement that finds the lowest number that a message may not get which is to be in front of all of a
    /// mailbox; its parameter is the name. Null: every number will do.
    fn front(&self) -> &'static str;

    /// How messages are taken.
    fn taking(&self) -> Taking;

    /// The statement that deletes the oldest messages of a mailbox and gives them back: its parameters are the name
    /// and how many. `columns` and `order` are rendered. Not used where taking is locking, then deleting.
    fn take(&self, columns: &str, order: &str) -> String;

    /// The statement `take`, if it can also note what it took; then the time is its third parameter.
    fn noting(&self, _take: &str) -> Option<String> {
        None
    }

    /// Whether a message is inserted by its values, with a selected recipient among them, rather than by selecting all of
    /// it: some databases lock more for the latter.
    fn sends_by_values(&self) -> bool {
        false
    }

    /// Whether a message is inserted outright, and whether its recipient was there is looked at afterwards: an insert with
    /// a selection among its values costs some databases as much again.
    fn stores_outright(&self) -> bool {
        false
    }

    /// What an insert begins with that looks for no row that its rows refer to. Who uses it has locked them all: once each,
    /// and not once a message.
    fn insert_unchecked(&self) -> Option<&'static str> {
        None
    }

    /// The columns of a select that gives rows which are handed over column by column, in the order of the columns of a
    /// message. None: rows are taken by their values.
    fn given(&self, _columns: usize) -> Option<String> {
        None
    }

    /// The statements that make the tables where they are missing, the first two those of the reference
    /// implementation.
    fn tables(&self) -> Vec<String>;

    /// The statements that make what we need beyond that, each with a name; one that fails is done without.
    fn extras(&self) -> Vec<String>;

    /// Whether `extras` has the database tell readers of what anybody wrote.
    fn rings(&self) -> bool {
        false
    }

    /// Whether `extras` has a table of what was taken.
    fn notes_taken(&self) -> bool {
        true
    }

    /// Whether several tables are dropped by one statement.
    fn drops_many(&self) -> bool {
        true
    }

    /// The statement that lists table and column of every column of our tables, and a limit on their content in bytes
    /// where there is one; and of each index and trigger its name twice.
    fn columns(&self) -> &'static str;

    /// The statement whose one value is the largest content in bytes that the connection carries, where there is one.
    fn packet_limit(&self) -> Option<&'static str>;

    /// Whether the database hands ids back in lower case, however they were spelled.
    fn lowers_ids(&self) -> bool;

    /// Whether the database hands ids back as it was given them, and which it takes.
    fn takes_id(&self, id: &str) -> bool;
}

/// Renders a statement: `:kind` is a parameter, `[name]` an identifier to be quoted, `{word}` a text of the dialect,
/// `{column!}` a column made readable.
pub(super) fn render(dialect: &dyn Dialect, template: &str) -> String {
    let mut sql = String::with_capacity(template.len() + 32);
    let (mut rest, mut parameters) = (template, 0);
    while let Some(at) = rest.find([':', '[', '{']) {
        sql.push_str(&rest[..at]);
        let mark = rest.as_bytes()[at];
        rest = &rest[at + 1..];
        if mark == b':' {
            let end = rest.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(rest.len());
            parameters += 1;
            sql.push_str(&dialect.parameter(kind(&rest[..end]), parameters));
            rest = &rest[end..];
            continue;
        }
        let end = rest.find([']', '}']).unwrap_or(rest.len());
        let word = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        if mark == b'[' {
            sql.push(dialect.quote());
            sql.push_str(word);
            sql.push(dialect.quote());
        } else if let Some(column) = word.strip_suffix('!') {
            sql.push_str(&dialect.readable(column));
        } else {
            if let Some(table) = word.strip_prefix("unless there in ") {
                sql.push_str(&dialect.unless_there(table));
                continue;
            }
            sql.push_str(match word {
                "same" => dialect.same(),
                "share" => dialect.share_lock(),
                "update" => dialect.update_lock(),
                "seq" => dialect.sequence(),
                other => other,
            });
        }
    }
    sql.push_str(rest);
    sql
}

fn kind(word: &str) -> Kind {
    match word {
        "id" => Kind::Id,
        "seconds" => Kind::Seconds,
        "int" => Kind::Integer,
        "bytes" => Kind::Bytes,
        "bool" => Kind::Bool,
        _ => Kind::Text,
    }
}

/// Whether a text is a UUID as it is usually written: what the database would understand beyond that comes back in
/// another spelling.
pub(super) fn is_uuid(id: &str) -> bool {
    id.len() == 36
        && id.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
