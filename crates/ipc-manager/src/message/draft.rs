// SPDX-License-Identifier: MIT OR Apache-2.0
//! A message that is encoded as it is made, and becomes a [`Message`] only if somebody needs it as one.

use std::ops::Range;

use super::content::{self, ToContent, limits_within};
use super::wire::{begin, text_in};
use super::{Content, Message, MessageId, Stamp};
use crate::error::Result;
use crate::limits::Limits;
use crate::name::PeerName;

/// See the module. Its text is what [`Message::to_json`] would make of the message.
pub(crate) struct Draft {
    id: MessageId,
    stamp: Stamp,
    text: String,
    content: Range<usize>,
}

impl Draft {
    /// Makes a message between two peers, in a buffer that has served before.
    pub(crate) fn new<T: ToContent + ?Sized>(
        (from, to): (&PeerName, &PeerName),
        content: &T,
        limits: &Limits,
        room: Vec<u8>,
    ) -> Result<Self> {
        let stamp = Stamp::now();
        let id = MessageId::made_at(stamp.as_millis());
        let mut text = text_in(room);
        begin(&mut text, (&id, from, Some(to)), stamp, limits)?;
        text.push_str("0,\"content\":");
        let start = text.len();
        content.append_to(&mut text, &limits_within(limits))?;
        let content = start..text.len();
        if &text[content.clone()] == "null" {
            return Err(content::is_null());
        }
        text.push('}');
        Ok(Self { id, stamp, text, content })
    }

    /// Whether it may be sent as it is.
    pub(crate) fn is_within(&self, limits: &Limits) -> bool {
        self.text.len() <= limits.decoded_bytes.min(limits.encoded_bytes)
    }

    pub(crate) fn id(&self) -> &MessageId {
        &self.id
    }

    /// The whole message as JSON.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The buffer, to serve again.
    pub(crate) fn into_room(self) -> Vec<u8> {
        self.text.into_bytes()
    }

    /// The message that it is, and the buffer.
    pub(crate) fn into_message(self, from: PeerName, to: PeerName) -> Result<(Message, Vec<u8>)> {
        // It is not null, so there is one.
        let content = Content::checked(self.text[self.content].into()).ok_or_else(content::is_null)?;
        Ok((Message::made(self.id, self.stamp, from, to, content), self.text.into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_encoded_as_the_message_that_it_becomes() {
        let (from, to) = (PeerName::new("a \"b\"").unwrap(), PeerName::foreign("\u{e9}").unwrap());
        let value = serde_json::json!({"text": "\u{1F511} \" \\", "numbers": [1, 2.5, null]});
        let draft = Draft::new((&from, &to), &value, &Limits::DEFAULT, b"what was there".to_vec()).unwrap();
        let text = draft.text().to_owned();
        let (message, _) = draft.into_message(from, to).unwrap();
        assert_eq!(message.to_json(&Limits::DEFAULT).unwrap(), text);
        assert_eq!(message.raw_content().value(), &value);
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let (from, to) = (PeerName::new("a").unwrap(), PeerName::new("b").unwrap());
        let refused = |limits: &Limits, value: &serde_json::Value| {
            Draft::new((&from, &to), value, limits, Vec::new()).err().map(|error| error.kind())
        };
        let small = Limits { decoded_bytes: 64, ..Limits::DEFAULT };
        let long = serde_json::json!("x".repeat(100));
        assert_eq!(refused(&Limits::DEFAULT, &serde_json::Value::Null), Some(crate::ErrorKind::Serialize));
        assert_eq!(refused(&small, &long), Some(crate::ErrorKind::TooLarge));
        let whole = Draft::new((&from, &to), &1, &small, Vec::new()).unwrap();
        assert!(!whole.is_within(&small) && whole.is_within(&Limits::DEFAULT));
    }
}
