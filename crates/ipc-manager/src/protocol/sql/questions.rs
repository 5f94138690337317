// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a sender asks the database of messages: whether one is there, or was, and how many wait.

use super::message_row::Outbound;
use super::store::Store;
use super::value::Param;
use crate::error::{Error, ErrorKind, Result};
use crate::name::PeerName;

/// How many messages wait for a recipient, counted up to a number.
pub(super) fn unread(store: &mut Store, to: &PeerName, most: usize) -> Result<usize> {
    let params = [Param::Text(to.as_str()), Param::Integer(i64::try_from(most).unwrap_or(i64::MAX))];
    let rows = store.query("waiting messages cannot be counted", |texts| &texts.unread_up_to, &params)?;
    let count = rows.into_iter().next().and_then(|mut row| row.next().as_integer());
    Ok(count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0))
}

/// Whether this very message waits there already; another one under its id is an error.
pub(super) fn is_there(store: &mut Store, row: &Outbound<'_>) -> Result<bool> {
    let rows = store.query("a message cannot be looked up", |texts| &texts.message, &[Param::Text(row.id)])?;
    let Some(there) = rows.into_iter().next() else { return Ok(false) };
    if row.is_in(there) {
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
