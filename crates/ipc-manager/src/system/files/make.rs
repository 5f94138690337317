// SPDX-License-Identifier: MIT OR Apache-2.0
//! Making files and directories: whole or not at all, and for nobody but those whom they are for.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{close, random_suffix, remove_file, rename, rename_new, write_all};
use crate::system::access::{Access, PRIVATE};

/// Makes a directory of mode 0700, or 2770 for a group, whatever the umask. Fails with `AlreadyExists` if there is
/// something.
pub(crate) fn make_dir_at(dir: BorrowedFd<'_>, name: &OsStr, access: Access) -> io::Result<()> {
    rustix::fs::mkdirat(dir, name, Mode::RWXU)?;
    // By name: a directory whose mode the umask took away cannot be opened.
    let made = rustix::fs::chmodat(dir, name, Mode::RWXU, AtFlags::empty());
    made.map_err(io::Error::from).and_then(|()| access.grant_directory(dir, name)).inspect_err(|_| {
        let _ = rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR);
    })
}

/// [`make_dir_at`] where others may be looking: those of a group see it only once it is theirs.
pub(crate) fn make_dir_whole(dir: BorrowedFd<'_>, name: &OsStr, access: Access) -> io::Result<()> {
    if access == Access::Private {
        return make_dir_at(dir, name, access);
    }
    let hidden = hidden(name);
    make_dir_at(dir, &hidden, access)?;
    rename_new(dir, &hidden, name).inspect_err(|_| {
        let _ = rustix::fs::unlinkat(dir, &hidden, AtFlags::REMOVEDIR);
    })
}

/// What something in the same directory is called until it is complete.
fn hidden(name: &OsStr) -> OsString {
    let made = format!(".new-{}", random_suffix());
    std::path::Path::new(name).with_file_name(made).into()
}

/// How safe a written file must be before the call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// The kernel has it: it outlives every process.
    Kernel,
    /// The disk has it: it outlives a power cut.
    Disk,
}

/// Creates a file of mode 0600, or 0660 for a group, that must not exist, and writes it whole. On error nothing of it
/// stays.
pub(crate) fn create_whole(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    content: &[u8],
    sync: Sync,
    access: Access,
) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, PRIVATE)?;
    // Whatever the umask.
    let written = access
        .grant(&file)
        .and_then(|()| write_all(&file, 0, content))
        .and_then(|()| if sync == Sync::Disk { Ok(rustix::fs::fsync(&file)?) } else { Ok(()) })
        // Some file systems report a full disk only here.
        .and_then(|()| close(file));
    if written.is_err() {
        let _ = rustix::fs::unlinkat(dir, name, AtFlags::empty());
    }
    written
}

/// Makes an empty file. Those of a group see it only once it is theirs. What is there is never opened.
pub(crate) fn make_empty(dir: BorrowedFd<'_>, name: &OsStr, access: Access) -> io::Result<()> {
    if access == Access::Private {
        return create_whole(dir, name, b"", Sync::Kernel, access);
    }
    // Again where somebody who sweeps took the hidden one for that of a dead process.
    for _ in 0..10 {
        let hidden = hidden(name);
        create_whole(dir, &hidden, b"", Sync::Kernel, access)?;
        match rename_new(dir, &hidden, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            made => {
                return made.inspect_err(|_| {
                    let _ = remove_file(dir, &hidden);
                });
            }
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Opens a file to read and write. Where there is none it is made, with mode 0600, or 0660 for a group, if that is wanted.
pub(crate) fn open_or_make(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    make: bool,
    access: Access,
) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Err(Errno::NOENT) if make => {}
        Err(Errno::NOENT) => return Ok(None),
        opened => return Ok(Some(opened?)),
    }
    match make_empty(dir, name, access) {
        // Somebody else was faster.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    Ok(Some(rustix::fs::openat(dir, name, flags, Mode::empty())?))
}

/// Replaces a small file in one step: a reader sees the old or the new one, whole.
pub(crate) fn replace(dir: BorrowedFd<'_>, name: &OsStr, content: &[u8], access: Access) -> io::Result<()> {
    let mut pending = name.to_owned();
    pending.push(".pend");
    // What a dead predecessor left half-written is in the way of the exclusive creation.
    remove_file(dir, &pending)?;
    create_whole(dir, &pending, content, Sync::Kernel, access)?;
    rename(dir, &pending, name).inspect_err(|_| {
        let _ = remove_file(dir, &pending);
    })
}

/// Appends to a file in one write, creating it with mode 0600, or 0660 for a group.
pub(crate) fn append(dir: BorrowedFd<'_>, name: &OsStr, content: &[u8], access: Access) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match access {
        Access::Private => {
            let file = rustix::fs::openat(dir, name, flags | OFlags::CREATE, PRIVATE)?;
            access.grant(&file)?;
            file
        }
        // It may be another member's, whose mode is not for us to change.
        Access::Group(_) => {
            match make_empty(dir, name, access) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            rustix::fs::openat(dir, name, flags, Mode::empty())?
        }
    };
    let before = rustix::fs::fstat(&file)?.st_size;
    write_all(&file, before, content).and_then(|()| close(file)).inspect_err(|_| {
        // Half a record would hide all that are appended later.
        if let Ok(file) = rustix::fs::openat(dir, name, OFlags::WRONLY | OFlags::NOFOLLOW, Mode::empty()) {
            let _ = rustix::fs::ftruncate(file, u64::try_from(before).unwrap_or(0));
        }
    })
}
