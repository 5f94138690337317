// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sending: done when the store has it.

use std::time::Duration;

use serde::Serialize;

use super::Client;
use crate::error::Result;
#[cfg(doc)]
use crate::error::{ErrorKind, Stored};
use crate::message::{Content, Draft, Message, ToContent};
use crate::name::PeerName;
use crate::protocol::Receipt;
use crate::system::Deadline;

impl Client {
    /// Builds a message from this client, for [`send_message`](Client::send_message) and
    /// [`send_all`](Client::send_all).
    ///
    /// # Errors
    /// [`InvalidName`](ErrorKind::InvalidName), [`Serialize`](ErrorKind::Serialize),
    /// [`TooLarge`](ErrorKind::TooLarge).
    pub fn message<T: Serialize + ?Sized>(&self, to: &str, content: &T) -> Result<Message> {
        self.message_of(to, content)
    }

    pub(crate) fn message_of<T: ToContent + ?Sized>(&self, to: &str, content: &T) -> Result<Message> {
        let content = Content::within(content, &self.limits)?;
        let to = self.recipient(to)?;
        self.last_to.replace(Some(to.clone()));
        Ok(Message::between(self.name.clone(), to, content))
    }

    /// The name of a recipient. Most send to the same peer again and again.
    fn recipient(&self, to: &str) -> Result<PeerName> {
        match self.last_to.take().filter(|last| last == to) {
            Some(last) => Ok(last),
            None => PeerName::foreign(to).map_err(|error| error.about_peer(to)),
        }
    }

    /// Makes a message and sends it: where the protocol takes bytes it is encoded at once, and is a [`Message`] only if
    /// something stands in the way.
    fn send_new<T: ToContent + ?Sized>(
        &mut self,
        operation: &'static str,
        to: &str,
        content: &T,
        deadline: Option<Deadline>,
    ) -> Result<Receipt> {
        self.check(operation)?;
        if !self.ships_text || !self.outbox.is_empty() {
            let message = self.message_of(to, content).map_err(|error| error.during(operation))?;
            return self.send_one(operation, message, deadline);
        }
        let to = self.recipient(to).map_err(|error| error.during(operation))?;
        let room = self.rooms.pop().unwrap_or_default();
        let draft = Draft::new((&self.name, &to), content, &self.limits, room);
        self.send_draft(operation, to, draft.map_err(|error| error.during(operation))?, deadline)
    }

    fn send_draft(
        &mut self,
        operation: &'static str,
        to: PeerName,
        draft: Draft,
        deadline: Option<Deadline>,
    ) -> Result<Receipt> {
        if draft.is_within(&self.limits)
            && let Some(payloads) = self.connection.payloads()
            && let Some(receipt) = payloads.deliver(&to, draft.id(), draft.text().as_bytes())
        {
            self.registered.count_sent(to.as_str());
            self.last_to.replace(Some(to));
            self.keep_room(draft.into_room());
            return Ok(receipt);
        }
        self.last_to.replace(Some(to.clone()));
        let (message, room) = draft.into_message(self.name.clone(), to)?;
        self.keep_room(room);
        self.send_one(operation, message, deadline)
    }

    /// Sends a content to a peer, waiting for room as long as it takes, and for a store that is away within the
    /// [patience](crate::ClientBuilder::patience) of this client. It is stored once, however often that has to be tried.
    ///
    /// # Errors
    /// [`NoSuchPeer`](ErrorKind::NoSuchPeer), [`TooLarge`](ErrorKind::TooLarge), and what the store says. The message
    /// is handed back in the error; [`Error::stored`](crate::Error::stored) says whether it may arrive all the same.
    pub fn send<T: Serialize + ?Sized>(&mut self, to: &str, content: &T) -> Result<Receipt> {
        let deadline = if self.is_blocking { Some(Deadline::NEVER) } else { None };
        self.send_new("send", to, content, deadline)
    }

