// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asking services, from outside of one.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::asking::{Joined, OnResponse};
use super::describe::Description;
use super::envelope::{DESCRIBE, PING, RequestId};
use super::launch::Started;
use super::request::Response;
use super::requester::{Awaits, Requester};
use super::waiting::{self, Asker, DEFAULT_TIMEOUT, Manner};
use crate::bus::Spawn;
use crate::client::Client;
use crate::connection_string::ConnectionString;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::name::PeerName;
use crate::protocol::Registry;
use crate::system::{Deadline, process};

/// Somebody who asks services, with a place on the bus of its own: what starting a service gives, or made for one that
/// runs already.
///
/// Dropping it leaves the bus; where the bus was made for the service, it ends the bus and the service with it. A service
/// on a bus of the caller's goes on.
///
/// ```
/// use ipc_manager::{Handle, Service, Spawn};
/// let bus = Spawn::builder().protocol("LocalMemory").spawn()?;
/// let double = Service::builder("double").bus(bus.info()).on_typed_request(|_, number: i64| Ok(number * 2));
/// let mut started = double.spawn_thread()?;
/// assert_eq!(started.request("double", &21)?, 42);
///
/// let mut another = Handle::new("double", bus.info())?;
/// let id = another.send_request("double", &4)?;
/// assert_eq!(another.await_response(&id, None)?.value(), &8);
/// started.terminate()?;
/// # drop((another, started));
/// # Ok::<(), ipc_manager::Error>(())
/// ```
pub struct Handle {
    service: PeerName,
    info: ConnectionString,
    registry: Registry,
    name: Option<String>,
    timeout: Duration,
    client: Option<Client>,
    requester: Requester<OnResponse>,
    /// What came and is no response.
    buffer: VecDeque<Message>,
    pub(super) started: Started,
    /// The bus, where it was made for the service. Declared last, so that it ends last.
    bus: Option<Spawn>,
}

impl Handle {
    /// Prepares to ask a service that runs, or will, on a bus. The bus is joined when something is first asked.
    ///
    /// # Errors
    /// [`InvalidName`](ErrorKind::InvalidName) if no service can have that name.
    pub fn new(service: &str, info: &ConnectionString) -> Result<Self> {
        Self::with_registry(service, info, Registry::standard())
    }

    /// As [`new`](Handle::new), with protocols and serializers of the caller's.
    ///
    /// # Errors
    /// As [`new`](Handle::new).
    pub fn with_registry(service: &str, info: &ConnectionString, registry: Registry) -> Result<Self> {
        Ok(Self {
            service: PeerName::foreign(service).map_err(|error| error.during("handle"))?,
            info: info.clone(),
            registry,
            name: None,
            timeout: DEFAULT_TIMEOUT,
            client: None,
            requester: Requester::default(),
            buffer: VecDeque::new(),
            started: Started::Elsewhere,
            bus: None,
        })
    }

