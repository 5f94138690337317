// SPDX-License-Identifier: MIT OR Apache-2.0
//! Describing a service.

use std::fmt;
use std::process::ExitStatus;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::activity::{Activity, PeerChange};
use super::callback::{Callback, Callbacks, When};
use super::describe::Method;
use super::launch::{Launch, Ready};
use super::request::{Reply, Request, Response, ServiceResult, Ticket};
use super::service::{Running, Service};
use super::settings::Settings;
use crate::bus::{Signal, SpawnBuilder};
use crate::connection_string::ConnectionString;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::name::PeerName;
use crate::protocol::Registry;

pub(super) type OnRequest = Box<dyn FnMut(&mut Service, &Request) -> ServiceResult<Reply> + Send>;
pub(super) type OnResponse = Box<dyn FnMut(&mut Service, &Response) -> ServiceResult + Send>;

/// What a service is to be, and ways to start it: [`run`](ServiceBuilder::run) here,
/// [`spawn_thread`](ServiceBuilder::spawn_thread), [`fork`](ServiceBuilder::fork); [`Exec`](crate::Exec) starts one in a
/// fresh program.
///
/// Callbacks are called in the order in which they were given, on the thread that runs the service. None of them waits
/// for another: while one runs, the service does nothing else.
///
/// ```
/// use ipc_manager::{Reply, Service, Spawn};
/// let bus = Spawn::builder().protocol("LocalMemory").spawn()?;
/// let mut echo = Service::builder("echo")
///     .bus(bus.info())
///     .on_request(|_, request| Ok(Reply::new(&format!("echo: {}", request.value()))?))
///     .spawn_thread()?;
/// assert_eq!(echo.request("echo", &7)?, "echo: 7");
/// echo.terminate()?;
/// # Ok::<(), ipc_manager::Error>(())
/// ```
pub struct ServiceBuilder {
    pub(super) settings: Settings,
    pub(super) info: Option<ConnectionString>,
    pub(super) new_bus: Option<SpawnBuilder>,
    pub(super) registry: Registry,
    pub(super) callbacks: Callbacks,
    pub(super) on_request: Option<OnRequest>,
    pub(super) on_response: Option<OnResponse>,
    pub(super) methods: Vec<Method>,
    pub(super) launch: Launch,
}

impl ServiceBuilder {
    pub(super) fn new(name: &str) -> Self {
        Self {
            settings: Settings { name: name.to_owned(), ..Settings::default() },
            info: None,
            new_bus: None,
            registry: Registry::standard(),
            callbacks: Callbacks::default(),
            on_request: None,
            on_response: None,
            methods: Vec::new(),
            launch: Launch::default(),
        }
    }

    /// Puts the service on this bus. Without it: on a new one, which belongs to the handle that starting it gives, or,
    /// started from within a service, on that one's bus.
    #[must_use]
    pub fn bus(mut self, info: &ConnectionString) -> Self {
        self.info = Some(info.clone());
        self
    }

    /// Puts the service on a new bus that is made so.
    #[must_use]
    pub fn new_bus(mut self, builder: SpawnBuilder) -> Self {
        self.new_bus = Some(builder);
        self
    }

    /// Uses protocols and serializers of the caller's.
    #[must_use]
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Sets the longest wait of a turn where something can only be found out by looking, such as whether the service
    /// is to end; 200 milliseconds unless set. What descriptors tell of is never waited out.
    #[must_use]
    pub fn cycle(mut self, cycle: Duration) -> Self {
        self.settings.cycle = cycle;
        self
    }

