// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an entry is: a bound datagram socket.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, Stat};

use crate::protocol::directory_store::{Sidecar, Store, life_name};
use crate::system::access::Access;
use crate::system::{datagram, files};

/// Whether what stands under a name can be an entry.
pub(super) fn is_entry(stat: &Stat) -> bool {
    datagram::is_socket(stat)
}

/// Whether an entry is a peer's socket, which holds nothing: what was sent to it goes with its process. Another program's
/// looks the same, so a socket that somebody has open is a peer's only with a sign of one beside it.
pub(super) fn is_intact(store: BorrowedFd<'_>, entry: &OsStr, access: Access) -> bool {
    let stat = files::stat_at(store, entry).ok().flatten();
    let is_ours = stat.is_some_and(|stat| datagram::is_socket(&stat) && access.trusts(stat.st_uid));
    let is_there = |name: &OsStr| files::stat_at(store, name).is_ok_and(|stat| stat.is_some());
    is_ours
        && (is_there(&Sidecar::Pid.of(entry))
            || is_there(&life_name(entry))
            || !datagram::is_open_at(store, Path::new(""), entry))
}

/// Removes the socket of a dead peer. What was in it went with its reader.
pub(super) fn discard(store: BorrowedFd<'_>, entry: &OsStr) -> io::Result<u64> {
    files::remove_file(store, entry).map(|_| 0)
}

/// Makes an entry under a name.
pub(super) fn make(store: &Store, name: &OsStr) -> io::Result<OwnedFd> {
    datagram::bind_at(store.dir(), Path::new(store.route.as_str()), name, store.access)
}

/// Makes a socket in a directory and removes it again, to see that it can be done.
pub(super) fn try_in(place: &Path) -> io::Result<()> {
    let dir = rustix::fs::open(place, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let name = OsString::from(format!(".ipcm-{}", files::random_suffix()));
    datagram::bind_at(dir.as_fd(), place, &name, Access::Private)?;
    files::remove_file(dir.as_fd(), &name).map(drop)
}
