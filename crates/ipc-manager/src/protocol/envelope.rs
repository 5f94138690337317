// SPDX-License-Identifier: MIT OR Apache-2.0
//! A message on its way into a store.

use std::cell::{Cell, OnceCell};

use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::message::Message;
use crate::name::PeerName;
use crate::serializer::Serializer;

/// A message and, made once and only if the protocol asks for it, its payload.
///
/// Protocols that store fields take them from [`message`](Envelope::message); those that ship bytes take the
/// [`payload`](Envelope::payload).
///
/// ```
/// use ipc_manager::{Envelope, Limits, Message, serializer::Serializers};
/// let message = Message::builder("a").to("b").content("x")?.build()?;
/// let serializer = Serializers::standard().resolve(&"JSON".parse()?)?;
/// let envelope = Envelope::new(&message, &*serializer, &Limits::DEFAULT)?;
/// assert!(envelope.payload()?.starts_with(b"{"));
/// # Ok::<(), ipc_manager::Error>(())
/// ```
pub struct Envelope<'a> {
    message: &'a Message,
    to: &'a PeerName,
    serializer: &'a dyn Serializer,
    limits: &'a Limits,
    payload: OnceCell<Vec<u8>>,
    /// Room for the payload that served before.
    room: Cell<Vec<u8>>,
}

impl<'a> Envelope<'a> {
    /// Puts a message in an envelope.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if it has no recipient.
    pub fn new(message: &'a Message, serializer: &'a dyn Serializer, limits: &'a Limits) -> Result<Self> {
        let to = message.to().ok_or_else(|| Error::new(ErrorKind::Usage, "a message on its way needs a recipient"))?;
        Ok(Self { message, to, serializer, limits, payload: OnceCell::new(), room: Cell::default() })
    }

    /// Puts a message in an envelope that was encoded before.
    pub(crate) fn encoded(
        message: &'a Message,
        serializer: &'a dyn Serializer,
        limits: &'a Limits,
        payload: Option<Vec<u8>>,
    ) -> Result<Self> {
        let envelope = Self::new(message, serializer, limits)?;
        Ok(Self { payload: payload.map_or_else(OnceCell::new, OnceCell::from), ..envelope })
    }

    /// Lets the payload be made in a buffer that is of no use any more.
    pub(crate) fn with_room(self, room: Vec<u8>) -> Self {
        self.room.set(room);
        self
    }

    /// The payload, if it was made.
    pub(crate) fn into_payload(self) -> Option<Vec<u8>> {
        self.payload.into_inner()
    }

    /// The limits on what is sent.
    #[must_use]
    pub fn limits(&self) -> &'a Limits {
        self.limits
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &'a Message {
        self.message
    }

    /// The recipient.
    #[must_use]
    pub fn to(&self) -> &'a PeerName {
        self.to
    }

    /// The whole message in the serializer of the bus.
    ///
    /// # Errors
    /// [`TooLarge`](ErrorKind::TooLarge) or [`Serialize`](ErrorKind::Serialize).
    pub fn payload(&self) -> Result<&[u8]> {
        if self.payload.get().is_none() {
            let json = self.message.to_json_in(self.room.take(), self.limits)?;
            let payload = self.serializer.pack(json)?;
            if payload.len() > self.limits.encoded_bytes {
                let (size, limit) = (payload.len(), self.limits.encoded_bytes);
                let detail = format!("the encoded message has {size} bytes, and the limit is {limit}");
                return Err(Error::new(ErrorKind::TooLarge, detail).about_message(self.message.id().as_str()));
            }
            let _ = self.payload.set(payload);
        }
        Ok(self.payload.get().map_or(&[], Vec::as_slice))
    }
}
