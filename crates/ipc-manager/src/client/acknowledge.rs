// SPDX-License-Identifier: MIT OR Apache-2.0
//! Receiving at least once: a message stays in the store until its reader says that it is done with it.

use std::sync::Arc;
use std::time::Duration;

use super::Client;
use super::desk::Desk;
use super::leave::riding_out;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::name::PeerName;
use crate::protocol::{Dead, Deliveries, Held};
use crate::system::Deadline;

/// A message that was received and is in the store still, until it is acknowledged.
///
/// Dropped without a word it is put back. Should the process die, or the client be dropped, it is there for whoever
/// [continues](crate::reconnect) the name. It need not stay in the thread that has the client.
///
/// ```
/// use ipc_manager::{Spawn, reconnect};
/// use std::time::Duration;
/// let bus = Spawn::builder().protocol("MessageFiles").spawn()?;
/// let (mut boss, mut worker) = (bus.connect("boss")?, bus.connect("worker")?);
/// boss.send("worker", "a job")?;
///
/// let delivery = worker.receive()?;
/// assert_eq!((delivery.message().content(), delivery.attempts()), (&"a job".into(), 1));
/// delivery.put_back();
///
/// let delivery = worker.receive()?;
/// assert_eq!(delivery.attempts(), 2);
/// boss.send("boss", "done")?;
/// delivery.acknowledge(&mut worker)?;
/// assert!(worker.try_receive()?.is_none());
/// # boss.recv()?;
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[must_use = "a delivery that is dropped is put back"]
#[derive(Debug)]
pub struct Delivery {
    desk: Arc<Desk>,
    mark: u64,
    message: Message,
    attempts: u32,
    counts: bool,
}

impl Delivery {
    /// The message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// How often the message was handed out, this time too: more than 1 says that somebody had it before and did not
    /// acknowledge it.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Removes the message from the store, and counts it as read.
    ///
    /// # Errors
    /// [`Timeout`](ErrorKind::Timeout) if it was held for longer than it may be, and was put back for that;
    /// [`Usage`](ErrorKind::Usage) for another client than the one that received it; else what the store says. In all of
    /// these cases the message may come again.
    pub fn acknowledge(self, client: &mut Client) -> Result<()> {
        client.acknowledge(&self)
    }

    /// Puts the message back in its old place: it is the next to be received, unless it was handed out as often as the
    /// [limits](crate::Limits::delivery_attempts) allow. Then it is [dead](Dead). The client does it with its next call that
    /// looks for messages.
    pub fn put_back(self) {
        // Dropping says it.
    }

    /// Holds the message for so long from now, whatever was said before. After that it can be received again, and
    /// acknowledging this delivery is refused.
    ///
    /// # Errors
    /// [`Timeout`](ErrorKind::Timeout) if it was put back already.
    pub fn extend(&self, hold: Duration) -> Result<()> {
        if self.desk.extend(self.mark, hold) { Ok(()) } else { Err(self.too_late().during("extend")) }
    }

    fn too_late(&self) -> Error {
        let detail = "the message was held for longer than it may be, so it was put back";
        Error::new(ErrorKind::Timeout, detail).about_message(self.message.id().as_str())
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.desk.give_back(self.mark);
    }
}

impl Client {
    /// Receives the next message with it staying in the store until it is [acknowledged](Delivery::acknowledge), waiting
    /// for one as long as it takes. Any number can be in hand; none is received twice meanwhile.
    ///
    /// A message that was received [as often as it may be](crate::Limits::delivery_attempts) and never acknowledged is
    /// set aside as [dead](Client::dead).
    ///
    /// # Errors
    /// As [`try_receive`](Client::try_receive).
    pub fn receive(&mut self) -> Result<Delivery> {
        self.wait_for_one("receive", Deadline::NEVER, None, Self::hold_one)
    }

    /// Receives as [`receive`](Client::receive) does, waiting so long at most.
    ///
    /// # Errors
    /// As [`try_receive`](Client::try_receive), and [`Timeout`](ErrorKind::Timeout).
    pub fn receive_timeout(&mut self, timeout: Duration) -> Result<Delivery> {
        self.wait_for_one("receive_timeout", Deadline::after(timeout), Some(timeout), Self::hold_one)
    }

    /// Receives as [`receive`](Client::receive) does, if a message is there; never waits.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) where the protocol cannot keep what was read, as
    /// [`Capabilities::acknowledges`](crate::Capabilities::acknowledges) says;
    /// [`NoSuchBus`](ErrorKind::NoSuchBus) if the bus was removed, and what the store says.
    pub fn try_receive(&mut self) -> Result<Option<Delivery>> {
        self.hold_one("try_receive")
    }

    /// The messages of a peer, this one or another, that were set aside since they were received too often without being
    /// acknowledged; oldest first. They do not count as unread.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) as for [`try_receive`](Client::try_receive),
    /// [`NoSuchPeer`](ErrorKind::NoSuchPeer), and what the store says.
    pub fn dead(&mut self, peer: &str) -> Result<Vec<Dead>> {
        self.about_dead("dead", peer, |deliveries, peer| deliveries.dead(peer))
    }

