// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection to a file by way of the SQLite library, which is built in.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, Value as SqliteValue, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql, params_from_iter};

use crate::error::{Error, ErrorKind, Result};
use crate::protocol::beside::{check_file, is_gone};
use crate::protocol::sql::dialect::{Driver, Runner};
use crate::protocol::sql::store::error_of;
use crate::protocol::sql::value::{Failure, Param, Row, Trouble, Value};
use crate::route::Route;
use crate::system::access::Access;
use crate::system::poll;

/// Most statements that are kept prepared.
const STATEMENTS: usize = 64;
/// How long others' locks are waited for, and the first and the longest pause between two attempts.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSES: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(2));

/// Has the last one to close a file leave its log, rather than write it back and remove it.
const KEEP_LOG: DbConfig = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;

/// After how many statements the disk is looked at again.
const LOOK_AT_DISK: u32 = 256;

/// See the module.
#[derive(Debug)]
pub(super) struct SqliteDriver {
    connection: Connection,
    route: Route,
    /// Device and inode number of the file that was opened.
    file: (u64, u64),
    room: Room,
    /// How many statements ran, of which one in some looks at the disk.
    runs: u32,
}

/// What was done about a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// There was room so far.
    Enough,
    /// There was none: before the next transaction the log is written back, so that its room can be used again.
    Wanted,
    /// The log was written back.
    Made,
}

impl SqliteDriver {
    /// Opens a file that must be there. `is_lasting`: whether what was committed must outlive a power cut.
    pub(super) fn open(route: &Route, is_lasting: bool, access: Access) -> Result<Self> {
        let file = check_file(super::NAME, route, access)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let prepared = Connection::open_with_flags(route.as_str(), flags).and_then(|mut connection| {
            if access != Access::Private {
                // The log stays as it is once it is the group's: who makes it anew has it alone for a moment.
                connection.set_db_config(KEEP_LOG, true)?;
            }
            connection.busy_handler(Some(wait_for_lock))?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            // As the reference implementation has it; nothing here rests on cascades.
            connection.pragma_update(None, "foreign_keys", false)?;
            let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
            let synchronous = match (mode.as_str(), is_lasting) {
                ("wal", false) => "NORMAL",
                ("wal", true) => "FULL",
                // A rollback journal whose directory was not synced brings back what was committed.
                (_, false) => "FULL",
                (_, true) => "EXTRA",
            };
            connection.pragma_update(None, "synchronous", synchronous)?;
            if let Some(pages) = log_pages(route) {
                connection.pragma_update(None, "wal_autocheckpoint", pages)?;
            }
            Ok(connection)
        });
        let connection = prepared.map_err(|error| match failure(error) {
            // Removed while it was being opened, which shows as any error.
            failure if is_gone(route, file) => error_of(Failure { trouble: Trouble::Missing, ..failure }, ""),
            // A file is there, so what is missing is not the bus.
            Failure { trouble: Trouble::Missing, source } => {
                Error::new(ErrorKind::Store, "the database cannot be opened").with_source(source)
            }
            failure => error_of(failure, "the database cannot be opened"),
        })?;
        let mut driver = Self { connection, route: route.clone(), file, room: Room::Enough, runs: 0 };
        driver.bound_growth();
        Ok(driver)
    }

    /// Keeps the file from growing so far that there is no room for the log any more: without one nothing could be taken
    /// out of it. Best effort; where the disk has room there is no bound.
    fn bound_growth(&mut self) {
        const NO_BOUND: u64 = 0xffff_fffe;
        let size = |path: &str| std::fs::metadata(path).map_or(0, |file| file.len());
        let route = self.route.as_str();
        let page = self.connection.pragma_query_value(None, "page_size", |row| row.get::<_, u32>(0));
        let page = u64::from(page.unwrap_or(4096)).max(512);
        let bound = log_pages(&self.route).and_then(|log| {
            let disk = rustix::fs::statvfs(route).ok()?;
            let bytes = disk.f_bavail.saturating_mul(disk.f_frsize) + size(route) + size(&format!("{route}-wal"));
            Some((bytes / page).saturating_sub(4 * u64::try_from(log).unwrap_or(0)).max(1))
        });
        // A bound below what is there already is raised to that by the library.
        let bound = i64::try_from(bound.unwrap_or(NO_BOUND)).unwrap_or(i64::MAX);
        let _ = self.connection.pragma_update(None, "max_page_count", bound);
    }

    /// Runs a statement, once more where the disk was full and some room could be made. Within a transaction that is for
    /// whoever runs it to do.
    fn run<T>(&mut self, run: impl Fn(&Connection) -> rusqlite::Result<T>) -> std::result::Result<T, Failure> {
        let is_alone = self.connection.is_autocommit();
        self.runs = self.runs.wrapping_add(1);
        if is_alone && self.runs.is_multiple_of(LOOK_AT_DISK) {
            self.bound_growth();
        }
        let is_full = |done: &rusqlite::Result<T>| {
            done.as_ref().is_err_and(|error| error.sqlite_error_code() == Some(ErrorCode::DiskFull))
        };
        let mut done = run(&self.connection);
        if is_full(&done) && is_alone && self.room == Room::Enough {
            self.room = Room::Wanted;
            if self.make_room() {
                done = run(&self.connection);
            }
        }
        let before = self.room;
        if is_full(&done) {
            self.room = Room::Wanted;
        } else if done.is_ok() && self.connection.is_autocommit() {
            self.room = Room::Enough;
        }
        let is_worth_a_try = is_full(&done) && !is_alone && before == Room::Enough;
        done.map_err(|error| match is_worth_a_try {
            true => Failure::new(Trouble::Conflict, error),
            // Of a file that was removed in the middle of it, which shows as any error.
            false if is_gone(&self.route, self.file) => Failure::new(Trouble::Missing, error),
            false => failure(error),
        })
    }

