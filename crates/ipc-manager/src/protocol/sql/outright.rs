// SPDX-License-Identifier: MIT OR Apache-2.0
//! Storing a message outright, and looking afterwards whether its recipient was there: where that a statement depends on
//! the recipient's row costs as much as the rest of it.
//!
//! It rests on the bell. A peer that leaves has its name unlisted, then goes deaf, and only then empties its mailbox for
//! the last time. So whoever stored a message and is heard afterwards stored it before that; and nobody takes a name from
//! a process that lives. Who is not heard asks the store, and takes back what it put into the mailbox of nobody.

use super::message_row::Outbound;
use super::outgoing::{MOST_TRIES, Outgoing, too_fast};
use super::questions::{is_there, was_taken};
use super::recipient::{look_up, no_such_peer};
use super::store::{Store, Tx};
use super::value::{Failure, Param};
use crate::error::{ErrorKind, Result, Stored};
use crate::name::PeerName;
use crate::protocol::Receipt;

impl Outgoing {
    /// Rings for a message that was stored outright, and finds out what became of it. `None`: it was in the mailbox of
    /// somebody who is gone, and went with that; another has the name.
    pub(super) fn settle(&mut self, store: &mut Store, to: &PeerName, row: &Outbound<'_>) -> Result<Option<Receipt>> {
        if self.is_heard(store, to) {
            return Ok(Some(Receipt::Delivered));
        }
        self.settle_unheard(store, to, row)
    }

    /// As `settle`, of a message that is there, or was; its recipient may not have been told.
    pub(super) fn settle_unheard(
        &mut self,
        store: &mut Store,
        to: &PeerName,
        row: &Outbound<'_>,
    ) -> Result<Option<Receipt>> {
        let settled = self.look_after(store, to, row);
        match settled {
            // It is there, and nobody knows yet whether somebody will read it.
            Err(error) if error.kind() != ErrorKind::NoSuchPeer => {
                self.note_doubt(&[row.id]);
                Err(error.with_stored(Stored::Maybe))
            }
            settled => {
                self.in_doubt.remove(row.id);
                settled
            }
        }
    }

    fn look_after(&mut self, store: &mut Store, to: &PeerName, row: &Outbound<'_>) -> Result<Option<Receipt>> {
        let before = self.known.remove(to).and_then(|known| known.bell);
        let mut tries = 0;
        let now = loop {
            let refused = match look_up(store, to) {
                Err(error) if error.kind() == ErrorKind::NoSuchPeer => take_back(store, to, row)?,
                now => break now?,
            };
            tries += 1;
            match refused {
                // One who has taken the name since.
                None if tries < MOST_TRIES => {}
                None => return Err(too_fast()),
                read => return Ok(read),
            }
        };
        // Each life has a bell of its own.
        let is_same = before.is_some() && now.bell == before;
        let is_kept = is_same || is_there(store, row)? || was_taken(store, row)?;
        let receipt = now.receipt;
        self.known.insert(to.clone(), now);
        Ok(is_kept.then(|| self.ring(store, to).unwrap_or(receipt)))
    }

    /// Rings, and says whether that proves that the recipient has, or had, the message.
    fn is_heard(&mut self, store: &Store, to: &PeerName) -> bool {
        self.has_ringer(store);
        let (Some(ringer), Some(known)) = (&self.ringer, self.known.get(to)) else { return false };
        // In this order: a child that the process left behind may still hold the bell.
        known.bell.as_ref().is_some_and(|bell| ringer.ring(bell)) && known.is_current()
    }
}

/// Takes a message out of a mailbox that is nobody's. What its owner read on the way out stays read; `None`: somebody has
/// taken the name, and the message may be theirs.
fn take_back(store: &mut Store, to: &PeerName, row: &Outbound<'_>) -> Result<Option<Receipt>> {
    let found = store.transaction("a message cannot be taken back", |tx| {
        // Locked, so that nobody takes the name between here and the end.
        let there = tx.peer_row(to.as_str())?;
        if there.is_some_and(|there| there.id == to.as_str() && there.standing.is_active) {
            return Ok(Ok(Found::Another));
        }
        // What was read may be there once more, if its reader put it back; or be read just now.
        let id = [Param::Text(row.id)];
        let is_read = is_noted(tx, id)? || tx.driver.execute(&tx.texts.delete(1), &id)? == 0 && is_noted(tx, id)?;
        Ok(Ok(if is_read { Found::Read } else { Found::Nobody }))
    })?;
    match found {
        Found::Another => Ok(None),
        Found::Read => Ok(Some(Receipt::Delivered)),
        Found::Nobody => Err(no_such_peer()),
    }
}

/// Whether it is on record that a message was read.
fn is_noted(tx: &mut Tx<'_>, id: [Param<'_>; 1]) -> std::result::Result<bool, Failure> {
    Ok(tx.schema.taken && !tx.driver.query(&tx.texts.was_taken, &id)?.is_empty())
}

/// Who a message was for that was stored outright.
enum Found {
    /// One who has taken the name since.
    Another,
    /// One who read it, and left.
    Read,
    /// Nobody, and it is there no more.
    Nobody,
}