    /// A handle on a service that is being started, under the name that such handles have.
    pub(super) fn of_starter(mut self, bus: Option<Spawn>) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        // The first one is called as with the reference; a second one in the same process must be called otherwise.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let pid = process::own_pid();
        let suffix = if count == 0 { String::new() } else { format!("_{}", count + 1) };
        self.name = Some(format!("service_parent_{pid}{suffix}"));
        self.bus = bus;
        self
    }

    /// Sets the name to join under. Without it: a random one, or one that says that this process started a service.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Sets how long [`request`](Handle::request) and its like wait; 10 seconds unless set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The service that it was made for.
    #[must_use]
    pub fn service_name(&self) -> &PeerName {
        &self.service
    }

    /// The bus.
    #[must_use]
    pub fn info(&self) -> &ConnectionString {
        &self.info
    }

    /// The place on the bus; joins it if that was not done yet.
    ///
    /// # Errors
    /// As [`connect`](crate::connect()).
    pub fn client(&mut self) -> Result<&mut Client> {
        if self.client.is_none() {
            let random = || uuid::Uuid::new_v4().hyphenated().to_string();
            let name = self.name.get_or_insert_with(random);
            let client = Client::builder(name, &self.info).registry(self.registry.clone()).connect();
            return Ok(self.client.insert(client.map_err(|error| error.during("handle"))?));
        }
        self.client.as_mut().ok_or_else(|| Error::new(ErrorKind::Disconnected, "the handle has left the bus"))
    }

    fn joined(&mut self) -> Result<Joined<'_>> {
        self.client()?;
        let Some(client) = self.client.as_mut() else {
            return Err(Error::new(ErrorKind::Disconnected, "the handle has left the bus"));
        };
        Ok(Joined { client, requester: &mut self.requester, buffer: &mut self.buffer })
    }

    /// Waits until the service is there, so long at most; without end for `None`. Returns whether it is.
    ///
    /// # Errors
    /// What the store says.
    pub fn ready(&mut self, timeout: Option<Duration>) -> Result<bool> {
        let service = self.service.clone();
        self.client()?.wait_for_peer(service.as_str(), timeout).map_err(|error| error.during("ready"))
    }

    /// The service's process as it is now; `None` if it is not there.
    ///
    /// # Errors
    /// What the store says.
    pub fn service_pid(&mut self) -> Result<Option<u32>> {
        let service = self.service.clone();
        let record = self.client()?.peer(service.as_str())?;
        Ok(record.filter(|record| record.state.is_alive()).and_then(|record| record.pid))
    }

    /// The process that was started for the service; `None` where none was. It is another than
    /// [`service_pid`](Handle::service_pid) says if that process started the service in turn.
    #[must_use]
    pub fn child_pid(&self) -> Option<u32> {
        self.started.pid()
    }

    /// Asks and waits for the answer, as long as [`timeout`](Handle::timeout) says.
    ///
    /// # Errors
    /// [`NoSuchPeer`](ErrorKind::NoSuchPeer), [`PeerGone`](ErrorKind::PeerGone) as soon as it is,
    /// [`Timeout`](ErrorKind::Timeout), [`ServiceError`](ErrorKind::ServiceError) with the service's words, and as
    /// [`Client::send`].
    pub fn request<T: Serialize + ?Sized>(&mut self, to: &str, value: &T) -> Result<Value> {
        self.request_within(to, value, Some(self.timeout))?.into_value().map_err(|error| error.during("request"))
    }

    /// Asks and waits for the response so long at most; without end for `None`. A response that is an error is
    /// returned like any other.
    ///
    /// # Errors
    /// As [`request`](Handle::request), but for the service's own error.
    pub fn request_within<T: Serialize + ?Sized>(
        &mut self,
        to: &str,
        value: &T,
        timeout: Option<Duration>,
    ) -> Result<Response> {
        self.exchange(to, value, None, timeout).map_err(|error| error.during("request").about_peer(to))
    }

    fn exchange<T: Serialize + ?Sized>(
        &mut self,
        to: &str,
        value: &T,
        ask: Option<&str>,
        timeout: Option<Duration>,
    ) -> Result<Response> {
        let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
        let mut joined = self.joined()?;
        let manner = Manner { ask, deadline, ..Manner::PLAIN };
        let id = waiting::send(&mut joined, to, value, manner, Awaits::One(None))?;
        let response = waiting::next(&mut joined, &id, timeout.map(|most| deadline.left(most)));
        // Whoever gave up does not want it later, either.
        joined.requester.forget(&id, false);
        response
    }

    /// Asks. The response is fetched with [`get_response`](Handle::get_response) or
    /// [`await_response`](Handle::await_response).
    ///
    /// # Errors
    /// [`PeerGone`](ErrorKind::PeerGone) if it is known to be dead, and as [`Client::send`].
    pub fn send_request<T: Serialize + ?Sized>(&mut self, to: &str, value: &T) -> Result<RequestId> {
        self.ask(to, value, Manner::PLAIN, Awaits::One(None))
    }

    /// Asks, and calls back with the response, or with why none will come, from within [`poll`](Handle::poll) and all
    /// that waits for responses.
    ///
    /// # Errors
    /// As [`send_request`](Handle::send_request); then nothing is called.
    pub fn send_request_with<T: Serialize + ?Sized>(
        &mut self,
        to: &str,
        value: &T,
        callback: impl FnOnce(Result<Response>) + Send + 'static,
    ) -> Result<RequestId> {
        self.ask(to, value, Manner::PLAIN, Awaits::Callback(Box::new(callback)))
    }

    /// Asks for any number of responses. Each is fetched with [`await_response`](Handle::await_response), until one
    /// [is final](Response::is_final). A service that knows nothing of this gives one.
    ///
    /// # Errors
    /// As [`send_request`](Handle::send_request).
    pub fn send_stream_request<T: Serialize + ?Sized>(&mut self, to: &str, value: &T) -> Result<RequestId> {
        self.ask(to, value, Manner { takes_many: true, ..Manner::PLAIN }, Awaits::Many(VecDeque::new()))
    }

    fn ask<T: Serialize + ?Sized>(
        &mut self,
        to: &str,
        value: &T,
        manner: Manner<'_>,
        awaits: Awaits<OnResponse>,
    ) -> Result<RequestId> {
        // Who does not read is not waited for without end.
        let manner = Manner { deadline: Deadline::after(self.timeout), ..manner };
        let sent = self.joined().and_then(|mut joined| waiting::send(&mut joined, to, value, manner, awaits));
        sent.map_err(|error| error.during("send_request").about_peer(to))
    }

    /// Takes a request back: whoever was asked is told, and no response is fetched any more.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn cancel(&mut self, id: &RequestId) -> Result<()> {
        self.joined().and_then(|mut joined| waiting::take_back(&mut joined, id)).map_err(|error| error.during("cancel"))
    }

    /// Fetches a response that has come, once; of many the next. `None` if none has come yet.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) for an id that is not awaited or has a callback; [`PeerGone`](ErrorKind::PeerGone)
    /// if that was found out.
    pub fn get_response(&mut self, id: &RequestId) -> Result<Option<Response>> {
        self.requester.take(id).map_err(|error| error.during("get_response"))
    }

    /// Waits for the response, of many the next, so long at most; without end for `None`.
    ///
    /// # Errors
    /// [`PeerGone`](ErrorKind::PeerGone) as soon as who was asked is gone, [`Timeout`](ErrorKind::Timeout) after which
    /// it can be waited for again, [`Usage`](ErrorKind::Usage) as [`get_response`](Handle::get_response).
    pub fn await_response(&mut self, id: &RequestId, timeout: Option<Duration>) -> Result<Response> {
        let waited = self.joined().and_then(|mut joined| waiting::next(&mut joined, id, timeout));
        waited.map_err(|error| error.during("await_response"))
    }

    /// Waits until no response is awaited any more, so long at most; without end for `None`.
    ///
    /// # Errors
    /// [`PeerGone`](ErrorKind::PeerGone), naming all who went away; every other response has come then.
    /// [`Timeout`](ErrorKind::Timeout).
    pub fn await_all_responses(&mut self, timeout: Option<Duration>) -> Result<()> {
        let waited = self.joined().and_then(|mut joined| waiting::all(&mut joined, timeout));
        waited.map_err(|error| error.during("await_all_responses"))
    }

    /// Whether responses are still to come.
    #[must_use]
    pub fn has_pending_responses(&self) -> bool {
        self.requester.open().next().is_some()
    }

    /// Takes what is in the mailbox, waiting for something so long at most; without end for `None`. Responses go to
    /// whoever waits for them, all else to the [buffer](Handle::messages). Returns how many messages came.
    ///
    /// # Errors
    /// As [`Client::get_messages`].
    pub fn poll(&mut self, timeout: Option<Duration>) -> Result<usize> {
        let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
        let mut joined = self.joined()?;
        let mut poll = || {
            loop {
                let count = joined.receive()?;
                waiting::settle_hopeless(&mut joined)?;
                if count > 0 || waiting::sleep(&mut joined, deadline)? {
                    return Ok(count);
                }
            }
        };
        poll().map_err(|error: Error| error.during("poll"))
    }

    /// Empties the buffer of what came and is no response.
    pub fn messages(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.buffer).into()
    }

    /// Responses that nobody waited for, since last asked: late, double or unknown ones, each of the kind
    /// [`UnexpectedResponse`](ErrorKind::UnexpectedResponse). They cost nothing else.
    #[must_use]
    pub fn take_unexpected(&mut self) -> Vec<Error> {
        self.requester.take_reports()
    }

    /// Asks for nothing but an answer, and tells how long it took. A service that knows nothing of this is sent a null
    /// request, and any response of it will do.
    ///
    /// # Errors
    /// As [`request`](Handle::request), but for the service's own error.
    pub fn ping(&mut self, to: &str, timeout: Option<Duration>) -> Result<Duration> {
        self.client()?;
        let begun = std::time::Instant::now();
        let answered = self.exchange(to, &Value::Null, Some(PING), timeout);
        answered.map(|_| begun.elapsed()).map_err(|error| error.during("ping").about_peer(to))
    }

    /// Asks a service what it does.
    ///
    /// # Errors
    /// As [`request`](Handle::request); [`Unsupported`](ErrorKind::Unsupported) if it does not say.
    pub fn describe(&mut self, to: &str, timeout: Option<Duration>) -> Result<Description> {
        let described = self.exchange(to, &Value::Null, Some(DESCRIBE), timeout).and_then(|response| {
            if response.understood() == Some(DESCRIBE) {
                return response.checked()?.parse();
            }
            Err(Error::new(ErrorKind::Unsupported, "the service does not say what it does"))
        });
        described.map_err(|error| error.during("describe").about_peer(to))
    }

    /// Asks the service to end, by a terminate message. One that is gone already is fine.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn terminate(&mut self) -> Result<()> {
        let service = self.service.clone();
        match self.client()?.send(service.as_str(), &serde_json::json!({"terminate": 1})) {
            Err(error) if error.kind() != ErrorKind::NoSuchPeer => Err(error.during("terminate")),
            _ => Ok(()),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // What was not read is of no use to anybody, and who still waits for a response is gone.
        if let Some(mut client) = self.client.take()
            && client.disconnect().is_err_and(|error| error.kind() != ErrorKind::UnreadMessages)
        {
            log::debug!("the handle of {} left in disorder", self.service);
        }
        let owns_bus = self.bus.take().is_some();
        self.started.finish(owns_bus);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("service", &self.service)
            .field("info", &self.info)
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}
