// SPDX-License-Identifier: MIT OR Apache-2.0
//! A recipient as it was last seen, and what the store knows of a message to it.

use std::ffi::OsString;

use super::message_row::Outbound;
use super::store::Store;
use super::value::Param;
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

/// Whether this very message waits there already; another one under its id is an error.
pub(super) fn is_there(store: &mut Store, to: &PeerName, row: &Outbound<'_>) -> Result<bool> {
    let rows = store.query("a message cannot be looked up", |texts| &texts.message, &[Param::Text(row.id)])?;
    let Some(mut there) = rows.into_iter().next() else { return Ok(false) };
    let (its_to, from, content) = (there.next().into_text(), there.next().into_text(), there.next().into_bytes());
    if its_to.as_deref() == Some(to.as_str())
        && from.as_deref() == Some(row.from)
        && content.as_deref() == Some(&*row.content)
    {
        return Ok(true);
    }
    Err(Error::new(ErrorKind::Store, "another message with this id waits there already"))
}

/// Whether the message was stored and has been read since.
pub(super) fn was_taken(store: &mut Store, row: &Outbound<'_>) -> Result<bool> {
    if !store.schema.taken {
        return Ok(false);
    }
    let rows = store.query("a message cannot be looked up", |texts| &texts.was_taken, &[Param::Text(row.id)])?;
    Ok(!rows.is_empty())
}

pub(super) fn no_such_peer() -> Error {
    Error::new(ErrorKind::NoSuchPeer, "no peer of that name is on the bus")
}
