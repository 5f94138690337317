// SPDX-License-Identifier: MIT OR Apache-2.0
//! A recipient as it was last seen.

use std::ffi::OsString;

use super::store::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::name::PeerName;
use crate::protocol::{PeerState, Receipt};
use crate::system::process::Watched;

/// See the module.
#[derive(Debug)]
pub(super) struct Recipient {
    pub(super) pid: Option<i64>,
    pub(super) receipt: Receipt,
    pub(super) bell: Option<OsString>,
    /// Whether the database tells it of messages, if it cannot be rung for.
    pub(super) listens: bool,
    /// Its process, where that can be asked without the store.
    process: Option<Watched>,
}

impl Recipient {
    /// Whether it need not be looked up again: the same process lives.
    pub(super) fn is_current(&self) -> bool {
        self.process.as_ref().is_some_and(|process| !process.has_ended())
    }

    /// Whether it can be known without the store, after something was stored, that it was there then.
    pub(super) fn tells(&self) -> bool {
        self.bell.is_some() && self.process.is_some()
    }
}

/// Looks a recipient up.
pub(super) fn look_up(store: &mut Store, to: &PeerName) -> Result<Recipient> {
    let row = store.peer_row(to.as_str())?;
    let Some((row, state)) = row.and_then(|row| row.standing.state(store.porch()).map(|state| (row, state))) else {
        return Err(no_such_peer());
    };
    if !row.standing.is_active {
        return Err(no_such_peer());
    }
    let holder = row.standing.holder();
    let is_there = state == PeerState::Active;
    Ok(Recipient {
        pid: row.standing.pid.map(i64::from),
        receipt: if is_there { Receipt::Delivered } else { Receipt::Stored },
        listens: is_there && holder.is_some(),
        bell: holder.filter(|_| is_there).and_then(crate::protocol::beside::Holder::bell),
        process: holder.filter(|_| is_there).and_then(|holder| Watched::new(&holder.identity)),
    })
}

pub(super) fn no_such_peer() -> Error {
    Error::new(ErrorKind::NoSuchPeer, "no peer of that name is on the bus")
}
