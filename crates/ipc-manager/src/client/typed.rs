// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client for contents of one type.

use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Client, Delivery};
use crate::error::Result;
use crate::message::Message;
use crate::protocol::Receipt;

/// A view of a client that sends and receives contents of one type.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize)]
/// struct Job { number: u32 }
///
/// let bus = ipc_manager::Spawn::builder().protocol("LocalMemory").spawn()?;
/// let (mut boss, mut worker) = (bus.connect("boss")?, bus.connect("worker")?);
/// boss.typed::<Job>().send("worker", &Job { number: 7 })?;
/// let (message, job) = worker.typed::<Job>().recv()?;
/// assert_eq!((message.from().as_str(), job.number), ("boss", 7));
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug)]
pub struct Typed<'a, T> {
    client: &'a mut Client,
    content: PhantomData<fn(T) -> T>,
}

impl Client {
    /// Views this client as one for contents of one type.
    pub fn typed<T>(&mut self) -> Typed<'_, T> {
        Typed { client: self, content: PhantomData }
    }
}

impl<T: Serialize> Typed<'_, T> {
    /// Sends as [`Client::send`] does.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub fn send(&mut self, to: &str, content: &T) -> Result<Receipt> {
        self.client.send(to, content)
    }
}

impl<T: DeserializeOwned> Typed<'_, T> {
    /// Receives as [`Client::recv`] does.
    ///
    /// # Errors
    /// As [`Client::recv`], and [`Deserialize`](crate::ErrorKind::Deserialize) for a content of another shape, with the
    /// message handed back.
    pub fn recv(&mut self) -> Result<(Message, T)> {
        let message = self.client.recv()?;
        parsed(message)
    }

    /// Receives as [`Client::recv_timeout`] does.
    ///
    /// # Errors
    /// As [`Client::recv_timeout`] and [`recv`](Typed::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<(Message, T)> {
        let message = self.client.recv_timeout(timeout)?;
        parsed(message)
    }

    /// Receives as [`Client::try_recv`] does.
    ///
    /// # Errors
    /// As [`Client::try_recv`] and [`recv`](Typed::recv).
    pub fn try_recv(&mut self) -> Result<Option<(Message, T)>> {
        self.client.try_recv()?.map(parsed).transpose()
    }

    /// Receives as [`Client::receive`] does: the message stays in the store until the delivery is acknowledged.
    ///
    /// ```
    /// let bus = ipc_manager::Spawn::builder().protocol("MessageFiles").spawn()?;
    /// let (mut boss, mut worker) = (bus.connect("boss")?, bus.connect("worker")?);
    /// boss.typed::<u32>().send("worker", &7)?;
    /// let (delivery, number) = worker.typed::<u32>().receive()?;
    /// assert_eq!((number, delivery.attempts()), (7, 1));
    /// delivery.acknowledge(&mut worker)?;
    /// # Ok::<(), ipc_manager::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Client::receive`], and [`Deserialize`](crate::ErrorKind::Deserialize) for a content of another shape. Such a
    /// message is put back, and is [dead](Client::dead) once it was handed out as often as it may be.
    pub fn receive(&mut self) -> Result<(Delivery, T)> {
        let delivery = self.client.receive()?;
        parsed_delivery(delivery)
    }

    /// Receives as [`Client::receive_timeout`] does.
    ///
    /// # Errors
    /// As [`Client::receive_timeout`] and [`receive`](Typed::receive).
    pub fn receive_timeout(&mut self, timeout: Duration) -> Result<(Delivery, T)> {
        let delivery = self.client.receive_timeout(timeout)?;
        parsed_delivery(delivery)
    }

    /// Receives as [`Client::try_receive`] does.
    ///
    /// # Errors
    /// As [`Client::try_receive`] and [`receive`](Typed::receive).
    pub fn try_receive(&mut self) -> Result<Option<(Delivery, T)>> {
        self.client.try_receive()?.map(parsed_delivery).transpose()
    }
}

/// The message is not handed back by an error: it is in the store.
fn parsed_delivery<T: DeserializeOwned>(delivery: Delivery) -> Result<(Delivery, T)> {
    let content = delivery.message().parse()?;
    Ok((delivery, content))
}

fn parsed<T: DeserializeOwned>(message: Message) -> Result<(Message, T)> {
    match message.parse() {
        Ok(content) => Ok((message, content)),
        Err(error) => Err(error.with_messages(vec![message])),
    }
}
