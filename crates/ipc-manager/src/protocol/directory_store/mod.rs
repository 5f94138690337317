// SPDX-License-Identifier: MIT OR Apache-2.0
//! What all protocols whose store is a directory share: the route, names on disk, the files beside an entry, who is
//! alive, taking and sweeping names. See `docs/formats.md`, "Directory stores".

mod abandoned;
mod claim;
mod listing;
mod origins;
mod owner;
mod place;
mod recent;
mod seat;
mod sidecars;
mod state;

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Stat;
use sha2::{Digest, Sha256};

pub(super) use abandoned::clean;
pub(super) use claim::{Claimed, give_up, keep_for_later, take};
pub(super) use listing::Listing;
pub(super) use origins::Origins;
pub(super) use owner::{create, destroy, hold};
pub(super) use place::{room_for_socket, viable};
pub(super) use recent::Recent;
pub(super) use seat::{Seat, Seated};
pub(super) use sidecars::Sidecar;
pub(super) use state::{EntryState, Holding};

use crate::error::{Error, ErrorKind, Result};
use crate::name::PeerName;
use crate::route::Route;
use crate::system::access::{self, Access};
use crate::system::lock::SectionLock;
use crate::system::{Deadline, files};

/// How long to wait for the critical sections of other processes: each takes milliseconds, but a hundred may join at once.
const SECTION_DEADLINE: Duration = Duration::from_secs(15);

/// The file that is locked while names are taken, given up or swept.
const LOCK: &str = ".ipcm-lock";

