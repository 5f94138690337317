// SPDX-License-Identifier: MIT OR Apache-2.0
//! Describing a bus and making it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::charge::{Charge, Stage, Terms};
use super::{Signal, Spawn, gc, on_signal};
use crate::connection_string::ConnectionString;
use crate::error::{Error, ErrorKind, Result, redacted};
use crate::group::Group;
use crate::protocol::{CreateOptions, Credentials, Registry};
use crate::route::Route;
use crate::serializer::SerializerSpec;
use crate::system::process::own_pid;

/// How a bus is to be.
///
/// ```
/// use ipc_manager::{Signal, Spawn};
/// use std::time::Duration;
/// let bus = Spawn::builder()
///     .protocols(["MessageFiles", "LocalMemory"])
///     .serializer("JSON")
///     .signal(Signal::TERM)
///     .peer_timeout(Duration::from_secs(2))
///     .spawn()?;
/// assert_eq!(bus.protocol().short(), "MessageFiles");
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SpawnBuilder {
    protocol: Option<String>,
    protocols: Vec<String>,
    serializer: Option<String>,
    route: Option<Unchecked>,
    guard: bool,
    guard_on_signals: bool,
    audit: bool,
    signal: Option<Signal>,
    peer_timeout: Option<Duration>,
    registry: Option<Registry>,
    credentials: Option<Credentials>,
    group: Option<Group>,
}

/// A route as somebody typed it. Shown without a password that has no place there.
#[derive(Clone)]
struct Unchecked(String);

impl std::fmt::Debug for Unchecked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        redacted(&self.0).fmt(f)
    }
}

impl Default for SpawnBuilder {
    fn default() -> Self {
        Self {
            protocol: None,
            protocols: Vec::new(),
            serializer: None,
            route: None,
            guard: true,
            guard_on_signals: false,
            audit: false,
            signal: None,
            peer_timeout: None,
            registry: None,
            credentials: None,
            group: None,
        }
    }
}

impl SpawnBuilder {
    /// Uses this protocol, or none.
    #[must_use]
    pub fn protocol(mut self, name: &str) -> Self {
        self.protocol = Some(name.to_owned());
        self
    }

    /// Uses the first of these protocols that works on this machine.
    #[must_use]
    pub fn protocols(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.protocols = names.into_iter().map(Into::into).collect();
        self
    }

    /// Uses this serializer: a short name, a class name, `+Name`, or a JSON array with arguments such as
    /// `["JSON::Zstd","level",9]`. Without it: `JSON::Zstd` where it is built in, else `JSON`.
    #[must_use]
    pub fn serializer(mut self, name: &str) -> Self {
        self.serializer = Some(name.to_owned());
        self
    }

    /// Puts the bus at this route instead of a fresh temporary one.
    #[must_use]
    pub fn route(mut self, route: &str) -> Self {
        self.route = Some(Unchecked(route.to_owned()));
        self
    }

    /// Sets whether the bus ends with its owner. It does unless this says no.
    #[must_use]
    pub fn guard(mut self, guard: bool) -> Self {
        self.guard = guard;
        self
    }

    /// Sets whether a guarded bus is also ended when this process receives INT or TERM, before it ends by that signal.
    /// This installs handlers for the two, and starts a thread; nothing else does.
    #[must_use]
    pub fn guard_on_signals(mut self, on: bool) -> Self {
        self.guard_on_signals = on;
        self
    }

    /// Sets whether a guard that finds messages that were sent but not read logs them as a warning.
    #[must_use]
    pub fn audit(mut self, audit: bool) -> Self {
        self.audit = audit;
        self
    }

    /// Sets a signal that peers are sent when the bus ends, besides the message.
    #[must_use]
    pub fn signal(mut self, signal: Signal) -> Self {
        self.signal = Some(signal);
        self
    }

    /// Sets how long peers are waited for when the bus ends.
    #[must_use]
    pub fn peer_timeout(mut self, timeout: Duration) -> Self {
        self.peer_timeout = Some(timeout);
        self
    }