    /// Writes the log back as far as nobody reads it, where there was no room. Returns whether that was worth a try.
    fn make_room(&mut self) -> bool {
        if self.room != Room::Wanted {
            return false;
        }
        self.room = Room::Made;
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).is_ok()
    }

    /// Leaves a log that is there as it is, where otherwise the last one to close it writes it back: for whoever only looks.
    pub(super) fn keep_log(&self) {
        let log = format!("{}-wal", self.route.as_str());
        if std::path::Path::new(&log).exists() {
            let _ = self.connection.set_db_config(KEEP_LOG, true);
        }
    }

    /// Has writers append to a log, so that readers are in nobody's way, where the file system allows that.
    pub(super) fn use_write_ahead_log(&mut self) -> std::result::Result<(), Failure> {
        let mode: rusqlite::Result<String> =
            self.connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0));
        if mode.map_err(failure)? != "wal" {
            log::debug!("{}: the file system does not allow a write-ahead log", self.route);
        }
        Ok(())
    }
}

/// How long the log may get before it is written back, in pages, where the disk has so little room that the usual length
/// would fill it.
fn log_pages(route: &Route) -> Option<i64> {
    const USUAL: u64 = 1000;
    const PAGE: u64 = 4096;
    let disk = rustix::fs::statvfs(route.as_str()).ok()?;
    let pages = disk.f_bavail.saturating_mul(disk.f_frsize) / PAGE / 8;
    (pages < USUAL).then(|| i64::try_from(pages.max(16)).unwrap_or(16))
}

/// Waits a moment for a lock; no when it has been waited for long enough. The count says how often it was asked.
fn wait_for_lock(count: i32) -> bool {
    let doublings = u32::try_from(count).unwrap_or(0).min(16);
    let pause = (PAUSES.0 * (1 << doublings)).min(PAUSES.1);
    // Nearly all pauses are of the longest kind, so their number tells the time.
    let most = PATIENCE.as_micros() / PAUSES.1.as_micros();
    let _ = poll::readable(&[], pause);
    u128::try_from(count).is_ok_and(|count| count < most)
}

impl Runner for SqliteDriver {
    fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> std::result::Result<u64, Failure> {
        self.run(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            statement.execute(params_from_iter(params)).map(|changed| changed as u64)
        })
    }

    fn query(&mut self, sql: &str, params: &[Param<'_>]) -> std::result::Result<Vec<Row>, Failure> {
        self.run(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let columns = statement.column_count();
            let mut rows = statement.query(params_from_iter(params))?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let mut values = Vec::with_capacity(columns);
                for column in 0..columns {
                    values.push(value(row.get_ref(column)?));
                }
                all.push(Row::new(values));
            }
            Ok(all)
        })
    }
}

impl Driver for SqliteDriver {
    fn begin(&mut self) -> std::result::Result<(), Failure> {
        self.make_room();
        // At once, since a transaction that reads first and then wants to write can be refused for good.
        self.execute("BEGIN IMMEDIATE", &[]).map(drop)
    }

    fn commit(&mut self) -> std::result::Result<(), Failure> {
        self.execute("COMMIT", &[]).map(drop)
    }

    fn rollback(&mut self) {
        if !self.connection.is_autocommit() {
            let _ = self.execute("ROLLBACK", &[]);
        }
    }

    fn check(&mut self) -> std::result::Result<(), Failure> {
        // An open file can be used long after it was removed.
        if is_gone(&self.route, self.file) {
            return Err(Failure::new(Trouble::Missing, "the file was removed"));
        }
        Ok(())
    }

    fn listen(&mut self, _: &str) -> std::result::Result<(), Failure> {
        Ok(())
    }

    fn take_notice(&mut self) -> bool {
        false
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match *self {
            Param::Null => ToSqlOutput::Owned(SqliteValue::Null),
            Param::Integer(number) => ToSqlOutput::Owned(SqliteValue::Integer(number)),
            Param::Bool(is_so) => ToSqlOutput::Owned(SqliteValue::Integer(is_so.into())),
            Param::Seconds(seconds) => ToSqlOutput::Owned(SqliteValue::Real(seconds)),
            Param::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Param::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Bytes(text.to_vec()),
        },
        ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    }
}

/// What an error of the library means.
fn failure(error: rusqlite::Error) -> Failure {
    let trouble = match &error {
        rusqlite::Error::SqliteFailure(code, message) => {
            let is_missing = || message.as_deref().is_some_and(|message| message.starts_with("no such table"));
            match code.code {
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Trouble::Busy,
                ErrorCode::ConstraintViolation => Trouble::Duplicate,
                ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::AuthorizationForStatementDenied => {
                    Trouble::Denied
                }
                ErrorCode::CannotOpen => Trouble::Missing,
                ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt => Trouble::Corrupt,
                _ if is_missing() => Trouble::Missing,
                _ => Trouble::Other,
            }
        }
        rusqlite::Error::SqlInputError { msg, .. } if msg.starts_with("no such table") => Trouble::Missing,
        _ => Trouble::Other,
    };
    Failure::new(trouble, error)
}
