// SPDX-License-Identifier: MIT OR Apache-2.0
//! Locks that say who is alive, and locks for short critical sections. Both are flock(2) on files that the reference
//! implementation ignores; never record locks, which any close of the file drops.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::access::Access;
use super::files;
use super::poll;
use super::process::{Alive, Identity};
use super::{Backoff, Deadline};

/// Longest content of a lock file that is believed, in bytes.
const IDENTITY_BYTES: usize = 4096;

/// Proof of life: a file that holds this process's identity, locked until this is dropped or the process ends.
///
/// A forked child shares the lock, so a free lock means dead, but a held one is believed only while the process named
/// in the file lives.
#[derive(Debug)]
pub(crate) struct LifeLock {
    file: OwnedFd,
}

/// What a lock file says of its holder.
#[derive(Debug)]
pub(crate) enum Holder {
    /// There is no lock file.
    None,
    /// The holder is gone.
    Dead(Option<Identity>),
    /// The holder lives, or it cannot be known.
    Alive(Option<Identity>),
}

impl LifeLock {
    /// Prepares a locked file under a name that nobody looks at. It is published by [`LifeLock::publish`], so whoever
    /// sees it sees it locked and complete.
    pub(crate) fn prepare(dir: BorrowedFd<'_>, note: &[u8], access: Access) -> io::Result<(Self, OsString)> {
        let name = OsString::from(format!(".new-{}", files::random_suffix()));
        files::create_whole(dir, &name, note, files::Sync::Kernel, access)?;
        let locked = rustix::fs::openat(dir, &name, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .and_then(|file| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map(|()| file));
        match locked {
            Ok(file) => Ok((Self { file }, name)),
            Err(error) => {
                let _ = files::remove_file(dir, &name);
                Err(error.into())
            }
        }
    }

    /// Gives the prepared file its name, over that of a dead predecessor.
    pub(crate) fn publish(&self, dir: BorrowedFd<'_>, prepared: &OsStr, name: &OsStr) -> io::Result<()> {
        files::rename(dir, prepared, name)
    }

    /// Whether the file under this name is the one that is locked here.
    pub(crate) fn is_at(&self, dir: BorrowedFd<'_>, name: &OsStr) -> bool {
        let there = files::stat_at(dir, name).ok().flatten().map(|stat| files::identity(&stat));
        there.is_some() && there == files::identity_of(&self.file).ok()
    }
}

/// What a lock file begins with: the identity of its holder, and maybe more, as one JSON object on the first line.
pub(crate) fn identity_line(identity: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(identity).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Looks at a lock file without disturbing its holder.
pub(crate) fn holder(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Holder> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::LOOP | Errno::MLINK | Errno::NXIO) => return Ok(Holder::None),
        // Another user's peer on a shared bus: its lock cannot be asked, and unknown is alive.
        Err(Errno::ACCESS) => return Ok(Holder::Alive(None)),
        Err(error) => return Err(error.into()),
    };
    // Whatever else somebody put there is no lock.
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Ok(Holder::None);
    }
    let identity: Option<Identity> = first_line(&file)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        // Free. Dropping the descriptor gives the lock back.
        Ok(()) => Ok(Holder::Dead(identity)),
        Err(Errno::WOULDBLOCK) => match identity.as_ref().map(Identity::alive) {
            Some(Alive::No) => Ok(Holder::Dead(identity)),
            _ => Ok(Holder::Alive(identity)),
        },
        Err(error) => Err(error.into()),
    }
}

/// What the first line of a lock file says, as [`identity_line`] wrote it; `None` where there is no such thing.
pub(crate) fn said<T: DeserializeOwned>(dir: BorrowedFd<'_>, name: &OsStr) -> Option<T> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    first_line(&rustix::fs::openat(dir, name, flags, Mode::empty()).ok()?).ok()?
}

fn first_line<T: DeserializeOwned>(file: &OwnedFd) -> io::Result<Option<T>> {
    let mut content = [0; IDENTITY_BYTES];
    let length = rustix::io::pread(file, &mut content, 0)?;
    let line = content[..length].split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(serde_json::from_slice(line).ok())
}

/// A lock for a short critical section among the processes on one store. Given back when dropped.
#[derive(Debug)]
pub(crate) struct SectionLock {
    file: OwnedFd,
}

impl SectionLock {
    /// Takes the lock on a file of that name, creating it. `TimedOut` when the deadline passes first.
    pub(crate) fn acquire(dir: BorrowedFd<'_>, name: &OsStr, deadline: Deadline, access: Access) -> io::Result<Self> {
        let file = match access {
            Access::Private => open_private(dir, name)?,
            Access::Group(_) => files::open_or_make(dir, name, true, access)?.ok_or(io::ErrorKind::NotFound)?,
        };
        let mut backoff = Backoff::new(std::time::Duration::from_micros(100), std::time::Duration::from_millis(3));
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { file }),
                Err(Errno::WOULDBLOCK) if deadline.has_passed() => return Err(io::ErrorKind::TimedOut.into()),
                Err(Errno::WOULDBLOCK) => {
                    poll::readable(&[], deadline.left(backoff.next()))?;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Opens the file of a section lock, creating it.
fn open_private(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = rustix::fs::openat(dir, name, flags, mode)?;
    // Whatever the umask of whoever makes it: others of the same user must get in, too.
    if rustix::fs::fstat(&file)?.st_mode & mode.as_raw_mode() != mode.as_raw_mode() {
        rustix::fs::fchmod(&file, mode)?;
    }
    Ok(file)
}

impl Drop for SectionLock {
    fn drop(&mut self) {
        // Not left to the close: a process that was forked meanwhile has a copy of the descriptor.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

impl AsFd for LifeLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
