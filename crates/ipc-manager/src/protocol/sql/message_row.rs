// SPDX-License-Identifier: MIT OR Apache-2.0
//! A message as a row, and back. The reference implementation's columns hold what it knows of a message; what else
//! there is goes into a column of ours. See `docs/formats.md`, "SQL stores".

use serde_json::{Map, Value as Json};

use super::dialect::Dialect;
use super::schema::Schema;
use super::value::{Column, Param, Row, Value};
use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::limits::Limits;
use crate::message::{Message, MessageId, Parts};
use crate::protocol::Envelope;
use crate::serializer::Serializer;

/// The key under which our column says that a message was put back by its reader, which had counted it.
const PUT_BACK: &str = "again";
/// The keys of what the reference implementation's columns do not hold.
const ORDINAL: &str = "stamp_ord";
const EXTRA: &str = "extra";
/// How often the message was handed out and not acknowledged.
pub(super) const ATTEMPTS: &str = "attempts";

/// What a message is to be stored in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tables<'a> {
    pub(super) dialect: &'a dyn Dialect,
    pub(super) schema: &'a Schema,
    pub(super) serializer: &'a dyn Serializer,
}

/// A message on its way into a row.
#[derive(Debug)]
pub(super) struct Outbound<'a> {
    pub(super) id: &'a str,
    pub(super) to: &'a str,
    pub(super) from: &'a str,
    stamp: f64,
    /// In the serializer of the bus.
    pub(super) content: Vec<u8>,
    is_broadcast: bool,
    more: Option<String>,
}

impl<'a> Outbound<'a> {
    /// Encodes a message, and refuses one that the tables do not take.
    pub(super) fn new(tables: Tables<'_>, envelope: &Envelope<'a>) -> Result<Self> {
        // An id that another implementation chose may be passed on only where it can be one of ours.
        MessageId::new(envelope.message().id().as_str())?;
        Self::of(tables, envelope.message(), envelope.to().as_str(), envelope.limits())
    }

    /// As `new`, for a message that its reader puts back.
    pub(super) fn put_back(tables: Tables<'_>, back: &PutBack<'a>, own: &'a str, limits: &Limits) -> Result<Self> {
        let more = more(back.message, back.was_counted, back.attempts)?;
        Ok(Self { more, ..Self::of(tables, back.message, own, limits)? })
    }

    fn of(tables: Tables<'_>, message: &'a Message, to: &'a str, limits: &Limits) -> Result<Self> {
        let id = message.id().as_str();
        if !tables.dialect.takes_id(id) {
            let detail = format!("\"{}\" cannot be a message id in this database", crate::error::Escaped(id));
            return Err(Error::new(ErrorKind::InvalidName, detail));
        }
        let json = message.raw_content().as_json();
        let mut content = Vec::with_capacity(json.len());
        tables.serializer.encode(json, &mut content)?;
        let largest = tables.schema.largest.and_then(|largest| usize::try_from(largest).ok()).unwrap_or(usize::MAX);
        // The reader's limit is on the whole message; the other fields have a few hundred bytes.
        let limits = [
            (content.len(), limits.encoded_bytes),
            (json.len() + 1024, limits.decoded_bytes),
            (content.len(), largest),
        ];
        if let Some((size, limit)) = limits.into_iter().find(|(size, limit)| size > limit) {
            let detail = format!("the encoded content has {size} bytes, and the limit is {limit}");
            return Err(Error::new(ErrorKind::TooLarge, detail));
        }
        Ok(Self {
            id,
            to,
            from: message.from().as_str(),
            stamp: message.stamp().as_seconds(),
            content,
            is_broadcast: message.is_broadcast(),
            more: more(message, false, 0)?,
        })
    }

