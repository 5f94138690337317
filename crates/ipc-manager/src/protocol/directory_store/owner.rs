// SPDX-License-Identifier: MIT OR Apache-2.0
//! Making and removing stores, and the record of who owns one.

use std::ffi::{OsStr, OsString};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Kind, Sidecar, Store, is_reserved, leaving_name, place};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::cleaning::fresh_name;
use crate::protocol::{CreateOptions, Hold};
use crate::route::Route;
use crate::system::access::Access;
use crate::system::lock::{self, Holder, LifeLock};
use crate::system::process::Identity;
use crate::system::{files, tree};

/// The file that says who owns the store, locked while the owner lives.
pub(super) const OWNER: &str = ".ipcm-owner";
/// The file that says that this implementation made the directory, and which one it made.
pub(super) const MADE: &str = ".ipcm-made";

/// The second line of the owner's file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Terms {
    /// Whether the store is to go with its owner.
    pub(super) guarded: bool,
}

/// Which directory was made for the store.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Made {
    device: u64,
    inode: u64,
    /// For which protocol, by its short name.
    #[serde(default)]
    pub(super) protocol: Option<String>,
}

/// Makes a store where the options say, or under a fresh name in the temporary directory.
pub(in crate::protocol) fn create(kind: Kind, options: &CreateOptions) -> Result<Route> {
    let access = options.credentials.access()?;
    if let Some(route) = &options.route {
        return create_at(kind, route, access).map(|()| route.clone());
    }
    let name = fresh_name();
    let place = place::fresh(kind, &name)?;
    let path = place.join(name);
    let route = Route::new(&path.to_string_lossy())?;
    make_directory(kind, &route, access)?;
    Ok(route)
}

fn create_at(kind: Kind, route: &Route, access: Access) -> Result<()> {
    match make_directory(kind, route, access) {
        Err(error) if error.kind() == ErrorKind::NameInUse => {
            let store = Store::open_any(kind, route, access)?;
            if is_fit(&store)? {
                return Ok(());
            }
            let detail = "the directory holds other things than a bus; use an empty or a new one";
            Err(store.place(Error::new(ErrorKind::NameInUse, detail)))
        }
        made => made,
    }
}

/// Whether a directory that somebody else made is empty, or holds any sign of a bus.
pub(super) fn is_empty_or_a_bus(store: &Store) -> Result<bool> {
    let names =
        files::names(store.dir()).map_err(|error| store.failed(OsStr::new(""), "the route cannot be listed", error))?;
    let is_sign =
        |name: &OsString| is_reserved(name) || Sidecar::split(name).is_some_and(|(disk, _)| is_peer(store, disk));
    Ok(names.is_empty() || names.iter().any(is_sign))
}

/// Whether a directory that somebody else made is empty or holds nothing but a bus.
fn is_fit(store: &Store) -> Result<bool> {
    let names =
        files::names(store.dir()).map_err(|error| store.failed(OsStr::new(""), "the route cannot be listed", error))?;
    Ok(store.is_ours
        || names.iter().all(|name| {
            let raw = name.as_bytes();
            let sidecar = OsStr::from_bytes(raw.strip_suffix(b".pend").unwrap_or(raw));
            is_reserved(name)
                || Sidecar::split(sidecar).is_some()
                || (store.kind.is_intact)(store.dir(), name, store.access)
        }))
}

/// Makes the directory, mode 0700, or 2770 for a group. [`ErrorKind::NameInUse`] if something has the path.
fn make_directory(kind: Kind, route: &Route, access: Access) -> Result<()> {
    let place = |error: Error| error.in_protocol(kind.protocol).on_route(route.as_str());
    files::make_dir_at(rustix::fs::CWD, OsStr::new(route.as_str()), access).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            place(Error::new(ErrorKind::NameInUse, "something is at this route already"))
        }
        _ => place(Error::system(error, "the directory of the bus cannot be made")),
    })?;
    let noted = Store::open(kind, route, access).and_then(|store| {
        let (device, inode) = files::identity_of(store.dir())
            .map_err(|error| store.failed(OsStr::new(MADE), "the store cannot be read", error))?;
        let protocol = Some(kind.protocol.to_owned());
        let note = serde_json::to_vec(&Made { device, inode, protocol }).unwrap_or_default();
        files::create_whole(store.dir(), OsStr::new(MADE), &note, files::Sync::Kernel, access)
            .map_err(|error| store.failed(OsStr::new(MADE), "the store cannot be marked as ours", error))
    });
    noted.inspect_err(|_| {
        let _ = rustix::fs::rmdir(route.as_str());
    })
}

