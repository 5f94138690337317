// SPDX-License-Identifier: MIT OR Apache-2.0
//! The owner of a bus.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::charge::{self, Charge, Stage, Terms};
use super::{Audit, Signal, SpawnBuilder};
use crate::client::Client;
use crate::connection_string::{ConnectionString, ProtocolName};
use crate::error::{Error, ErrorKind, Result};
use crate::group::Group;
use crate::name::PeerName;
use crate::protocol::Registry;
use crate::route::Route;
use crate::serializer::SerializerSpec;
use crate::system::process::own_pid;

/// Makes a guarded bus: protocol and serializer are picked, the store is temporary.
///
/// # Errors
/// [`NotViable`](ErrorKind::NotViable) if no protocol works on this machine, and what the store says.
///
/// ```
/// let bus = ipc_manager::spawn()?;
/// println!("{bus}");
/// # Ok::<(), ipc_manager::Error>(())
/// ```
pub fn spawn() -> Result<Spawn> {
    Spawn::builder().spawn()
}

/// The owner of a bus. Shown as text it is the [connection string](ConnectionString) to hand to others.
///
/// A guarded one, which it is unless told otherwise, shuts the bus down when dropped: peers are asked to end, their end
/// is awaited, the counters are compared, the store is removed. Only the process that made it does so; a forked copy
/// does nothing.
///
/// ```
/// let mut bus = ipc_manager::Spawn::builder().protocol("MessageFiles").audit(true).spawn()?;
/// let (mut a, mut b) = (bus.connect("a")?, bus.connect("b")?);
/// a.send("b", "hello")?;
/// b.recv()?;
/// drop((a, b));
/// assert!(bus.shutdown()?.is_balanced());
/// # Ok::<(), ipc_manager::Error>(())
/// ```
pub struct Spawn {
    pub(super) charge: Arc<Mutex<Charge>>,
    pub(super) info: ConnectionString,
    pub(super) audit: bool,
    pub(super) pid: u32,
}

impl Spawn {
    /// Starts to describe a bus.
    #[must_use]
    pub fn builder() -> SpawnBuilder {
        SpawnBuilder::default()
    }

    /// Takes charge of a bus that is there. It is not guarded.
    ///
    /// # Errors
    /// [`NoSuchBus`](ErrorKind::NoSuchBus), unknown names, and what the store says.
    pub fn adopt(info: &ConnectionString) -> Result<Self> {
        Self::adopt_with(info, Registry::standard())
    }

    /// Takes charge of a bus that is there, with protocols and serializers of the caller's.
    ///
    /// # Errors
    /// As [`adopt`](Spawn::adopt).
    pub fn adopt_with(info: &ConnectionString, registry: Registry) -> Result<Self> {
        let terms = Terms { info: info.clone(), registry, signal: None, peer_timeout: None };
        match terms.observe() {
            Err(error) if error.kind() != ErrorKind::Unsupported => return Err(error.during("adopt")),
            _ => {}
        }
        // Whoever is on record as its owner stays so.
        let charge = Charge { terms, guard: false, hold: None, stage: Stage::Running };
        Ok(Self { charge: Arc::new(Mutex::new(charge)), info: info.clone(), audit: false, pid: own_pid() })
    }

    /// The connection string.
    #[must_use]
    pub fn info(&self) -> &ConnectionString {
        &self.info
    }

    /// The protocol that was picked.
    #[must_use]
    pub fn protocol(&self) -> &ProtocolName {
        self.info.protocol()
    }

    /// Where the bus is.
    #[must_use]
    pub fn route(&self) -> &Route {
        self.info.route()
    }

    /// The group that shares the bus, if one does.
    ///
    /// ```
    /// assert_eq!(ipc_manager::spawn()?.group(), None);
    /// # Ok::<(), ipc_manager::Error>(())
    /// ```
    #[must_use]
    pub fn group(&self) -> Option<Group> {
        self.charge().terms.registry.credentials().group()
    }

    /// The serializer that was picked.
    #[must_use]
    pub fn serializer(&self) -> &SerializerSpec {
        self.info.serializer()
    }

