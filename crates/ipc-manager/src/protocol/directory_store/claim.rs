// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking a name, giving it up, keeping it for later, and sweeping what the dead left. All of it happens in the store's
//! critical section, decided on what is seen there, so two of ours can never both win.

use std::ffi::{OsStr, OsString};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{EntryState, Sidecar, Store, disk_name, joined, leaving_name, life_name};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Stamp;
use crate::name::PeerName;
use crate::protocol::{Mode, PeerState};
use crate::serializer::Serializer;
use crate::stats::Stats;
use crate::system::lock::{self, LifeLock};
use crate::system::process::{self, Identity};
use crate::system::{files, tree};

/// A name that was taken.
#[derive(Debug)]
pub(in crate::protocol) struct Claimed {
    pub(in crate::protocol) disk: OsString,
    pub(in crate::protocol) life: LifeLock,
    pub(in crate::protocol) stats: Stats,
    pub(in crate::protocol) discarded: usize,
    /// The deadline of the suspension that was ended.
    pub(in crate::protocol) was_suspended_until: Option<SystemTime>,
}

/// Takes a name. `make` makes the entry, and fails with `AlreadyExists` if there is one.
pub(in crate::protocol) fn take(
    store: &Store,
    name: &PeerName,
    mode: Mode,
    serializer: &dyn Serializer,
    make: impl FnOnce(&Store, &OsStr) -> std::io::Result<()>,
) -> Result<Claimed> {
    let disk = disk_name(store, name).map_err(|error| store.place(error))?;
    let _section = store.enter()?;
    let held = store.state(&disk)?;
    let stats = earlier_stats(store, &disk, serializer);
    // What this name sends from now on is newer than what it ever sent, whatever the clock says.
    if let Some(last) = store.last_written(&disk) {
        Stamp::not_before(last);
    }
    match mode {
        Mode::Reconnect => {
            may_continue(store, name, held.as_ref())?;
            let was_suspended_until = store.read_suspend(&disk)?;
            let life = continue_entry(store, &disk, held.as_ref(), make)?;
            Ok(Claimed { disk, life, stats, discarded: 0, was_suspended_until })
        }
        Mode::Connect => {
            may_take(store, name, &disk, held.as_ref())?;
            // Counters of one who left in good order go on; those of a dead one are swept with all else.
            let (mut discarded, stats) = match held {
                Some(held) => (sweep_entry(store, &disk, &held)?, Stats::default()),
                None => (0, stats),
            };
            discarded += finish_sweep(store, &disk)?;
            let life = make_entry(store, name, &disk, make)?;
            Ok(Claimed { disk, life, stats, discarded, was_suspended_until: None })
        }
    }
}

/// Counters left under a name. Damaged ones count as none: the name must be usable all the same.
fn earlier_stats(store: &Store, disk: &OsStr, serializer: &dyn Serializer) -> Stats {
    store.read_stats(disk, serializer).ok().flatten().unwrap_or_default()
}

fn may_take(store: &Store, name: &PeerName, disk: &OsStr, held: Option<&EntryState>) -> Result<()> {
    let in_use = |detail: String| {
        Err(store.place(Error::new(ErrorKind::NameInUse, detail).about_peer(name.as_str()).at_path(store.path(disk))))
    };
    let by = |pid: Option<u32>| pid.map_or_else(String::new, |pid| format!(" in process {pid}"));
    match held.map(|held| (held.state, held.pid)) {
        Some((PeerState::Dead, _)) if held.is_some_and(|held| !store.may_remove(&held.entry)) => {
            in_use("a dead peer has that name, and its entry holds what no peer put there".into())
        }
        Some((PeerState::Dead, _)) => Ok(()),
        Some((PeerState::Suspended { .. }, _)) => {
            in_use("the name belongs to a suspended peer; reconnect to it".into())
        }
        Some((PeerState::Leaving, pid)) => in_use(format!("the peer of that name is just leaving{}", by(pid))),
        Some((_, pid)) => in_use(format!("a live peer has that name{}", by(pid))),
        None => match files::stat_at(store.dir(), disk) {
            Ok(Some(_)) => in_use("something that is no peer's entry is in the way".into()),
            _ => Ok(()),
        },
    }
}

fn may_continue(store: &Store, name: &PeerName, held: Option<&EntryState>) -> Result<()> {
    let refuse = |kind, detail: String| Err(store.place(Error::new(kind, detail).about_peer(name.as_str())));
    match held.map(|held| (held.state, held.pid)) {
        None => refuse(ErrorKind::NoSuchPeer, "there is no such peer to continue".into()),
        Some((PeerState::Suspended { .. } | PeerState::Dead, _)) => Ok(()),
        Some((_, pid)) => {
            let pid = pid.map_or_else(String::new, |pid| format!(" in process {pid}"));
            refuse(ErrorKind::NameInUse, format!("a live peer has that name{pid}"))
        }
    }
}

