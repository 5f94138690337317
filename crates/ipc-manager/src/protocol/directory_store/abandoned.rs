// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stores that a killed owner's guard could not remove: telling them from all others, and removing them, by descriptor,
//! in the store's critical section, and nothing in them that is not known.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::FileType;

use super::owner::{self, MADE, OWNER, Terms};
use super::{Kind, LOCK, SECTION_DEADLINE, Sidecar, Store, is_reserved};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::cleaning::{NamedFor, move_aside};
use crate::protocol::{Cleaning, Fate, Leftover, LeftoverKind};
use crate::route::Route;
use crate::system::access::Access;
use crate::system::lock::{self, Holder};
use crate::system::{files, tree};

/// A store without an owner's record is being made, unless it has been so for this many seconds.
const MAKING: u64 = 10;
/// How long a brief look waits for the critical section of a store.
const BRIEF_PATIENCE: Duration = Duration::from_millis(20);

/// Removes stores of a kind whose owners are dead, once no peer is alive on them.
pub(in crate::protocol) fn clean(kind: Kind, cleaning: &mut Cleaning) {
    if let Some(route) = cleaning.route().cloned() {
        return look_at(kind, &route, cleaning);
    }
    for path in &*cleaning.candidates() {
        if !cleaning.may_go_on() {
            return;
        }
        if let Some(route) = path.to_str().and_then(|path| Route::new(path).ok()) {
            look_at(kind, &route, cleaning);
        }
    }
}

fn look_at(kind: Kind, route: &Route, cleaning: &mut Cleaning) {
    // Somebody else's, or none at all.
    let Ok(store) = Store::open_any(kind, route, Access::of_own(route.as_ref())) else { return };
    let Ok(stat) = rustix::fs::fstat(store.dir()) else { return };
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return;
    }
    let identity = files::identity(&stat);
    let made = owner::made(store.dir(), identity, store.access);
    let maker = made.and_then(|made| made.protocol);
    if maker.as_ref().is_some_and(|protocol| protocol != kind.protocol) {
        return;
    }
    let fate = match clean_store(&store, identity, cleaning) {
        Ok(Some(fate)) => fate,
        Ok(None) => return,
        // Somebody else was faster.
        Err(error) if error.kind() == ErrorKind::NoSuchBus || !Path::new(route.as_str()).exists() => return,
        Err(error) => Fate::kept(&error),
    };
    // Without a note of the protocol another kind may know what this one does not.
    if maker.is_none() && matches!(fate, Fate::Kept(_)) {
        return;
    }
    let path = Path::new(route.as_str()).to_owned();
    cleaning.note(Leftover { kind: LeftoverKind::Bus, protocol: maker, path, fate });
}

/// Removes a store if it is abandoned; says what became of it, or nothing if it is none of our business.
fn clean_store(store: &Store, identity: (u64, u64), cleaning: &Cleaning) -> Result<Option<Fate>> {
    let path = Path::new(store.route.as_str());
    // Asked first: entering the critical section of a store that has no lock yet changes it.
    let is_old = files::is_older(rustix::fs::CWD, path.as_os_str(), MAKING)
        && !NamedFor::of(path).is_some_and(|named| named.may_go_on(path));
    if !is_abandoned(store, is_old)? {
        return Ok(None);
    }
    if let Some(unknown) = first_unknown(store)? {
        // What a peer is just making looks like nothing known, and the peer is there now.
        if !is_abandoned(store, is_old)? {
            return Ok(None);
        }
        let shown = unknown.to_string_lossy();
        return Ok(Some(Fate::Kept(format!("it holds `{}`, which is no part of a bus", shown.escape_debug()))));
    }
    if cleaning.is_dry_run() {
        return Ok(Some(Fate::Found));
    }
    // Asked again inside, where no peer can be taking a name.
    let patience = if cleaning.is_brief() { BRIEF_PATIENCE } else { SECTION_DEADLINE };
    let _section = store.enter_within(patience)?;
    if !is_abandoned(store, is_old)? {
        return Ok(None);
    }
    let failed = |error| store.failed(OsStr::new(""), "an abandoned store cannot be removed", error);
    // Out of everybody's way in one step, where it will be found again if this process is killed, too.
    let aside = match NamedFor::of(path) {
        Some(NamedFor::Maker(_)) => move_aside(path, identity).map_err(failed)?,
        _ => path.to_owned(),
    };
    // Again where somebody who has it open put something there meanwhile.
    for _ in 0..100 {
        empty(store)?;
        if tree::remove_empty(&aside, identity).map_err(failed)? {
            return Ok(Some(Fate::Removed));
        }
    }
    Ok(Some(Fate::Kept("others put things there as fast as they are removed".into())))
}

