// SPDX-License-Identifier: MIT OR Apache-2.0
//! The drivers of databases, bare: a message is a row of the same table as a bus has, inserted by one process, deleted
//! and given back by another, which looks again and again.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Most rows that are taken at once.
pub(super) const MOST: u16 = 1_000;
/// What of a message is in columns of its own and not in its content, in bytes.
const COLUMNS: usize = 150;
/// How long to wait before looking again for many messages; for a single one there is no wait.
const PAUSE: Duration = Duration::from_micros(200);

/// What does the work: statements that are prepared once.
pub(super) trait Table {
    /// Inserts rows for a recipient, in a transaction if there are several.
    fn insert(&mut self, to: &str, ids: &[String], content: &[u8]) -> io::Result<()>;

    /// Whether a row is there for this worker.
    fn has_row(&mut self) -> io::Result<bool>;

    /// Deletes the oldest rows for this worker and gives them back; returns how many.
    fn take(&mut self) -> io::Result<usize>;
}

/// See the module.
pub(super) struct Rows<T> {
    table: T,
    made: u64,
}

impl<T: Table> Rows<T> {
    pub(super) fn new(table: T) -> Self {
        Self { table, made: 0 }
    }

    fn take_rows(&mut self, pause: Option<Duration>) -> io::Result<usize> {
        loop {
            if self.table.has_row()? {
                return self.table.take();
            }
            match pause {
                Some(pause) => std::thread::sleep(pause), // between two looks
                None => std::thread::yield_now(),
            }
        }
    }
}

impl<T: Table> super::Transport for Rows<T> {
    fn send(&mut self, to: &str, message: &[u8], times: usize) -> io::Result<()> {
        let ids: Vec<String> = (1..=times as u64).map(|number| id(self.made + number)).collect();
        self.made += times as u64;
        self.table.insert(to, &ids, &message[..message.len().saturating_sub(COLUMNS).max(2)])
    }

    fn take(&mut self, _: usize, _: usize) -> io::Result<usize> {
        self.take_rows(Some(PAUSE))
    }

    fn await_one(&mut self, _: usize) -> io::Result<()> {
        self.take_rows(None).map(drop)
    }
}

/// The id of this process's n-th row: ascending, as those of a bus are.
pub(super) fn id(number: u64) -> String {
    format!("{:08X}-0000-7000-8000-{number:012X}", std::process::id())
}

/// Keeps the other workers out as long as it lives.
pub(super) fn alone(directory: &Path) -> io::Result<File> {
    let lock = File::options().write(true).create(true).truncate(false).open(directory.join("lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// A point in time as a row has it.
pub(super) fn stamp() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// What a driver says no with.
pub(super) fn refused(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}
