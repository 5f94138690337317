// SPDX-License-Identifier: MIT OR Apache-2.0
//! What dead owners left, because their keepers were killed too.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::account;
use crate::error::{Error, Result};
use crate::place::{self, Found, PREFIX, Record};
use crate::processes;

/// A directory without a complete record is being made, or its maker died within a few system calls.
const BEING_MADE: Duration = Duration::from_secs(10);

/// A directory whose owner is dead. While this is held nobody else removes it, and nobody takes up its server.
struct Leftover {
    dir: PathBuf,
    record: Option<Record>,
    _held: Vec<File>,
}

/// Finds the directories of private servers whose owners are dead, in `TMPDIR`, `/tmp` and `/var/tmp`: this user's own.
#[must_use]
pub fn leftovers() -> Vec<PathBuf> {
    leftovers_in(&parents())
}

/// [`leftovers`] in other folders.
///
/// ```
/// assert!(ipc_manager_servers::leftovers_in(&["/nonexistent".into()]).is_empty());
/// ```
#[must_use]
pub fn leftovers_in(parents: &[PathBuf]) -> Vec<PathBuf> {
    candidates(parents).filter_map(|dir| abandoned(&dir)).map(|left| left.dir).collect()
}

/// Removes what [`leftovers`] finds, and ends the servers that run there yet. Returns what was removed.
///
/// # Errors
/// [`ErrorKind::System`](crate::ErrorKind::System) if one cannot be removed; the others are removed all the same.
pub fn remove_leftovers() -> Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    let mut first_error = None;
    for (dir, outcome) in remove_leftovers_in(&parents()) {
        match outcome {
            Ok(()) => removed.push(dir),
            Err(error) => drop(first_error.get_or_insert(error)),
        }
    }
    first_error.map_or(Ok(removed), Err)
}

/// [`remove_leftovers`] in other folders: each directory that was found, and what came of it.
///
/// ```
/// assert!(ipc_manager_servers::remove_leftovers_in(&["/nonexistent".into()]).is_empty());
/// ```
pub fn remove_leftovers_in(parents: &[PathBuf]) -> Vec<(PathBuf, Result<()>)> {
    let left = candidates(parents).filter_map(|dir| abandoned(&dir));
    left.map(|left| (left.dir.clone(), remove(&left))).collect()
}

fn parents() -> [PathBuf; 3] {
    [env::temp_dir(), PathBuf::from("/tmp"), PathBuf::from("/var/tmp")]
}

fn candidates(parents: &[PathBuf]) -> impl Iterator<Item = PathBuf> + use<> {
    let parents: BTreeSet<_> = parents.iter().filter_map(|parent| fs::canonicalize(parent).ok()).collect();
    let uid = account::own_uid();
    let entries = parents.into_iter().filter_map(|parent| fs::read_dir(parent).ok()).flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_name));
    // The metadata of an entry are those of a link itself, not of what it points to.
    let ours = named.filter(move |entry| entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == uid));
    ours.map(|entry| entry.path())
}

fn is_name(name: &str) -> bool {
    let random = name.strip_prefix(PREFIX);
    random.is_some_and(|random| random.len() == 32 && random.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The directory as a leftover, if its owner is dead.
fn abandoned(dir: &Path) -> Option<Leftover> {
    let (record, mut held) = match Record::find(dir, account::own_uid()) {
        Found::Foreign => return None,
        // Before there is a record nothing runs.
        Found::Nothing if !is_old(dir) => return None,
        Found::Nothing => (None, Vec::new()),
        Found::Own(file, _) if !is_free(&file) => return None,
        Found::Own(_, None) if !is_old(dir) => return None,
        Found::Own(file, record) => (record, vec![file]),
    };
    if let Some(lock) = record.as_ref().and_then(|record| File::open(record.lock.as_ref()?).ok()) {
        if !is_free(&lock) {
            return None;
        }
        held.push(lock);
    }
    Some(Leftover { dir: dir.to_owned(), record, _held: held })
}

fn is_old(dir: &Path) -> bool {
    let age = fs::symlink_metadata(dir).ok().and_then(|found| found.modified().ok()?.elapsed().ok());
    age.is_some_and(|age| age > BEING_MADE)
}

fn is_free(file: &File) -> bool {
    match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
    }
}

fn remove(left: &Leftover) -> Result<()> {
    let patience = Duration::from_secs(5);
    let first = left.record.as_ref().map_or(Signal::KILL, |record| record.engine.end_signal());
    if processes::signal(&left.dir, first) && !processes::wait_until_none(&left.dir, Instant::now() + patience) {
        processes::signal(&left.dir, Signal::KILL);
        processes::wait_until_none(&left.dir, Instant::now() + patience);
    }
    match place::remove(&left.dir) {
        Err(error) if left.dir.exists() => Err(Error::system("remove a leftover", error).at(&left.dir)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_are_looked_at() {
        assert!(is_name(&format!("{PREFIX}{}", "0f".repeat(16))));
        for name in ["", PREFIX, "ipcm-db-xyz", "ipcm-db-0123456789abcdef0123456789abcdeg"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
