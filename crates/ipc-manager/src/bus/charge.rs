// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the owner of a bus has in its charge, and the steps of ending it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::{Audit, OWNER_NAMES, Signal};
use crate::client::{Client, local_clients_on};
use crate::connection_string::ConnectionString;
use crate::error::{Error, ErrorKind, Result};
use crate::name::PeerName;
use crate::protocol::{Directory, Hold, Registry};
use crate::system::{Deadline, process};

/// How long a shutdown waits for peers unless something else was said.
const PEER_TIMEOUT: Duration = Duration::from_secs(5);
/// Says so for all buses of a process, in seconds.
const PEER_TIMEOUT_VARIABLE: &str = "IPC_MANAGER_SPAWN_PEER_TIMEOUT";

/// A bus in somebody's charge. It is locked for moments only, never while peers are waited for: the guard on signals
/// needs it, too.
#[derive(Debug)]
pub(super) struct Charge {
    pub(super) terms: Terms,
    /// Whether the bus ends with its owner.
    pub(super) guard: bool,
    /// The record that this process owns the store; none for one that was adopted.
    pub(super) hold: Option<Hold>,
    pub(super) stage: Stage,
}

/// How far the end of a bus has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Running,
    /// Peers have been or are being asked to end.
    Ending,
    /// The store was removed.
    Over,
}

/// What is needed to do something with a bus.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) info: ConnectionString,
    pub(super) registry: Registry,
    pub(super) signal: Option<Signal>,
    pub(super) peer_timeout: Option<Duration>,
}

pub(super) fn lock(charge: &Mutex<Charge>) -> MutexGuard<'_, Charge> {
    charge.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a bus: terminate, wait, audit, remove. One that somebody else ended or removed has ended.
pub(super) fn shutdown(charge: &Mutex<Charge>) -> Result<Audit> {
    let (terms, before) = {
        let mut charge = lock(charge);
        (charge.terms.clone(), std::mem::replace(&mut charge.stage, Stage::Ending))
    };
    let ended = match before {
        Stage::Over => {
            lock(charge).stage = Stage::Over;
            return Ok(Audit::default());
        }
        // Another thread has asked the peers; who waits for them finds the store gone.
        Stage::Ending => Ok(Audit::default()),
        Stage::Running => connect_owner(charge).and_then(|owner| terms.end_peers(owner)),
    };
    if let Err(error) = &ended
        && error.kind() == ErrorKind::NameInUse
    {
        // Somebody is called like the owner, so nothing was done.
        lock(charge).stage = Stage::Running;
        return ended;
    }
    // The store goes in any case: whoever is left gets an error that says so.
    lock(charge).remove()?;
    match ended {
        Err(error) if error.kind() == ErrorKind::NoSuchBus => Ok(Audit::default()),
        ended => ended,
    }
}

/// Joins the bus as its owner. Under the lock: a client that another thread joins with meanwhile would be in the store
/// and not yet known to be this process's.
pub(super) fn connect_owner(charge: &Mutex<Charge>) -> Result<Client> {
    lock(charge).terms.connect_owner()
}

impl Charge {
    /// Removes the store and nothing else.
    pub(super) fn remove(&mut self) -> Result<()> {
        let protocol = self.terms.registry.find(self.terms.info.protocol())?;
        protocol.destroy(self.terms.info.route(), self.terms.registry.credentials())?;
        self.stage = Stage::Over;
        self.hold = None;
        Ok(())
    }

    /// Puts on record how things are now, where there is a record.
    pub(super) fn hold_anew(&mut self) -> Result<()> {
        if let Some(hold) = self.hold.take() {
            let protocol = self.terms.registry.find(self.terms.info.protocol())?;
            let credentials = self.terms.registry.credentials();
            self.hold = Some(protocol.hold(self.terms.info.route(), credentials, self.guard, Some(hold))?);
        }
        Ok(())
    }
}

impl Terms {
    fn connect_owner(&self) -> Result<Client> {
        let connect = |name| Client::builder(name, &self.info).registry(self.registry.clone()).connect();
        let is_ours = || local_clients_on(self.info.route()).iter().any(|client| client.name == OWNER_NAMES[0]);
        match connect(OWNER_NAMES[0]) {
            Err(error) if error.kind() == ErrorKind::NameInUse && is_ours() => connect(OWNER_NAMES[1]),
            connected => connected,
        }
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
            remaining = peers.filter(|name| !own.contains(name) && !OWNER_NAMES.contains(&name.as_str())).collect();
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
        let mut all: std::collections::BTreeMap<_, _> = directory.stats()?.into_iter().collect();
        all.extend(local_clients_on(self.info.route()).into_iter().map(|client| (client.name, client.stats)));
        Ok(Audit::of(&all))
    }

    /// Looks at the store without joining it.
    pub(super) fn observe(&self) -> Result<Box<dyn Directory>> {
        let protocol = self.registry.find(self.info.protocol())?;
        let serializer = self.registry.serializer_of(&self.info)?;
        let credentials = self.registry.credentials().check(&**protocol)?;
        protocol.observe(self.info.route(), credentials, serializer)
    }

    fn end_peers(&self, mut owner: Client) -> Result<Audit> {
        let ended = self.terminate(&mut owner).and_then(|()| {
            let remaining = self.wait(&mut owner, None)?;
            if !remaining.is_empty() {
                let names: Vec<_> = remaining.iter().map(PeerName::as_str).collect();
                log::warn!("still on the bus that is being removed: {}", names.join(", "));
            }
            Ok(self.audit(owner.directory())?.with_remaining(remaining))
        });
        if let Err(error) = owner.disconnect_with(|_| ()) {
            log::warn!("the owner's client could not leave in good order: {error}");
        }
        ended
    }

    /// An error that the bus has ended.
    pub(super) fn over(&self, operation: &'static str) -> Error {
        let error = Error::new(ErrorKind::NoSuchBus, "the bus was shut down");
        error.during(operation).on_route(self.info.route().as_str())
    }
}
