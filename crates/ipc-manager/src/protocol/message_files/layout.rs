// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the files in a mailbox are called.

use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use crate::message::MessageId;
use crate::system::files;

/// What a file in a mailbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    /// A complete message.
    Ready,
    /// A message that is being written, or whose writer died.
    Pending,
    /// Something that was set aside.
    Bad,
    /// A message that was handed out too often.
    Dead,
    Other,
}

pub(super) fn kind_of(name: &OsStr) -> FileKind {
    let raw = name.as_bytes();
    if raw.ends_with(b".ready") {
        FileKind::Ready
    } else if raw.ends_with(b".pend") {
        FileKind::Pending
    } else if raw.ends_with(b".bad") {
        FileKind::Bad
    } else if raw.ends_with(DEAD) {
        FileKind::Dead
    } else {
        FileKind::Other
    }
}

pub(super) fn ready(id: &MessageId) -> OsString {
    format!("{id}.ready").into()
}

pub(super) fn pending(id: &MessageId) -> OsString {
    format!("{id}.pend").into()
}

/// What the names of messages begin with that their reader put back. No id has a dot in it.
const PUT_BACK: &str = "put-back.";

/// The name of a message that was put back. It is a complete message to every implementation; ours knows not to count
/// it again. What has no usable id gets a random one.
pub(super) fn put_back(id: Option<&MessageId>) -> OsString {
    match id.and_then(|id| MessageId::new(id.as_str()).ok()) {
        Some(id) => format!("{PUT_BACK}{id}.ready").into(),
        None => format!("{PUT_BACK}{}.ready", files::random_suffix()).into(),
    }
}

pub(super) fn is_put_back(name: &OsStr) -> bool {
    name.as_bytes().starts_with(PUT_BACK.as_bytes())
}

/// What the names of messages begin with, behind the above, that were handed out and not acknowledged; how often, and a
/// dot, follow.
const TRIED: &str = "try-";
const READY: &[u8] = b".ready";
const DEAD: &[u8] = b".dead";

/// What the name of a message says: whether it was put back, how often it was handed out, and the rest with its ending.
fn parts(name: &OsStr) -> (bool, u32, &OsStr) {
    let raw = name.as_bytes();
    let (was_put_back, raw) = match raw.strip_prefix(PUT_BACK.as_bytes()) {
        Some(rest) => (true, rest),
        None => (false, raw),
    };
    let tried = raw.strip_prefix(TRIED.as_bytes()).and_then(|rest| {
        let dot = rest.iter().position(|byte| *byte == b'.')?;
        let count = std::str::from_utf8(&rest[..dot]).ok()?.parse().ok()?;
        Some((count, &rest[dot + 1..]))
    });
    let (count, rest) = tried.unwrap_or((0, raw));
    (was_put_back, count, OsStr::from_bytes(rest))
}

/// How often a message was handed out and not acknowledged.
pub(super) fn attempts(name: &OsStr) -> u32 {
    parts(name).1
}

/// The id in the name of a message.
pub(super) fn id_in(name: &OsStr) -> String {
    let id = parts(name).2.as_bytes();
    String::from_utf8_lossy(id.strip_suffix(READY).unwrap_or(id)).into_owned()
}

/// The name of a message that was handed out so often. Every implementation reads it as the message that it is.
pub(super) fn tried(name: &OsStr, attempts: u32) -> OsString {
    let (was_put_back, _, rest) = parts(name);
    let mut tried = OsString::from(if was_put_back { PUT_BACK } else { "" });
    tried.push(format!("{TRIED}{attempts}."));
    tried.push(rest);
    tried
}

/// The name of a message that was handed out too often. No implementation takes it for a message.
pub(super) fn dead(name: &OsStr) -> OsString {
    with_ending(name, READY, DEAD)
}

/// The name of a dead message that is to be one again.
pub(super) fn revived(name: &OsStr) -> OsString {
    let (was_put_back, _, rest) = parts(name);
    let mut revived = OsString::from(if was_put_back { PUT_BACK } else { "" });
    revived.push(with_ending(rest, DEAD, READY));
    revived
}

fn with_ending(name: &OsStr, old: &[u8], new: &[u8]) -> OsString {
    let stem = name.as_bytes().strip_suffix(old).unwrap_or(name.as_bytes());
    OsStr::from_bytes(&[stem, new].concat()).to_owned()
}

/// The name for something set aside.
pub(super) fn bad(name: &OsStr) -> OsString {
    let stem = name.as_bytes().strip_suffix(b".ready").unwrap_or(name.as_bytes());
    let mut bad = OsStr::from_bytes(stem).to_owned();
    bad.push(".bad");
    bad
}

/// The names of all files of a kind in a mailbox.
pub(super) fn all(dir: BorrowedFd<'_>, kind: FileKind) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    files::for_each_name(dir, |name, _| {
        if kind_of(name) == kind {
            names.push(name.to_owned());
        }
        ControlFlow::Continue(())
    })?;
    Ok(names)
}

/// How many complete messages are in a mailbox; 0 where it cannot be read.
pub(super) fn unread(store: BorrowedFd<'_>, entry: &OsStr) -> u64 {
    let mut count = 0;
    if let Ok(dir) = files::open_dir_at(store, entry) {
        let _ = files::for_each_name(dir.as_fd(), |name, _| {
            count += u64::from(kind_of(name) == FileKind::Ready);
            ControlFlow::Continue(())
        });
    }
    count
}

/// A file that is still being written after so long was left by a writer that died.
const WRITING_SECONDS: u64 = 10;

pub(super) fn is_stale(stat: &rustix::fs::Stat) -> bool {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    u64::try_from(stat.st_mtime).is_ok_and(|changed| now.saturating_sub(changed) > WRITING_SECONDS)
}
