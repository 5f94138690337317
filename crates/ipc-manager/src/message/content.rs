// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a message carries: kept as its JSON text, decoded when asked for.

use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::limits::Limits;

thread_local! {
    static ROOM: Cell<String> = const { Cell::new(String::new()) };
}
/// Most bytes of room that are kept.
const MOST_ROOM: usize = 16 << 10;

/// The content of a message: any JSON value but null.
///
/// A received content is kept as the text it came as; it is decoded when [`value`](Content::value) or
/// [`parse`](Content::parse) asks for it, so passing messages on costs nothing.
///
/// ```
/// use ipc_manager::Content;
/// let content = Content::new(&serde_json::json!({"hello": "world"}))?;
/// assert_eq!(content.as_json(), r#"{"hello":"world"}"#);
/// assert!(Content::new(&()).is_err(), "null cannot be sent");
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Clone)]
pub struct Content {
    /// ASCII JSON text that passed every check of [`json`].
    json: Box<str>,
    value: OnceLock<Box<Value>>,
}

/// What can be the content of a message: every value that can be JSON, and what knows its JSON text itself.
pub(crate) trait ToContent {
    /// Appends its JSON text: ASCII, and nothing that [`json::normalise`] would refuse.
    ///
    /// # Errors
    /// As [`json::to_wire`] has them.
    fn append_to(&self, out: &mut String, limits: &Limits) -> Result<()>;
}

impl<T: Serialize + ?Sized> ToContent for T {
    fn append_to(&self, out: &mut String, limits: &Limits) -> Result<()> {
        json::to_wire(self, limits, out)
    }
}

impl Content {
    /// Encodes a value.
    ///
    /// # Errors
    /// [`Serialize`](ErrorKind::Serialize) if it is null or cannot be JSON, [`TooLarge`](ErrorKind::TooLarge) if it
    /// passes a limit.
    pub fn new<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Self::within(value, &Limits::DEFAULT)
    }

    /// Takes JSON text that a person or a program wrote: UTF-8, strictly read. What it says is kept to the letter, but
    /// for white space, characters past ASCII, which become escapes, and integers wider than 64 bits, which
    /// become strings of their digits, as the reference implementation reads them.
    ///
    /// ```
    /// use ipc_manager::Content;
    /// assert_eq!(Content::from_json(r#"{"pi":3.141592653589793238}"#)?.as_json(), r#"{"pi":3.141592653589793238}"#);
    /// assert!(Content::from_json(r#"{"a":1,"a":2}"#).is_err());
    /// # Ok::<(), ipc_manager::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Deserialize`](ErrorKind::Deserialize) with the byte at which it stops to be JSON, or if a key is there twice;
    /// [`Serialize`](ErrorKind::Serialize) if it is null; [`TooLarge`](ErrorKind::TooLarge) if it passes a limit.
    pub fn from_json(text: &str) -> Result<Self> {
        let limits = limits_within(&Limits::DEFAULT);
        let text = json::user_text(text, &limits)?;
        let raw: &RawValue = serde_json::from_str(&text)
            .map_err(|error| Error::new(ErrorKind::Deserialize, "this is not JSON").with_source(error))?;
        Self::new(raw)
    }

    pub(crate) fn within<T: ToContent + ?Sized>(value: &T, limits: &Limits) -> Result<Self> {
        // Room that serves again, so that what is kept has its size at once. A value that encodes others finds none.
        let mut text = ROOM.with(Cell::take);
        text.clear();
        let written = value.append_to(&mut text, &limits_within(limits));
        let content = written.map(|()| Self::checked(text.as_str().into()));
        if text.capacity() <= MOST_ROOM {
            ROOM.set(text);
        }
        content?.ok_or_else(is_null)
    }

    /// Takes JSON text that was checked already; `None` if it is null.
    pub(crate) fn checked(json: Box<str>) -> Option<Self> {
        (&*json != "null").then(|| Self { json, value: OnceLock::new() })
    }

    /// The JSON text, all ASCII.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.json
    }

    /// The decoded value.
    #[must_use]
    pub fn value(&self) -> &Value {
        // The text was checked when this was built, so it parses; null stands for the impossible.
        self.value.get_or_init(|| Box::new(json::parse_value(&self.json).unwrap_or(Value::Null)))
    }

    /// Decodes into a type of the caller's.
    ///
    /// # Errors
    /// [`Deserialize`](ErrorKind::Deserialize) if the content has another shape.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.json).map_err(|error| {
            let detail = format!("the content does not have the shape of {}", std::any::type_name::<T>());
            Error::new(ErrorKind::Deserialize, detail).with_source(error)
        })
    }

    /// Whether this asks the reader to end: an object with a truthy `terminate`.
    #[must_use]
    pub fn is_terminate(&self) -> bool {
        // The text says quickly that it is not; most contents are no terminate message.
        self.json.contains("terminate") && self.value().get("terminate").is_some_and(is_truthy)
    }
}

/// Why null is refused.
pub(super) fn is_null() -> Error {
    Error::new(ErrorKind::Serialize, "null cannot be sent as a content")
}

/// The limits of what is within a message: one level belongs to the message around it.
pub(super) fn limits_within(limits: &Limits) -> Limits {
    Limits { json_depth: limits.json_depth.min(Limits::DEFAULT.json_depth).saturating_sub(1), ..limits.clone() }
}

/// A content is written as it is, so it can be sent on without being decoded.
impl Serialize for Content {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let raw = RawValue::from_string(self.json.clone().into()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// Truth as the reference implementation has it: not null, false, 0, "0" or the empty string.
pub(crate) fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !matches!(text.as_str(), "" | "0"),
        Value::Array(_) | Value::Object(_) => true,
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json || self.value() == other.value()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", crate::error::Escaped(&self.json))
    }
}
