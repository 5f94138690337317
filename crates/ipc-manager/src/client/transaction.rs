// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sending inside a transaction of the application's own.

use serde::Serialize;

use super::Client;
use crate::error::Result;
use crate::message::{Message, MessageId};
use crate::name::PeerName;
use crate::protocol::{Envelope, Posting, Receipt, Transaction, post};

/// A message that was sent in a transaction of the application's own, to be given to [`Client::committed`] once that was
/// committed. Dropped, it says that the transaction was undone.
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # {
/// use ipc_manager::{Receipt, Spawn};
/// let bus = Spawn::builder().protocol("SQLite").spawn()?;
/// let (mut a, mut b) = (bus.connect("a")?, bus.connect("b")?);
/// let mut own = rusqlite::Connection::open(bus.route().as_str()).unwrap();
/// let mut transaction = own.transaction().unwrap();
/// let posted = a.send_in(&mut transaction, "b", "hello")?;
/// assert_eq!(posted.receipt(), Receipt::Delivered);
/// let id = posted.id().clone();
/// transaction.commit().unwrap();
/// a.committed(posted);
/// assert_eq!(b.recv()?.id(), &id);
/// # }
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "the recipient is told, and the message counted, by `Client::committed`"]
pub struct Posted {
    id: MessageId,
    to: PeerName,
    posting: Posting,
}

impl Posted {
    /// The message's id.
    #[must_use]
    pub fn id(&self) -> &MessageId {
        &self.id
    }

    /// What becomes of the message if the transaction is committed.
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        self.posting.receipt
    }
}

impl Client {
    /// Sends a message inside a transaction of the application's own, on the database that the bus is in: the message is
    /// there if and only if the transaction is committed. Then call [`committed`](Client::committed).
    ///
    /// Its place among this client's messages is that of this call, not that of the commit; a recipient that reads in
    /// between reads later ones first.
    ///
    /// # Errors
    /// As [`send`](Client::send), and [`Usage`](crate::ErrorKind::Usage) if the transaction is on another kind of database
    /// than the bus. What was done in the transaction before stays in it, unless the database says otherwise.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")]
    /// # {
    /// use ipc_manager::Spawn;
    /// let mut bus = Spawn::builder().protocol("SQLite").spawn()?;
    /// let (mut a, mut b) = (bus.connect("a")?, bus.connect("b")?);
    /// # let path = bus.route().as_str();
    /// # type Any = Box<dyn std::error::Error>;
    /// # (|| -> Result<(), Any> {
    /// let mut own = rusqlite::Connection::open(path)?;
    /// own.execute_batch("CREATE TABLE orders (number INTEGER)")?;
    /// let mut transaction = own.transaction()?;
    /// transaction.execute("INSERT INTO orders VALUES (7)", [])?;
    /// let posted = a.send_in(&mut transaction, "b", &serde_json::json!({"order": 7}))?;
    /// transaction.commit()?;
    /// a.committed(posted);
    /// assert_eq!(b.recv()?.content()["order"], 7);
    /// # Ok(()) })().unwrap();
    /// # }
    /// # Ok::<(), ipc_manager::Error>(())
    /// ```
    pub fn send_in<T: Serialize + ?Sized>(
        &mut self,
        transaction: &mut dyn Transaction,
        to: &str,
        content: &T,
    ) -> Result<Posted> {
        let message = self.message(to, content).map_err(|error| error.during("send_in"))?;
        self.send_message_in(transaction, message)
    }

    /// Sends a whole message as [`send_in`](Client::send_in) does.
    ///
    /// # Errors
    /// As [`send_in`](Client::send_in); the message is handed back.
    pub fn send_message_in(&mut self, transaction: &mut dyn Transaction, message: Message) -> Result<Posted> {
        let message = message.sent_by(&self.name);
        let posted = self.checked("send_in").and_then(|client| {
            let envelope = Envelope::new(&message, &*client.serializer, &client.limits)?;
            let protocol = client.info.protocol().short();
            let (place, most) = ((client.info.route(), client.access), client.limits.unread_messages);
            let posting = post(transaction, &protocol, place, &*client.serializer, most, &envelope)?;
            Ok(Posted { id: message.id().clone(), to: envelope.to().clone(), posting })
        });
        posted.map_err(|error| error.during("send_in").with_messages(vec![message]))
    }

    /// Says that the transaction in which a message was sent was committed: its recipient is told, and it is counted.
    pub fn committed(&mut self, posted: Posted) {
        posted.posting.ring();
        self.registered.count(|stats| stats.count_sent(posted.to.as_str()));
    }
}
