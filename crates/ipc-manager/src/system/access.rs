// SPDX-License-Identifier: MIT OR Apache-2.0
//! For whom what is made is: for its user alone, or for a group of users. Always by mode, and never by the umask.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Gid, Mode, Stat};

use super::files;

/// The mode of files that are for their user alone.
pub(crate) const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);
/// The mode of files that are for a group.
const SHARED: Mode = PRIVATE.union(Mode::RGRP).union(Mode::WGRP);
/// The mode of directories that are for a group: what is made in them is the group's, too.
const SHARED_DIRECTORY: Mode = Mode::RWXU.union(Mode::RWXG).union(Mode::SGID);

/// For whom a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// For one user, and root.
    Private,
    /// For all in the group of that number.
    Group(u32),
}

impl Access {
    /// Gives a file that was made for its user alone the mode that it is to have.
    pub(crate) fn grant(self, file: impl AsFd) -> io::Result<()> {
        match self {
            Self::Private => Ok(rustix::fs::fchmod(file, PRIVATE)?),
            Self::Group(gid) => {
                // The group first: until then it may be another one's.
                rustix::fs::fchown(&file, None, Some(Gid::from_raw(gid)))?;
                Ok(rustix::fs::fchmod(file, SHARED)?)
            }
        }
    }

    /// [`grant`](Access::grant) for what cannot be opened, such as a socket; by the name that it has until it is complete.
    pub(crate) fn grant_at(self, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        let mode = match self {
            Self::Private => PRIVATE,
            Self::Group(gid) => {
                rustix::fs::chownat(dir, name, None, Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)?;
                SHARED
            }
        };
        Ok(rustix::fs::chmodat(dir, name, mode, AtFlags::empty())?)
    }

    /// Gives a directory that was just made for this user alone the mode that it is to have.
    pub(super) fn grant_directory(self, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        let Self::Group(gid) = self else { return Ok(()) };
        let made = files::open_dir_at(dir, name)?;
        if rustix::fs::fstat(&made)?.st_uid != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("another directory is in its place, which is left alone"));
        }
        rustix::fs::fchown(&made, None, Some(Gid::from_raw(gid)))?;
        Ok(rustix::fs::fchmod(&made, SHARED_DIRECTORY)?)
    }

    /// Whether what this user made is believed: on a store of a group only its members can have put it there.
    pub(crate) fn trusts(self, uid: u32) -> bool {
        self != Self::Private || uid == rustix::process::geteuid().as_raw()
    }

    /// Whether what is for a group alone is so for this one's, and in words why not.
    ///
    /// A directory must hand its group on to what is made in it. Its owner may be anybody: only members, and root, can
    /// make something theirs; but for a directory that everybody can make directories in and that hands its group on.
    pub(crate) fn refuse_directory(self, dir: BorrowedFd<'_>, stat: &Stat) -> Option<String> {
        let Self::Group(gid) = self else { return None };
        if let Some(why) = refuse_group(gid, stat, SHARED_DIRECTORY) {
            return Some(why);
        }
        let hands_on = |parent: &Stat| !cfg!(target_os = "linux") || parent.st_mode & Mode::SGID.as_raw_mode() != 0;
        let is_own = stat.st_uid == rustix::process::geteuid().as_raw();
        let parent = rustix::fs::statat(dir, "..", AtFlags::empty());
        let is_anybodys = !is_own && parent.is_ok_and(|it| files::is_for_everybody(&it) && hands_on(&it));
        is_anybodys.then(|| "it is in a directory in which every user can make directories of that group".into())
    }

    /// [`refuse_directory`](Access::refuse_directory) for a file, by what it is.
    pub(crate) fn refuse_file(self, stat: &Stat) -> Option<String> {
        let Self::Group(gid) = self else { return None };
        refuse_group(gid, stat, SHARED)
    }

    /// Why this user cannot remove a directory that a group shares, where that is so: in a sticky place only its owner can, and
    /// that of the place.
    pub(crate) fn refuse_removal(self, dir: BorrowedFd<'_>) -> Option<&'static str> {
        let own = rustix::process::geteuid();
        if self == Self::Private || own.is_root() {
            return None;
        }
        let is_own = |stat: &Stat| stat.st_uid == own.as_raw();
        let parent = rustix::fs::statat(dir, "..", AtFlags::empty()).ok()?;
        let is_sticky = parent.st_mode & Mode::SVTX.as_raw_mode() != 0;
        let is_others = is_sticky && !is_own(&parent) && !rustix::fs::fstat(dir).is_ok_and(|stat| is_own(&stat));
        is_others
            .then_some("only the user who made the bus can remove it from a directory that every user can write to")
    }

    /// For whom a directory of this user's is, as its mode says.
    pub(crate) fn of_own(path: &Path) -> Self {
        let stat = files::stat_at(rustix::fs::CWD, path.as_os_str()).ok().flatten();
        match stat.filter(|stat| stat.st_uid == rustix::process::geteuid().as_raw()) {
            Some(stat) if is_mode(&stat, SHARED_DIRECTORY) && is_member(stat.st_gid) => Self::Group(stat.st_gid),
            _ => Self::Private,
        }
    }
}

