// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking a name, giving it up, keeping it for later, and sweeping what the dead left. All of it happens in the store's
//! critical section, decided on what is seen there, so two of ours can never both win.

use std::ffi::{OsStr, OsString};
use std::time::SystemTime;

use super::{EntryState, Sidecar, Store, disk_name, joined, leaving_name, life_name};
use crate::error::{Error, ErrorKind, Result};
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
}

/// Takes a name. `make` makes the entry, and fails with `AlreadyExists` if there is one.
pub(in crate::protocol) fn take(
    store: &Store,
    name: &PeerName,
    mode: Mode,
    serializer: &dyn Serializer,
    make: impl FnOnce(&Store, &OsStr) -> std::io::Result<()>,
) -> Result<Claimed> {
    let disk = disk_name(&store.kind, name).map_err(|error| store.place(error))?;
    let _section = store.enter()?;
    let held = store.state(&disk)?;
    let stats = earlier_stats(store, &disk, serializer);
    match mode {
        Mode::Reconnect => {
            may_continue(store, name, held.as_ref())?;
            let life = continue_entry(store, &disk, held.as_ref())?;
            Ok(Claimed { disk, life, stats, discarded: 0 })
        }
        Mode::Connect => {
            may_take(store, name, &disk, held.as_ref())?;
            // Counters of one who left in good order go on; those of a dead one are swept with all else.
            let (discarded, stats) = match held {
                Some(held) => (sweep_entry(store, &disk, &held)?, Stats::default()),
                None => (0, stats),
            };
            let life = make_entry(store, name, &disk, make)?;
            Ok(Claimed { disk, life, stats, discarded })
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
    let (life, prepared) = prepare_life(store)?;
    // Made before anything is written: if another implementation was faster, nothing of its has been touched.
    if let Err(error) = make(store, disk) {
        let _ = files::remove_file(store.dir(), &prepared);
        let error = match error.kind() {
            std::io::ErrorKind::AlreadyExists => Error::new(ErrorKind::NameInUse, "another peer was faster"),
            _ => Error::system(error, "the entry cannot be made"),
        };
        return Err(store.place(error.about_peer(name.as_str()).at_path(store.path(disk))));
    }
    let registered = publish(store, disk, &life, &prepared)
        .and_then(|()| if disk == files::name_bytes(name.as_str()) { Ok(()) } else { write_name(store, name, disk) })
        .and_then(|()| store.write_sidecar(disk, Sidecar::Pid, process::own_pid().to_string().as_bytes()))
        .and_then(|()| store.remove_sidecar(disk, Sidecar::Suspend).map(drop));
    if let Err(error) = registered {
        let _ = tree::remove(store.dir(), disk);
        let _ = store.remove_sidecar(disk, Sidecar::Pid);
        remove_life(store, disk, &life);
        let _ = files::remove_file(store.dir(), &prepared);
        return Err(error);
    }
    Ok(life)
}

fn write_name(store: &Store, name: &PeerName, disk: &OsStr) -> Result<()> {
    store.write_sidecar(disk, Sidecar::Name, files::name_bytes(name.as_str()).as_encoded_bytes())
}

fn continue_entry(store: &Store, disk: &OsStr, held: Option<&EntryState>) -> Result<LifeLock> {
    let (life, prepared) = prepare_life(store)?;
    if let Some(held) = held.filter(|held| held.entry != disk) {
        // Its holder died on the way out: the mailbox gets its name back.
        files::rename(store.dir(), &held.entry, disk)
            .map_err(|error| store.failed(&held.entry, "the mailbox cannot be taken back", error))?;
    }
    publish(store, disk, &life, &prepared)?;
    store.write_sidecar(disk, Sidecar::Pid, process::own_pid().to_string().as_bytes())?;
    store.remove_sidecar(disk, Sidecar::Suspend)?;
    Ok(life)
}

fn prepare_life(store: &Store) -> Result<(LifeLock, OsString)> {
    LifeLock::prepare(store.dir(), &lock::identity_line(&Identity::own()))
        .map_err(|error| store.failed(OsStr::new(".new"), "the lock of a peer cannot be made", error))
}

fn publish(store: &Store, disk: &OsStr, life: &LifeLock, prepared: &OsStr) -> Result<()> {
    let name = life_name(disk);
    life.publish(store.dir(), prepared, &name)
        .map_err(|error| store.failed(&name, "the lock of a peer cannot be put in place", error))
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
    for disk in store.entries()? {
        if own == Some(&disk) || !store.state(&disk)?.is_some_and(|entry| entry.state == PeerState::Dead) {
            continue;
        }
        // Asked again inside: a new holder may have taken the name since.
        let _section = store.enter()?;
        let Some(entry) = store.state(&disk)?.filter(|entry| entry.state == PeerState::Dead) else { continue };
        let name = store.real_name(&disk)?;
        sweep_entry(store, &disk, &entry)?;
        swept.extend(name);
    }
    Ok(swept)
}

/// Removes an entry and what is beside it; returns how many messages were thrown away with it.
fn sweep_entry(store: &Store, disk: &OsStr, held: &EntryState) -> Result<usize> {
    let mut discarded = 0;
    // A name with both: its holder died on the way out, and a peer that knows no locks took it since and died, too.
    for entry in [held.entry.clone(), leaving_name(disk)] {
        let aside = joined(".dead-", OsStr::new(&files::random_suffix()), "");
        match files::rename(store.dir(), &entry, &aside) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(store.failed(&entry, "the entry of a dead peer cannot be moved aside", error)),
        }
        discarded += usize::try_from((store.kind.unread)(store.dir(), &aside)).unwrap_or(usize::MAX);
        tree::remove(store.dir(), &aside)
            .map_err(|error| store.failed(&aside, "the entry of a dead peer cannot be removed", error))?;
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
