// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an entry is: a listening socket, or an empty file that says that its peer is there and does not listen.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Stat};

use crate::protocol::directory_store::Store;
use crate::route::Route;
use crate::system::{files, stream};

/// Longest path of a socket that the reference counts on, on every platform, with the slash and the end of the text.
const PATH_BYTES: usize = 104;

/// Longest name that stands on disk as it is. Counted on the spelling of the route: all peers must come to the same.
pub(super) fn max_name(route: &Route) -> usize {
    PATH_BYTES.saturating_sub(files::name_bytes(route.as_str()).len() + 2)
}

/// Whether what stands under a name can be an entry.
pub(super) fn is_entry(stat: &Stat) -> bool {
    stream::is_socket(stat) || is_marker(stat)
}

/// Whether this is the entry of a peer that does not listen.
fn is_marker(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size == 0
}

/// Whether an entry is nothing but a socket or an empty file of this user.
pub(super) fn is_intact(store: BorrowedFd<'_>, entry: &OsStr) -> bool {
    let stat = files::stat_at(store, entry).ok().flatten();
    stat.is_some_and(|stat| is_entry(&stat) && stat.st_uid == rustix::process::geteuid().as_raw())
}

/// Removes the entry of a dead peer. What was sent to it went with its process.
pub(super) fn discard(store: BorrowedFd<'_>, entry: &OsStr) -> io::Result<u64> {
    files::remove_file(store, entry).map(|_| 0)
}

/// Makes an entry under a name. Only a peer that listens gets a socket.
pub(super) fn make(store: &Store, name: &OsStr, listens: bool) -> io::Result<Option<OwnedFd>> {
    if listens {
        stream::listen_at(store.dir(), Path::new(store.route.as_str()), name).map(Some)
    } else {
        files::create_whole(store.dir(), name, b"", files::Sync::Kernel).map(|()| None)
    }
}
