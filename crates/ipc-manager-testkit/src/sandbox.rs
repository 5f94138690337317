// SPDX-License-Identifier: MIT OR Apache-2.0
//! A directory of a test's own, removed with all in it when the test ends, however it ends.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::removal::{listing, remove};
use crate::watchdog;

/// A directory of a test's own.
///
/// ```
/// let sandbox = ipc_manager_testkit::Sandbox::new();
/// let dir = sandbox.dir().to_owned();
/// assert!(dir.is_dir());
/// drop(sandbox);
/// assert!(!dir.exists());
/// ```
#[derive(Debug)]
pub struct Sandbox {
    dir: PathBuf,
}

impl Sandbox {
    /// Makes one in the temporary folder, accessible to this user only. The path is short: sockets need that.
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    /// Makes one in a given directory, such as one on another file system.
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn within(parent: &Path) -> Self {
        Self::named(parent, |count| format!("ipct-{}-{count}", std::process::id()))
    }

    /// Makes one with so short a path that temporary buses of sockets fit into it.
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn short() -> Self {
        // 14 bytes at most, with pids of 22 bits and less than 256 directories.
        Self::named(Path::new("/tmp"), |count| format!("i{:x}{count:x}", std::process::id()))
    }

    fn named(parent: &Path, name: impl Fn(u64) -> String) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let dir = parent.join(name(COUNT.fetch_add(1, Ordering::Relaxed)));
            match fs::DirBuilder::new().mode(0o700).create(&dir) {
                Ok(()) => {
                    watchdog::directory_made(&dir);
                    return Self { dir };
                }
                // Of an earlier process with this pid; it is not ours to remove.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("cannot make {}: {error}", dir.display()),
            }
        }
    }

    /// Its path.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Every path below it, relative to it and sorted: what a test compares to see that nothing changed.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn listing(&self) -> BTreeSet<PathBuf> {
        listing(&self.dir)
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        remove(&self.dir);
        watchdog::directory_gone(&self.dir);
    }
}
