// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages: the parsed type and its form on the wire.

mod canonical;
mod content;
mod draft;
mod handed_back;
mod id;
mod origin;
mod stamp;
mod wire;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use content::Content;
pub(crate) use content::{ToContent, is_truthy};
pub(crate) use draft::Draft;
pub use id::MessageId;
pub use origin::Origin;
pub use stamp::Stamp;
#[cfg(any(feature = "sqlite", feature = "postgresql", feature = "mysql"))]
pub(crate) use wire::Parts;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::name::PeerName;

/// Keys that a message itself uses; no extra field can have one of these names.
const OWN_KEYS: [&str; 7] = ["id", "from", "to", "content", "stamp", "stamp_ord", "broadcast"];

/// A message: who sent what to whom, under which id, and when.
///
/// Clients build messages; [`Message::builder`] is for those who need an id, a stamp or extra fields of their own.
///
/// ```
/// use ipc_manager::Message;
/// let message = Message::builder("a").to("b").content(&"hello")?.build()?;
/// assert_eq!(message.content(), "hello");
/// assert_eq!(message.id().as_str().len(), 36);
/// assert!(!message.is_terminate());
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Message {
    id: MessageId,
    stamp: Stamp,
    stamp_ord: u64,
    from: PeerName,
    to: Option<PeerName>,
    broadcast: Option<bool>,
    content: Content,
    extra: Map<String, Value>,
    origin: Origin,
}

/// Where it came from is not part of what it says.
impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        let Self { id, stamp, stamp_ord, from, to, broadcast, content, extra, origin: _ } = self;
        *id == other.id
            && (*stamp, *stamp_ord, *broadcast) == (other.stamp, other.stamp_ord, other.broadcast)
            && (from, to, content, extra) == (&other.from, &other.to, &other.content, &other.extra)
    }
}

impl Message {
    /// Starts a message from a peer. It still needs a recipient (or to be a broadcast) and a content.
    #[must_use]
    pub fn builder(from: &str) -> MessageBuilder {
        MessageBuilder { from: from.to_owned(), ..MessageBuilder::default() }
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> &MessageId {
        &self.id
    }

    /// When it was made.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Tells messages with equal stamps apart; 0 for all that this implementation makes.
    #[must_use]
    pub fn stamp_ord(&self) -> u64 {
        self.stamp_ord
    }

    /// The sender. A claim, not a proof; see [`origin`](Message::origin).
    #[must_use]
    pub fn from(&self) -> &PeerName {
        &self.from
    }

    /// What the transport knows of who really sent it.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Notes what the transport knows of who really sent it. For implementers of protocols.
    #[must_use]
    pub fn with_origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    /// The recipient; `None` only in a broadcast that was not addressed yet.
    #[must_use]
    pub fn to(&self) -> Option<&PeerName> {
        self.to.as_ref()
    }

    /// Whether this is one copy of a message to every peer.
    #[must_use]
    pub fn is_broadcast(&self) -> bool {
        self.broadcast == Some(true)
    }

    /// The decoded content; decoded when first asked for.
    #[must_use]
    pub fn content(&self) -> &Value {
        self.content.value()
    }

    /// The content as it was received or made: text, decoded on demand.
    #[must_use]
    pub fn raw_content(&self) -> &Content {
        &self.content
    }

    /// Decodes the content into a type of the caller's.
    ///
    /// # Errors
    /// [`Deserialize`](ErrorKind::Deserialize) if the content has another shape.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        self.content.parse().map_err(|error| error.about_message(self.id.as_str()))
    }

    /// Whether the content asks the reader to end: an object with a truthy `terminate`.
    #[must_use]
    pub fn is_terminate(&self) -> bool {
        self.content.is_terminate()
    }

    /// Fields that are none of the message's own; they are kept and passed on.
    #[must_use]
    pub fn extra(&self) -> &Map<String, Value> {
        &self.extra
    }

    /// A copy under a fresh id, to another recipient. Everything else stays.
    ///
    /// # Errors
    /// [`InvalidName`](ErrorKind::InvalidName) if nobody can have that name.
    pub fn clone_to(&self, to: &str) -> Result<Self> {
        Ok(Self { id: MessageId::generate(), to: Some(PeerName::foreign(to)?), ..self.clone() })
    }

    /// The same message with another sender: a client never sends in another's name.
    pub(crate) fn sent_by(mut self, from: &PeerName) -> Self {
        self.set_sender(from);
        self
    }

    pub(crate) fn set_sender(&mut self, from: &PeerName) {
        if self.from != *from {
            self.from = from.clone();
        }
    }

    /// A fresh message of one peer to another.
    pub(crate) fn between(from: PeerName, to: PeerName, content: Content) -> Self {
        let stamp = Stamp::now();
        Self::made(MessageId::made_at(stamp.as_millis()), stamp, from, to, content)
    }

