// SPDX-License-Identifier: MIT OR Apache-2.0
//! Removing mailboxes without losing count of a message.

use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};

use super::layout::{self, FileKind};
use crate::system::access::Access;
use crate::system::{files, tree};

/// Removes everything that is no complete message. Writers of what is half-written are refused hereby: they cannot
/// rename it any more. Returns how many dead messages were among it.
pub(super) fn refuse_half_written(dir: BorrowedFd<'_>) -> io::Result<u64> {
    let mut dead = 0;
    for name in files::names(dir)? {
        if layout::kind_of(&name) != FileKind::Ready {
            tree::remove(dir, &name)?;
            dead += u64::from(layout::kind_of(&name) == FileKind::Dead);
        }
    }
    Ok(dead)
}

/// Whether a directory holds nothing but messages, half-written, set-aside and dead ones too, each a plain file.
pub(super) fn is_intact(store: BorrowedFd<'_>, entry: &OsStr, _: Access) -> bool {
    let Ok(dir) = files::open_dir_at(store, entry) else { return false };
    let mut is_intact = true;
    let listed = files::for_each_name(dir.as_fd(), |name, kind| {
        let is_file = matches!(kind, rustix::fs::FileType::RegularFile | rustix::fs::FileType::Unknown);
        is_intact = is_file && layout::kind_of(name) != FileKind::Other;
        if is_intact { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    listed.is_ok() && is_intact
}

/// Whether all in a mailbox of a store that we made is called as peers call it, and none of it is a directory with something
/// in it, which no peer makes.
pub(super) fn is_removable(store: BorrowedFd<'_>, entry: &OsStr, _: Access) -> bool {
    let Ok(dir) = files::open_dir_at(store, entry) else { return false };
    let is_empty = |name: &OsStr| {
        let Ok(inner) = files::open_dir_at(dir.as_fd(), name) else { return false };
        files::names(inner.as_fd()).is_ok_and(|names| names.is_empty())
    };
    let mut is_removable = true;
    let listed = files::for_each_name(dir.as_fd(), |name, kind| {
        use rustix::fs::FileType;
        let is_flat = !matches!(kind, FileType::Directory | FileType::Unknown) || {
            let stat = files::stat_at(dir.as_fd(), name).ok().flatten();
            stat.is_some_and(|stat| !files::is_directory(&stat)) || is_empty(name)
        };
        is_removable = is_flat && layout::kind_of(name) != FileKind::Other;
        if is_removable { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    listed.is_ok() && is_removable
}

/// Removes the mailbox of a dead peer. Counts every message as it goes, also one that a sender put there meanwhile: it
/// was acknowledged, so the count is the only word of it.
pub(super) fn discard(store: BorrowedFd<'_>, entry: &OsStr) -> io::Result<u64> {
    let dir = match files::open_dir_at(store, entry) {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut count = 0;
    loop {
        count += refuse_half_written(dir.as_fd())?;
        for name in files::names(dir.as_fd())? {
            if layout::kind_of(&name) == FileKind::Ready {
                tree::remove(dir.as_fd(), &name)?;
                count += 1;
            }
        }
        if files::remove_empty_dir(store, entry)? {
            return Ok(count);
        }
    }
}