/// Removes all that is known; the notes last, so that whoever is killed half-way leaves a store that can be told to be
/// abandoned, and the lock after them: who takes it then sees that the store is gone. Entries go before what is beside
/// them: one alone would look like that of a peer that is just joining.
fn empty(store: &Store) -> Result<()> {
    let failed = |name: &OsStr, error| store.failed(name, "a part of an abandoned store cannot be removed", error);
    let mut names = files::names(store.dir()).map_err(|error| failed(OsStr::new(""), error))?;
    let rank = |name: &OsString| match () {
        () if name == LOCK => 4,
        () if name == MADE => 3,
        () if name == OWNER => 2,
        () if is_beside(name) => 1,
        () => 0,
    };
    names.sort_by_key(rank);
    for name in names {
        if is_beside(&name) && !is_moved(&name) {
            files::remove_file(store.dir(), &name).map_err(|error| failed(&name, error))?;
        } else if is_known_entry(store, &name) {
            (store.kind.discard)(store.dir(), &name).map_err(|error| failed(&name, error))?;
        }
    }
    Ok(())
}

/// Whether a name is that of a file of ours, or of one beside an entry.
fn is_beside(name: &OsStr) -> bool {
    let raw = name.as_bytes();
    is_reserved(name) || Sidecar::split(OsStr::from_bytes(raw.strip_suffix(b".pend").unwrap_or(raw))).is_some()
}

/// Whether a name is that of an entry that somebody was removing.
fn is_moved(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".dead-")
}

fn is_known_entry(store: &Store, name: &OsStr) -> bool {
    let stat = files::stat_at(store.dir(), name).ok().flatten();
    stat.is_some_and(|stat| (store.kind.is_entry)(&stat)) && (store.kind.is_removable)(store.dir(), name, store.access)
}

/// The first name in the store that is no part of a bus.
fn first_unknown(store: &Store) -> Result<Option<OsString>> {
    let failed = |error| store.failed(OsStr::new(""), "the store cannot be listed", error);
    for name in files::names(store.dir()).map_err(failed)? {
        let is_known = if is_beside(&name) && !is_moved(&name) {
            let stat = files::stat_at(store.dir(), &name).map_err(failed)?;
            stat.is_none_or(|stat| FileType::from_raw_mode(stat.st_mode) != FileType::Directory)
        } else {
            is_known_entry(store, &name)
        };
        if !is_known {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Whether the owner wanted the store to go with it, is gone, and no peer is alive; or was killed before it was on
/// record, which only one that is old can be.
fn is_abandoned(store: &Store, is_old: bool) -> Result<bool> {
    let is_dying = NamedFor::of(store.route.as_ref()) == Some(NamedFor::Remover);
    let failed = |error| store.failed(OsStr::new(OWNER), "the owner's record cannot be read", error);
    match lock::holder(store.dir().as_fd(), OsStr::new(OWNER)).map_err(failed)? {
        // Whoever gave it that name knew that it is abandoned.
        Holder::Dead(_) if store.is_ours && is_dying => return Ok(true),
        Holder::Dead(_) if store.is_ours => {}
        Holder::Dead(_) | Holder::Alive(_) => return Ok(false),
        Holder::None => return Ok(is_old && is_half_made(store)?),
    }
    let note =
        files::read_small(store.dir(), OsStr::new(OWNER), 4096, store.access).map_err(failed)?.unwrap_or_default();
    let terms = note.split(|byte| *byte == b'\n').nth(1).and_then(|line| serde_json::from_slice::<Terms>(line).ok());
    if !terms.is_some_and(|terms| terms.guarded) {
        return Ok(false);
    }
    for disk in store.entries()? {
        if store.state(&disk)?.is_some_and(|entry| entry.state.is_alive()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a store without an owner's record has nothing of a peer in it. One without our mark, whose maker or remover
/// was killed in the moment when it has none, must be called as only ours are, and hold nothing else either.
fn is_half_made(store: &Store) -> Result<bool> {
    let names: Result<Vec<OsString>, Error> =
        files::names(store.dir()).map_err(|error| store.failed(OsStr::new(""), "the store cannot be read", error));
    let names = names?;
    Ok(if store.is_ours {
        names.iter().all(|name| is_reserved(name))
    } else {
        NamedFor::of(store.route.as_ref()).is_some() && names.iter().all(|name| name == MADE || name == LOCK)
    })
}
