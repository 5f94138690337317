// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who else is on the bus.

use std::time::Duration;

use super::Client;
use super::wait::Wait;
use crate::error::Result;
use crate::name::PeerName;
use crate::protocol::{PeerRecord, PeerState, Wanted};
use crate::system::{Backoff, Deadline};

/// The first and the longest pause between two looks at the peers: a peer that is killed makes no event.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

impl Client {
    /// The names of all other peers that can be sent to, suspended ones too, sorted.
    ///
    /// # Errors
    /// What the store says.
    pub fn peers(&mut self) -> Result<Vec<PeerName>> {
        let peers = self.all_peers()?;
        Ok(peers.into_iter().filter(|peer| peer.state.is_listed()).map(|peer| peer.name).collect())
    }

    /// All other names in the store, whatever became of them: dead and leaving ones too.
    ///
    /// # Errors
    /// What the store says.
    pub fn all_peers(&mut self) -> Result<Vec<PeerRecord>> {
        self.checked("peers")?.connection.directory().peers().map_err(|error| error.during("peers"))
    }

    /// What the store says of one peer; `None` if it is not registered.
    ///
    /// # Errors
    /// [`InvalidName`](crate::ErrorKind::InvalidName) if nobody can have that name, and what the store says.
    pub fn peer(&mut self, name: &str) -> Result<Option<PeerRecord>> {
        let name = PeerName::foreign(name).map_err(|error| error.during("peer"))?;
        self.checked("peer")?.connection.directory().peer(&name).map_err(|error| error.during("peer"))
    }

    /// Whether who has a name continued its mailbox; `None` if nobody has it, or it cannot be known.
    pub(crate) fn peer_continues(&mut self, name: &PeerName) -> Result<Option<bool>> {
        self.checked("peer")?.connection.directory().continues(name).map_err(|error| error.during("peer"))
    }

    /// Waits until a peer is there, so long at most, without end for `None`. Returns whether it is.
    ///
    /// # Errors
    /// [`InvalidName`](crate::ErrorKind::InvalidName) if nobody can have that name, and what the store says.
    pub fn wait_for_peer(&mut self, name: &str, timeout: Option<Duration>) -> Result<bool> {
        let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
        let name = PeerName::foreign(name).map_err(|error| error.during("wait_for_peer"))?;
        // Asked by name, which finds also what a listing leaves out.
        let is_there = |client: &mut Self| {
            let peer = client.peer(name.as_str())?;
            Ok(peer.is_some_and(|peer| peer.state == PeerState::Active))
        };
        self.wait_until_peers(deadline, is_there).map_err(|error| error.during("wait_for_peer"))
    }

    /// Asks about the peers again and again, whenever something about them may have changed, until the answer is yes
    /// or the time is over.
    pub(crate) fn wait_until_peers(
        &mut self,
        deadline: Deadline,
        mut is_so: impl FnMut(&mut Self) -> Result<bool>,
    ) -> Result<bool> {
        if is_so(self)? {
            return Ok(true);
        }
        self.begin_to_watch();
        let mut pauses = Backoff::new(FIRST_LOOK, LONGEST_PAUSE);
        let mut ask = || {
            loop {
                if is_so(self)? {
                    return Ok(true);
                }
                if self.sleep(Wanted::PEERS, deadline, pauses.next())? == Some(Wait::Timeout) {
                    return Ok(false);
                }
            }
        };
        let answer = ask();
        self.end_to_watch();
        answer
    }

    /// Removes what dead peers left behind: registration, mailbox, statistics. Returns their names.
    ///
    /// # Errors
    /// What the store says.
    pub fn reap(&mut self) -> Result<Vec<PeerName>> {
        self.checked("reap")?.connection.directory().sweep().map_err(|error| error.during("reap"))
    }
}
