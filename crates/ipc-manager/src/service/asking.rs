// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asking over a client, outside of a service.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use super::envelope::{Envelope, RequestId};
use super::request::Response;
use super::requester::{Accepted, Awaits, Requester};
use super::waiting::{self, Asker, Manner};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::message::{Message, ToContent};
use crate::system::Deadline;

/// Called with the response, or with why none will come.
pub(super) type OnResponse = Box<dyn FnOnce(Result<Response>) + Send>;

/// Somebody who asks over a client, and keeps what comes and is no response.
pub(super) struct Joined<'a> {
    pub(super) client: &'a mut Client,
    pub(super) requester: &'a mut Requester<OnResponse>,
    pub(super) buffer: &'a mut VecDeque<Message>,
}

impl Joined<'_> {
    /// Gives a message to whoever waits for it.
    fn hand_over(&mut self, message: Message) {
        match Envelope::of(&message) {
            Envelope::Response(parts) => match self.requester.accept(Response::new(message, parts)) {
                Accepted::Call(callback, response) => callback(Ok(response)),
                Accepted::Unexpected(response) => self.requester.report(&response),
                Accepted::Kept | Accepted::Unwanted => {}
            },
            _ => self.buffer.push_back(message),
        }
    }
}

impl Asker for Joined<'_> {
    type Callback = OnResponse;

    fn parts(&mut self) -> (&mut Client, &mut Requester<OnResponse>) {
        (self.client, self.requester)
    }

    fn view(&self) -> (&Client, &Requester<OnResponse>) {
        (self.client, self.requester)
    }

    fn receive(&mut self) -> Result<usize> {
        let messages = self.client.get_messages()?;
        let count = messages.len();
        messages.into_iter().for_each(|message| self.hand_over(message));
        Ok(count)
    }

    fn receive_next(&mut self) -> Result<()> {
        if let Some(message) = self.client.try_recv()? {
            self.hand_over(message);
        }
        Ok(())
    }

    fn post<T: ToContent + ?Sized>(&mut self, to: &str, content: &T, deadline: Deadline) -> Result<()> {
        let waits = !deadline.is_never() || self.client.is_blocking();
        self.client.send_content(to, content, waits.then_some(deadline)).map(drop)
    }

    fn give_up(&mut self, callback: OnResponse, error: Error) -> Result<()> {
        callback(Err(error));
        Ok(())
    }
}

impl Client {
    /// Asks a service over this client and waits for the response so long at most; without end for `None`. What else
    /// comes meanwhile is put back into the mailbox. Who asks often uses a [`Handle`](crate::Handle).
    ///
    /// ```
    /// use ipc_manager::{Service, Spawn};
    /// let bus = Spawn::builder().protocol("LocalMemory").spawn()?;
    /// let mut double = Service::builder("double").bus(bus.info()).on_typed_request(|_, n: i64| Ok(n * 2)).spawn_thread()?;
    /// let mut client = bus.connect("client")?;
    /// assert_eq!(client.request("double", &21, None)?.value(), &42);
    /// # double.terminate()?;
    /// # Ok::<(), ipc_manager::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Handle::request_within`](crate::Handle::request_within).
    pub fn request<T: Serialize + ?Sized>(
        &mut self,
        to: &str,
        value: &T,
        timeout: Option<Duration>,
    ) -> Result<Response> {
        let (mut requester, mut buffer) = (Requester::default(), VecDeque::new());
        let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
        let mut joined = Joined { client: self, requester: &mut requester, buffer: &mut buffer };
        let manner = Manner { deadline, ..Manner::PLAIN };
        let response = waiting::send(&mut joined, to, value, manner, Awaits::One(None))
            .and_then(|id: RequestId| waiting::next(&mut joined, &id, deadline.remaining()));
        let put_back = self.requeue(buffer.make_contiguous());
        let response = response.map_err(|error| error.during("request").about_peer(to))?;
        put_back.map(|()| response)
    }
}
