// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the owner of a bus has in its charge, and the steps of ending it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::{Audit, OWNER_NAME, Signal};
use crate::client::{Client, local_clients_on};
use crate::connection_string::ConnectionString;
use crate::error::{Error, ErrorKind, Result};
use crate::name::PeerName;
use crate::protocol::{Directory, Hold, Registry};
use crate::stats::Stats;
use crate::system::{Deadline, process};

/// How long a shutdown waits for peers unless something else was said.
const PEER_TIMEOUT: Duration = Duration::from_secs(5);
/// Says so for all buses of a process, in seconds.
const PEER_TIMEOUT_VARIABLE: &str = "IPC_MANAGER_SPAWN_PEER_TIMEOUT";

/// A bus in somebody's charge.
#[derive(Debug)]
pub(super) struct Charge {
    pub(super) info: ConnectionString,
    pub(super) registry: Registry,
    pub(super) signal: Option<Signal>,
    pub(super) peer_timeout: Option<Duration>,
    /// The record that this process owns the store.
    pub(super) hold: Option<Hold>,
    /// The store was removed, or is no longer this process's business.
    pub(super) is_over: bool,
}

impl Charge {
    pub(super) fn connect_owner(&self) -> Result<Client> {
        Client::builder(OWNER_NAME, &self.info).registry(self.registry.clone()).connect()
    }

    /// Asks all peers to end: by signal if one is set, and by message.
    pub(super) fn terminate(&self, owner: &mut Client) -> Result<()> {
        if let Some(signal) = self.signal {
            for peer in owner.all_peers()? {
                let Some(pid) = peer.pid.filter(|pid| peer.state.is_alive() && *pid != process::own_pid()) else {
                    continue;
                };
                let is_it = || {
                    let now = owner.peer(peer.name.as_str()).ok().flatten();
                    now.is_some_and(|now| now.state.is_alive() && now.pid == Some(pid))
                };
                if let Err(error) = process::signal(pid, signal.number(), peer.since, is_it) {
                    log::warn!("{}: process {pid} could not be sent {signal}: {error}", peer.name);
                }
            }
        }
        for (peer, sent) in owner.broadcast(&json!({"terminate": 1}))? {
            // Who left meanwhile needs no asking.
            if let Err(error) = sent
                && error.kind() != ErrorKind::NoSuchPeer
            {
                log::warn!("{peer} could not be asked to end: {error}");
            }
        }
        Ok(())
    }

    /// Waits until no process is left on the bus but this one; returns who is left when the time is over.
    pub(super) fn wait(&self, owner: &mut Client, timeout: Option<Duration>) -> Result<Vec<PeerName>> {
        let deadline = Deadline::after(timeout.unwrap_or_else(|| self.peer_timeout()));
        let mut remaining = Vec::new();
        owner.wait_until_peers(deadline, |owner| {
            // They cannot leave while this thread waits.
            let own: Vec<_> = local_clients_on(self.info.route())
                .into_iter()
                .filter(|client| client.is_of_this_thread)
                .map(|client| client.name)
                .collect();
            let peers = owner.all_peers()?.into_iter().filter(|peer| peer.state.is_alive()).map(|peer| peer.name);
            remaining = peers.filter(|name| !own.contains(name)).collect();
            Ok(remaining.is_empty())
        })?;
        Ok(remaining)
    }

    fn peer_timeout(&self) -> Duration {
        let from_environment = || {
            let seconds: f64 = std::env::var(PEER_TIMEOUT_VARIABLE).ok()?.trim().parse().ok()?;
            Duration::try_from_secs_f64(seconds).ok()
        };
        self.peer_timeout.or_else(from_environment).unwrap_or(PEER_TIMEOUT)
    }

    /// Compares the counters of all: from the store, and of this process's clients as they are now.
    pub(super) fn audit(&self, directory: &mut dyn Directory) -> Result<Audit> {
        let mut all: BTreeMap<PeerName, Stats> = directory.stats()?.into_iter().collect();
        all.extend(local_clients_on(self.info.route()).into_iter().map(|client| (client.name, client.stats)));
        Ok(Audit::of(&all))
    }

    /// Looks at the store without joining it.
    pub(super) fn observe(&self) -> Result<Box<dyn Directory>> {
        let protocol = self.registry.find(self.info.protocol())?;
        let serializer = self.registry.serializers().resolve(self.info.serializer())?;
        protocol.observe(self.info.route(), serializer)
    }

    /// Ends the bus: terminate, wait, audit, remove. A bus that somebody else removed has ended.
    pub(super) fn shutdown(&mut self) -> Result<Audit> {
        let mut owner = match self.connect_owner() {
            Ok(owner) => owner,
            Err(error) if error.kind() == ErrorKind::NoSuchBus => {
                self.is_over = true;
                return Ok(Audit::default());
            }
            Err(error) => return Err(error),
        };
        let ended = self.end_peers(&mut owner);
        if let Err(error) = owner.disconnect_with(|_| ()) {
            log::warn!("the owner's client could not leave in good order: {error}");
        }
        drop(owner);
        // The store goes in any case: whoever is left gets an error that says so.
        self.remove()?;
        ended
    }

    fn end_peers(&self, owner: &mut Client) -> Result<Audit> {
        self.terminate(owner)?;
        let remaining = self.wait(owner, None)?;
        if !remaining.is_empty() {
            let names: Vec<_> = remaining.iter().map(PeerName::as_str).collect();
            log::warn!("still on the bus that is being removed: {}", names.join(", "));
        }
        let mut all = owner.all_stats()?;
        all.extend(local_clients_on(self.info.route()).into_iter().map(|client| (client.name, client.stats)));
        Ok(Audit::of(&all).with_remaining(remaining))
    }

    /// Removes the store and nothing else.
    pub(super) fn remove(&mut self) -> Result<()> {
        let protocol = self.registry.find(self.info.protocol())?;
        protocol.destroy(self.info.route())?;
        self.is_over = true;
        self.hold = None;
        Ok(())
    }

    /// Refuses what is asked of a bus that has ended.
    pub(super) fn check(&self, operation: &'static str) -> Result<()> {
        if self.is_over {
            let error = Error::new(ErrorKind::NoSuchBus, "the bus was shut down");
            return Err(error.during(operation).on_route(self.info.route().as_str()));
        }
        Ok(())
    }
}