fn is_mode(stat: &Stat, mode: Mode) -> bool {
    stat.st_mode & 0o7777 == mode.as_raw_mode()
}

fn refuse_group(gid: u32, stat: &Stat, mode: Mode) -> Option<String> {
    if stat.st_gid != gid {
        return Some(format!("it belongs to the group {}, and not to {gid}", stat.st_gid));
    }
    let (is, must_be) = (stat.st_mode & 0o7777, mode.as_raw_mode());
    (!is_mode(stat, mode)).then(|| format!("its mode is {is:04o}, and what a group shares has {must_be:04o}"))
}

/// What to say of something that is closed to who does not name its group.
pub(crate) fn shared_by(stat: &Stat) -> Option<String> {
    let is_shared = stat.st_mode & 0o067 == 0o060;
    (is_shared && files::is_open_to_others(stat))
        .then(|| format!("it is shared by the group {}: who is to join must say so, and name that group", stat.st_gid))
}

/// The number of a group by its name; `None` if there is none.
pub(crate) fn group_named(name: &str) -> io::Result<Option<u32>> {
    const MOST: usize = 1 << 24;
    let name = CString::new(name)?;
    let mut buffer = vec![0; 4096];
    loop {
        let mut found = std::mem::MaybeUninit::<libc::group>::uninit();
        let mut place = std::ptr::null_mut();
        // SAFETY: the name ends with a zero, all places can be written to, and the buffer has the length that is told.
        let error = unsafe {
            let (text, length) = (buffer.as_mut_ptr(), buffer.len());
            libc::getgrnam_r(name.as_ptr(), found.as_mut_ptr(), text, length, &raw mut place)
        };
        match error {
            // SAFETY: the place is set only to where the group was written to.
            0 if !place.is_null() => return Ok(Some(unsafe { found.assume_init() }.gr_gid)),
            // POSIX lets systems say so of a group that there is not; getgrnam_r(3).
            0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(None),
            libc::ERANGE if buffer.len() < MOST => buffer.resize(buffer.len() * 4, 0),
            libc::EINTR => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Whether a group is taken for this user's alone, and root's: the one that many systems give each user, whose number is the
/// user's own, has nobody else in it.
pub(crate) fn is_own(gid: u32) -> bool {
    gid == 0 || gid == rustix::process::geteuid().as_raw()
}

/// Whether this process is in a group, or may do as if it were.
pub(crate) fn is_member(gid: u32) -> bool {
    let own = rustix::process::getgroups().unwrap_or_default();
    rustix::process::geteuid().is_root()
        || rustix::process::getegid().as_raw() == gid
        || own.iter().any(|group| group.as_raw() == gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_their_names() {
        assert_eq!(group_named("root").unwrap().or(group_named("wheel").unwrap()), Some(0));
        assert_eq!(group_named("no such group, ever").unwrap(), None);
        assert!(group_named("a\0b").is_err());
        assert!(is_member(rustix::process::getegid().as_raw()));
    }
}
