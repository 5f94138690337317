// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an entry is: a listening socket, or an empty file that says that its peer is there and does not listen.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Stat};

use crate::protocol::directory_store::{Sidecar, Store, life_name};
use crate::system::access::Access;
use crate::system::{datagram, files, stream};

/// Whether what stands under a name can be an entry.
pub(super) fn is_entry(stat: &Stat) -> bool {
    datagram::is_socket(stat) || is_marker(stat)
}

/// Whether this is the entry of a peer that does not listen.
fn is_marker(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size == 0
}

/// Whether an entry is a peer's, which holds nothing: what was sent to it goes with its process. Another program's socket
/// and anybody's empty file look the same, so either is a peer's only with a sign of one beside it, but for a socket that
/// nobody has open.
pub(super) fn is_intact(store: BorrowedFd<'_>, entry: &OsStr, access: Access) -> bool {
    let Some(stat) = files::stat_at(store, entry).ok().flatten() else { return false };
    let is_there = |name: &OsStr| files::stat_at(store, name).is_ok_and(|stat| stat.is_some());
    is_entry(&stat)
        && access.trusts(stat.st_uid)
        && (is_there(&Sidecar::Pid.of(entry))
            || is_there(&life_name(entry))
            || datagram::is_socket(&stat) && !stream::is_open_at(store, Path::new(""), entry))
}

/// Whether an entry of a store that we made is a peer's: a socket that nobody has open, or the empty file of a peer that
/// did not listen, with a sign of that peer beside it.
pub(super) fn is_removable(store: BorrowedFd<'_>, entry: &OsStr, access: Access) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Some(stat) = files::stat_at(store, entry).ok().flatten() else { return false };
    let raw = entry.as_bytes();
    let moved = raw.strip_prefix(b".dead-").or_else(|| raw.strip_prefix(b"_"));
    let peer = OsStr::from_bytes(moved.unwrap_or(raw));
    let signs = [Sidecar::Pid.of(peer), Sidecar::Stats.of(peer), life_name(peer)];
    let is_there = |name: &OsString| files::stat_at(store, name).is_ok_and(|stat| stat.is_some());
    access.trusts(stat.st_uid)
        && match datagram::is_socket(&stat) {
            true => !stream::is_open_at(store, Path::new(""), entry),
            false => is_marker(&stat) && (raw.starts_with(b".dead-") || signs.iter().any(is_there)),
        }
}

/// Removes the entry of a dead peer. What was sent to it went with its process.
pub(super) fn discard(store: BorrowedFd<'_>, entry: &OsStr) -> io::Result<u64> {
    files::remove_file(store, entry).map(|_| 0)
}

/// Makes an entry under a name. Only a peer that listens gets a socket.
pub(super) fn make(store: &Store, name: &OsStr, listens: bool) -> io::Result<Option<OwnedFd>> {
    if listens {
        stream::listen_at(store.dir(), Path::new(store.route.as_str()), name, store.access).map(Some)
    } else {
        files::create_whole(store.dir(), name, b"", files::Sync::Kernel, store.access).map(|()| None)
    }
}

/// Makes a socket in a directory and removes it again, to see that it can be done.
pub(super) fn try_in(place: &Path) -> io::Result<()> {
    let dir = rustix::fs::open(place, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let name = OsString::from(format!(".ipcm-{}", files::random_suffix()));
    stream::listen_at(dir.as_fd(), place, &name, Access::Private)?;
    files::remove_file(dir.as_fd(), &name).map(drop)
}
