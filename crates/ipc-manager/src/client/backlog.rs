// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is held back for lack of room, as the user of a client sees it.

use std::time::Duration;

use super::Client;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::{Error, Result};
use crate::name::PeerName;
use crate::protocol::Wake;
use crate::system::poll::{self, Woken};

impl Client {
    /// How many messages this client holds back for lack of room.
    #[must_use]
    pub fn pending_sends(&self) -> usize {
        self.outbox.len()
    }

    /// How many messages this client holds back for one peer.
    ///
    /// # Errors
    /// [`InvalidName`](ErrorKind::InvalidName) if nobody can have that name.
    pub fn pending_sends_to(&self, peer: &str) -> Result<usize> {
        Ok(self.outbox.count_to(&PeerName::foreign(peer)?))
    }

    /// Whether this client holds back any message.
    #[must_use]
    pub fn has_pending_sends(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Sends what is held back as far as there is room now; returns how many messages that finished. What cannot be sent
    /// at all any more is in [`take_unsent`](Client::take_unsent).
    ///
    /// # Errors
    /// [`Disconnected`](ErrorKind::Disconnected), [`WrongProcess`](ErrorKind::WrongProcess).
    pub fn drain_pending(&mut self) -> Result<usize> {
        self.checked("drain_pending")?;
        Ok(self.drain())
    }

    /// What became of messages that were held back and then could not be sent, since last asked: each an error that
    /// hands its message back.
    #[must_use]
    pub fn take_unsent(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.unsent)
    }

    /// Whether a message to this peer would find room now, as far as can be told without sending it.
    ///
    /// # Errors
    /// [`InvalidName`](ErrorKind::InvalidName) if nobody can have that name,
    /// [`Disconnected`](ErrorKind::Disconnected), [`WrongProcess`](ErrorKind::WrongProcess).
    pub fn can_send_to(&self, peer: &str) -> Result<bool> {
        self.check("can_send_to")?;
        let peer = PeerName::foreign(peer).map_err(|error| error.during("can_send_to"))?;
        if self.outbox.count_to(&peer) > 0 {
            return Ok(false);
        }
        let room = self.connection.room(&peer);
        Ok(room.descriptors.is_empty()
            || poll::either(&[], &room.descriptors, Duration::ZERO).is_ok_and(|woken| woken == Woken::Ready))
    }

    /// What to wait for in an event loop of one's own until there may be room for what is held back: descriptors that
    /// become *writable*. [`drain_pending`](Client::drain_pending) is to be called then. Nothing where nothing is held
    /// back.
    ///
    /// # Errors
    /// [`Disconnected`](ErrorKind::Disconnected), [`WrongProcess`](ErrorKind::WrongProcess).
    pub fn wake_for_room(&self) -> Result<Wake<'_>> {
        self.check("wake_for_room")?;
        Ok(self.room_for_backlog())
    }

    pub(super) fn room_for_backlog(&self) -> Wake<'_> {
        let mut wake = Wake { descriptors: vec![], look_every: Duration::MAX };
        for peer in self.outbox.recipients() {
            let room = self.connection.room(peer);
            wake.look_every = wake.look_every.min(room.look_every);
            wake.descriptors.extend(room.descriptors);
        }
        wake
    }
}
