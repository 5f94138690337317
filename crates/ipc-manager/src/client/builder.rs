// SPDX-License-Identifier: MIT OR Apache-2.0
//! Joining a bus.

use std::time::Duration;

use super::Client;
use super::again::ShortWaits;
use super::local::Registered;
use super::outbox::Outbox;
use crate::connection_string::ConnectionString;
use crate::error::{Error, ErrorKind, Result};
use crate::group::Group;
use crate::limits::Limits;
use crate::name::PeerName;
use crate::protocol::{Capabilities, Credentials, Durability, Inbox, Mode, OpenOptions, Opened, Protocol, Registry};
use crate::serializer::is_text;
use crate::stats::Stats;
use crate::system::process::own_pid;

/// How long a send waits for a store that is away, unless said otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// Joins a bus under a name that is free, or whose holder is dead: then with an empty mailbox.
///
/// # Errors
/// [`NameInUse`](ErrorKind::NameInUse) if a live or suspended peer has it, [`NoSuchBus`](ErrorKind::NoSuchBus),
/// [`InvalidName`](ErrorKind::InvalidName), and what the store says.
///
/// ```no_run
/// let info = std::env::var("IPCM_BUS").expect("a bus in the environment").parse()?;
/// let mut client = ipc_manager::connect("worker-1", &info)?;
/// client.send("boss", "ready")?;
/// # Ok::<(), ipc_manager::Error>(())
/// ```
pub fn connect(name: &str, info: &ConnectionString) -> Result<Client> {
    Client::builder(name, info).connect()
}

/// Continues a name whose holder suspended or died, with its mailbox and counters.
///
/// # Errors
/// [`NoSuchPeer`](ErrorKind::NoSuchPeer) if there is no such name, [`NameInUse`](ErrorKind::NameInUse) if its holder is
/// alive, and what the store says.
pub fn reconnect(name: &str, info: &ConnectionString) -> Result<Client> {
    Client::builder(name, info).reconnect()
}

/// How to join a bus.
///
/// ```
/// use ipc_manager::{Client, Limits, Spawn};
/// let bus = Spawn::builder().protocol("MessageFiles").spawn()?;
/// let limits = Limits { encoded_bytes: 1 << 20, ..Limits::default() };
/// let client = Client::builder("small", bus.info()).limits(limits).connect()?;
/// assert!(client.is_connected());
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Clone)]
pub struct ClientBuilder {
    name: String,
    info: ConnectionString,
    registry: Option<Registry>,
    limits: Limits,
    durability: Option<Durability>,
    listen: bool,
    hold: Option<Duration>,
    user: Option<String>,
    password: Option<String>,
    group: Option<Group>,
    patience: Duration,
}

impl std::fmt::Debug for ClientBuilder {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientBuilder").field("name", &self.name).field("info", &self.info).finish_non_exhaustive()
    }
}

impl ClientBuilder {
    pub(super) fn new(name: &str, info: &ConnectionString) -> Self {
        Self {
            name: name.to_owned(),
            info: info.clone(),
            registry: None,
            limits: Limits::DEFAULT,
            durability: None,
            listen: true,
            hold: None,
            user: None,
            password: None,
            group: None,
            patience: PATIENCE,
        }
    }

    /// Uses protocols and serializers of the caller's.
    #[must_use]
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Sets what is believed and what is sent.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets what a message that this client sends must outlive before the send is done. Without it: every process, as
    /// far as the protocol promises that.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// Sets whether other peers may connect; they may unless said otherwise. One that does not listen is reached only by
    /// those that it sent something to, over the connections that it opened.
    ///
    /// ```
    /// use ipc_manager::{Client, ErrorKind, Spawn};
    /// let bus = Spawn::builder().protocol("ConnectionUnix").spawn()?;
    /// let mut server = bus.connect("server")?;
    /// let mut quiet = Client::builder("quiet", bus.info()).listen(false).connect()?;
    /// assert_eq!(server.send("quiet", "hello").unwrap_err().kind(), ErrorKind::NotListening);
    /// quiet.send("server", "a question")?;
    /// server.recv()?;
    /// server.send("quiet", "an answer")?;
    /// assert_eq!(quiet.recv()?.content(), "an answer");
    /// # Ok::<(), ipc_manager::Error>(())
    /// ```
    #[must_use]
    pub fn listen(mut self, listen: bool) -> Self {
        self.listen = listen;
        self
    }

