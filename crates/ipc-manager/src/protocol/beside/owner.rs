// SPDX-License-Identifier: MIT OR Apache-2.0
//! Making and removing stores that are a file, and the record of who owns one.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Beside, check_file, folder_of, refuse_parent};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::Hold;
use crate::protocol::cleaning::fresh_name;
use crate::route::Route;
use crate::system::access::Access;
use crate::system::doorbell::{Porch, Ringer};
use crate::system::lock::{self, Holder as LockHolder, LifeLock, SectionLock};
use crate::system::process::Identity;
use crate::system::{Deadline, files, tree};

/// The file that says who owns the store, locked while the owner lives.
pub(super) const OWNER: &str = ".ipcm-owner";
/// The file that says that this implementation made the store, and which one it made.
pub(super) const MADE: &str = ".ipcm-made";
/// The lock under which owners are put on record.
pub(super) const SECTION: &str = ".ipcm-lock";

/// Where stores of one protocol differ from those of another.
#[derive(Debug, Clone, Copy)]
pub(in crate::protocol) struct FileKind {
    /// The protocol's short name, for errors.
    pub(in crate::protocol) protocol: &'static str,
    /// What a temporary store is called within its directory.
    pub(in crate::protocol) file: &'static str,
    /// What the names of files end in that go with the store.
    pub(in crate::protocol) with_it: &'static [&'static str],
    /// Whether a peer is alive on the store, as far as the store itself knows.
    pub(in crate::protocol) is_in_use: fn(&Route, Access) -> bool,
}

/// The second line of the owner's file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Terms {
    /// Whether the store is to go with its owner.
    pub(super) guarded: bool,
}

/// Which file was made for the store.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Made {
    device: u64,
    inode: u64,
    /// Whether the directory that it is in was made for it, too.
    #[serde(default)]
    pub(super) directory: bool,
}

/// A store that is a file, from outside.
#[derive(Debug)]
pub(in crate::protocol) struct FileStore {
    pub(super) kind: FileKind,
    pub(super) route: Route,
    /// For whom it is.
    pub(super) access: Access,
}

impl FileStore {
    pub(in crate::protocol) fn at(kind: FileKind, route: &Route, access: Access) -> Self {
        Self { kind, route: route.clone(), access }
    }

    /// Makes an empty file under a fresh name in the temporary directory.
    pub(in crate::protocol) fn make_temporary(kind: FileKind, content: &[u8], access: Access) -> Result<Self> {
        let dir = std::env::temp_dir().join(fresh_name());
        let path = dir.join(kind.file);
        let Some(text) = path.to_str() else {
            let detail = "the temporary directory's path is not UTF-8, and a route must be";
            return Err(Error::new(ErrorKind::InvalidName, detail).at_path(path));
        };
        let store = Self::at(kind, &Route::new(text)?, access);
        files::make_dir_at(rustix::fs::CWD, dir.as_os_str(), access)
            .map_err(|error| store.failed(&dir, "the directory of the bus cannot be made", error))?;
        store.make(content, true).inspect_err(|_| {
            let _ = std::fs::remove_dir(&dir);
        })?;
        Ok(store)
    }

