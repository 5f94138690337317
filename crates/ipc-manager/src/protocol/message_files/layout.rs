// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the files in a mailbox are called.

use std::ffi::{OsStr, OsString};
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

/// The name for something set aside.
pub(super) fn bad(name: &OsStr) -> OsString {
    let stem = name.as_bytes().strip_suffix(b".ready").unwrap_or(name.as_bytes());
    let mut bad = OsStr::from_bytes(stem).to_owned();
    bad.push(".bad");
    bad
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
