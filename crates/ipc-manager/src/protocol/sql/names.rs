// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking a name, giving it up, keeping it for later, and sweeping what the dead left. Each is one transaction in which
//! the peer's row is locked, so two of ours can never both win.

use std::time::SystemTime;

use super::store::{Outcome, PeerRow, Store, Tx};
use super::value::{Failure, Param};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Stamp;
use crate::name::PeerName;
use crate::protocol::beside::{Holder, seconds, time};
use crate::protocol::{Mode, PeerState};
use crate::stats::Stats;

/// A name that was taken.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) stats: Stats,
    pub(super) discarded: usize,
}

/// Who holds a name, as it stands in its row.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) name: PeerName,
    pub(super) holder: Holder,
    /// The texts of the holder's column while it is there, and on its way out.
    here: String,
    leaving: String,
    /// Whether a suspension may have been kept of which nothing was heard.
    suspension_in_doubt: bool,
}

impl Held {
    pub(super) fn new(name: &PeerName, holder: Holder) -> Self {
        let (here, leaving) = (holder.to_json(), holder.leaving().to_json());
        Self { name: name.clone(), holder, here, leaving, suspension_in_doubt: false }
    }

    fn pid(&self) -> Param<'static> {
        Param::Integer(i64::from(self.holder.identity.pid))
    }

    /// Takes the name.
    pub(super) fn take(&self, store: &mut Store, mode: Mode) -> Result<Taken> {
        let empty = store.encode_stats(&Stats::default())?;
        let now = seconds(SystemTime::now());
        let mut doubtful = None;
        let taken = store.transaction("the name cannot be taken", |tx| {
            let taken = self.take_within(tx, mode, now, &empty)?;
            doubtful = taken.as_ref().ok().cloned();
            Ok(taken)
        });
        let taken = match (taken, doubtful) {
            // The connection was lost as it was taken: then the row says whether it was.
            (Err(_), Some(doubtful)) if store.is_in_doubt() && self.is_here(store)? => doubtful,
            (taken, _) => taken?,
        };
        // What this name sends from now on is newer than what of it still waits, whatever the clock says.
        if let Some(last) = taken.last.and_then(time) {
            Stamp::not_before(last);
        }
        let stats = taken.stats.and_then(|payload| store.decode_stats(&payload)).unwrap_or_default();
        Ok(Taken { stats, discarded: taken.discarded })
    }

    /// Whether the name is this one's.
    fn is_here(&self, store: &mut Store) -> Result<bool> {
        let row = store.peer_row(self.name.as_str())?;
        Ok(row.is_some_and(|row| row.standing.holder() == Some(&self.holder)))
    }

    fn text(&self) -> Param<'_> {
        Param::Text(self.name.as_str())
    }

    fn take_within(&self, tx: &mut Tx<'_>, mode: Mode, now: f64, empty: &[u8]) -> Outcome<RawTaken> {
        let row = tx.peer_row(self.name.as_str())?;
        let held = row.as_ref().and_then(|row| row.standing.state(tx.porch));
        if let Some(refused) = self.refuse(mode, row.as_ref(), held) {
            return Ok(Err(refused));
        }
        let mut discarded = 0;
        let mut stats = row.as_ref().and_then(|row| row.stats.clone());
        if mode == Mode::Connect && held == Some(PeerState::Dead) {
            // Counters of one who left in good order go on; those of a dead one go with all else.
            discarded = tx.driver.execute(&tx.texts.discard, &[self.text()])?;
            stats = None;
        }
        if mode == Mode::Connect {
            discarded += tx.discard_dead(self.name.as_str())?;
        }
        let kept = stats.clone().unwrap_or_else(|| empty.to_vec());
        let record =
            [self.pid(), Param::Seconds(now), Param::Bytes(&kept)].into_iter().chain(tx.holder(Some(&self.here)));
        if row.is_some() {
            let params: Vec<_> = record.chain([self.text()]).collect();
            tx.driver.execute(&tx.texts.take_name, &params)?;
        } else {
            let params: Vec<_> = std::iter::once(self.text()).chain(record).collect();
            match tx.driver.execute(&tx.texts.insert_peer, &params) {
                Err(failure) if failure.trouble == super::value::Trouble::Duplicate => {
                    return Ok(Err(self.error(ErrorKind::NameInUse, "another peer was faster")));
                }
                inserted => inserted?,
            };
        }
        let last = tx.driver.query(&tx.texts.last_stamp, &[self.text()])?;
        let last = last.into_iter().next().and_then(|mut row| row.next().as_number());
        Ok(Ok(RawTaken { stats, discarded: usize::try_from(discarded).unwrap_or(usize::MAX), last }))
    }

    /// Why the name cannot be had; `None` if it can.
    fn refuse(&self, mode: Mode, row: Option<&PeerRow>, held: Option<PeerState>) -> Option<Error> {
        if let Some(row) = row.filter(|row| row.id != self.name.as_str()) {
            if mode == Mode::Reconnect {
                return Some(self.error(ErrorKind::NoSuchPeer, "there is no such peer to continue"));
            }
            // This database takes the two for one; so would every statement about either.
            let detail = format!("the database takes it for the same name as \"{}\"", crate::error::Escaped(&row.id));
            return Some(self.error(ErrorKind::NameInUse, &detail));
        }
        let by = row.and_then(|row| row.standing.pid()).map_or_else(String::new, |pid| format!(" in process {pid}"));
        let in_use = |what: &str| Some(self.error(ErrorKind::NameInUse, &format!("{what}{by}")));
        match (mode, held) {
            (Mode::Connect, None | Some(PeerState::Dead)) => None,
            (Mode::Reconnect, Some(PeerState::Suspended { .. } | PeerState::Dead)) => None,
            (Mode::Reconnect, None) => Some(self.error(ErrorKind::NoSuchPeer, "there is no such peer to continue")),
            (Mode::Connect, Some(PeerState::Suspended { .. })) => {
                in_use("the name belongs to a suspended peer; reconnect to it")
            }
            (_, Some(PeerState::Leaving)) => in_use("the peer of that name is just leaving"),
            _ => in_use("a live peer has that name"),
        }
    }

    fn error(&self, kind: ErrorKind, detail: &str) -> Error {
        Error::new(kind, detail).about_peer(self.name.as_str())
    }

    /// Makes the name unreachable for senders. Those whose insert is under way come before it.
    pub(super) fn unlist(&self, store: &mut Store) -> Result<()> {
        store.transaction("the name cannot be made unreachable", |tx| {
            let params: Vec<_> = tx
                .holder(Some(&self.leaving))
                .into_iter()
                .chain([self.text(), self.pid()])
                .chain(tx.holder(Some(&self.here)))
                .collect();
            tx.driver.execute(&tx.texts.unlist, &params).map(|_| Ok(()))
        })
    }

    /// Gives up the name that was made unreachable, if it still is this one's.
    pub(super) fn leave(&self, store: &mut Store) -> Result<()> {
        store.transaction("the name cannot be given up", |tx| {
            let params: Vec<_> = std::iter::once(self.text()).chain(tx.holder(Some(&self.leaving))).collect();
            tx.driver.execute(&tx.texts.leave, &params).map(|_| Ok(()))
        })
    }

    /// Keeps the name and its mailbox for whoever continues it. It can be done again when it is not known whether it was.
    pub(super) fn suspend(&mut self, store: &mut Store, until: Option<SystemTime>, stats: &Stats) -> Result<()> {
        let stats = store.encode_stats(stats)?;
        if until.is_some() && !store.schema.suspend {
            let detail = "the tables of this bus are too old to hold the deadline of a suspended peer";
            return Err(store.place(Error::new(ErrorKind::Unsupported, detail)));
        }
        let kept = store.transaction("the name cannot be kept for later", |tx| {
            let deadline = tx.schema.suspend.then(|| Param::seconds_or_null(until.map(seconds)));
            let params: Vec<_> = deadline
                .into_iter()
                .chain([Param::Bytes(&stats), self.text(), self.pid()])
                .chain(tx.holder(Some(&self.here)))
                .collect();
            let changed = tx.driver.execute(&tx.texts.suspend, &params)?;
            // Nobody takes the name from a live process, so it was suspended then, and perhaps continued since.
            Ok(if changed == 0 && !self.suspension_in_doubt {
                Err(self.error(ErrorKind::NoSuchPeer, "this client's mailbox was removed by somebody else"))
            } else {
                Ok(())
            })
        });
        if kept.is_err() {
            self.suspension_in_doubt |= store.is_in_doubt();
        }
        kept.map_err(|error| store.place(error))
    }
}

