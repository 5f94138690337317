// SPDX-License-Identifier: MIT OR Apache-2.0
//! Making and removing stores that are a file, and the record of who owns one.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Beside, check_file, folder_of};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::Hold;
use crate::route::Route;
use crate::system::doorbell::{Porch, Ringer};
use crate::system::lock::{self, Holder as LockHolder, LifeLock, SectionLock};
use crate::system::process::{self, Identity};
use crate::system::{Deadline, files, tree};

/// What the names of stores in the temporary directory begin with.
const PREFIX: &str = "ipcm-";
/// The file that says who owns the store, locked while the owner lives.
const OWNER: &str = ".ipcm-owner";
/// The file that says that this implementation made the store, and which one it made.
const MADE: &str = ".ipcm-made";
/// The lock under which owners are put on record.
const SECTION: &str = ".ipcm-lock";
/// A store without an owner's record is being made, unless it has been so for this many seconds.
const MAKING: u64 = 10;

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
    pub(in crate::protocol) is_in_use: fn(&Route) -> bool,
}

/// The second line of the owner's file.
#[derive(Debug, Serialize, Deserialize)]
struct Terms {
    /// Whether the store is to go with its owner.
    guarded: bool,
}

/// Which file was made for the store.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    device: u64,
    inode: u64,
    /// Whether the directory that it is in was made for it, too.
    #[serde(default)]
    directory: bool,
}

/// A store that is a file, from outside.
#[derive(Debug)]
pub(in crate::protocol) struct FileStore {
    kind: FileKind,
    route: Route,
}

impl FileStore {
    pub(in crate::protocol) fn at(kind: FileKind, route: &Route) -> Self {
        Self { kind, route: route.clone() }
    }

    /// Makes an empty file, private to its user, under a fresh name in the temporary directory.
    pub(in crate::protocol) fn make_temporary(kind: FileKind, content: &[u8]) -> Result<Self> {
        let temporary = std::env::temp_dir();
        sweep_abandoned(kind, &temporary);
        let dir = temporary.join(format!("{PREFIX}{}-{}", process::own_pid(), files::random_suffix()));
        let path = dir.join(kind.file);
        let Some(text) = path.to_str() else {
            let detail = "the temporary directory's path is not UTF-8, and a route must be";
            return Err(Error::new(ErrorKind::InvalidName, detail).at_path(path));
        };
        let store = Self::at(kind, &Route::new(text)?);
        files::make_dir_at(rustix::fs::CWD, dir.as_os_str())
            .map_err(|error| store.failed(&dir, "the directory of the bus cannot be made", error))?;
        store.make(content, true).inspect_err(|_| {
            let _ = std::fs::remove_dir(&dir);
        })?;
        Ok(store)
    }