    /// Sends without ever waiting. Where there is no room the message is held back if the protocol
    /// [says so](crate::Capabilities::queues): [`Receipt::Queued`]. It goes out in its order with the next sends to that
    /// peer, while this client waits for anything, or by [`drain_pending`](Client::drain_pending).
    ///
    /// # Errors
    /// As [`send`](Client::send), and [`WouldBlock`](ErrorKind::WouldBlock) where there is no room, not even in the
    /// outbox.
    pub fn try_send<T: Serialize + ?Sized>(&mut self, to: &str, content: &T) -> Result<Receipt> {
        self.send_new("try_send", to, content, None)
    }

    /// Sends, waiting for room so long at most.
    ///
    /// # Errors
    /// As [`send`](Client::send), and [`Timeout`](ErrorKind::Timeout). A message of which a part was out by then goes on
    /// as soon as there is room: [`Stored::Maybe`].
    pub fn send_timeout<T: Serialize + ?Sized>(&mut self, to: &str, content: &T, timeout: Duration) -> Result<Receipt> {
        self.send_new("send_timeout", to, content, Some(Deadline::after(timeout)))
    }

    /// As [`try_send`](Client::try_send), or with a deadline as [`send_timeout`](Client::send_timeout).
    pub(crate) fn send_content<T: ToContent + ?Sized>(
        &mut self,
        to: &str,
        content: &T,
        deadline: Option<Deadline>,
    ) -> Result<Receipt> {
        self.send_new(if deadline.is_some() { "send_timeout" } else { "try_send" }, to, content, deadline)
    }

    /// Sends a message as it is, but for the sender, which is always this client.
    ///
    /// # Errors
    /// As [`send`](Client::send).
    pub fn send_message(&mut self, message: Message) -> Result<Receipt> {
        let deadline = if self.is_blocking { Some(Deadline::NEVER) } else { None };
        self.send_one("send", message, deadline)
    }

    /// Sends a message without ever waiting.
    ///
    /// # Errors
    /// As [`try_send`](Client::try_send).
    pub fn try_send_message(&mut self, message: Message) -> Result<Receipt> {
        self.send_one("try_send", message, None)
    }

    /// Sends a message, waiting for room so long at most.
    ///
    /// # Errors
    /// As [`send_timeout`](Client::send_timeout).
    pub fn send_message_timeout(&mut self, message: Message, timeout: Duration) -> Result<Receipt> {
        self.send_one("send_timeout", message, Some(Deadline::after(timeout)))
    }

    /// Sends many messages in order, in as few steps as the protocol allows.
    ///
    /// # Errors
    /// Of the first message that was not stored; it and all after it are handed back, those before it are stored.
    pub fn send_all(&mut self, messages: impl IntoIterator<Item = Message>) -> Result<Vec<Receipt>> {
        let messages: Vec<Message> = messages.into_iter().collect();
        let deadline = if self.is_blocking { Some(Deadline::NEVER) } else { None };
        self.deliver("send_all", messages, deadline)
    }

    /// Sends a content to every peer but this client, suspended ones too; each copy has an id of its own. What became
    /// of each copy is listed by name; one that fails does not keep the others.
    ///
    /// # Errors
    /// [`Serialize`](ErrorKind::Serialize) if the content cannot be sent, or what the store says when asked for the
    /// peers. Then nothing was sent.
    pub fn broadcast<T: Serialize + ?Sized>(&mut self, content: &T) -> Result<Vec<(PeerName, Result<Receipt>)>> {
        self.check("broadcast")?;
        let content = Content::within(content, &self.limits).map_err(|error| error.during("broadcast"))?;
        let mut results = Vec::new();
        for peer in self.peers()? {
            let copy = Message::builder(self.name.as_str()).to(peer.as_str()).broadcast(true);
            let sent = copy.raw_content(content.clone()).build().and_then(|copy| self.try_send_message(copy));
            results.push((peer, sent));
        }
        Ok(results)
    }

    /// Whether [`send`](Client::send) waits for room; it does unless told otherwise.
    #[must_use]
    pub fn is_blocking(&self) -> bool {
        self.is_blocking
    }

    /// Makes [`send`](Client::send) wait for room, or hold back or refuse where there is none, as
    /// [`try_send`](Client::try_send) does.
    pub fn set_blocking(&mut self, blocking: bool) {
        self.is_blocking = blocking;
    }
}