/// Puts this process on record as the owner, unless another one is there.
pub(in crate::protocol) fn hold(
    kind: Kind,
    route: &Route,
    access: Access,
    guarded: bool,
    instead_of: Option<Hold>,
) -> Result<Hold> {
    let store = Store::open(kind, route, access)?;
    let _section = store.enter()?;
    if instead_of.is_none() {
        let holder = lock::holder(store.dir(), OsStr::new(OWNER))
            .map_err(|error| store.failed(OsStr::new(OWNER), "the owner's record cannot be read", error))?;
        if let Holder::Alive(identity) = holder {
            let pid = identity.map_or_else(String::new, |identity| format!(", process {}", identity.pid));
            let detail = format!("the bus has an owner that is alive{pid}");
            return Err(store.place(Error::new(ErrorKind::NameInUse, detail)));
        }
    }
    let mut note = lock::identity_line(&Identity::own());
    note.extend(serde_json::to_vec(&Terms { guarded }).unwrap_or_default());
    let failed = |error| store.failed(OsStr::new(OWNER), "the owner cannot be put on record", error);
    let (life, prepared) = LifeLock::prepare(store.dir(), &note, access).map_err(failed)?;
    life.publish(store.dir(), &prepared, OsStr::new(OWNER)).map_err(failed)?;
    Ok(Hold::new(life))
}

/// Removes a store: the whole directory where we made it, else only what belongs to a bus.
pub(in crate::protocol) fn destroy(kind: Kind, route: &Route, access: Access) -> Result<()> {
    let store = match Store::open(kind, route, access) {
        Ok(store) => store,
        Err(error) if error.kind() == ErrorKind::NoSuchBus && !Path::new(route.as_str()).exists() => return Ok(()),
        Err(error) => return Err(error),
    };
    // Asked first: what is refused has changed nothing.
    if let Some(why) = access.refuse_removal(store.dir()).filter(|_| store.is_ours) {
        return Err(store.place(Error::new(ErrorKind::Permission, why)));
    }
    let failed = |error| store.failed(OsStr::new(""), "the store cannot be removed", error);
    let identity = files::identity_of(store.dir()).map_err(failed)?;
    if store.is_ours {
        // The notes go last: whoever is killed half-way leaves a store that can be told to be abandoned.
        // Entries go before what is beside them: one alone would look like that of a peer that is just joining.
        let mut names = files::names(store.dir()).map_err(failed)?;
        names.sort_by_key(|name| is_reserved(name) || Sidecar::split(name).is_some());
        let mut left = Ok(());
        for name in names {
            if name != OWNER && name != MADE {
                let removed = tree::remove(store.dir(), &name);
                left = left.and(removed.map_err(|error| store.failed(&name, "the store cannot be removed", error)));
            }
        }
        left?;
        return tree::remove_path(Path::new(route.as_str()), identity).map_err(failed);
    }
    remove_known(&store)?;
    // Somebody else's directory goes if nothing else is in it.
    let _ = rustix::fs::rmdir(route.as_str());
    Ok(())
}

/// The note that this implementation made the directory with this device and inode number, if it did.
pub(super) fn made(dir: BorrowedFd<'_>, identity: (u64, u64), access: Access) -> Option<Made> {
    let note = files::read_small(dir, OsStr::new(MADE), 256, access).ok().flatten()?;
    serde_json::from_slice::<Made>(&note).ok().filter(|made| (made.device, made.inode) == identity)
}

/// Removes entries, the files beside them, and ours; leaves everything else in the directory.
fn remove_known(store: &Store) -> Result<()> {
    let names =
        files::names(store.dir()).map_err(|error| store.failed(OsStr::new(""), "the store cannot be listed", error))?;
    let mut known: Vec<OsString> = Vec::new();
    let stems = names.iter().filter_map(|name| Sidecar::split(name)).map(|(stem, _)| stem);
    let mut peers: Vec<&OsStr> = stems.filter(|stem| is_peer(store, stem)).collect();
    peers.sort_unstable();
    peers.dedup();
    for disk in peers {
        known.extend([disk.to_owned(), leaving_name(disk)].into_iter().filter(|entry| store.may_remove(entry)));
        for sidecar in Sidecar::ALL {
            known.push(sidecar.of(disk));
        }
    }
    known.extend(names.iter().filter(|name| is_reserved(name)).cloned());
    for name in known {
        tree::remove(store.dir(), &name)
            .map_err(|error| store.failed(&name, "a part of the store cannot be removed", error))?;
    }
    Ok(())
}

/// Whether the files beside this name are a peer's, and not somebody's files that happen to be called so: it has an
/// entry that can be nobody else's, or it has left counters.
fn is_peer(store: &Store, disk: &OsStr) -> bool {
    let has_entry = [disk.to_owned(), leaving_name(disk)]
        .iter()
        .any(|entry| (store.kind.is_intact)(store.dir(), entry, store.access));
    let stats = files::read_small(store.dir(), &Sidecar::Stats.of(disk), 64 << 20, store.access);
    let stats = stats.ok().flatten().unwrap_or_default();
    let counters = |text: &[u8]| {
        let value = serde_json::from_slice::<serde_json::Value>(text);
        value.is_ok_and(|value| value.get("read").is_some() && value.get("sent").is_some())
    };
    // Counters in another serializer cannot be read here; a zstd frame (RFC 8878, 3.1.1) is one.
    has_entry || stats.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) || counters(&stats)
}