    /// Makes the file if there is none. Returns whether it did.
    pub(in crate::protocol) fn make_if_missing(&self, content: &[u8]) -> Result<bool> {
        match check_file(self.kind.protocol, &self.route) {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == ErrorKind::NoSuchBus && !Path::new(self.route.as_str()).is_symlink() => {
                match self.make(content, false) {
                    // Somebody else was faster.
                    Err(_) if check_file(self.kind.protocol, &self.route).is_ok() => Ok(false),
                    made => made.map(|()| true),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn make(&self, content: &[u8], directory: bool) -> Result<()> {
        let path = Path::new(self.route.as_str());
        files::create_whole(rustix::fs::CWD, path.as_os_str(), content, files::Sync::Kernel)
            .map_err(|error| self.failed(path, "the file of the bus cannot be made", error))?;
        let noted = check_file(self.kind.protocol, &self.route).and_then(|(device, inode)| {
            let note = serde_json::to_vec(&Made { device, inode, directory }).unwrap_or_default();
            let folder = folder_of(&self.route);
            Beside::open_or_make(&folder)
                .and_then(|beside| files::replace(beside.dir(), OsStr::new(MADE), &note))
                .map_err(|error| self.failed(&folder, "the store cannot be marked as ours", error))
        });
        noted.inspect_err(|_| {
            let _ = std::fs::remove_file(path);
        })
    }

    pub(in crate::protocol) fn route(&self) -> &Route {
        &self.route
    }

    /// The note of the file that was made, if it is still the one.
    fn made(&self) -> Option<Made> {
        let file = check_file(self.kind.protocol, &self.route).ok()?;
        let note = files::read_small(Beside::of_file(&self.route)?.dir(), OsStr::new(MADE), 256).ok().flatten()?;
        let made: Made = serde_json::from_slice(&note).ok()?;
        ((made.device, made.inode) == file).then_some(made)
    }

    /// Whether this implementation made the file, so that it goes with the bus.
    pub(in crate::protocol) fn is_ours(&self) -> bool {
        self.made().is_some()
    }

    /// Whether the bus is to go with an owner that is alive. Such a bus need not outlive a power cut.
    pub(in crate::protocol) fn is_guarded(&self) -> bool {
        let Some(beside) = Beside::of_file(&self.route) else { return false };
        let is_owned = matches!(lock::holder(beside.dir(), OsStr::new(OWNER)), Ok(LockHolder::Alive(_)));
        is_owned && terms(&beside).is_some_and(|terms| terms.guarded)
    }

    /// Puts this process on record as the owner, unless another one is there.
    pub(in crate::protocol) fn hold(&self, guarded: bool, instead_of: Option<Hold>) -> Result<Hold> {
        check_file(self.kind.protocol, &self.route)?;
        let folder = folder_of(&self.route);
        let beside = Beside::open_or_make(&folder)
            .map_err(|error| self.failed(&folder, "the owner cannot be put on record", error))?;
        beside.hold(guarded, instead_of).map_err(|error| self.place(error))
    }

    /// Removes the file with what goes with it, the folder beside it, and the directory that was made for it.
    pub(in crate::protocol) fn remove(&self) -> Result<()> {
        let directory = self.made().is_some_and(|made| made.directory);
        let path = PathBuf::from(self.route.as_str());
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
        Beside::of_file(&self.route).map_or(Ok(()), |beside| beside.clear().map_err(failed))
    }

    /// Adds to an error that it happened in this store.
    pub(in crate::protocol) fn place(&self, error: Error) -> Error {
        error.in_protocol(self.kind.protocol).on_route(self.route.as_str())
    }

    fn failed(&self, path: &Path, detail: &str, error: std::io::Error) -> Error {
        self.place(Error::system(error, detail).at_path(path))
    }

    /// Whether the owner wanted the store to go with it, is gone, and nobody is alive on it.
    fn is_abandoned(&self, dir: &Path) -> bool {
        let is_old = || files::is_older(rustix::fs::CWD, dir.as_os_str(), MAKING);
        let Some(beside) = Beside::of_file(&self.route) else {
            // Killed before the folder was made, or after it was removed.
            return is_old() && std::fs::metadata(self.route.as_str()).map_or(true, |file| file.len() == 0);
        };
        let is_due = match lock::holder(beside.dir(), OsStr::new(OWNER)) {
            Ok(LockHolder::Dead(_)) => terms(&beside).is_some_and(|terms| terms.guarded),
            Ok(LockHolder::None) => is_old(),
            _ => false,
        };
        let bells = || files::names(beside.dir()).unwrap_or_default();
        is_due
            && self.made().is_some_and(|made| made.directory)
            && !bells().iter().any(|bell| beside.porch.is_answered(bell) == Some(true))
            && !(self.kind.is_in_use)(&self.route)
    }
}

impl Beside {
    /// Puts this process on record as the owner, unless another one is there.
    pub(in crate::protocol) fn hold(&self, guarded: bool, instead_of: Option<Hold>) -> Result<Hold> {
        let failed = |error| Error::system(error, "the owner cannot be put on record").at_path(self.porch.path());
        let deadline = Deadline::after(Duration::from_secs(5));
        let _section = SectionLock::acquire(self.dir(), OsStr::new(SECTION), deadline).map_err(failed)?;
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
        let (life, prepared) = LifeLock::prepare(self.dir(), &note).map_err(failed)?;
        life.publish(self.dir(), &prepared, OsStr::new(OWNER)).map_err(failed)?;
        Ok(Hold::new(life))
    }

    /// Whether nobody has been here for a while: no bell is answered, and no owner is alive.
    pub(in crate::protocol) fn is_abandoned(&self) -> bool {
        let owner = lock::holder(self.dir(), OsStr::new(OWNER));
        let names = || files::names(self.dir()).unwrap_or_default();
        files::is_older(rustix::fs::CWD, self.porch.path().as_os_str(), MAKING)
            && !matches!(owner, Ok(LockHolder::Alive(_)) | Err(_))
            && !names().iter().any(|name| self.porch.is_answered(name) == Some(true))
    }

    /// Removes the folder with all in it.
    pub(in crate::protocol) fn clear(&self) -> std::io::Result<()> {
        // The notes go last: whoever is killed half-way leaves a store that can be told to be abandoned.
        let is_note = |name: &OsString| name == OWNER || name == MADE;
        let names = files::names(self.dir())?;
        // Those who sleep look, and find that the store is gone.
        if let Ok(ringer) = Ringer::new(&self.porch) {
            names.iter().filter(|name| Porch::is_bell(name)).for_each(|bell| {
                let _ = ringer.ring(bell);
            });
        }
        for name in names.iter().filter(|name| !is_note(name)).chain(names.iter().filter(|name| is_note(name))) {
            tree::remove(self.dir(), name)?;
        }
        let _ = std::fs::remove_dir(self.porch.path());
        Ok(())
    }
}

fn terms(beside: &Beside) -> Option<Terms> {
    let note = files::read_small(beside.dir(), OsStr::new(OWNER), 4096).ok().flatten()?;
    serde_json::from_slice(note.split(|byte| *byte == b'\n').nth(1)?).ok()
}

/// Removes stores that a killed owner's guard could not, once nobody is alive on them. Best effort: what cannot be
/// looked at or removed stays.
fn sweep_abandoned(kind: FileKind, temporary: &Path) {
    let Ok(listed) = std::fs::read_dir(temporary) else { return };
    for entry in listed.flatten().filter(|entry| entry.file_name().as_bytes().starts_with(PREFIX.as_bytes())) {
        let dir = entry.path();
        let is_private = std::fs::symlink_metadata(&dir).is_ok_and(|metadata| {
            use std::os::unix::fs::MetadataExt;
            metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o077 == 0
        });
        let route = dir.join(kind.file).to_str().and_then(|path| Route::new(path).ok());
        let Some(route) = route.filter(|route| is_private && Path::new(route.as_str()).exists()) else { continue };
        let store = FileStore::at(kind, &route);
        if store.is_abandoned(&dir) {
            // Out of everybody's way in one step, so that nobody joins what is being removed.
            let aside = dir.with_file_name(format!("{PREFIX}dead-{}", files::random_suffix()));
            let identity = files::open_dir(&dir).and_then(files::identity_of);
            if let Ok(identity) = identity
                && std::fs::rename(&dir, &aside).is_ok()
                && let Err(error) = tree::remove_path(&aside, identity)
            {
                log::warn!("an abandoned bus in {} cannot be removed: {error}", aside.display());
            }
        }
    }
}
