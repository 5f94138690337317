// SPDX-License-Identifier: MIT OR Apache-2.0
//! What lies beside a store that the reference implementation must find as it knows it: a folder with the doorbells of
//! the peers, the record of the owner, and the note of what was made. See `docs/formats.md`, "Beside a store".

mod abandoned;
mod holder;
mod owner;

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::route::Route;
use crate::system::access::{self, Access};
use crate::system::doorbell::{Doorbell, Porch};
use crate::system::files;

pub(super) use abandoned::clean;
#[cfg(any(feature = "postgresql", feature = "mysql"))]
pub(super) use abandoned::clean_doorbells;
pub(super) use holder::{Holder, Standing, seconds, time};
pub(super) use owner::{FileKind, FileStore};

/// The folder beside a store.
#[derive(Debug, Clone)]
pub(super) struct Beside {
    porch: Arc<Porch>,
}

/// The path of the folder beside a store that is a file.
fn folder_of(route: &Route) -> PathBuf {
    PathBuf::from(format!("{}.ipcm", route.as_str()))
}

impl Beside {
    /// Opens the folder at a path, if there is one that is ours alone, or the group's alone.
    pub(super) fn open(path: &Path, access: Access) -> std::io::Result<Option<Self>> {
        let dir = match files::open_dir(path) {
            Ok(dir) => dir,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let stat = rustix::fs::fstat(&dir)?;
        if let Some(why) = access.refuse_directory(dir.as_fd(), &stat) {
            return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, why));
        }
        let is_private = || access.trusts(stat.st_uid) && stat.st_mode & 0o022 == 0;
        if access == Access::Private && !is_private() {
            return Err(std::io::ErrorKind::PermissionDenied.into());
        }
        Ok(Some(Self { porch: Arc::new(Porch::new(dir, path.to_owned(), access)?) }))
    }

    /// Opens the folder at a path, making it if there is none.
    pub(super) fn open_or_make(path: &Path, access: Access) -> std::io::Result<Self> {
        loop {
            if let Some(beside) = Self::open(path, access)? {
                return Ok(beside);
            }
            match files::make_dir_whole(rustix::fs::CWD, path.as_os_str(), access) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
    }

    /// The folder beside a store that is a file, if there is one.
    pub(super) fn of_file(route: &Route, access: Access) -> Option<Self> {
        Self::open(&folder_of(route), access).ok().flatten()
    }

    /// The folder beside a store that is a file, made if there is none. Without one peers poll.
    pub(super) fn made_for_file(route: &Route, access: Access) -> Option<Self> {
        let folder = folder_of(route);
        Self::open_or_make(&folder, access)
            .inspect_err(|error| log::warn!("no doorbells in {}, so peers poll: {error}", folder.display()))
            .ok()
    }

    pub(super) fn porch(&self) -> &Arc<Porch> {
        &self.porch
    }

    /// Prepares a bell for a life of a peer. Without one it polls. From here on nobody takes the store for abandoned; if
    /// somebody has already, the store is gone when this returns.
    pub(super) fn bell(&self) -> Option<Doorbell> {
        let prepare = || {
            let _section = self.enter(owner::PATIENCE)?;
            self.porch.remove_dead_bells();
            Doorbell::prepare(&self.porch)
        };
        prepare().inspect_err(|error| log::warn!("no doorbell, so this peer polls: {error}")).ok()
    }

    /// Keeps what is no message, for whoever wants to look at it; up to a number of them. Returns where.
    pub(super) fn keep_damaged(&self, content: &[u8]) -> Option<PathBuf> {
        const MOST: usize = 100;
        let is_kept = |name: &std::ffi::OsString| name.as_encoded_bytes().ends_with(b".bad");
        let kept = files::names(self.dir()).ok()?.iter().filter(|name| is_kept(name)).count();
        let name = format!(".{}.bad", files::random_suffix());
        let keep =
            || files::create_whole(self.dir(), OsStr::new(&name), content, files::Sync::Kernel, self.access()).ok();
        (kept < MOST).then(keep).flatten().map(|()| self.porch.path().join(&name))
    }

    fn dir(&self) -> std::os::fd::BorrowedFd<'_> {
        self.porch.dir()
    }

    fn access(&self) -> Access {
        self.porch.access()
    }
}