    /// The parameters of an insert that selects its recipient among its values.
    pub(super) fn with_selected<'p>(&'p self, pid: Param<'p>, has_more: bool) -> Vec<Param<'p>> {
        let mut params = Vec::with_capacity(8);
        params.extend([
            Param::Text(self.id),
            Param::Text(self.to),
            pid,
            Param::Text(self.from),
            Param::Seconds(self.stamp),
            Param::Bytes(&self.content),
            Param::Bool(self.is_broadcast),
        ]);
        if has_more {
            params.push(Param::text_or_null(self.more.as_deref()));
        }
        params
    }

    /// Whether it is the message whose recipient, sender and content are these.
    pub(super) fn is_in(&self, mut row: Row) -> bool {
        let (to, from, content) = (row.next().into_text(), row.next().into_text(), row.next().into_bytes());
        to.as_deref() == Some(self.to)
            && from.as_deref() == Some(self.from)
            && content.as_deref() == Some(&*self.content)
    }

    /// The columns of an insert of many.
    pub(super) fn columns<'p>(rows: &[&'p Outbound<'p>], has_more: bool) -> Vec<Column<'p>> {
        let texts =
            |text: fn(&'p Outbound<'p>) -> Option<&'p str>| Column::Texts(rows.iter().map(|row| text(row)).collect());
        let mut columns = vec![
            texts(|row| Some(row.id)),
            texts(|row| Some(row.to)),
            texts(|row| Some(row.from)),
            Column::Seconds(rows.iter().map(|row| row.stamp).collect()),
            Column::Bytes(rows.iter().map(|row| row.content.as_slice()).collect()),
            Column::Bools(rows.iter().map(|row| row.is_broadcast).collect()),
        ];
        if has_more {
            columns.push(texts(|row| row.more.as_deref()));
        }
        columns
    }

    /// Appends the parameters of an insert.
    pub(super) fn push_to<'p>(&'p self, params: &mut Vec<Param<'p>>, has_more: bool) {
        params.extend([
            Param::Text(self.id),
            Param::Text(self.to),
            Param::Text(self.from),
            Param::Seconds(self.stamp),
            Param::Bytes(&self.content),
            Param::Bool(self.is_broadcast),
        ]);
        if has_more {
            params.push(Param::text_or_null(self.more.as_deref()));
        }
    }
}

/// What the other columns do not hold, as one JSON object; none where there is nothing.
fn more(message: &Message, again: bool, attempts: u32) -> Result<Option<String>> {
    let mut more = Map::new();
    if again {
        more.insert(PUT_BACK.into(), 1.into());
    }
    if attempts > 0 {
        more.insert(ATTEMPTS.into(), attempts.into());
    }
    if message.stamp_ord() > 0 {
        more.insert(ORDINAL.into(), message.stamp_ord().into());
    }
    if !message.extra().is_empty() {
        more.insert(EXTRA.into(), Json::Object(message.extra().clone()));
    }
    if more.is_empty() {
        return Ok(None);
    }
    let mut text = String::new();
    json::to_wire(&more, &Limits::DEFAULT, &mut text)?;
    Ok(Some(text))
}

/// A row out of a mailbox, whatever is in it.
#[derive(Debug)]
pub(super) struct Inbound {
    /// What decides the order in the mailbox.
    pub(super) sequence: i64,
    pub(super) id: String,
    to: Value,
    from: Value,
    stamp: Value,
    content: Value,
    broadcast: Value,
    more: Value,
}

/// A message out of a row, and whether taking it counts.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) message: Message,
    pub(super) counts: bool,
    /// How often it was handed out and not acknowledged.
    pub(super) attempts: u32,
    /// See [`Inbound::sequence`].
    pub(super) sequence: i64,
}

/// A message that goes back into a mailbox.
pub(super) struct PutBack<'a> {
    pub(super) message: &'a Message,
    /// Whether it was counted as read.
    pub(super) was_counted: bool,
    /// How often it was handed out and not acknowledged.
    pub(super) attempts: u32,
    /// Its place in the order; in front of all if nothing is said.
    pub(super) sequence: Option<i64>,
}