    /// Sets the period of the interval callbacks; 200 milliseconds unless set.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.settings.interval = interval;
        self
    }

    /// Sets whether errors and panics in callbacks are logged and survived. Otherwise one ends the service; an error of
    /// a request handler never does, it is the answer.
    #[must_use]
    pub fn intercept_errors(mut self, on: bool) -> Self {
        self.settings.intercept_errors = on;
        self
    }

    /// Sets whether who asked is told the words of a handler's error, rather than `Internal service error`.
    #[must_use]
    pub fn expose_error_details(mut self, on: bool) -> Self {
        self.settings.expose_error_details = on;
        self
    }

    /// Sets whether a panic in a callback counts as its error, which it does unless this says no: then it goes on
    /// unwinding out of the service.
    #[must_use]
    pub fn catch_panics(mut self, on: bool) -> Self {
        self.settings.catch_panics = on;
        self
    }

    /// Ends the service as soon as one of these processes has ended. With a new bus the starter is one of them.
    #[must_use]
    pub fn watch_pids(mut self, pids: impl IntoIterator<Item = u32>) -> Self {
        self.settings.watch_pids.extend(pids);
        self
    }

    /// Sets whether a service in a process of its own leaves it without running exit handlers.
    #[must_use]
    pub fn posix_exit(mut self, on: bool) -> Self {
        self.settings.posix_exit = on;
        self
    }

    /// Sets how long the starter waits until the service is on its bus; 10 seconds unless set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// Sets how long a service that ends tries to get rid of answers that there was no room for; 5 seconds unless set.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.drain_timeout = timeout;
        self
    }

    /// Sets how long workers have between TERM and KILL when the service ends; 15 seconds unless set.
    #[must_use]
    pub fn worker_grace(mut self, grace: Duration) -> Self {
        self.settings.worker_grace = grace;
        self
    }

    /// Sets whether a service in a process of its own may outlive who started it. Otherwise the kernel kills it when its
    /// starter ends, however that ends. The kernel tells by thread, so this holds for starters that start services
    /// on their first thread; others name themselves to [`watch_pids`](ServiceBuilder::watch_pids).
    #[must_use]
    pub fn outlive_starter(mut self, on: bool) -> Self {
        self.settings.outlives_starter = on;
        self
    }

    /// Says which version this is, for who asks what the service does.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.settings.version = Some(version.to_owned());
        self
    }

    /// Says what the service is for, for who asks.
    #[must_use]
    pub fn about(mut self, about: &str) -> Self {
        self.settings.about = Some(about.to_owned());
        self
    }

    /// Says what it can be asked, for who asks. Which requests it takes is up to the handler.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.methods.push(method);
        self
    }

    /// Sets the handler of requests. It answers now, or later under the request's ticket; its error is the answer, too.
    #[must_use]
    pub fn on_request(
        mut self,
        handler: impl FnMut(&mut Service, &Request) -> ServiceResult<Reply> + Send + 'static,
    ) -> Self {
        self.on_request = Some(Box::new(handler));
        self
    }

    /// Sets a handler of requests of one type that answers at once with one type. A request of another shape is an
    /// error.
    #[must_use]
    pub fn on_typed_request<Q: DeserializeOwned, A: Serialize>(
        self,
        mut handler: impl FnMut(&mut Service, Q) -> ServiceResult<A> + Send + 'static,
    ) -> Self {
        self.on_request(move |service, request| Ok(Reply::new(&handler(service, request.parse()?)?)?))
    }

    /// Sets the handler of responses that nobody in the service waits for.
    #[must_use]
    pub fn on_response(
        mut self,
        handler: impl FnMut(&mut Service, &Response) -> ServiceResult + Send + 'static,
    ) -> Self {
        self.on_response = Some(Box::new(handler));
        self
    }

    /// Appends a callback to those of its kind.
    #[must_use]
    pub fn append(mut self, callback: Callback) -> Self {
        self.callbacks.append(callback);
        self
    }

    /// Puts a callback in front of those of its kind.
    #[must_use]
    pub fn prepend(mut self, callback: Callback) -> Self {
        self.callbacks.prepend(callback);
        self
    }

    /// Removes all callbacks of a kind.
    #[must_use]
    pub fn clear(mut self, when: When) -> Self {
        self.callbacks.clear(when);
        self
    }

    /// Appends a [`Callback::start`].
    #[must_use]
    pub fn on_start(self, call: impl FnMut(&mut Service) -> ServiceResult + Send + 'static) -> Self {
        self.append(Callback::start(call))
    }

    /// Appends a [`Callback::activity`].
    #[must_use]
    pub fn on_activity(self, call: impl FnMut(&mut Service, &mut Activity) -> ServiceResult + Send + 'static) -> Self {
        self.append(Callback::activity(call))
    }

    /// Appends a [`Callback::signal`].
    #[must_use]
    pub fn on_signal(
        self,
        signal: Signal,
        call: impl FnMut(&mut Service, Signal) -> ServiceResult + Send + 'static,
    ) -> Self {
        self.append(Callback::signal(signal, call))
    }

    /// Appends a [`Callback::child`].
    #[must_use]
    pub fn on_child(self, call: impl FnMut(&mut Service, u32, ExitStatus) -> ServiceResult + Send + 'static) -> Self {
        self.append(Callback::child(call))
    }

    /// Appends a [`Callback::interval`].
    #[must_use]
    pub fn on_interval(self, call: impl FnMut(&mut Service) -> ServiceResult + Send + 'static) -> Self {
        self.append(Callback::interval(call))
    }

    /// Appends a [`Callback::peers`].
    #[must_use]
    pub fn on_peers(self, call: impl FnMut(&mut Service, &PeerChange) -> ServiceResult + Send + 'static) -> Self {
        self.append(Callback::peers(call))
    }

    /// Appends a [`Callback::message`].
    #[must_use]
    pub fn on_message(self, call: impl FnMut(&mut Service, &Message) -> ServiceResult + Send + 'static) -> Self {
        self.append(Callback::message(call))
    }

    /// Appends a [`Callback::cancelled`].
    #[must_use]
    pub fn on_cancelled(self, call: impl FnMut(&mut Service, &Ticket) -> ServiceResult + Send + 'static) -> Self {
        self.append(Callback::cancelled(call))
    }

    /// Appends a [`Callback::unhandled`].
    #[must_use]
    pub fn on_unhandled(self, call: impl FnMut(&mut Service, &Activity) -> ServiceResult + Send + 'static) -> Self {
        self.append(Callback::unhandled(call))
    }

    /// Appends a [`Callback::should_end`].
    #[must_use]
    pub fn should_end(self, call: impl FnMut(&mut Service) -> ServiceResult<bool> + Send + 'static) -> Self {
        self.append(Callback::should_end(call))
    }

    /// Appends a [`Callback::cleanup`].
    #[must_use]
    pub fn on_cleanup(self, call: impl FnMut(&mut Service) -> ServiceResult + Send + 'static) -> Self {
        self.append(Callback::cleanup(call))
    }

    /// Runs the service here, until it ends. Returns the value that it was terminated with.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) without a bus, or without a handler; as [`connect`](crate::connect());
    /// [`ServiceError`](ErrorKind::ServiceError) if a callback failed; [`NoSuchBus`](ErrorKind::NoSuchBus) if the bus
    /// was removed.
    pub fn run(mut self) -> Result<i32> {
        let mut run = || {
            self.check()?;
            let ready = self.launch.ready.take().unwrap_or(Ready::Nobody);
            Ok(ready)
        };
        let ready = run().map_err(|error: Error| error.during("run"))?;
        self.run_and_tell(ready).map_err(|error| error.during("run"))
    }

    /// Runs the service here and tells the starter once it is on its bus, or why it is not.
    pub(super) fn run_and_tell(self, ready: Ready) -> Result<i32> {
        match Running::join(self) {
            Ok(running) => {
                ready.tell(Ok(()));
                running.run()
            }
            Err(error) => {
                ready.tell(Err(&error));
                Err(error)
            }
        }
    }

    /// Refuses what could not run, before anything is made or started.
    pub(super) fn check(&self) -> Result<()> {
        PeerName::new(&self.settings.name)?;
        if self.on_request.is_none() && !self.callbacks.any(When::Activity) {
            let detail = "a service needs a handler of requests, or a callback for all activity";
            return Err(Error::new(ErrorKind::Usage, detail));
        }
        if self.info.is_some() && self.new_bus.is_some() {
            return Err(Error::new(ErrorKind::Usage, "a service is on a given bus or on a new one, not on both"));
        }
        Ok(())
    }
}

impl fmt::Debug for ServiceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceBuilder")
            .field("settings", &self.settings)
            .field("info", &self.info)
            .field("callbacks", &self.callbacks)
            .finish_non_exhaustive()
    }
}
