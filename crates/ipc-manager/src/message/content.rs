// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a message carries: kept as its JSON text, decoded when asked for.

use std::fmt;
use std::sync::OnceLock;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::limits::Limits;

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
    value: OnceLock<Value>,
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

    pub(crate) fn within<T: Serialize + ?Sized>(value: &T, limits: &Limits) -> Result<Self> {
        let mut text = String::new();
        // One level and some keys belong to the message around it.
        let limits = Limits {
            json_depth: limits.json_depth.min(Limits::DEFAULT.json_depth).saturating_sub(1),
            ..limits.clone()
        };
        json::to_wire(value, &limits, &mut text)?;
        Self::checked(text.into()).ok_or_else(|| Error::new(ErrorKind::Serialize, "null cannot be sent as a content"))
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
        self.value.get_or_init(|| json::parse_value(&self.json).unwrap_or(Value::Null))
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