    fn made(id: MessageId, stamp: Stamp, from: PeerName, to: PeerName, content: Content) -> Self {
        Self {
            id,
            stamp,
            stamp_ord: 0,
            from,
            to: Some(to),
            broadcast: None,
            content,
            extra: Map::new(),
            origin: Origin::Unknown,
        }
    }

    /// The same message with a field of a protocol's.
    pub(crate) fn with_extra(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(key.to_owned(), value.into());
        self
    }

    /// The same message without a field of a protocol's, and what that was.
    pub(crate) fn without_extra(mut self, key: &str) -> (Self, Option<Value>) {
        let value = self.extra.remove(key);
        (self, value)
    }

    pub(crate) fn addressed_to(mut self, to: PeerName) -> Self {
        self.to = Some(to);
        self
    }

    /// What decides the order within one batch: stamp, then ordinal; arrival breaks the rest.
    pub(crate) fn order_key(&self) -> (Stamp, u64) {
        (self.stamp, self.stamp_ord)
    }
}

/// Collects the fields of a [`Message`].
///
/// ```
/// use ipc_manager::{Message, Stamp};
/// let message = Message::builder("a")
///     .to("b")
///     .content(&[1, 2, 3])?
///     .id("order-17")
///     .stamp(1_700_000_000.5)
///     .extra("trace", "t-1")
///     .build()?;
/// assert_eq!(message.extra()["trace"], "t-1");
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct MessageBuilder {
    from: String,
    to: Option<String>,
    broadcast: Option<bool>,
    content: Option<Content>,
    id: Option<String>,
    stamp: Option<f64>,
    extra: Map<String, Value>,
}

impl MessageBuilder {
    /// Sets the recipient.
    #[must_use]
    pub fn to(mut self, to: &str) -> Self {
        self.to = Some(to.to_owned());
        self
    }

    /// Marks the message as a broadcast, or explicitly as none.
    #[must_use]
    pub fn broadcast(mut self, broadcast: bool) -> Self {
        self.broadcast = Some(broadcast);
        self
    }

    /// Sets the content: anything that can be JSON but null.
    ///
    /// # Errors
    /// [`Serialize`](ErrorKind::Serialize) if it is null or cannot be JSON.
    pub fn content<T: Serialize + ?Sized>(mut self, content: &T) -> Result<Self> {
        self.content = Some(Content::within(content, &Limits::DEFAULT)?);
        Ok(self)
    }

    /// Sets a content that is there already, without decoding it.
    #[must_use]
    pub fn raw_content(mut self, content: Content) -> Self {
        self.content = Some(content);
        self
    }

    /// Sets the id instead of making one.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    /// Sets the stamp, in seconds since the epoch, instead of the time of building.
    #[must_use]
    pub fn stamp(mut self, seconds: f64) -> Self {
        self.stamp = Some(seconds);
        self
    }

    /// Adds a field of the caller's own. The reference implementation keeps and ignores it.
    #[must_use]
    pub fn extra(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(key.to_owned(), value.into());
        self
    }

    /// Builds the message.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) naming the field if `from`, `content`, or both of `to` and `broadcast` are missing,
    /// the stamp is not finite, or an extra field has the name of a message's own;
    /// [`InvalidName`](ErrorKind::InvalidName) for a name or id that nobody can have.
    pub fn build(self) -> Result<Message> {
        let missing = |field: &str| Error::new(ErrorKind::Usage, format!("a message needs `{field}`"));
        if self.from.is_empty() {
            return Err(missing("from"));
        }
        let content = self.content.ok_or_else(|| missing("content"))?;
        if self.to.is_none() && self.broadcast != Some(true) {
            return Err(missing("to"));
        }
        if let Some(key) = OWN_KEYS.iter().find(|key| self.extra.contains_key(**key)) {
            return Err(Error::new(ErrorKind::Usage, format!("`{key}` is a field of its own, not an extra one")));
        }
        let stamp = match self.stamp {
            None => Stamp::now(),
            Some(seconds) => Stamp::from_seconds(seconds)
                .ok_or_else(|| Error::new(ErrorKind::Usage, "a stamp must be a finite number"))?,
        };
        Ok(Message {
            id: self.id.map_or_else(|| Ok(MessageId::generate()), |id| MessageId::new(&id))?,
            stamp,
            stamp_ord: 0,
            from: PeerName::foreign(&self.from)?,
            to: self.to.as_deref().map(PeerName::foreign).transpose()?,
            broadcast: self.broadcast,
            content,
            extra: self.extra,
            origin: Origin::Unknown,
        })
    }
}

#[cfg(test)]
mod tests;
