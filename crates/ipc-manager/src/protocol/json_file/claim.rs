// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking a name, under the lock of the state.

use std::time::SystemTime;

use super::file::{Change, StateFile};
use super::state::State;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::message::{Message, Stamp};
use crate::name::PeerName;
use crate::protocol::beside::{Holder, seconds, time};
use crate::protocol::{Mode, PeerState};
use crate::stats::Stats;

/// Takes a name under the lock; returns the counters that it has, and how many messages were thrown away.
pub(super) fn take(file: &StateFile, name: &PeerName, mode: Mode, holder: &Holder) -> Result<(Stats, usize)> {
    let porch = file.beside().map(|beside| &**beside.porch());
    file.change(|state| {
        let standing = state.standing(name.as_str());
        let held = standing.state(porch);
        let by = standing.pid().map_or_else(String::new, |pid| format!(" in process {pid}"));
        let refuse = |kind, detail: String| Err(file.place(Error::new(kind, detail).about_peer(name.as_str())));
        match (mode, held) {
            (Mode::Connect, None | Some(PeerState::Dead)) => {}
            (Mode::Reconnect, Some(PeerState::Suspended { .. } | PeerState::Dead)) => {}
            (Mode::Reconnect, None) => {
                return refuse(ErrorKind::NoSuchPeer, "there is no such peer to continue".into());
            }
            (Mode::Connect, Some(PeerState::Suspended { .. })) => {
                return refuse(ErrorKind::NameInUse, "the name belongs to a suspended peer; reconnect to it".into());
            }
            (_, Some(PeerState::Leaving)) => {
                return refuse(ErrorKind::NameInUse, format!("the peer of that name is just leaving{by}"));
            }
            _ => return refuse(ErrorKind::NameInUse, format!("a live peer has that name{by}")),
        }
        // What this name sends from now on is newer than what of it still waits, whatever the clock says.
        if let Some(last) = last_stamp(state, name) {
            Stamp::not_before(last);
        }
        let (mut stats, mut discarded) = (state.stats(name.as_str()).unwrap_or_default(), 0);
        if (mode, held) == (Mode::Connect, Some(PeerState::Dead)) {
            discarded = state.remove(name.as_str())?;
            stats = Stats::default();
            state.set_stats(name.as_str(), None)?;
        }
        state.register(name.as_str(), holder, seconds(SystemTime::now()));
        Ok(Change::Some((stats, discarded)))
    })
}

/// The newest stamp of a waiting message of this sender.
fn last_stamp(state: &State, from: &PeerName) -> Option<SystemTime> {
    let mut last: Option<Stamp> = None;
    for to in state.names() {
        // Most mailboxes have nothing of it, which the text says quickly.
        if !state.holds(&to, from.as_str()) {
            continue;
        }
        for text in state.messages(&to).unwrap_or_default() {
            if let Ok(message) = Message::from_json(text.as_bytes(), &Limits::DEFAULT)
                && message.from() == from
            {
                last = last.max(Some(message.stamp()));
            }
        }
    }
    time(last?.as_seconds())
}
