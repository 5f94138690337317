// SPDX-License-Identifier: MIT OR Apache-2.0
//! A running service, as its callbacks see it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::answering::Open;
use super::builder::{OnRequest, OnResponse, ServiceBuilder};
use super::callback::{Callback, CallbackId, Callbacks, When};
use super::describe::{Description, Method};
use super::outgoing::Outgoing;
use super::pace::Pace;
use super::peer_watch::PeerWatch;
use super::remote::{Remote, RemoteCalls};
use super::request::{Response, ServiceResult, Ticket};
use super::requester::Requester;
use super::settings::Settings;
use super::workers::Workers;
use crate::client::{Away, Client};
use crate::connection_string::ConnectionString;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::name::PeerName;
use crate::protocol::Registry;
use crate::system::process;
use crate::system::signals::SignalWatch;

/// Called with the response to a request of the service's own, or with why none will come.
pub(super) type OnAnswer = Box<dyn FnOnce(&mut Service, Result<Response>) -> ServiceResult + Send>;

/// A running service, as its callbacks are handed it.
///
/// It is a client with an event loop. Between callbacks it sleeps until a descriptor tells that something happened: a
/// message, a signal that a callback is there for, a child or a watched process that ended, the next interval.
/// Sending never waits; what there is no room for is kept in order.
///
/// ```
/// use ipc_manager::{Service, Spawn};
/// let bus = Spawn::builder().protocol("LocalMemory").spawn()?;
/// let mut counter = Service::builder("counter")
///     .bus(bus.info())
///     .on_message(|service, message| {
///         let from = message.from().to_string();
///         Ok(service.send(&from, "noted")?)
///     })
///     .on_typed_request(|service, (): ()| Ok(service.peers()?.len()))
///     .spawn_thread()?;
/// assert_eq!(counter.request("counter", &())?, 1);
/// counter.terminate()?;
/// # Ok::<(), ipc_manager::Error>(())
/// ```
pub struct Service {
    pub(super) pid: u32,
    pub(super) settings: Settings,
    pub(super) registry: Registry,
    pub(super) client: Client,
    pub(super) callbacks: Callbacks,
    pub(super) on_request: Option<OnRequest>,
    pub(super) on_response: Option<OnResponse>,
    pub(super) methods: Vec<Method>,
    pub(super) requester: Requester<OnAnswer>,
    /// Requests of the service's own that will not be answered, and whom to tell.
    pub(super) given_up: Vec<(OnAnswer, Error)>,
    /// What is left of the messages of this turn.
    pub(super) batch: VecDeque<Message>,
    /// What came while a callback waited for an answer.
    pub(super) inbox: VecDeque<Message>,
    pub(super) outgoing: Outgoing,
    pub(super) pace: Pace,
    pub(super) open: BTreeMap<Ticket, Open>,
    pub(super) termination: Option<i32>,
    pub(super) peer_watch: PeerWatch,
    pub(super) signals: Option<SignalWatch>,
    pub(super) watched: Vec<(u32, Option<OwnedFd>)>,
    pub(super) workers: Workers,
    pub(super) nested: BTreeMap<PeerName, u32>,
    pub(super) last_interval: Instant,
    pub(super) remote: Arc<RemoteCalls>,
    /// The attempts to reach a store that is away.
    pub(super) store_away: Away,
    pub(super) has_ended: bool,
}

impl Service {
    /// Starts to describe a service of that name.
    #[must_use]
    pub fn builder(name: &str) -> ServiceBuilder {
        ServiceBuilder::new(name)
    }

    /// Its name on the bus.
    #[must_use]
    pub fn name(&self) -> &PeerName {
        self.client.name()
    }

    /// The bus.
    #[must_use]
    pub fn info(&self) -> &ConnectionString {
        self.client.info()
    }

    /// The process that runs it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its client, for what has no call of its own here. Messages that are taken from it are lost to the callbacks.
    pub fn client(&mut self) -> &mut Client {
        self.let_answers_go();
        &mut self.client
    }

    /// Sends a content to a peer without waiting: behind what there was no room for before.
    ///
    /// # Errors
    /// [`NoSuchPeer`](ErrorKind::NoSuchPeer), [`TooLarge`](ErrorKind::TooLarge), what the store says, and
    /// [`WouldBlock`](ErrorKind::WouldBlock) if very much is kept already.
    pub fn send<T: Serialize + ?Sized>(&mut self, to: &str, content: &T) -> Result<()> {
        let message = self.client.message(to, content).map_err(|error| error.during("send"))?;
        self.send_message(message)
    }

    pub(super) fn send_message(&mut self, message: Message) -> Result<()> {
        self.let_answers_go();
        self.outgoing.send(&mut self.client, message)
    }