    /// Makes the file if there is none. Returns whether it did.
    pub(in crate::protocol) fn make_if_missing(&self, content: &[u8]) -> Result<bool> {
        match check_file(self.kind.protocol, &self.route, self.access) {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == ErrorKind::NoSuchBus && !Path::new(self.route.as_str()).is_symlink() => {
                match self.make(content, false) {
                    // Somebody else was faster.
                    Err(_) if check_file(self.kind.protocol, &self.route, self.access).is_ok() => Ok(false),
                    made => made.map(|()| true),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn make(&self, content: &[u8], directory: bool) -> Result<()> {
        let path = Path::new(self.route.as_str());
        if let Some(why) = refuse_parent(&self.route, self.access) {
            return Err(self.place(Error::new(ErrorKind::Permission, why)));
        }
        files::create_whole(rustix::fs::CWD, path.as_os_str(), content, files::Sync::Kernel, self.access)
            .map_err(|error| self.failed(path, "the file of the bus cannot be made", error))?;
        let noted = check_file(self.kind.protocol, &self.route, self.access).and_then(|(device, inode)| {
            let note = serde_json::to_vec(&Made { device, inode, directory }).unwrap_or_default();
            let folder = folder_of(&self.route);
            Beside::open_or_make(&folder, self.access)
                .and_then(|beside| files::replace(beside.dir(), OsStr::new(MADE), &note, self.access))
                .map_err(|error| self.failed(&folder, "the store cannot be marked as ours", error))
        });
        noted.inspect_err(|_| {
            let _ = std::fs::remove_file(path);
        })
    }

    pub(in crate::protocol) fn route(&self) -> &Route {
        &self.route
    }

    pub(in crate::protocol) fn access(&self) -> Access {
        self.access
    }

    /// The note of the file that was made, if it is still the one.
    pub(super) fn made(&self) -> Option<Made> {
        let file = check_file(self.kind.protocol, &self.route, self.access).ok()?;
        let beside = Beside::of_file(&self.route, self.access)?;
        let note = files::read_small(beside.dir(), OsStr::new(MADE), 256, self.access).ok().flatten()?;
        let made: Made = serde_json::from_slice(&note).ok()?;
        ((made.device, made.inode) == file).then_some(made)
    }

    /// Whether this implementation made the file, so that it goes with the bus.
    pub(in crate::protocol) fn is_ours(&self) -> bool {
        self.made().is_some()
    }

    /// Makes files that go with a group's store, where they are missing, so that no member ever meets one that another has
    /// just made and that is not yet the group's. Only those of a store of ours.
    pub(in crate::protocol) fn share(&self, suffixes: &[&str]) -> Result<()> {
        if self.access == Access::Private || !self.is_ours() {
            return Ok(());
        }
        for suffix in suffixes {
            let name = PathBuf::from(format!("{}{suffix}", self.route.as_str()));
            match files::make_empty(rustix::fs::CWD, name.as_os_str(), self.access) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(self.failed(&name, "what goes with the store cannot be made", error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the bus is to go with an owner that is alive. Such a bus need not outlive a power cut.
    pub(in crate::protocol) fn is_guarded(&self) -> bool {
        let Some(beside) = Beside::of_file(&self.route, self.access) else { return false };
        let is_owned = matches!(lock::holder(beside.dir(), OsStr::new(OWNER)), Ok(LockHolder::Alive(_)));
        is_owned && terms(&beside).is_some_and(|terms| terms.guarded)
    }

    /// Puts this process on record as the owner, unless another one is there.
    pub(in crate::protocol) fn hold(&self, guarded: bool, instead_of: Option<Hold>) -> Result<Hold> {
        check_file(self.kind.protocol, &self.route, self.access)?;
        let folder = folder_of(&self.route);
        let beside = Beside::open_or_make(&folder, self.access)
            .map_err(|error| self.failed(&folder, "the owner cannot be put on record", error))?;
        beside.hold(guarded, instead_of).map_err(|error| self.place(error))
    }

    /// Removes the file with what goes with it, the folder beside it, and the directory that was made for it.
    pub(in crate::protocol) fn remove(&self) -> Result<()> {
        let directory = self.made().is_some_and(|made| made.directory);
        let path = PathBuf::from(self.route.as_str());
        let made = path.parent().filter(|_| directory).and_then(|parent| files::open_dir(parent).ok());
        if let Some(why) = made.and_then(|made| self.access.refuse_removal(made.as_fd())) {
            return Err(self.place(Error::new(ErrorKind::Permission, why)));
        }
        let names = std::iter::once("").chain(self.kind.with_it.iter().copied());
        for suffix in names {
            let name = PathBuf::from(format!("{}{suffix}", self.route.as_str()));
            files::remove_file(rustix::fs::CWD, name.as_os_str())
                .map_err(|error| self.failed(&name, "the store cannot be removed", error))?;
        }
        self.remove_folder()?;
        if let Some(parent) = path.parent().filter(|_| directory) {
            // Whatever somebody else put there stays.
            let _ = std::fs::remove_dir(parent);
        }
        Ok(())
    }

    /// Removes the folder beside the file.
    pub(in crate::protocol) fn remove_folder(&self) -> Result<()> {
        let folder = folder_of(&self.route);
        let failed = |error| self.failed(&folder, "the folder beside the store cannot be removed", error);
        Beside::of_file(&self.route, self.access).map_or(Ok(()), |beside| beside.clear().map_err(failed))
    }

    /// Adds to an error that it happened in this store.
    pub(in crate::protocol) fn place(&self, error: Error) -> Error {
        error.in_protocol(self.kind.protocol).on_route(self.route.as_str())
    }

    pub(super) fn failed(&self, path: &Path, detail: &str, error: std::io::Error) -> Error {
        self.place(Error::system(error, detail).at_path(path))
    }
}

/// How long another process's critical section is waited for, which takes milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

impl Beside {
    /// Enters the critical section of the folder, in which bells are hung up, owners put on record, and stores found to be
    /// abandoned. `NotFound` once it was removed: who does that takes the lock away last, in this section.
    pub(super) fn enter(&self, patience: Duration) -> std::io::Result<SectionLock> {
        let section = SectionLock::acquire(self.dir(), OsStr::new(SECTION), Deadline::after(patience), self.access())?;
        let is_there = |name: &str| files::stat_at(self.dir(), OsStr::new(name)).is_ok_and(|stat| stat.is_some());
        if rustix::fs::fstat(self.dir())?.st_nlink == 0 || !is_there(SECTION) {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        Ok(section)
    }

    /// Puts this process on record as the owner, unless another one is there.
    pub(in crate::protocol) fn hold(&self, guarded: bool, instead_of: Option<Hold>) -> Result<Hold> {
        let failed = |error| Error::system(error, "the owner cannot be put on record").at_path(self.porch.path());
        let _section = self.enter(PATIENCE).map_err(failed)?;
        if instead_of.is_none() {
            let holder = lock::holder(self.dir(), OsStr::new(OWNER)).map_err(failed)?;
            if let LockHolder::Alive(identity) = holder {
                let pid = identity.map_or_else(String::new, |identity| format!(", process {}", identity.pid));
                let detail = format!("the bus has an owner that is alive{pid}");
                return Err(Error::new(ErrorKind::NameInUse, detail));
            }
        }
        let mut note = lock::identity_line(&Identity::own());
        note.extend(serde_json::to_vec(&Terms { guarded }).unwrap_or_default());
        let (life, prepared) = LifeLock::prepare(self.dir(), &note, self.access()).map_err(failed)?;
        life.publish(self.dir(), &prepared, OsStr::new(OWNER)).map_err(failed)?;
        Ok(Hold::new(life))
    }

    /// Removes the folder with all in it.
    pub(in crate::protocol) fn clear(&self) -> std::io::Result<()> {
        // The notes go last: whoever is killed half-way leaves a store that can be told to be abandoned.
        let mut names = files::names(self.dir())?;
        names.sort_by_key(|name| [OWNER, MADE, SECTION].iter().position(|note| name == note).map_or(0, |at| at + 1));
        // Those who sleep look, and find that the store is gone.
        if let Ok(ringer) = Ringer::new(self.porch()) {
            names.iter().filter(|name| Porch::is_bell(name)).for_each(|bell| {
                let _ = ringer.ring(bell);
            });
        }
        for name in &names {
            tree::remove(self.dir(), name)?;
        }
        let _ = std::fs::remove_dir(self.porch.path());
        Ok(())
    }
}

pub(super) fn terms(beside: &Beside) -> Option<Terms> {
    let note = files::read_small(beside.dir(), OsStr::new(OWNER), 4096, beside.access()).ok().flatten()?;
    serde_json::from_slice(note.split(|byte| *byte == b'\n').nth(1)?).ok()
}
