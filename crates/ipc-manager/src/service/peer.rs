// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asking other services from within one.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::Service;
use super::envelope::RequestId;
use super::request::{Response, ServiceResult};
use super::requester::Awaits;
use super::waiting::{self, DEFAULT_TIMEOUT, Manner};
use crate::error::{ErrorKind, Result};
use crate::name::PeerName;

/// Another service, as a service sees it: asked over the service's own client.
///
/// It lives as long as the callback that asked for it; what was asked goes on without it.
///
/// ```
/// use ipc_manager::{Reply, Service, Spawn};
/// let bus = Spawn::builder().protocol("LocalMemory").spawn()?;
/// let inner = Service::builder("inner").bus(bus.info()).on_typed_request(|_, n: i64| Ok(n + 1));
/// let inner = inner.spawn_thread()?;
/// let outer = Service::builder("outer").bus(bus.info()).on_request(|service, request| {
///     let ticket = request.ticket();
///     service.peer("inner")?.send_request_with(request.value(), move |service, response| {
///         Ok(service.respond(&ticket, &response?.into_value()?)?)
///     })?;
///     Ok(Reply::Later)
/// });
/// let mut outer = outer.spawn_thread()?;
/// assert_eq!(outer.request("outer", &1)?, 2);
/// # outer.terminate()?;
/// # let mut inner = inner;
/// # inner.terminate()?;
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug)]
pub struct Peer<'a> {
    service: &'a mut Service,
    name: PeerName,
}

impl Service {
    /// Another service on the same bus.
    ///
    /// # Errors
    /// [`InvalidName`](ErrorKind::InvalidName) if nobody can have that name.
    pub fn peer(&mut self, name: &str) -> Result<Peer<'_>> {
        let name = PeerName::foreign(name).map_err(|error| error.during("peer"))?;
        Ok(Peer { service: self, name })
    }
}

impl Peer<'_> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &PeerName {
        &self.name
    }

    /// The process that this service started for it; `None` where it did not.
    #[must_use]
    pub fn child_pid(&self) -> Option<u32> {
        self.service.nested.get(&self.name).copied()
    }

    /// Its process as it is now; `None` if it is not there.
    ///
    /// # Errors
    /// What the store says.
    pub fn service_pid(&mut self) -> Result<Option<u32>> {
        let record = self.service.client.peer(self.name.as_str())?;
        Ok(record.filter(|record| record.state.is_alive()).and_then(|record| record.pid))
    }

    /// Waits until it is there, so long at most; without end for `None`. Returns whether it is.
    ///
    /// # Errors
    /// What the store says.
    pub fn ready(&mut self, timeout: Option<Duration>) -> Result<bool> {
        self.service.client.wait_for_peer(self.name.as_str(), timeout).map_err(|error| error.during("ready"))
    }

    /// Asks and waits for the answer, 10 seconds at most. The service does nothing else meanwhile; what comes waits for
    /// its turn.
    ///
    /// # Errors
    /// As [`Handle::request`](crate::Handle::request).
    pub fn request<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<Value> {
        let response = self.request_within(value, Some(DEFAULT_TIMEOUT))?;
        response.into_value().map_err(|error| error.during("request"))
    }

    /// Asks and waits for the response so long at most; without end for `None`. A response that is an error is
    /// returned like any other.
    ///
    /// # Errors
    /// As [`Handle::request_within`](crate::Handle::request_within).
    pub fn request_within<T: Serialize + ?Sized>(&mut self, value: &T, timeout: Option<Duration>) -> Result<Response> {
        let mut exchange = || {
            let id = waiting::send(self.service, self.name.as_str(), value, Manner::PLAIN, Awaits::One(None))?;
            let response = waiting::next(self.service, &id, timeout);
            self.service.requester.forget(&id, false);
            response
        };
        exchange().map_err(|error: crate::Error| error.during("request").about_peer(self.name.as_str()))
    }

    /// Asks. The response is fetched with [`get_response`](Peer::get_response) or
    /// [`await_response`](Peer::await_response), by this value or a later one.
    ///
    /// # Errors
    /// As [`Handle::send_request`](crate::Handle::send_request).
    pub fn send_request<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<RequestId> {
        self.ask(value, Manner::PLAIN, Awaits::One(None))
    }

    /// Asks, and has the service call back with the response, or with why none will come, as soon as it is known.
    ///
    /// # Errors
    /// As [`Handle::send_request`](crate::Handle::send_request); then nothing is called.
    pub fn send_request_with<T: Serialize + ?Sized>(
        &mut self,
        value: &T,
        callback: impl FnOnce(&mut Service, Result<Response>) -> ServiceResult + Send + 'static,
    ) -> Result<RequestId> {
        self.ask(value, Manner::PLAIN, Awaits::Callback(Box::new(callback)))
    }

    /// Asks for any number of responses, as [`Handle::send_stream_request`](crate::Handle::send_stream_request) does.
    ///
    /// # Errors
    /// As [`Handle::send_request`](crate::Handle::send_request).
    pub fn send_stream_request<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<RequestId> {
        self.ask(value, Manner { takes_many: true, ..Manner::PLAIN }, Awaits::Many(VecDeque::new()))
    }

    fn ask<T: Serialize + ?Sized>(
        &mut self,
        value: &T,
        manner: Manner<'_>,
        awaits: Awaits<super::service::OnAnswer>,
    ) -> Result<RequestId> {
        let sent = waiting::send(self.service, self.name.as_str(), value, manner, awaits);
        sent.map_err(|error| error.during("send_request").about_peer(self.name.as_str()))
    }

    /// Fetches a response that has come, once; of many the next. `None` if none has come yet.
    ///
    /// # Errors
    /// As [`Handle::get_response`](crate::Handle::get_response).
    pub fn get_response(&mut self, id: &RequestId) -> Result<Option<Response>> {
        self.service.requester.take(id).map_err(|error| error.during("get_response"))
    }

    /// Waits for the response, of many the next, so long at most; without end for `None`. The service does nothing else
    /// meanwhile.
    ///
    /// # Errors
    /// As [`Handle::await_response`](crate::Handle::await_response).
    pub fn await_response(&mut self, id: &RequestId, timeout: Option<Duration>) -> Result<Response> {
        waiting::next(self.service, id, timeout).map_err(|error| error.during("await_response"))
    }

    /// Takes a request back.
    ///
    /// # Errors
    /// As [`Handle::cancel`](crate::Handle::cancel).
    pub fn cancel(&mut self, id: &RequestId) -> Result<()> {
        waiting::take_back(self.service, id).map_err(|error| error.during("cancel"))
    }

    /// Asks it to end, by a terminate message. One that is gone already is fine.
    ///
    /// # Errors
    /// As [`Service::send`].
    pub fn terminate(&mut self) -> Result<()> {
        match self.service.send(self.name.as_str(), &serde_json::json!({"terminate": 1})) {
            Err(error) if error.kind() != ErrorKind::NoSuchPeer => Err(error.during("terminate")),
            _ => Ok(()),
        }
    }
}
