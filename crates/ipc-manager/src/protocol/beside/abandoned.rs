// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stores that are a file, and folders of doorbells, that nobody is behind any more: telling them from all others, and
//! removing them, in the critical section of the folder, and nothing in them that is not known.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FileType;

use super::owner::{FileKind, FileStore, MADE, OWNER, PATIENCE, SECTION, terms};
use super::{Beside, folder_of};
use crate::error::Result;
use crate::protocol::cleaning::{NamedFor, move_aside};
use crate::protocol::{Cleaning, Fate, Leftover, LeftoverKind};
use crate::route::Route;
use crate::system::access::Access;
use crate::system::lock::{self, Holder as LockHolder};
use crate::system::{files, tree};

/// A store without an owner's record is being made, unless it has been so for this many seconds.
const MAKING: u64 = 10;
/// How long a brief look waits for the critical section of a store.
const BRIEF_PATIENCE: Duration = Duration::from_millis(20);

/// Removes stores of a kind whose owners are dead, once no peer is alive on them.
pub(in crate::protocol) fn clean(kind: FileKind, cleaning: &mut Cleaning) {
    if let Some(route) = cleaning.route().cloned() {
        let dir = Path::new(route.as_str()).parent().unwrap_or(Path::new("."));
        return look_at(&FileStore::at(kind, &route, Access::of_own(dir)), cleaning);
    }
    for dir in &*cleaning.candidates() {
        if !cleaning.may_go_on() {
            return;
        }
        // Stores of ours are in directories that only their user can enter, or a group.
        let access = Access::of_own(dir);
        let is_private = dir.symlink_metadata().is_ok_and(|found| found.mode() & 0o077 == 0);
        let route = dir.join(kind.file).to_str().and_then(|path| Route::new(path).ok());
        if let Some(route) = route.filter(|_| is_private || access != Access::Private) {
            look_at(&FileStore::at(kind, &route, access), cleaning);
        }
    }
}

fn look_at(store: &FileStore, cleaning: &mut Cleaning) {
    let path = Path::new(store.route.as_str());
    let is_any = || path.exists() || folder_of(&store.route).exists();
    // The directory that was made for the store.
    let dir = path.parent().filter(|dir| NamedFor::of(dir).is_some());
    if !is_any() || !store.is_abandoned(dir) {
        return;
    }
    let fate = match store.clean(dir, cleaning) {
        Ok(Some(fate)) => fate,
        Ok(None) => return,
        // Somebody else was faster.
        Err(_) if !is_any() => return,
        Err(error) => Fate::kept(&error),
    };
    let (protocol, path) = (Some(store.kind.protocol.to_owned()), dir.unwrap_or(path).to_owned());
    cleaning.note(Leftover { kind: LeftoverKind::Bus, protocol, path, fate });
}

impl FileStore {
    /// Whether the owner wanted the store to go with it, is gone, and nobody is alive on it; or was killed before it was on
    /// record, which only one that is old can be.
    fn is_abandoned(&self, dir: Option<&Path>) -> bool {
        let file = Path::new(self.route.as_str()).symlink_metadata().ok();
        let is_old = || {
            dir.is_some_and(|dir| {
                files::is_older(rustix::fs::CWD, dir.as_os_str(), MAKING)
                    && !NamedFor::of(dir).is_some_and(|named| named.may_go_on(dir))
            })
        };
        let Some(beside) = Beside::of_file(&self.route, self.access) else {
            // Killed before the folder was made, or after it was removed.
            return is_old() && file.is_none_or(|file| file.len() == 0);
        };
        let is_dying = || dir.and_then(NamedFor::of) == Some(NamedFor::Remover);
        let is_due = match lock::holder(beside.dir(), OsStr::new(OWNER)) {
            Ok(LockHolder::Dead(_)) => is_dying() || terms(&beside).is_some_and(|terms| terms.guarded),
            Ok(LockHolder::None) => is_old(),
            _ => false,
        };
        // Without the file it was being removed, if it was made in a directory of its own.
        let is_ours = || match file {
            Some(_) => self.made().is_some_and(|made| made.directory == dir.is_some()),
            None => dir.is_some(),
        };
        is_due
            && is_ours()
            && !beside.is_answered()
            && (file.is_none() || !(self.kind.is_in_use)(&self.route, self.access))
    }

    fn clean(&self, dir: Option<&Path>, cleaning: &Cleaning) -> Result<Option<Fate>> {
        let path = Path::new(self.route.as_str());
        let failed = |error| self.failed(path, "an abandoned store cannot be removed", error);
        if let Some(unknown) = self.first_unknown(dir).map_err(failed)? {
            if !self.is_abandoned(dir) {
                return Ok(None);
            }
            return Ok(Some(Fate::Kept(format!("it holds `{}`, which is no part of a bus", escaped(&unknown)))));
        }
        if cleaning.is_dry_run() {
            return Ok(Some(Fate::Found));
        }
        let beside = Beside::of_file(&self.route, self.access);
        let patience = if cleaning.is_brief() { BRIEF_PATIENCE } else { PATIENCE };
        let section = beside.as_ref().map(|beside| beside.enter(patience)).transpose().map_err(failed)?;
        // Asked again inside, where no peer can be joining.
        if !self.is_abandoned(dir) {
            return Ok(None);
        }
        self.remove_all(dir, beside.as_ref()).map_err(failed)?;
        drop(section);
        Ok(Some(Fate::Removed))
    }