    /// Whether dropping this shuts the bus down.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        self.charge().guard
    }

    /// Changes whether dropping this shuts the bus down.
    ///
    /// # Errors
    /// What the store says if the change cannot be put on record.
    pub fn set_guard(&mut self, guard: bool) -> Result<()> {
        self.check("set_guard")?;
        let mut charge = self.charge();
        charge.guard = guard;
        charge.hold_anew().map_err(|error| error.during("set_guard"))
    }

    /// The process that owns the bus.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The signal that peers are sent when the bus ends.
    #[must_use]
    pub fn signal(&self) -> Option<Signal> {
        self.charge().terms.signal
    }

    /// Changes the signal that peers are sent when the bus ends.
    pub fn set_signal(&mut self, signal: Option<Signal>) {
        self.charge().terms.signal = signal;
    }

    /// Changes how long [`wait`](Spawn::wait) and [`shutdown`](Spawn::shutdown) wait for peers by default.
    pub fn set_peer_timeout(&mut self, timeout: Duration) {
        self.charge().terms.peer_timeout = Some(timeout);
    }

    /// Joins the own bus under a name.
    ///
    /// # Errors
    /// As [`connect`](crate::connect()).
    pub fn connect(&self, name: &str) -> Result<Client> {
        Client::builder(name, &self.info).registry(self.terms().registry).connect()
    }

    /// Continues a name on the own bus.
    ///
    /// # Errors
    /// As [`reconnect`](crate::reconnect()).
    pub fn reconnect(&self, name: &str) -> Result<Client> {
        Client::builder(name, &self.info).registry(self.terms().registry).reconnect()
    }

    /// Asks all peers to end: by the signal if one is set, and by a message whose content is `{"terminate":1}`.
    ///
    /// # Errors
    /// [`WrongProcess`](ErrorKind::WrongProcess), and what the store says.
    pub fn terminate(&mut self) -> Result<()> {
        self.with_owner("terminate", |terms, owner| terms.terminate(owner))
    }

    /// Waits until no other process is on the bus, so long at most; returns the names of those that still are. Clients
    /// that this thread used last are not waited for: they cannot leave meanwhile.
    ///
    /// Without a timeout: that of the builder, else of the environment variable `IPC_MANAGER_SPAWN_PEER_TIMEOUT` in
    /// seconds, else 5 seconds.
    ///
    /// # Errors
    /// [`WrongProcess`](ErrorKind::WrongProcess), and what the store says.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Vec<PeerName>> {
        self.with_owner("wait", |terms, owner| terms.wait(owner, timeout))
    }

    /// Compares what was sent with what was read, as far as peers have written their counters.
    ///
    /// # Errors
    /// [`WrongProcess`](ErrorKind::WrongProcess), and what the store says.
    pub fn audit(&mut self) -> Result<Audit> {
        self.check("audit")?;
        let terms = self.terms();
        let audited = terms.observe().and_then(|mut directory| terms.audit(&mut *directory));
        match audited {
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                self.with_owner("audit", |terms, owner| terms.audit(owner.directory()))
            }
            audited => audited.map_err(|error| error.during("audit")),
        }
    }

    /// Ends the bus: terminate, wait, audit, remove the store. The store is removed also where peers are left.
    ///
    /// # Errors
    /// [`WrongProcess`](ErrorKind::WrongProcess), [`NameInUse`](ErrorKind::NameInUse) if somebody is called `spawn`,
    /// and what the store says. That counters do not add up is no error: the audit says so.
    pub fn shutdown(&mut self) -> Result<Audit> {
        self.check("shutdown")?;
        charge::shutdown(&self.charge).map_err(|error| error.during("shutdown"))
    }

    /// Removes the store, whoever is on it. A second time is fine and does nothing.
    ///
    /// # Errors
    /// [`WrongProcess`](ErrorKind::WrongProcess), and what the store says.
    pub fn unspawn(&mut self) -> Result<()> {
        self.check_process("unspawn")?;
        let mut charge = self.charge();
        if charge.stage == Stage::Over { Ok(()) } else { charge.remove().map_err(|error| error.during("unspawn")) }
    }

    fn with_owner<T>(&self, operation: &'static str, work: impl FnOnce(&Terms, &mut Client) -> Result<T>) -> Result<T> {
        self.check(operation)?;
        let terms = self.terms();
        let mut owner = charge::connect_owner(&self.charge).map_err(|error| error.during(operation))?;
        let done = work(&terms, &mut owner).map_err(|error| error.during(operation));
        let left = owner.disconnect_with(|_| ());
        done.and_then(|done| left.map(|()| done))
    }

    pub(super) fn charge(&self) -> MutexGuard<'_, Charge> {
        charge::lock(&self.charge)
    }

    /// What its peers are made with.
    pub(crate) fn registry(&self) -> Registry {
        self.terms().registry
    }

    fn terms(&self) -> Terms {
        self.charge().terms.clone()
    }

    fn check(&self, operation: &'static str) -> Result<()> {
        self.check_process(operation)?;
        let charge = self.charge();
        if charge.stage == Stage::Over { Err(charge.terms.over(operation)) } else { Ok(()) }
    }

    pub(super) fn check_process(&self, operation: &'static str) -> Result<()> {
        if self.pid == own_pid() {
            return Ok(());
        }
        let error = Error::new(ErrorKind::WrongProcess, format!("the bus belongs to process {}", self.pid));
        Err(error.during(operation).on_route(self.info.route().as_str()))
    }
}

impl Drop for Spawn {
    fn drop(&mut self) {
        if self.pid != own_pid() {
            return;
        }
        let is_due = {
            let charge = self.charge();
            charge.guard && charge.stage == Stage::Running
        };
        if !is_due {
            return;
        }
        match charge::shutdown(&self.charge) {
            Ok(audit) if self.audit && !audit.is_balanced() => {
                log::warn!("messages do not add up on {}: {audit}", self.info.route());
            }
            Ok(_) => {}
            Err(error) => log::warn!("the bus could not be ended in good order: {error}"),
        }
    }
}

impl fmt::Display for Spawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info.fmt(f)
    }
}

impl fmt::Debug for Spawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawn")
            .field("info", &self.info)
            .field("guard", &self.is_guarded())
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}
