// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an entry is: a FIFO.

use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::Stat;

use crate::system::access::Access;
use crate::system::{files, pipe};

/// Whether what stands under a name can be an entry.
pub(super) fn is_entry(stat: &Stat) -> bool {
    pipe::is_fifo(stat)
}

/// Whether an entry is nothing but a FIFO of this user, or on a bus of a group of any member.
pub(super) fn is_intact(store: BorrowedFd<'_>, entry: &OsStr, access: Access) -> bool {
    let stat = files::stat_at(store, entry).ok().flatten();
    stat.is_some_and(|stat| pipe::is_fifo(&stat) && access.trusts(stat.st_uid))
}

/// Removes the FIFO of a dead peer. What was in it went with its reader.
pub(super) fn discard(store: BorrowedFd<'_>, entry: &OsStr) -> io::Result<u64> {
    files::remove_file(store, entry).map(|_| 0)
}