/// Checks a file that a route names before it is used: regular, not a link, ours or root's, not writable by all; or, if it
/// is to be a group's, that one's alone, in a directory that is, too, since files come and go beside it. Gives its device and inode number. Never opened here: closing it would drop the record locks that others of this process
/// have on it; fcntl(2).
pub(super) fn check_file(protocol: &str, route: &Route, access: Access) -> Result<(u64, u64)> {
    let place = |error: Error| error.in_protocol(protocol).on_route(route.as_str());
    let stat = files::stat_at(rustix::fs::CWD, OsStr::new(route.as_str()));
    let stat = match stat {
        Ok(Some(stat)) => stat,
        Ok(None) => return Err(place(Error::new(ErrorKind::NoSuchBus, "there is no bus at this route"))),
        Err(error) if files::is_no_directory(&error) => {
            return Err(place(Error::new(
                ErrorKind::NoSuchBus,
                "the route leads through something that is no directory",
            )));
        }
        Err(error) => return Err(place(Error::system(error, "the route cannot be looked at"))),
    };
    match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::RegularFile => {}
        rustix::fs::FileType::Symlink => {
            let detail = "the route is a symbolic link, which is not followed";
            return Err(place(Error::new(ErrorKind::NoSuchBus, detail)));
        }
        _ => return Err(place(Error::new(ErrorKind::NoSuchBus, "the route is not a file"))),
    }
    let refuse = |detail: &str| Err(place(Error::new(ErrorKind::Permission, detail)));
    if access != Access::Private {
        let why =
            access.refuse_file(&stat).map(|why| format!("the route is not shared by the group that was named: {why}"));
        return why.or_else(|| refuse_parent(route, access)).map_or(Ok(files::identity(&stat)), |why| refuse(&why));
    }
    if let Some(why) = access::shared_by(&stat) {
        return refuse(&format!("the route is not this user's alone: {why}"));
    }
    if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
        return refuse("the route belongs to another user");
    }
    if files::is_open_to_others(&stat) {
        return refuse("the route can be written to by other users, so nothing in it can be trusted");
    }
    refuse_parent(route, access).map_or(Ok(files::identity(&stat)), |why| refuse(&why))
}

const IN_EVERYBODYS: &str = "the route is in a directory that every user can write to, so others could put files beside \
                             it that go with it; use a directory of your own";

/// Why no bus may be in the directory that a route leads into: others can put files beside it; or, if it is to be a group's,
/// its members cannot.
fn refuse_parent(route: &Route, access: Access) -> Option<String> {
    let parent = match Path::new(route.as_str()).parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if access == Access::Private {
        let is_everybodys = rustix::fs::stat(parent).is_ok_and(|parent| files::is_for_everybody(&parent));
        return is_everybodys.then(|| IN_EVERYBODYS.to_owned());
    }
    let looked = files::open_dir(parent).and_then(|dir| {
        let stat = rustix::fs::fstat(&dir)?;
        Ok(access.refuse_directory(dir.as_fd(), &stat))
    });
    let why = looked.unwrap_or_else(|error| Some(error.to_string()))?;
    Some(format!("the directory that the route is in is not shared by the group that was named: {why}"))
}

/// Whether the file at a route is no longer the one with this device and inode number.
pub(super) fn is_gone(route: &Route, file: (u64, u64)) -> bool {
    let stat = files::stat_at(rustix::fs::CWD, OsStr::new(route.as_str()));
    stat.is_ok_and(|stat| stat.is_none_or(|stat| files::identity(&stat) != file))
}
