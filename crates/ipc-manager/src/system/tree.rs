// SPDX-License-Identifier: MIT OR Apache-2.0
//! Removing a directory with all in it: by descriptor, never through a link, never onto another file system.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::files;

/// Deeper than any store of ours; what is deeper was not made by us and stays.
const DEEPEST: usize = 128;

/// Removes whatever is under a name in a directory. That there is nothing is fine.
pub(crate) fn remove(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let (device, _) = files::identity_of(dir)?;
    remove_at(dir, name, device, DEEPEST)
}

fn remove_at(dir: BorrowedFd<'_>, name: &OsStr, device: u64, depth: usize) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // What unlink says of a directory; unlink(2), and POSIX has the second.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let inner = match files::open_dir_at(dir, name) {
        Ok(inner) => inner,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if files::identity_of(&inner)?.0 != device || depth == 0 {
        return Err(io::Error::other("a directory in the store was not made by the bus and is left alone"));
    }
    // Again where somebody put a file in meanwhile; a store in use does not win for ever.
    for _ in 0..100 {
        for name in files::names(inner.as_fd())? {
            remove_at(inner.as_fd(), &name, device, depth - 1)?;
        }
        if files::remove_empty_dir(dir, name)? {
            return Ok(());
        }
    }
    Err(io::Error::from(Errno::NOTEMPTY))
}

/// Opens the directory that a path's last component is in, and gives that component.
fn parent_of(path: &Path) -> io::Result<(std::os::fd::OwnedFd, &OsStr)> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let Some(name) = path.file_name() else {
        return Err(io::Error::other("a path without a last component is never removed"));
    };
    // The parent may be a link, such as a temporary folder is on some systems; the directory itself may not.
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    Ok((rustix::fs::open(parent, flags, rustix::fs::Mode::empty())?, name))
}

/// Does something with a directory by the one that it is in, if it still is the one with this device and inode number.
/// `None` if there is none.
fn at_its_place<T>(
    path: &Path,
    identity: (u64, u64),
    work: impl FnOnce(BorrowedFd<'_>, &OsStr) -> io::Result<T>,
) -> io::Result<Option<T>> {
    let (parent, name) = parent_of(path)?;
    match files::open_dir_at(parent.as_fd(), name) {
        Ok(dir) if files::identity_of(&dir)? == identity => work(parent.as_fd(), name).map(Some),
        Ok(_) => Err(io::Error::other("another directory is in its place, which is left alone")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a directory with all in it by its path, if it still is the one with this device and inode number.
pub(crate) fn remove_path(path: &Path, identity: (u64, u64)) -> io::Result<()> {
    at_its_place(path, identity, remove).map(drop)
}

/// Removes an empty directory by its path, if it still is the one with this device and inode number. `Ok(false)` if it is
/// not empty.
pub(crate) fn remove_empty(path: &Path, identity: (u64, u64)) -> io::Result<bool> {
    Ok(at_its_place(path, identity, files::remove_empty_dir)?.unwrap_or(true))
}

/// Gives a directory another name where it is, if it still is the one with this device and inode number.
pub(crate) fn rename_path(path: &Path, identity: (u64, u64), name: &OsStr) -> io::Result<()> {
    let renamed = at_its_place(path, identity, |parent, old| {
        files::rename(parent, old, name)?;
        let there = files::stat_at(parent, name)?;
        if there.is_some_and(|there| files::identity(&there) == identity) {
            return Ok(());
        }
        // Exchanged in between: back with it.
        let _ = files::rename(parent, name, old);
        Err(io::Error::other("another directory is in its place, which is left alone"))
    })?;
    renamed.ok_or_else(|| io::ErrorKind::NotFound.into())
}
