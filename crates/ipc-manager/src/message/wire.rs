// SPDX-License-Identifier: MIT OR Apache-2.0
//! The JSON object that a message is in a store; see `docs/formats.md`, "Message".

use std::fmt;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{Content, Message, MessageId, Origin, Stamp, is_truthy};
use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::limits::Limits;
use crate::name::PeerName;

impl Message {
    /// The message as one ASCII JSON object.
    ///
    /// # Errors
    /// [`TooLarge`](ErrorKind::TooLarge) if it passes a limit.
    pub fn to_json(&self, limits: &Limits) -> Result<String> {
        self.to_json_in(Vec::new(), limits)
    }

    /// The same, in a buffer that has served before.
    pub(crate) fn to_json_in(&self, room: Vec<u8>, limits: &Limits) -> Result<String> {
        let mut out = text_in(room);
        out.reserve(160 + self.content.as_json().len());
        begin(&mut out, (&self.id, &self.from, self.to.as_ref()), self.stamp, limits)?;
        match self.stamp_ord {
            0 => out.push('0'),
            other => out.push_str(&other.to_string()),
        }
        if let Some(broadcast) = self.broadcast {
            out.push_str(if broadcast { ",\"broadcast\":1" } else { ",\"broadcast\":0" });
        }
        for (key, value) in &self.extra {
            out.push(',');
            json::text_to_wire(key, limits, &mut out)?;
            out.push(':');
            json::to_wire(value, limits, &mut out)?;
        }
        out.push_str(",\"content\":");
        out.push_str(self.content.as_json());
        out.push('}');
        if out.len() > limits.decoded_bytes {
            let detail = format!("the message has {} bytes, and the limit is {}", out.len(), limits.decoded_bytes);
            return Err(Error::new(ErrorKind::TooLarge, detail).about_message(self.id.as_str()));
        }
        Ok(out)
    }

    /// Reads a message from JSON text of any origin. The content is checked, but not decoded.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) or [`TooLarge`](ErrorKind::TooLarge), saying what is wrong and at which byte.
    pub fn from_json(text: &[u8], limits: &Limits) -> Result<Self> {
        if let Some(message) = Self::from_canonical(text, limits) {
            return Ok(message);
        }
        let text = json::normalise(text, limits)?;
        let fields: Fields<'_> = serde_json::from_str(&text)
            .map_err(|error| Error::new(ErrorKind::Corrupt, "a message must be a JSON object").with_source(error))?;
        fields.into_message()
    }
}

/// A text in a buffer that has served before.
pub(super) fn text_in(mut room: Vec<u8>) -> String {
    room.clear();
    // Empty, so it is UTF-8.
    String::from_utf8(room).unwrap_or_default()
}

/// Appends the beginning of a message, as far as its ordinal.
pub(super) fn begin(
    out: &mut String,
    (id, from, to): (&MessageId, &PeerName, Option<&PeerName>),
    stamp: Stamp,
    limits: &Limits,
) -> Result<()> {
    out.push_str("{\"id\":");
    json::text_to_wire(id.as_str(), limits, out)?;
    out.push_str(",\"from\":");
    json::text_to_wire(from.as_str(), limits, out)?;
    if let Some(to) = to {
        out.push_str(",\"to\":");
        json::text_to_wire(to.as_str(), limits, out)?;
    }
    out.push_str(",\"stamp\":");
    json::write_stamp(stamp.as_seconds(), out);
    out.push_str(",\"stamp_ord\":");
    Ok(())
}

/// The fields of a message object, content as text.
#[derive(Default)]
struct Fields<'a> {
    id: Option<Value>,
    from: Option<Value>,
    to: Option<Value>,
    stamp: Option<Value>,
    stamp_ord: Option<Value>,
    broadcast: Option<Value>,
    content: Option<&'a RawValue>,
    extra: Map<String, Value>,
}