fn make_entry(
    store: &Store,
    name: &PeerName,
    disk: &OsStr,
    make: impl FnOnce(&Store, &OsStr) -> std::io::Result<()>,
) -> Result<LifeLock> {
    // The lock first: from here on an entry without a pid is known to be dead if this process is.
    let life = publish_life(store, disk, Mode::Connect)?;
    if let Err(error) = make(store, disk) {
        remove_life(store, disk, &life);
        let error = match error.kind() {
            std::io::ErrorKind::AlreadyExists => Error::new(ErrorKind::NameInUse, "another peer was faster"),
            _ => Error::system(error, "the entry cannot be made"),
        };
        return Err(store.place(error.about_peer(name.as_str()).at_path(store.path(disk))));
    }
    let has_other_name = disk != files::name_bytes(name.as_str());
    let registered = if has_other_name { write_name(store, name, disk) } else { Ok(()) }
        .and_then(|()| store.write_sidecar(disk, Sidecar::Pid, process::own_pid().to_string().as_bytes()))
        .and_then(|()| store.remove_sidecar(disk, Sidecar::Suspend).map(drop));
    if let Err(error) = registered {
        // Emptied first only where somebody knew the name already: that needs a descriptor, which may be what is missing.
        if !files::remove_empty_dir(store.dir(), disk).unwrap_or(false) {
            let _ = tree::remove(store.dir(), disk);
        }
        let _ = store.remove_sidecar(disk, Sidecar::Pid);
        remove_life(store, disk, &life);
        return Err(error);
    }
    Ok(life)
}

fn write_name(store: &Store, name: &PeerName, disk: &OsStr) -> Result<()> {
    store.write_sidecar(disk, Sidecar::Name, files::name_bytes(name.as_str()).as_encoded_bytes())
}

fn continue_entry(
    store: &Store,
    disk: &OsStr,
    held: Option<&EntryState>,
    make: impl FnOnce(&Store, &OsStr) -> std::io::Result<()>,
) -> Result<LifeLock> {
    // The old pid first: beside the new lock it would be taken for that of somebody who knows no locks.
    store.remove_sidecar(disk, Sidecar::Pid)?;
    let life = publish_life(store, disk, Mode::Reconnect)?;
    let moved = held.filter(|held| held.entry != disk && store.kind.keeps_mailbox);
    let continued = match moved {
        // The door to a mailbox that is gone is replaced by one to a new mailbox.
        None if !store.kind.keeps_mailbox => (store.kind.discard)(store.dir(), disk)
            .and_then(|_| make(store, disk))
            .map_err(|error| store.failed(disk, "the entry cannot be made anew", error)),
        // Its holder died on the way out: the mailbox gets its name back.
        Some(held) => files::rename(store.dir(), &held.entry, disk)
            .map_err(|error| store.failed(&held.entry, "the mailbox cannot be taken back", error)),
        None => Ok(()),
    }
    .and_then(|()| store.write_sidecar(disk, Sidecar::Pid, process::own_pid().to_string().as_bytes()))
    .and_then(|()| store.remove_sidecar(disk, Sidecar::Suspend).map(drop));
    if let Err(error) = continued {
        // As it was: suspended, or dead, with everything that is its.
        let _ = store.remove_sidecar(disk, Sidecar::Pid);
        if let Some(held) = moved {
            let _ = files::rename(store.dir(), disk, &held.entry);
        }
        // A lock that nobody holds says at once that its name's holder is dead.
        if !held.is_some_and(|held| held.state == PeerState::Dead) {
            remove_life(store, disk, &life);
        }
        return Err(error);
    }
    Ok(life)
}

/// What the lock file of a peer says.
#[derive(Serialize, Deserialize)]
struct Life {
    #[serde(flatten)]
    identity: Identity,
    /// It continued a mailbox that was there, rather than beginning an empty one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    continues: bool,
}

/// Whether whoever has a name continued its mailbox; `None` where only a holder of ours would say.
pub(super) fn continues(store: &Store, disk: &OsStr) -> Result<Option<bool>> {
    let said = lock::said::<Life>(store.dir(), &life_name(disk));
    let state = store.state(disk)?.filter(|state| state.state == PeerState::Active);
    let is_its = |said: &Life| state.is_some_and(|state| state.identity.as_ref() == Some(&said.identity));
    Ok(said.filter(is_its).map(|said| said.continues))
}

/// Puts a locked file in place that says who holds the name; over that of a dead predecessor.
fn publish_life(store: &Store, disk: &OsStr, mode: Mode) -> Result<LifeLock> {
    let name = life_name(disk);
    let failed = |error| store.failed(&name, "the lock of a peer cannot be put in place", error);
    let said = Life { identity: Identity::own(), continues: mode == Mode::Reconnect && store.kind.keeps_mailbox };
    let (life, prepared) = LifeLock::prepare(store.dir(), &lock::identity_line(&said), store.access).map_err(failed)?;
    life.publish(store.dir(), &prepared, &name).map_err(|error| {
        let _ = files::remove_file(store.dir(), &prepared);
        failed(error)
    })?;
    Ok(life)
}

/// Removes the lock file if it is still this one: another peer may have the name by now.
fn remove_life(store: &Store, disk: &OsStr, life: &LifeLock) {
    let name = life_name(disk);
    if life.is_at(store.dir(), &name) {
        let _ = files::remove_file(store.dir(), &name);
    }
}

