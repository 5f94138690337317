// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each process wrote down of its doings: one line a record, one write a line, so that a kill loses nothing that
//! was done before.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// Journals have descriptors from here on, where no fault that is meant for the library reaches them.
pub(super) const DESCRIPTORS: i32 = 200;

/// Nanoseconds on the clock that nobody sets and all processes share.
pub(super) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let since_boot = Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0));
    u64::try_from(since_boot.as_nanos()).unwrap_or(u64::MAX)
}

/// A journal that is written.
#[derive(Debug)]
pub(super) struct Journal(File);

impl Journal {
    pub(super) fn append(path: &Path) -> Self {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).expect("a journal can be kept");
        let high = rustix::io::fcntl_dupfd_cloexec(&file, DESCRIPTORS).expect("a journal has a descriptor of its own");
        Self(high.into())
    }

    /// Writes one record, an array whose first element says what it is.
    pub(super) fn note(&self, record: &Value) {
        let mut line = record.to_string();
        line.push('\n');
        // Whole or not at all; a process that can keep no journal proves nothing.
        (&self.0).write_all(line.as_bytes()).expect("a journal can be written");
    }

    /// Notes that a call failed.
    pub(super) fn failed(&self, operation: &str, error: &ipc_manager::Error) {
        let source = std::error::Error::source(error).map(ToString::to_string);
        self.note(&json!(["failed", operation, error.code(), error.to_string(), source]));
    }
}

/// Reads a journal. A last line that was cut short is none.
pub(super) fn read(path: &Path) -> Vec<Vec<Value>> {
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}