    /// Sets for how long a [delivery](crate::Delivery) may be held without being acknowledged or
    /// [extended](crate::Delivery::extend); then it can be received again. Without it: as long as the client lives.
    ///
    /// ```
    /// use ipc_manager::{Client, ErrorKind, Spawn};
    /// use std::time::Duration;
    /// let bus = Spawn::builder().protocol("MessageFiles").spawn()?;
    /// let mut worker = Client::builder("worker", bus.info()).hold(Duration::from_millis(5)).connect()?;
    /// bus.connect("boss")?.send("worker", "a job")?;
    /// let forgotten = worker.receive()?;
    /// let again = worker.receive()?;
    /// assert_eq!((again.attempts(), again.message()), (2, forgotten.message()));
    /// again.extend(Duration::from_secs(60))?;
    /// assert_eq!(forgotten.acknowledge(&mut worker).unwrap_err().kind(), ErrorKind::Timeout);
    /// again.acknowledge(&mut worker)?;
    /// # Ok::<(), ipc_manager::Error>(())
    /// ```
    #[must_use]
    pub fn hold(mut self, hold: Duration) -> Self {
        self.hold = Some(hold);
        self
    }

    /// Sets the user to be on the server that the bus is on, instead of what the registry says.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// Sets the password for the server that the bus is on, instead of what the registry says.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Says that the bus is shared by a group of users, which this process must be in, instead of what the registry says. No
    /// other bus is joined then: what the group's members did to it is believed, and all can read what is sent.
    #[must_use]
    pub fn group(mut self, group: Group) -> Self {
        self.group = Some(group);
        self
    }

    /// Sets how long a send that has no deadline of its own waits for a store that is away, as a server that restarts;
    /// 30 seconds unless said otherwise.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Joins as [`connect`] does.
    ///
    /// # Errors
    /// As [`connect`]; [`Unsupported`](ErrorKind::Unsupported) for a durability that the protocol does not promise,
    /// or for not listening where all peers do.
    pub fn connect(&self) -> Result<Client> {
        self.open(Mode::Connect).map_err(|error| error.during("connect"))
    }

    /// Joins as [`reconnect`] does.
    ///
    /// # Errors
    /// As [`reconnect`]; [`Unsupported`](ErrorKind::Unsupported) for a durability that the protocol does not promise,
    /// or for not listening where all peers do.
    pub fn reconnect(&self) -> Result<Client> {
        self.open(Mode::Reconnect).map_err(|error| error.during("reconnect"))
    }

    /// Continues the name if there is one to continue, else takes it afresh: nothing unread is ever lost.
    ///
    /// # Errors
    /// As [`connect`](ClientBuilder::connect).
    pub fn join(&self) -> Result<Client> {
        match self.reconnect() {
            Err(error) if error.kind() == ErrorKind::NoSuchPeer => self.connect(),
            joined => joined,
        }
    }

    fn credentials(&self, known: &Credentials, are_used: bool, protocol: &dyn Protocol) -> Result<Credentials> {
        if !are_used && (self.user.is_some() || self.password.is_some()) {
            let detail = "this protocol knows no users and passwords";
            return Err(Error::new(ErrorKind::Unsupported, detail).in_protocol(&protocol.name().short()));
        }
        let known = match &self.user {
            // Somebody else's password is no use.
            Some(user) => known.group().into_iter().fold(Credentials::none(), Credentials::with_group).with_user(user),
            None => known.clone(),
        };
        let known = self.group.into_iter().fold(known, Credentials::with_group);
        let known = self.password.iter().fold(known, |known, password| known.with_password(password));
        known.check(protocol)?;
        Ok(known)
    }