    /// Uses protocols and serializers of the caller's.
    #[must_use]
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Sets who this is to the server that the bus is on, instead of what the registry says. Others need theirs to
    /// join: they are no part of the connection string.
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Makes the bus for a group of users, which this process must be in, instead of for this user alone. The group of
    /// number 0, and the one whose number is this user's own, are taken for the user's alone, and are none to share with. Others join with
    /// [the same option](crate::ClientBuilder::group), from anywhere in the group: they can read, forge and remove all that
    /// is on the bus. A route of one's own should be where the group can get to; one that is a file, as that of SQLite, must
    /// be in a directory of the group's, of mode 2770.
    ///
    /// ```no_run
    /// use ipc_manager::{Client, Group, Spawn};
    /// let group = Group::new("staff")?;
    /// let bus = Spawn::builder().protocol("MessageFiles").group(group).spawn()?;
    /// let mut a = Client::builder("a", bus.info()).group(group).connect()?;
    /// a.send("a", "for us")?;
    /// # Ok::<(), ipc_manager::Error>(())
    /// ```
    #[must_use]
    pub fn group(mut self, group: Group) -> Self {
        self.group = Some(group);
        self
    }

    /// Puts the bus into the database that a connection of the application's own is on. The bus has connections of its
    /// own; this one is only asked where it is.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for a database that others cannot find, such as one in memory, and what the
    /// database says.
    #[cfg(any(feature = "sqlite", feature = "postgresql", feature = "mysql"))]
    pub fn in_database_of(self, connection: &mut dyn crate::protocol::Transaction) -> Result<Self> {
        let (protocol, route) = crate::protocol::place_of(connection).map_err(|error| error.during("spawn"))?;
        Ok(self.protocol(protocol).route(route.as_str()))
    }

    /// Makes the bus.
    ///
    /// # Errors
    /// [`UnknownProtocol`](ErrorKind::UnknownProtocol), [`UnknownSerializer`](ErrorKind::UnknownSerializer),
    /// [`NotViable`](ErrorKind::NotViable) with the reason, [`InvalidName`](ErrorKind::InvalidName) for a bad route,
    /// [`Unsupported`](ErrorKind::Unsupported) for a group where the protocol knows none,
    /// [`Permission`](ErrorKind::Permission) for one that this process is not in, [`Usage`](ErrorKind::Usage) for one that
    /// is not for sharing, and what the store says.
    pub fn spawn(&self) -> Result<Spawn> {
        self.make().map_err(|error| error.during("spawn"))
    }

    fn make(&self) -> Result<Spawn> {
        let registry = self.registry.clone().unwrap_or_default();
        let registry = match &self.credentials {
            Some(credentials) => registry.with_credentials(credentials.clone()),
            None => registry,
        };
        let registry = self.group.into_iter().fold(registry, Registry::with_group);
        let protocol = match &self.protocol {
            Some(name) => registry.get(name)?,
            None => registry.first_viable(&self.protocols)?,
        };
        registry.credentials().check(&**protocol)?.access()?;
        if self.protocol.is_some() {
            protocol.viable().map_err(|reason| {
                let error = Error::new(ErrorKind::NotViable, "the protocol does not work on this machine");
                error.in_protocol(&protocol.name().short()).with_source(reason)
            })?;
        }
        let spec = match &self.serializer {
            Some(name) => SerializerSpec::from_name(name)?,
            None => registry.serializers().default_spec(),
        };
        // An unknown serializer is found out before anything is made.
        let spec = registry.serializers().resolve(&spec)?.spec().clone();
        let route = self.route.as_ref().map(|route| Route::new(&route.0)).transpose()?;
        let options = CreateOptions { route, credentials: registry.credentials().clone(), lasting: !self.guard };
        let is_temporary = options.route.is_none() && protocol.capabilities().crosses_processes;
        let temporary = std::env::temp_dir();
        if is_temporary {
            // First: what is removed makes room.
            gc::in_passing(&registry, &temporary);
        }
        let route = protocol.create(&options)?;
        let hold = protocol.hold(&route, registry.credentials(), self.guard, None).inspect_err(|_| {
            if self.route.is_none() {
                let _ = protocol.destroy(&route, registry.credentials());
            }
        })?;
        // Where the temporary directory's path is too long for sockets, stores are made elsewhere.
        let place = std::path::Path::new(route.as_str()).parent();
        if let Some(place) = place.filter(|place| is_temporary && place.is_absolute() && !place.starts_with(&temporary))
        {
            gc::in_passing(&registry, place);
        }
        let info = ConnectionString::new(protocol.name(), spec, route);
        let terms = Terms { info: info.clone(), signal: self.signal, peer_timeout: self.peer_timeout, registry };
        let charge = Charge { terms, guard: self.guard, hold: Some(hold), stage: Stage::Running };
        let charge = Arc::new(Mutex::new(charge));
        let bus = Spawn { charge, info, audit: self.audit, pid: own_pid() };
        if self.guard && self.guard_on_signals {
            on_signal::guard(&bus.charge)?;
        }
        Ok(bus)
    }
}