/// Where one protocol's stores differ from another's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// The protocol's short name, for errors.
    pub(super) protocol: &'static str,
    /// Longest name that stands on disk as it is, in bytes, for a store at this route.
    pub(super) max_name: fn(&Route) -> usize,
    /// Whether an entry is the mailbox itself, so that it outlives its holder. Else it is the door to a mailbox in the
    /// kernel: it is made anew for whoever continues the name, and nobody is ever suspended.
    pub(super) keeps_mailbox: bool,
    /// Whether what stands under a name can be an entry.
    pub(super) is_entry: fn(&Stat) -> bool,
    /// How many messages wait in an entry, where that can be told from outside.
    pub(super) unread: Option<fn(BorrowedFd<'_>, &OsStr) -> u64>,
    /// Whether an entry holds nothing but what this protocol puts there, so that it can be nobody else's.
    pub(super) is_intact: fn(BorrowedFd<'_>, &OsStr, Access) -> bool,
    /// Removes an entry for good, and says how many messages went with it.
    pub(super) discard: fn(BorrowedFd<'_>, &OsStr) -> std::io::Result<u64>,
    /// Whether [`discard`](Kind::discard) would remove nothing but what peers put into a store that we made.
    pub(super) is_removable: fn(BorrowedFd<'_>, &OsStr, Access) -> bool,
}

/// An open store.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) kind: Kind,
    pub(super) route: Route,
    dir: OwnedFd,
    /// Whether this implementation made the directory, so that all in it was put there by peers.
    is_ours: bool,
    /// For whom it is.
    pub(super) access: Access,
}

impl Store {
    /// Opens the directory once and checks it: a directory, not a link, ours or root's, not writable by all; or, if it is to
    /// be a group's, that one's alone.
    ///
    /// Any such directory will do, as the reference has it, but not one that is plainly something else.
    pub(super) fn open(kind: Kind, route: &Route, access: Access) -> Result<Self> {
        let store = Self::open_any(kind, route, access)?;
        if !store.is_ours && !owner::is_empty_or_a_bus(&store)? {
            return Err(store.place(Error::new(ErrorKind::NoSuchBus, "the route is a directory, but no bus")));
        }
        Ok(store)
    }

    /// Opens the directory, whatever is in it.
    fn open_any(kind: Kind, route: &Route, access: Access) -> Result<Self> {
        let path: &Path = route.as_ref();
        let place = |error: Error| error.in_protocol(kind.protocol).on_route(route.as_str());
        let dir = files::open_dir(path).map_err(|error| place(open_failed(path, error)))?;
        let stat = rustix::fs::fstat(&dir).map_err(|error| place(Error::system(error, "the route cannot be read")))?;
        refuse(&dir, &stat, access).map_err(place)?;
        let is_ours = owner::made(dir.as_fd(), files::identity(&stat), access).is_some();
        Ok(Self { kind, route: route.clone(), dir, is_ours, access })
    }

    /// Whether an entry may be removed with all in it: in somebody else's directory only what can be nobody else's.
    fn may_remove(&self, entry: &OsStr) -> bool {
        self.is_ours || (self.kind.is_intact)(self.dir(), entry, self.access)
    }

    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Adds to an error that it happened in this store.
    pub(super) fn place(&self, error: Error) -> Error {
        error.in_protocol(self.kind.protocol).on_route(self.route.as_str())
    }

    /// The path of a name in the store, for messages to people.
    pub(super) fn path(&self, name: &OsStr) -> PathBuf {
        Path::new(self.route.as_str()).join(name)
    }

    /// An error of the system at a name in the store.
    pub(super) fn failed(&self, name: &OsStr, detail: &str, error: std::io::Error) -> Error {
        self.place(Error::system(error, detail).at_path(self.path(name)))
    }

    /// Enters the critical section in which names are taken and given up. Fails if the store was removed meanwhile.
    pub(super) fn enter(&self) -> Result<SectionLock> {
        self.enter_within(SECTION_DEADLINE)
    }

    /// [`enter`](Store::enter) with another deadline.
    fn enter_within(&self, patience: Duration) -> Result<SectionLock> {
        let name = OsStr::new(LOCK);
        let deadline = Deadline::after(patience);
        let section =
            SectionLock::acquire(self.dir(), name, deadline, self.access).map_err(|error| match error.kind() {
                std::io::ErrorKind::TimedOut => {
                    let detail = format!("another process has held the store's lock for {patience:?}");
                    self.place(Error::new(ErrorKind::Timeout, detail).at_path(self.path(name)))
                }
                std::io::ErrorKind::NotFound => self.removed(),
                _ => self.failed(name, "the store's lock cannot be taken", error),
            })?;
        // Whoever removes a store takes our mark off it under this lock, before the lock itself goes.
        let is_unmarked = || files::stat_at(self.dir(), OsStr::new(owner::MADE)).is_ok_and(|stat| stat.is_none());
        if self.is_gone() || self.is_ours && is_unmarked() { Err(self.removed()) } else { Ok(section) }
    }

    /// Whether the directory was removed. Asked of the descriptor: the route may be relative, and a parent renamed.
    pub(super) fn is_gone(&self) -> bool {
        rustix::fs::fstat(&self.dir).is_ok_and(|stat| stat.st_nlink == 0)
    }

    pub(super) fn removed(&self) -> Error {
        self.place(Error::new(ErrorKind::NoSuchBus, "the bus was removed"))
    }
}

/// Refuses a directory that others could have put things into, or could look at.
fn refuse(dir: &OwnedFd, stat: &Stat, access: Access) -> Result<()> {
    let denied = |why: &str| Err(Error::new(ErrorKind::Permission, why));
    if access != Access::Private {
        let why = access.refuse_directory(dir.as_fd(), stat);
        return why
            .map_or(Ok(()), |why| denied(&format!("the route is not shared by the group that was named: {why}")));
    }
    if let Some(why) = access::shared_by(stat) {
        return denied(&format!("the route is not this user's alone: {why}"));
    }
    if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
        return denied("the route belongs to another user");
    }
    if files::is_open_to_others(stat) {
        return denied("the route can be written to by other users, so nothing in it can be trusted");
    }
    // Where everybody can make directories, root's is no more the user's than anybody else's.
    let is_foreign = stat.st_uid != rustix::process::geteuid().as_raw();
    let parent = || rustix::fs::statat(dir, "..", rustix::fs::AtFlags::empty());
    if is_foreign && parent().is_ok_and(|parent| files::is_for_everybody(&parent)) {
        return denied("the route belongs to another user, in a directory that every user can write to");
    }
    Ok(())
}

fn open_failed(path: &Path, error: std::io::Error) -> Error {
    use std::io::ErrorKind as Io;
    let not_a_bus = |detail: &str| Error::new(ErrorKind::NoSuchBus, detail);
    match error.kind() {
        Io::NotFound => not_a_bus("there is no bus at this route"),
        // With O_NOFOLLOW a link is "not a directory" or a loop, depending on what is asked first; open(2).
        _ if files::is_no_directory(&error) && path.is_symlink() => {
            not_a_bus("the route is a symbolic link, which is not followed")
        }
        _ if files::is_no_directory(&error) => not_a_bus("the route is not a directory"),
        _ => Error::system(error, "the route cannot be opened"),
    }
}

/// The name under which an entry stands on disk: the name itself where it is short and harmless, else `h-` and the
/// first 40 hex digits of its SHA-256.
pub(super) fn disk_name(store: &Store, name: &PeerName) -> Result<OsString> {
    disk_name_within((store.kind.max_name)(&store.route), name)
}

/// [`disk_name`] where the longest name is known.
fn disk_name_within(max_name: usize, name: &PeerName) -> Result<OsString> {
    let bytes = files::name_bytes(name.as_str());
    let harmless = |byte: &u8| !matches!(byte, 0..=0x1F | b'/' | b'\\');
    let raw = bytes.as_encoded_bytes();
    if raw.len() <= max_name && raw.iter().all(harmless) && !raw.starts_with(b"h-") {
        return Ok(bytes);
    }
    let digest = Sha256::digest(raw);
    let hex: String = digest.iter().take(20).map(|byte| format!("{byte:02x}")).collect();
    let hashed = format!("h-{hex}");
    if hashed.len() > max_name {
        let detail = format!(
            "the name does not fit: its short form has {} bytes, and the route leaves room for {max_name}",
            hashed.len(),
        );
        return Err(Error::new(ErrorKind::InvalidName, detail).about_peer(name.as_str()));
    }
    Ok(hashed.into())
}

/// The file that is locked for as long as the holder of an entry lives.
pub(super) fn life_name(disk: &OsStr) -> OsString {
    joined(".live-", disk, "")
}

/// The name that an entry has while its holder is on the way out.
pub(super) fn leaving_name(disk: &OsStr) -> OsString {
    joined("_", disk, "")
}

/// Whether a name on disk is one of ours that no peer can have.
pub(super) fn is_reserved(disk: &OsStr) -> bool {
    let raw = disk.as_encoded_bytes();
    [&b".ipcm-"[..], b".live-", b".new-", b".dead-"].iter().any(|prefix| raw.starts_with(prefix))
}

fn joined(before: &str, name: &OsStr, after: &str) -> OsString {
    let mut joined = OsString::from(before);
    joined.push(name);
    joined.push(after);
    joined
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