#[derive(Clone)]
struct RawTaken {
    stats: Option<Vec<u8>>,
    discarded: usize,
    /// The newest stamp of what it sent and still waits.
    last: Option<f64>,
}

/// Sweeps every dead peer's remains but those of one name.
pub(super) fn sweep(store: &mut Store, own: Option<&PeerName>) -> Result<Vec<PeerName>> {
    if let Some(beside) = &store.beside {
        beside.porch().remove_dead_bells();
    }
    let mut swept = Vec::new();
    for row in super::listing::rows(store)? {
        let is_dead = row.standing.state(store.porch()) == Some(PeerState::Dead);
        let Ok(name) = PeerName::foreign(&row.id) else { continue };
        if is_dead && own != Some(&name) && sweep_one(store, &name)? {
            swept.push(name);
        }
    }
    swept.sort();
    Ok(swept)
}

/// Removes a dead peer's mailbox, and its row once nothing that it sent waits any more.
fn sweep_one(store: &mut Store, name: &PeerName) -> Result<bool> {
    let empty = store.encode_stats(&Stats::default())?;
    let text = Param::Text(name.as_str());
    store.transaction("a dead peer's remains cannot be removed", |tx| {
        // Asked again inside: a new holder may have taken the name since.
        let row = tx.peer_row(name.as_str())?;
        let is_dead = |row: &PeerRow| row.id == name.as_str() && row.standing.state(tx.porch) == Some(PeerState::Dead);
        if !row.as_ref().is_some_and(is_dead) {
            return Ok(Ok(false));
        }
        tx.driver.execute(&tx.texts.discard, &[text])?;
        tx.discard_dead(name.as_str())?;
        tx.driver.execute(&tx.texts.sweep, &[Param::Bytes(&empty), text])?;
        let removed: std::result::Result<u64, Failure> = tx.driver.execute(&tx.texts.remove_peer, &[text, text]);
        removed.map(|_| Ok(true))
    })
}