    /// The names of all other peers that can be sent to, sorted.
    ///
    /// # Errors
    /// As [`Client::peers`].
    pub fn peers(&mut self) -> Result<Vec<PeerName>> {
        self.client.peers()
    }

    /// Ends the service after this turn of its loop, with this value, which becomes the exit status. The first value
    /// that is not 0 stays.
    pub fn terminate(&mut self, value: i32) {
        if self.termination.unwrap_or(0) == 0 {
            self.termination = Some(value);
        }
    }

    /// The value that it was terminated with; `None` while it goes on.
    #[must_use]
    pub fn termination(&self) -> Option<i32> {
        self.termination
    }

    /// Appends a callback to those of its kind, from the next event on.
    pub fn append(&mut self, callback: Callback) -> CallbackId {
        let id = callback.id();
        self.callbacks.append(callback);
        id
    }

    /// Puts a callback in front of those of its kind, from the next event on.
    pub fn prepend(&mut self, callback: Callback) -> CallbackId {
        let id = callback.id();
        self.callbacks.prepend(callback);
        id
    }

    /// Removes a callback; also the one that is running. Returns whether it was there.
    pub fn remove(&mut self, id: CallbackId) -> bool {
        self.callbacks.remove(id)
    }

    /// Removes all callbacks of a kind.
    pub fn clear(&mut self, when: When) {
        self.callbacks.clear(when);
    }

    /// Also ends the service when this process ends.
    pub fn watch_pid(&mut self, pid: u32) {
        self.watched.push((pid, crate::system::children::end_of(pid)));
    }

    /// A way for other threads to have something done in the service.
    #[must_use]
    pub fn remote(&self) -> Remote {
        Remote::new(&self.remote)
    }

    /// Responses that nobody waited for and no handler took, since last asked: late, double or unknown ones.
    #[must_use]
    pub fn take_unexpected(&mut self) -> Vec<Error> {
        self.requester.take_reports()
    }

    /// What the service says of itself when asked.
    #[must_use]
    pub fn description(&self) -> Description {
        Description {
            name: self.settings.name.clone(),
            pid: self.pid,
            version: self.settings.version.clone(),
            about: self.settings.about.clone(),
            methods: self.methods.clone(),
        }
    }

    /// Whether every child of the process is reaped.
    pub(super) fn reaps_all(&self) -> bool {
        self.callbacks.any(When::Child)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", self.client.name())
            .field("callbacks", &self.callbacks)
            .field("termination", &self.termination)
            .finish_non_exhaustive()
    }
}

/// A service that has joined its bus.
pub(super) struct Running(pub(super) Service);

impl Running {
    /// Joins the bus.
    pub(super) fn join(builder: ServiceBuilder) -> Result<Self> {
        let Some(info) = builder.info else {
            let detail = "a service that runs here needs the bus that it is to be on";
            return Err(Error::new(ErrorKind::Usage, detail));
        };
        let name = builder.settings.name.clone();
        let registry = match builder.launch.group {
            Some(group) if builder.registry.credentials().group().is_none() => builder.registry.with_group(group),
            _ => builder.registry,
        };
        let client = Client::builder(&name, &info).registry(registry.clone()).connect()?;
        let remote = RemoteCalls::new().map_err(|error| Error::system(error, "the service cannot be made"))?;
        // A transport that streams has nothing to gain.
        let pace = Pace::new(!client.capabilities().queues);
        let mut service = Service {
            pid: process::own_pid(),
            registry,
            client,
            callbacks: builder.callbacks,
            on_request: builder.on_request,
            on_response: builder.on_response,
            methods: builder.methods,
            requester: Requester::default(),
            given_up: Vec::new(),
            batch: VecDeque::new(),
            inbox: VecDeque::new(),
            outgoing: Outgoing::new(),
            pace,
            open: BTreeMap::new(),
            termination: None,
            peer_watch: PeerWatch::new(),
            store_away: Away::new(),
            signals: None,
            watched: Vec::new(),
            workers: Workers::default(),
            nested: BTreeMap::new(),
            last_interval: Instant::now(),
            remote: Arc::new(remote),
            has_ended: false,
            settings: builder.settings,
        };
        for pid in service.settings.watch_pids.clone() {
            service.watch_pid(pid);
        }
        // Before anybody is told that it is there: who knows may signal at once.
        service.catch_signals()?;
        Ok(Self(service))
    }

    /// Runs the event loop until the service ends.
    pub(super) fn run(mut self) -> Result<i32> {
        self.0.run_loop()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Only where something unwinds: otherwise the loop has ended them. A forked copy leaves all to the service.
        if self.pid == process::own_pid() && !self.has_ended {
            self.let_answers_go();
            self.stop_workers();
        }
    }
}