    /// Removes what is known, by descriptor: the file, what goes with it, the folder, and the directory made for it all.
    fn remove_all(&self, dir: Option<&Path>, beside: Option<&Beside>) -> std::io::Result<()> {
        let path = Path::new(self.route.as_str());
        let (mut parent, mut identity) = (path.parent().unwrap_or(Path::new(".")).to_owned(), None);
        if let Some(dir) = dir {
            let made = files::identity_of(files::open_dir(dir)?)?;
            // Out of everybody's way in one step, where it will be found again if this process is killed, too.
            if matches!(NamedFor::of(dir), Some(NamedFor::Maker(_))) {
                parent = move_aside(dir, made)?;
            }
            identity = Some(made);
        }
        if parent.as_os_str().is_empty() {
            parent = PathBuf::from(".");
        }
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let at = rustix::fs::open(&parent, flags, rustix::fs::Mode::empty())?;
        if identity.is_some_and(|identity| files::identity_of(&at).ok() != Some(identity)) {
            return Err(std::io::Error::other("another directory is in its place, which is left alone"));
        }
        for name in self.names() {
            files::remove_file(at.as_fd(), &name)?;
        }
        if let (Some(beside), Some(folder)) = (beside, folder_of(&self.route).file_name()) {
            beside.empty()?;
            files::remove_empty_dir(at.as_fd(), folder)?;
        }
        if let Some(identity) = identity {
            tree::remove_empty(&parent, identity)?;
        }
        Ok(())
    }

    /// The names of the file and of what goes with it.
    fn names(&self) -> impl Iterator<Item = OsString> + '_ {
        let file = Path::new(self.route.as_str()).file_name().unwrap_or_default();
        std::iter::once("").chain(self.kind.with_it.iter().copied()).map(move |suffix| {
            let mut name = file.to_owned();
            name.push(suffix);
            name
        })
    }

    /// The first name that is no part of a bus: in the directory that was made for it, or in the folder.
    fn first_unknown(&self, dir: Option<&Path>) -> std::io::Result<Option<OsString>> {
        if let Some(dir) = dir {
            let folder = folder_of(&self.route);
            let opened = files::open_dir(dir)?;
            for name in files::names(opened.as_fd())? {
                let is_folder = Some(name.as_os_str()) == folder.file_name();
                let is_known = is_folder || self.names().any(|known| known == name) && is_flat(opened.as_fd(), &name);
                if !is_known {
                    return Ok(Some(name));
                }
            }
        }
        Beside::of_file(&self.route, self.access).map_or(Ok(None), |beside| beside.first_unknown())
    }
}

impl Beside {
    /// Whether anybody is behind a bell, one that is just being hung up too.
    fn is_answered(&self) -> bool {
        let names = files::names(self.dir()).unwrap_or_default();
        names.iter().any(|name| self.porch().is_answered(name) == Some(true))
    }

    /// The first name in the folder that is not ours.
    fn first_unknown(&self) -> std::io::Result<Option<OsString>> {
        let is_known = |name: &OsString| {
            let raw = name.as_bytes();
            let begins = [&b".ipcm-"[..], b".new-", b"bell-"].iter().any(|prefix| raw.starts_with(prefix));
            (begins || raw.starts_with(b".") && raw.ends_with(b".bad")) && is_flat(self.dir(), name)
        };
        Ok(files::names(self.dir())?.into_iter().find(|name| !is_known(name)))
    }

    /// Removes all in the folder that is known. The notes go last: whoever is killed half-way leaves a store that can be told
    /// to be abandoned; and the lock after them: who takes it then sees that the folder is gone.
    fn empty(&self) -> std::io::Result<()> {
        let mut names = files::names(self.dir())?;
        names.sort_by_key(|name| match () {
            () if name == SECTION => 3,
            () if name == MADE => 2,
            () if name == OWNER => 1,
            () => 0,
        });
        for name in names {
            files::remove_file(self.dir(), &name)?;
        }
        Ok(())
    }

    /// Whether nobody is here: no bell is answered, and no owner is alive.
    fn is_deserted(&self) -> bool {
        let owner = lock::holder(self.dir(), OsStr::new(OWNER));
        !matches!(owner, Ok(LockHolder::Alive(_)) | Err(_)) && !self.is_answered()
    }
}

/// Removes folders of doorbells that nobody is behind any more: their server went without them. `base` is what they are in.
pub(in crate::protocol) fn clean_doorbells(base: &Path, cleaning: &mut Cleaning) {
    clean_older_doorbells(base, MAKING, cleaning);
}