/// Frees a name after its entry was removed.
pub(in crate::protocol) fn give_up(store: &Store, disk: &OsStr, life: &LifeLock) -> Result<()> {
    let _section = store.enter()?;
    if life.is_at(store.dir(), &life_name(disk)) {
        store.remove_sidecar(disk, Sidecar::Pid)?;
        store.remove_sidecar(disk, Sidecar::Resume)?;
        remove_life(store, disk, life);
    }
    Ok(())
}

/// Lets go of a name, but keeps its entry for whoever continues it.
pub(in crate::protocol) fn keep_for_later(
    store: &Store,
    disk: &OsStr,
    life: &LifeLock,
    until: Option<SystemTime>,
) -> Result<()> {
    let _section = store.enter()?;
    match until {
        Some(until) => store.write_suspend(disk, until)?,
        None => drop(store.remove_sidecar(disk, Sidecar::Suspend)?),
    }
    store.remove_sidecar(disk, Sidecar::Pid)?;
    remove_life(store, disk, life);
    Ok(())
}

/// Sweeps every dead peer's remains; see [`Store::state`] for who is dead.
pub(super) fn sweep(store: &Store, own: Option<&OsStr>) -> Result<Vec<PeerName>> {
    let mut swept = Vec::new();
    {
        let _section = store.enter()?;
        remove_leftovers(store)?;
    }
    for disk in store.entries()? {
        if own == Some(&disk) {
            continue;
        }
        match sweep_one(store, &disk) {
            Ok(name) => swept.extend(name),
            Err(error) if error.kind() == ErrorKind::NoSuchBus => return Err(error),
            // One entry that cannot be swept does not keep the others.
            Err(error) => log::warn!("not swept: {error}"),
        }
    }
    Ok(swept)
}

fn sweep_one(store: &Store, disk: &OsStr) -> Result<Option<PeerName>> {
    let dead = |store: &Store| -> Result<Option<EntryState>> {
        let entry = store.state(disk)?.filter(|entry| entry.state == PeerState::Dead);
        Ok(entry.filter(|entry| store.may_remove(&entry.entry)))
    };
    if dead(store)?.is_none() {
        return Ok(None);
    }
    // Asked again inside: a new holder may have taken the name since.
    let _section = store.enter()?;
    let Some(entry) = dead(store)? else { return Ok(None) };
    let name = store.real_name(disk)?;
    sweep_entry(store, disk, &entry)?;
    Ok(name)
}

/// Removes an entry and what is beside it; returns how many messages were thrown away with it.
fn sweep_entry(store: &Store, disk: &OsStr, held: &EntryState) -> Result<usize> {
    let mut discarded = 0;
    // A name with both: its holder died on the way out, and a peer that knows no locks took it since and died, too.
    for entry in [held.entry.clone(), leaving_name(disk)] {
        if !store.may_remove(&entry) {
            continue;
        }
        discarded += finish_sweep(store, disk)?;
        let aside = dead_name(disk);
        match files::rename(store.dir(), &entry, &aside) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(store.failed(&entry, "the entry of a dead peer cannot be moved aside", error)),
        }
        discarded += finish_sweep(store, disk)?;
    }
    for sidecar in Sidecar::ALL {
        if sidecar == Sidecar::Resume {
            let resumed = store.read_resume(disk)?.map_or(0, |resumed| resumed.payloads.len());
            discarded += resumed;
        }
        store.remove_sidecar(disk, sidecar)?;
        let pending = joined("", &sidecar.of(disk), ".pend");
        let _ = files::remove_file(store.dir(), &pending);
    }
    let life = life_name(disk);
    files::remove_file(store.dir(), &life)
        .map_err(|error| store.failed(&life, "the lock of a dead peer cannot be removed", error))?;
    Ok(discarded)
}

/// Removes an entry that was moved aside, also by a sweep that was killed then; returns how many messages went with it.
fn finish_sweep(store: &Store, disk: &OsStr) -> Result<usize> {
    let aside = dead_name(disk);
    let count = (store.kind.discard)(store.dir(), &aside)
        .map_err(|error| store.failed(&aside, "the entry of a dead peer cannot be removed", error))?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// Removes what killed processes left under names of ours. In the critical section nobody is using them.
fn remove_leftovers(store: &Store) -> Result<()> {
    let names =
        files::names(store.dir()).map_err(|error| store.failed(OsStr::new(""), "the store cannot be listed", error))?;
    for name in names {
        if name.as_encoded_bytes().starts_with(b".new-") {
            // One for a group may be a mailbox.
            if files::remove_file(store.dir(), &name).is_err() {
                let _ = files::remove_empty_dir(store.dir(), &name);
            }
        } else if let Some(disk) = name.to_str().and_then(|name| name.strip_prefix(".dead-")) {
            finish_sweep(store, OsStr::new(disk))?;
        }
    }
    Ok(())
}

/// What the entry of a dead peer is called on its way out.
fn dead_name(disk: &OsStr) -> OsString {
    joined(".dead-", disk, "")
}