    fn open(&self, mode: Mode) -> Result<Client> {
        check(&self.limits)?;
        let registry = self.registry.clone().unwrap_or_default();
        let name = match mode {
            Mode::Connect => PeerName::new(&self.name)?,
            // Whatever another implementation named it, it can be continued.
            Mode::Reconnect => PeerName::foreign(&self.name)?,
        };
        let protocol = registry.find(self.info.protocol())?;
        let serializer = registry.serializer_of(&self.info)?;
        let capabilities = protocol.capabilities();
        let durability = self.durability.unwrap_or(Durability::Kernel.min(capabilities.durability));
        self.check_promised(durability, capabilities).map_err(|error| error.in_protocol(&protocol.name().short()))?;
        let options = OpenOptions {
            name: name.clone(),
            mode,
            serializer: std::sync::Arc::clone(&serializer),
            limits: self.limits.clone(),
            durability,
            listen: self.listen,
            credentials: self.credentials(registry.credentials(), capabilities.credentials, &**protocol)?,
        };
        let access = options.credentials.access()?;
        let Opened { mut connection, stats, discarded } = protocol.open(self.info.route(), options)?;
        let (stats, carried) = match mode {
            Mode::Connect => (Stats::default(), stats),
            Mode::Reconnect => (stats, Stats::default()),
        };
        Ok(Client {
            registered: Registered::new(self.info.route(), &name, stats, carried),
            name,
            info: self.info.clone(),
            pid: own_pid(),
            ships_text: is_text(&*serializer) && connection.payloads().is_some(),
            capabilities,
            access,
            connection,
            serializer,
            limits: self.limits.clone(),
            damaged: Vec::new(),
            discarded,
            is_connected: true,
            is_blocking: true,
            patience: self.patience,
            outbox: Outbox::default(),
            unsent: Vec::new(),
            receipts: Vec::new(),
            rooms: Vec::new(),
            last_to: std::cell::RefCell::default(),
            inbox: Inbox::default(),
            desk: None,
            hold: self.hold,
            short_waits: ShortWaits::default(),
            seen: None,
            keeps_watching: false,
        })
    }
}

impl ClientBuilder {
    /// Refuses what the protocol does not promise.
    fn check_promised(&self, durability: Durability, capabilities: Capabilities) -> Result<()> {
        let detail = if durability > capabilities.durability {
            let promised = capabilities.durability;
            format!("messages that outlive more than the {promised} are not promised by this protocol")
        } else if !self.listen && !capabilities.connections {
            "all peers of this protocol can be sent to at any time; none can choose not to listen".into()
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Unsupported, detail))
    }
}

/// Refuses limits under which nothing could be sent or read.
fn check(limits: &Limits) -> Result<()> {
    // An outbox of nothing is fine: then what has no room would block.
    let Limits { encoded_bytes, decoded_bytes, json_depth, json_elements, batch_messages, batch_bytes, .. } = *limits;
    let named = [
        ("encoded_bytes", encoded_bytes),
        ("decoded_bytes", decoded_bytes),
        ("json_depth", json_depth),
        ("json_elements", json_elements),
        ("batch_messages", batch_messages),
        ("batch_bytes", batch_bytes),
        ("unread_messages", limits.unread_messages.unwrap_or(usize::MAX)),
        ("delivery_attempts", usize::try_from(limits.delivery_attempts).unwrap_or(usize::MAX)),
    ];
    match named.into_iter().find(|(_, limit)| *limit == 0) {
        Some((name, _)) => Err(Error::new(ErrorKind::Usage, format!("the limit `{name}` cannot be 0"))),
        None => Ok(()),
    }
}