fn clean_older_doorbells(base: &Path, seconds: u64, cleaning: &mut Cleaning) {
    let is_ours = |name: &OsStr| name.len() == 24 && name.as_bytes().iter().all(u8::is_ascii_hexdigit);
    // What they are in is only this user's, too.
    let Ok(Some(_)) = Beside::open(base, Access::Private) else { return };
    let Ok(listed) = std::fs::read_dir(base) else { return };
    for path in listed.flatten().filter(|entry| is_ours(&entry.file_name())).map(|entry| entry.path()) {
        let Ok(Some(beside)) = Beside::open(&path, Access::Private) else { continue };
        // Somebody may be about to hang a bell into one that is young.
        if !files::is_older(rustix::fs::CWD, path.as_os_str(), seconds) || !beside.is_deserted() {
            continue;
        }
        let fate = match beside.clean(&path, cleaning.is_dry_run()) {
            Ok(Some(fate)) => fate,
            Ok(None) => continue,
            Err(_) if !path.exists() => continue,
            Err(error) => Fate::kept(&error),
        };
        cleaning.note(Leftover { kind: LeftoverKind::Doorbells, protocol: None, path, fate });
    }
}

impl Beside {
    fn clean(&self, path: &Path, is_dry: bool) -> std::io::Result<Option<Fate>> {
        if let Some(unknown) = self.first_unknown()? {
            return Ok(Some(Fate::Kept(format!("it holds `{}`, which is no part of a bus", escaped(&unknown)))));
        }
        if is_dry {
            return Ok(Some(Fate::Found));
        }
        let _section = self.enter(BRIEF_PATIENCE)?;
        // Asked again inside, where nobody can be hanging one up.
        if !self.is_deserted() {
            return Ok(None);
        }
        let identity = files::identity_of(self.dir())?;
        self.empty()?;
        Ok(Some(match tree::remove_empty(path, identity)? {
            true => Fate::Removed,
            false => Fate::Kept("somebody put something there meanwhile".into()),
        }))
    }
}

fn is_flat(dir: std::os::fd::BorrowedFd<'_>, name: &OsStr) -> bool {
    let stat = files::stat_at(dir, name).ok().flatten();
    stat.is_none_or(|stat| FileType::from_raw_mode(stat.st_mode) != FileType::Directory)
}

fn escaped(name: &OsStr) -> String {
    name.to_string_lossy().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::system::doorbell::Doorbell;
    use crate::system::lock::LifeLock;
    use crate::system::process::Identity;

    /// Cleans until as much was found as is expected: what is younger than a second may stay.
    fn cleaned(base: &Path, is_dry: bool, expected: usize) -> Vec<(String, Fate)> {
        let ended = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            let mut cleaning = Cleaning::everywhere().dry_run(is_dry);
            clean_older_doorbells(base, 0, &mut cleaning);
            let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
            let mut found: Vec<_> =
                cleaning.into_found().into_iter().map(|left| (name(&left.path), left.fate)).collect();
            found.sort_by(|a, b| a.0.cmp(&b.0));
            if found.len() >= expected || std::time::Instant::now() > ended {
                return found;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn doorbells_that_nobody_is_behind_go_and_others_stay() {
        let base = std::env::temp_dir().join(format!("ipct-doorbells-{}", files::random_suffix()));
        let made = |name: &str| {
            let path = base.join(name);
            let beside = Beside::open_or_make(&base, Access::Private)
                .and_then(|_| Beside::open_or_make(&path, Access::Private))
                .unwrap();
            drop(beside.enter(PATIENCE).unwrap());
            beside
        };
        let (dead, rung, owned) = (made(&"0".repeat(24)), made(&"1".repeat(24)), made(&"2".repeat(24)));
        let (unknown, other) = (made(&"3".repeat(24)), made("not-ours"));
        // As a killed peer and a killed owner leave it.
        drop(std::os::unix::net::UnixDatagram::bind(dead.porch().path().join("bell-dead")).unwrap());
        std::fs::write(dead.porch().path().join(".ipcm-owner"), "{}\n{}").unwrap();
        std::fs::write(unknown.porch().path().join("canary"), "sings").unwrap();
        let bell = Doorbell::prepare(&Arc::clone(rung.porch())).unwrap();
        let (owner, prepared) =
            LifeLock::prepare(owned.dir(), &lock::identity_line(&Identity::own()), Access::Private).unwrap();
        owner.publish(owned.dir(), &prepared, OsStr::new(OWNER)).unwrap();
        let kept = Fate::Kept("it holds `canary`, which is no part of a bus".into());
        let (zeros, threes) = ("0".repeat(24), "3".repeat(24));
        assert_eq!(cleaned(&base, true, 2), [(zeros.clone(), Fate::Found), (threes.clone(), kept.clone())]);
        assert!(dead.porch().path().join("bell-dead").exists());
        assert_eq!(cleaned(&base, false, 2), [(zeros, Fate::Removed), (threes, kept)]);
        assert!(!dead.porch().path().exists() && unknown.porch().path().join("canary").exists());
        assert!(rung.porch().path().exists() && owned.porch().path().exists() && other.porch().path().exists());
        // Whoever comes late finds that it is gone, and polls.
        assert_eq!(dead.enter(PATIENCE).unwrap_err().kind(), std::io::ErrorKind::NotFound);
        drop((bell, owner));
        std::fs::remove_dir_all(base).unwrap();
    }
}