impl Fields<'_> {
    fn into_message(self) -> Result<Message> {
        let content = self.content.and_then(|raw| Content::checked(raw.get().into()));
        self.into_message_with(content)
    }

    fn into_message_with(self, content: Option<Content>) -> Result<Message> {
        let content = content.ok_or_else(|| corrupt("content", "is missing or null"))?;
        let from = name(self.from, "from")?.ok_or_else(|| corrupt("from", "is missing"))?;
        let to = name(self.to, "to")?;
        let broadcast = self.broadcast.filter(|value| !value.is_null()).map(|value| is_truthy(&value));
        if to.is_none() && broadcast != Some(true) {
            return Err(corrupt("to", "is missing"));
        }
        let id = match text(self.id, "id")? {
            None => MessageId::generate(),
            Some(id) => MessageId::foreign(&id).ok_or_else(|| corrupt("id", "is empty, too long or not printable"))?,
        };
        let stamp = match number(self.stamp, "stamp")? {
            None => Stamp::now(),
            Some(seconds) => Stamp::from_seconds(seconds).ok_or_else(|| corrupt("stamp", "is not finite"))?,
        };
        // Negative and fractional ordinals sort as the nearest whole number that is allowed.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let stamp_ord = number(self.stamp_ord, "stamp_ord")?.unwrap_or(0.0) as u64;
        Ok(Message { id, stamp, stamp_ord, from, to, broadcast, content, extra: self.extra, origin: Origin::Unknown })
    }
}

#[cfg(any(feature = "sqlite", feature = "postgresql", feature = "mysql"))]
/// The fields of a message that are stored apart from each other.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) id: &'a str,
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    /// Seconds since the epoch.
    pub(crate) stamp: f64,
    pub(crate) stamp_ord: u64,
    pub(crate) is_broadcast: bool,
    /// JSON text of any origin.
    pub(crate) content: &'a [u8],
    pub(crate) extra: Map<String, Value>,
}

#[cfg(any(feature = "sqlite", feature = "postgresql", feature = "mysql"))]
impl Message {
    /// Puts a message together out of parts of any origin. The content is checked, but not decoded.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) or [`TooLarge`](ErrorKind::TooLarge), saying what is wrong.
    pub(crate) fn from_parts(parts: Parts<'_>, limits: &Limits) -> Result<Self> {
        let content = json::normalise(parts.content, &super::content::limits_within(limits))?;
        let fields = Fields {
            id: Some(parts.id.into()),
            from: Some(parts.from.into()),
            to: Some(parts.to.into()),
            stamp: serde_json::Number::from_f64(parts.stamp).map(Value::Number),
            stamp_ord: Some(parts.stamp_ord.into()),
            broadcast: Some(parts.is_broadcast.into()),
            content: None,
            extra: parts.extra,
        };
        if fields.stamp.is_none() {
            return Err(corrupt("stamp", "is not finite"));
        }
        fields.into_message_with(Content::checked(content.as_ref().trim().into()))
    }
}

fn corrupt(field: &str, what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the message's `{field}` {what}"))
}

/// A text that may have been written as a number. Null counts as missing.
fn text(value: Option<Value>, field: &str) -> Result<Option<String>> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(corrupt(field, "is neither a string nor a number")),
    }
}

/// A peer's name. Untrue ones ("" and "0") name nobody.
fn name(value: Option<Value>, field: &str) -> Result<Option<PeerName>> {
    match text(value, field)? {
        None => Ok(None),
        Some(name) if name == "0" => Err(corrupt(field, "is 0, which names nobody")),
        Some(name) => match PeerName::foreign(&name) {
            Ok(name) => Ok(Some(name)),
            Err(error) => Err(corrupt(field, "is not a name").with_source(error)),
        },
    }
}

/// A number that may have been written as a string. Null counts as missing.
fn number(value: Option<Value>, field: &str) -> Result<Option<f64>> {
    let wrong = || corrupt(field, "is not a number");
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => Ok(Some(number.as_f64().ok_or_else(wrong)?)),
        Some(Value::String(text)) => Ok(Some(text.trim().parse().map_err(|_| wrong())?)),
        Some(_) => Err(wrong()),
    }
}

impl<'de> de::Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
                let mut fields = Fields::default();
                while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                    match &*key {
                        "id" => fields.id = map.next_value()?,
                        "from" => fields.from = map.next_value()?,
                        "to" => fields.to = map.next_value()?,
                        "stamp" => fields.stamp = map.next_value()?,
                        "stamp_ord" => fields.stamp_ord = map.next_value()?,
                        "broadcast" => fields.broadcast = map.next_value()?,
                        "content" => fields.content = Some(map.next_value()?),
                        _ => {
                            fields.extra.insert(key.into_owned(), map.next_value()?);
                        }
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Keys)
    }
}