    /// Makes a dead message of a peer, this one or another, unread again, as if it had never been received. Returns
    /// whether there was one with this id.
    ///
    /// # Errors
    /// As [`dead`](Client::dead).
    pub fn revive(&mut self, peer: &str, id: &str) -> Result<bool> {
        self.about_dead("revive", peer, |deliveries, peer| deliveries.revive(peer, Some(id))).map(|count| count > 0)
    }

    /// Makes all dead messages of a peer unread again. Returns how many.
    ///
    /// # Errors
    /// As [`dead`](Client::dead).
    pub fn revive_all(&mut self, peer: &str) -> Result<usize> {
        self.about_dead("revive_all", peer, |deliveries, peer| deliveries.revive(peer, None))
    }

    fn about_dead<T>(
        &mut self,
        operation: &'static str,
        peer: &str,
        work: impl FnOnce(&mut dyn Deliveries, &PeerName) -> Result<T>,
    ) -> Result<T> {
        let done = PeerName::foreign(peer).and_then(|peer| {
            self.checked(operation)?.put_back_returned();
            work(self.deliveries()?, &peer).map_err(|error| error.about_peer(peer.as_str()))
        });
        done.map_err(|error| error.during(operation))
    }

    fn deliveries(&mut self) -> Result<&mut dyn Deliveries> {
        let protocol = self.info.protocol().short();
        self.connection.deliveries().ok_or_else(|| {
            let detail = "messages of this protocol do not stay in the store until they are acknowledged";
            Error::new(ErrorKind::Unsupported, detail).in_protocol(&protocol)
        })
    }

    /// Takes the next message into the hand, if one is there.
    fn hold_one(&mut self, operation: &'static str) -> Result<Option<Delivery>> {
        self.checked(operation)?.put_back_returned();
        let desk = self.desk().map_err(|error| error.during(operation))?;
        let mut inbox = std::mem::take(&mut self.inbox);
        let held = self.deliveries().and_then(|deliveries| deliveries.hold(&mut inbox));
        self.note(&mut inbox);
        self.inbox = inbox;
        let Some(Held { mark, message, attempts, counts }) = held.map_err(|error| error.during(operation))? else {
            return Ok(None);
        };
        self.short_waits.end();
        desk.hand_out(mark, self.hold);
        Ok(Some(Delivery { desk, mark, message, attempts, counts }))
    }

    fn desk(&mut self) -> Result<Arc<Desk>> {
        if let Some(desk) = &self.desk {
            return Ok(Arc::clone(desk));
        }
        self.deliveries()?;
        let desk = Arc::new(Desk::new()?);
        self.desk = Some(Arc::clone(&desk));
        Ok(desk)
    }

    fn acknowledge(&mut self, delivery: &Delivery) -> Result<()> {
        let operation = "acknowledge";
        self.checked(operation)?;
        if !self.desk.as_ref().is_some_and(|desk| Arc::ptr_eq(desk, &delivery.desk)) {
            let error = Error::new(ErrorKind::Usage, "the message was received by another client");
            return Err(error.about_message(delivery.message.id().as_str()).during(operation));
        }
        if !delivery.desk.take(delivery.mark) {
            return Err(delivery.too_late().about_peer(self.name.as_str()).during(operation));
        }
        let done = self.deliveries().and_then(|deliveries| deliveries.acknowledge(delivery.mark));
        done.map_err(|error| error.about_message(delivery.message.id().as_str()).during(operation))?;
        if delivery.counts {
            self.registered.count(|stats| stats.count_read(delivery.message.from().as_str(), 1));
        }
        Ok(())
    }

    /// Puts back what deliveries gave back, or held for too long.
    pub(super) fn put_back_returned(&mut self) {
        if let Some(desk) = &self.desk {
            let returned = desk.take_returned();
            self.put_back_marks(&returned);
        }
    }

    /// Puts back everything that is in hand: nobody acknowledges it any more.
    pub(super) fn put_back_all(&mut self) {
        if let Some(desk) = &self.desk {
            let all = desk.take_all();
            self.put_back_marks(&all);
        }
    }

    fn put_back_marks(&mut self, marks: &[u64]) {
        let Some(deliveries) = self.connection.deliveries() else { return };
        for mark in marks {
            if let Err(error) = deliveries.release(*mark) {
                log::warn!("{}: a message that was put back could not be set aside: {error}", self.name);
            }
        }
    }

    /// Whether messages are left of which it was said that they stay until they are acknowledged.
    pub(super) fn has_deliveries_left(&mut self) -> bool {
        if self.desk.is_none() || !self.capabilities.suspend {
            return false;
        }
        self.put_back_all();
        self.connection.is_ready().unwrap_or(false)
            || self.connection.deliveries().is_some_and(|own| own.dead(&self.name).is_ok_and(|dead| !dead.is_empty()))
    }

    /// Makes unread again whatever is in hand or dead, for who leaves: nobody could look at it any more.
    pub(super) fn give_up_deliveries(&mut self, deadline: Deadline) {
        self.put_back_all();
        let Some(deliveries) = self.connection.deliveries() else { return };
        match riding_out(deadline, || deliveries.revive(&self.name, None)) {
            // With the bus all else is gone, too.
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NoSuchBus => {}
            Err(error) => log::warn!("{}: dead messages could not be handed over: {error}", self.name),
        }
    }
}