/// How often a message was handed out and not acknowledged, as our column says.
pub(super) fn attempts_in(more: &Map<String, Json>) -> u32 {
    more.get(ATTEMPTS).and_then(Json::as_u64).and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
}

impl Inbound {
    pub(super) fn of(mut row: Row) -> Self {
        Self {
            sequence: row.next().as_integer().unwrap_or(0),
            id: row.next().into_text().unwrap_or_default(),
            to: row.next(),
            from: row.next(),
            stamp: row.next(),
            content: row.next(),
            broadcast: row.next(),
            more: row.next(),
        }
    }

    /// The seconds of its stamp, where there is no better order.
    pub(super) fn stamp(&self) -> f64 {
        self.stamp.as_number().unwrap_or(f64::INFINITY)
    }

    /// Puts the message together. `lowers_ids`: whether the database has changed the spelling of its id.
    pub(super) fn decode(&self, serializer: &dyn Serializer, limits: &Limits, lowers_ids: bool) -> Result<Decoded> {
        let corrupt = |what: &str| Error::new(ErrorKind::Corrupt, format!("the row's {what}"));
        let text = |value: &Value, what: &str| value.clone().into_text().ok_or_else(|| corrupt(what));
        let payload = match &self.content {
            Value::Bytes(bytes) => bytes.as_slice(),
            Value::Text(text) => text.as_bytes(),
            _ => return Err(corrupt("`content` is neither bytes nor text")),
        };
        if payload.len() > limits.encoded_bytes {
            let detail =
                format!("the encoded content has {} bytes, and the limit is {}", payload.len(), limits.encoded_bytes);
            return Err(Error::new(ErrorKind::TooLarge, detail));
        }
        let content = serializer.decode(payload, limits.decoded_bytes)?;
        let more = self.more(limits);
        let extra = match more.get(EXTRA) {
            Some(Json::Object(extra)) => extra.clone(),
            _ => Map::new(),
        };
        let message = Message::from_parts(
            Parts {
                // As all implementations make them.
                id: &if lowers_ids { self.id.to_ascii_uppercase() } else { self.id.clone() },
                from: &text(&self.from, "`from` is no text")?,
                to: &text(&self.to, "`to` is no text")?,
                stamp: self.stamp.as_number().ok_or_else(|| corrupt("`stamp` is not a number"))?,
                stamp_ord: more.get(ORDINAL).and_then(Json::as_u64).unwrap_or(0),
                is_broadcast: self.broadcast.as_integer().is_some_and(|flag| flag != 0),
                content: &content,
                extra,
            },
            limits,
        )?;
        Ok(Decoded {
            message,
            counts: !more.contains_key(PUT_BACK),
            attempts: attempts_in(&more),
            sequence: self.sequence,
        })
    }

    /// What our column holds.
    pub(super) fn more(&self, limits: &Limits) -> Map<String, Json> {
        more_in(self.more.clone(), limits)
    }

    /// The values to keep of a row that is no message: id, to, from, stamp, content, broadcast.
    pub(super) fn into_kept(self) -> (String, String, String, String, Vec<u8>, String) {
        let text = |value: Value| match value {
            Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            other => other.into_text().unwrap_or_default(),
        };
        let content = self.content.into_bytes().unwrap_or_default();
        (self.id, text(self.to), text(self.from), text(self.stamp), content, text(self.broadcast))
    }
}

/// What our column holds. What is no object there says nothing: it costs the message nothing.
pub(super) fn more_in(column: Value, limits: &Limits) -> Map<String, Json> {
    let is_null = column.is_null();
    let read = || {
        let bytes = column.into_bytes()?;
        let text = json::normalise(&bytes, limits).ok()?;
        match json::parse_value(&text).ok()? {
            Json::Object(more) => Some(more),
            _ => None,
        }
    };
    if is_null { Map::new() } else { read().unwrap_or_default() }
}
