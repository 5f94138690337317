// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages that stay in the store until their reader says that it is done with them.

use std::fmt;

use super::Inbox;
use crate::error::Result;
use crate::message::Message;
use crate::name::PeerName;

/// What a [`Connection`](super::Connection) can do whose store keeps messages until they are acknowledged.
///
/// A message that is *in hand* is an unread one to everybody else, and to whoever continues the name after a crash. Its
/// own connection hands it out no second time, neither here nor by [`collect`](super::Connection::collect). All that is
/// in hand is forgotten when the connection ends; the messages are not.
///
/// ```
/// use ipc_manager::{Inbox, Registry, Spawn};
/// # use ipc_manager::{Durability, Leave, Limits, Mode, OpenOptions, PeerName, Stats, serializer::Json};
/// let bus = Spawn::builder().protocol("LocalMemory").serializer("JSON").spawn()?;
/// let registry = Registry::standard();
/// let protocol = registry.get("LocalMemory")?;
/// # let options = OpenOptions {
/// #     name: PeerName::new("b")?,
/// #     mode: Mode::Connect,
/// #     serializer: std::sync::Arc::new(Json::new()),
/// #     limits: Limits::default(),
/// #     durability: Durability::Process,
/// #     listen: true,
/// #     credentials: Default::default(),
/// # };
/// let mut connection = protocol.open(bus.route(), options)?.connection;
/// bus.connect("a")?.send("b", "a job")?;
/// let deliveries = connection.deliveries().expect("LocalMemory keeps messages");
/// let held = deliveries.hold(&mut Inbox::default())?.expect("one is there");
/// assert!(deliveries.hold(&mut Inbox::default())?.is_none(), "it is in hand");
/// deliveries.acknowledge(held.mark)?;
/// assert!(!connection.is_ready()?);
/// # connection.close(Leave::Disconnect, &Stats::default())?;
/// # Ok::<(), ipc_manager::Error>(())
/// ```
pub trait Deliveries: fmt::Debug {
    /// Takes the next message that is not in hand into the hand, with it still in the store. What the store has then is
    /// that it was handed out once more, so that this outlives the process. Damaged ones are set aside into the inbox,
    /// and those that were handed out as often as the [limits](crate::Limits) allow become dead. Never waits.
    ///
    /// # Errors
    /// Of the store as a whole; then the message is as it was, or counted once more.
    fn hold(&mut self, inbox: &mut Inbox) -> Result<Option<Held>>;

    /// Removes a message in hand from the store. It is not in hand any more, whatever comes of it.
    ///
    /// # Errors
    /// What the store says; then the message may be there still, and unread.
    fn acknowledge(&mut self, mark: u64) -> Result<()>;

    /// Lets go of a message in hand: it is unread again, in its old place, or dead if it was handed out as often as the
    /// limits allow. It is not in hand any more, whatever comes of it.
    ///
    /// # Errors
    /// What the store says; then the message is unread.
    fn release(&mut self, mark: u64) -> Result<()>;

    /// The dead messages of any peer in the store, oldest first.
    ///
    /// # Errors
    /// `no_such_peer`, and what the store says.
    fn dead(&mut self, of: &PeerName) -> Result<Vec<Dead>>;

    /// Makes dead messages of any peer unread again, as if they had never been handed out: the one with this id, or all.
    /// Returns how many.
    ///
    /// # Errors
    /// `no_such_peer`, and what the store says; then some may be unread again.
    fn revive(&mut self, of: &PeerName, id: Option<&str>) -> Result<usize>;
}

/// A message that was taken into the hand.
///
/// ```
/// use ipc_manager::{Held, Message};
/// let message = Message::builder("a").to("b").content("x")?.build()?;
/// let held = Held { mark: 1, message, attempts: 1, counts: true };
/// assert_eq!(held.attempts, 1);
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug)]
pub struct Held {
    /// What the connection knows it by.
    pub mark: u64,
    /// The message.
    pub message: Message,
    /// How often it was handed out, this time too.
    pub attempts: u32,
    /// Whether it counts as read once it is acknowledged: not if it was counted when it was first read.
    pub counts: bool,
}

/// A message that was handed out too often without an acknowledgement, and was set aside.
///
/// ```
/// use ipc_manager::{Client, Limits, Spawn};
/// let bus = Spawn::builder().protocol("MessageFiles").spawn()?;
/// let once = Limits { delivery_attempts: 1, ..Limits::default() };
/// let mut worker = Client::builder("worker", bus.info()).limits(once).connect()?;
/// let mut boss = bus.connect("boss")?;
/// boss.send("worker", "impossible")?;
/// drop(worker.receive()?); // not acknowledged
/// assert!(worker.try_receive()?.is_none());
/// let dead = boss.dead("worker")?;
/// assert_eq!((dead[0].message.content(), dead[0].attempts), (&"impossible".into(), 1));
/// boss.revive("worker", dead[0].message.id().as_str())?;
/// worker.receive()?.acknowledge(&mut worker)?;
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Dead {
    /// The message.
    pub message: Message,
    /// How often it was handed out.
    pub attempts: u32,
}

impl Dead {
    /// A dead message, as a protocol finds it.
    #[must_use]
    pub fn new(message: Message, attempts: u32) -> Self {
        Self { message, attempts }
    }
}

/// Says in the log that a message was given up.
pub(crate) fn tell_of_death(own: &PeerName, id: &str, attempts: u32) {
    log::warn!(
        "{own}: the message {} was handed out {attempts} times and never acknowledged; it was set aside as dead",
        crate::error::Escaped(id)
    );
}
