// SPDX-License-Identifier: MIT OR Apache-2.0
//! The connections of a client, where its protocol has such.

use std::time::{Duration, SystemTime};

use super::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::name::PeerName;
use crate::protocol::{ConnectionRecord, Connections};

impl Client {
    /// The open connections to other peers, sorted by name; first those of which it is not known yet whose they are.
    /// Several to one peer are possible. Empty where the protocol has no connections.
    ///
    /// # Errors
    /// [`Disconnected`](ErrorKind::Disconnected), [`WrongProcess`](ErrorKind::WrongProcess).
    pub fn connections(&mut self) -> Result<Vec<ConnectionRecord>> {
        let connections = self.checked("connections")?.connection.connections();
        let mut open = connections.map_or_else(Vec::new, |connections| connections.open_connections());
        open.sort_by(|a, b| a.peer.cmp(&b.peer));
        Ok(open)
    }

    /// Whether there is a connection to a peer, whichever side opened it.
    ///
    /// # Errors
    /// [`InvalidName`](ErrorKind::InvalidName) if nobody can have that name,
    /// [`Disconnected`](ErrorKind::Disconnected), [`WrongProcess`](ErrorKind::WrongProcess).
    pub fn has_connection(&mut self, peer: &str) -> Result<bool> {
        Ok(self.last_activity(peer)?.is_some())
    }

    /// When a connection to a peer was opened, or a message last went over it. `None` without a connection.
    ///
    /// # Errors
    /// As [`has_connection`](Client::has_connection).
    pub fn last_activity(&mut self, peer: &str) -> Result<Option<SystemTime>> {
        let peer = PeerName::foreign(peer).map_err(|error| error.during("last_activity"))?;
        let open = self.connections()?;
        let to_peer = open.into_iter().filter(|connection| connection.peer.as_ref() == Some(&peer));
        Ok(to_peer.map(|connection| connection.last_activity).max())
    }

    /// Closes the connections to a peer without loss: what came over them can still be received, and the next message to
    /// it opens another one. Returns whether there was any. A peer that does not listen can be reached again only when
    /// it sends something.
    ///
    /// # Errors
    /// As [`has_connection`](Client::has_connection).
    pub fn disconnect_connection(&mut self, peer: &str) -> Result<bool> {
        let peer = PeerName::foreign(peer).map_err(|error| error.during("disconnect_connection"))?;
        let connections = self.checked("disconnect_connection")?.connection.connections();
        let closed = connections.map_or(Ok(0), |connections| connections.close_to(&peer));
        Ok(closed.map_err(|error| error.during("disconnect_connection"))? > 0)
    }

    /// Closes connections over which nothing went for longer than this, as
    /// [`disconnect_connection`](Client::disconnect_connection) does; returns how many.
    ///
    /// # Errors
    /// [`Disconnected`](ErrorKind::Disconnected), [`WrongProcess`](ErrorKind::WrongProcess).
    pub fn close_idle_connections(&mut self, idle: Duration) -> Result<usize> {
        let connections = self.checked("close_idle_connections")?.connection.connections();
        let closed = connections.map_or(Ok(0), |connections| connections.close_idle(idle));
        closed.map_err(|error| error.during("close_idle_connections"))
    }

    /// Whether a peer lets others connect; `false` also if there is no such peer.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) where the protocol has no connections, and what the store says.
    pub fn peer_is_listener(&mut self, peer: &str) -> Result<bool> {
        let peer = PeerName::foreign(peer).map_err(|error| error.during("peer_is_listener"))?;
        let listens = self.connections_or_refuse("peer_is_listener")?.is_listener(&peer);
        Ok(listens.map_err(|error| error.during("peer_is_listener"))?.unwrap_or(false))
    }

    /// The names of all other peers that let others connect, sorted.
    ///
    /// # Errors
    /// As [`peer_is_listener`](Client::peer_is_listener).
    pub fn listening_peers(&mut self) -> Result<Vec<PeerName>> {
        let peers = self.peers()?;
        let connections = self.connections_or_refuse("listening_peers")?;
        let mut listening = Vec::new();
        for peer in peers {
            if connections.is_listener(&peer).map_err(|error| error.during("listening_peers"))?.unwrap_or(false) {
                listening.push(peer);
            }
        }
        Ok(listening)
    }

    fn connections_or_refuse(&mut self, operation: &'static str) -> Result<&mut dyn Connections> {
        let protocol = self.info.protocol().short();
        let refused = || {
            let error = Error::new(ErrorKind::Unsupported, "peers of this protocol do not connect to each other");
            error.during(operation).in_protocol(&protocol)
        };
        self.checked(operation)?.connection.connections().ok_or_else(refused)
    }
}
