// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests and responses on the wire: contents of ordinary messages with keys of their own, as docs/formats.md
//! describes them. Only contents that can be one are decoded.

mod plain;

use std::fmt;
use std::sync::OnceLock;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::limits::Limits;
use crate::message::{Content, Message, MessageId, is_truthy};

/// The value of [`Wire::ipcm_ask`] that asks for nothing but an answer.
pub(super) const PING: &str = "ping";
/// The value of [`Wire::ipcm_ask`] that asks what the service does.
pub(super) const DESCRIBE: &str = "describe";

/// Which request an answer belongs to: opaque, and chosen by who asks.
///
/// ```
/// let id = ipc_manager::RequestId::new("order-17");
/// assert_eq!(id.to_string(), "order-17");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// As it stands on the wire: a string, unless another implementation chose something else.
    json: Box<str>,
}

impl RequestId {
    /// An id of the caller's choice. It must not be empty, nor `0`: that is no id on the wire.
    #[must_use]
    pub fn new(id: &str) -> Self {
        // A text as JSON, which cannot fail.
        Self { json: serde_json::to_string(id).unwrap_or_default().into() }
    }

    pub(super) fn generate() -> Self {
        Self::new(MessageId::generate().as_str())
    }

    fn of(value: &Value) -> Self {
        Self { json: value.to_string().into() }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match serde_json::from_str(&self.json) {
            Ok(Value::String(text)) => f.write_str(&text),
            _ => f.write_str(&self.json),
        }
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", crate::error::Escaped(&self.json))
    }
}

impl Serialize for RequestId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        // Nearly every id is a string without anything to escape.
        let plain = self.json.strip_prefix('"').and_then(|json| json.strip_suffix('"'));
        if let Some(plain) = plain.filter(|plain| !plain.contains('\\')) {
            return serializer.serialize_str(plain);
        }
        let raw: &RawValue = serde_json::from_str(&self.json).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// What a request or response carries: any JSON value, null too. Kept as text, decoded when asked for.
#[derive(Clone)]
pub(super) struct Payload {
    /// `None` for null.
    json: Option<Box<str>>,
    value: OnceLock<Value>,
}

impl Payload {
    pub(super) fn null() -> Self {
        Self { json: None, value: OnceLock::new() }
    }

    /// Encodes a value; null may be one.
    pub(super) fn new<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        let mut text = String::new();
        // Two levels belong to the message and the envelope around it.
        let limits = Limits { json_depth: Limits::DEFAULT.json_depth.saturating_sub(2), ..Limits::DEFAULT };
        json::to_wire(value, &limits, &mut text)?;
        Ok(Self::of(&text))
    }

    /// Of JSON text that was checked, or written here.
    fn of(json: &str) -> Self {
        Self { json: (json != "null").then(|| json.into()), value: OnceLock::new() }
    }

    /// Several values as one array.
    pub(super) fn array(parts: &[Self]) -> Result<Self> {
        Self::new(parts)
    }

    pub(super) fn is_null(&self) -> bool {
        self.json.is_none()
    }

    pub(super) fn as_json(&self) -> &str {
        self.json.as_deref().unwrap_or("null")
    }

    pub(super) fn into_value(self) -> Value {
        self.value();
        self.value.into_inner().unwrap_or_default()
    }

    pub(super) fn value(&self) -> &Value {
        // The text came out of a message that was checked, or was made here, so it parses.
        self.value.get_or_init(|| json::parse_value(self.as_json()).unwrap_or(Value::Null))
    }

    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(self.as_json()).map_err(|error| {
            let detail = format!("the value does not have the shape of {}", std::any::type_name::<T>());
            Error::new(ErrorKind::Deserialize, detail).with_source(error)
        })
    }
}

impl Serialize for Payload {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(self.as_json()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", crate::error::Escaped(self.as_json()))
    }
}

/// All keys that mean something. Those beside the reference's own four are ignored by it.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(default)]
    ipcm_request_id: Value,
    #[serde(default)]
    ipcm_response_id: Value,
    #[serde(default, borrow)]
    request: Option<&'a RawValue>,
    #[serde(default, borrow)]
    response: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "present")]
    ipcm_error: Option<Value>,
    /// In a request: several responses are welcome.
    #[serde(default)]
    ipcm_stream: Value,
    /// In a request: something that the service answers without its handler.
    #[serde(default)]
    ipcm_ask: Value,
    /// In a response: more will follow.
    #[serde(default)]
    ipcm_more: Value,
    /// In a response to `ipcm_ask`: what was understood.
    #[serde(default)]
    ipcm_answer: Value,
    /// In a message of its own: the request that is no longer wanted.
    #[serde(default)]
    ipcm_cancel_id: Value,
}

/// A key that is there counts, also with null.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// What a message is to a service.
#[derive(Debug)]
pub(super) enum Envelope {
    Request(RequestParts),
    Response(ResponseParts),
    /// The sender no longer wants an answer to this request.
    Cancel(RequestId),
    /// Anything else.
    General,
}

#[derive(Debug, Clone)]
pub(super) struct RequestParts {
    pub(super) id: RequestId,
    pub(super) payload: Payload,
    pub(super) takes_many: bool,
    pub(super) ask: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct ResponseParts {
    pub(super) id: RequestId,
    pub(super) payload: Payload,
    pub(super) error: Option<String>,
    pub(super) more: bool,
    pub(super) answer: Option<String>,
}

impl Envelope {
    pub(super) fn of(message: &Message) -> Self {
        let text = message.raw_content().as_json();
        if let Some(plain) = Self::plain(text) {
            return plain;
        }
        // Most contents are none, and the text says so quickly.
        let may_be = text.starts_with('{') && (text.contains("\"ipcm_re") || text.contains("\"ipcm_cancel_id\""));
        let Some(wire) = may_be.then(|| serde_json::from_str::<Wire<'_>>(text).ok()).flatten() else {
            return Self::General;
        };
        let string = |value: Value| value.as_str().map(str::to_owned);
        if is_truthy(&wire.ipcm_request_id) {
            Self::Request(RequestParts {
                id: RequestId::of(&wire.ipcm_request_id),
                payload: Payload::of(wire.request.map_or("null", RawValue::get)),
                takes_many: is_truthy(&wire.ipcm_stream),
                ask: string(wire.ipcm_ask),
            })
        } else if is_truthy(&wire.ipcm_response_id) {
            Self::Response(ResponseParts {
                id: RequestId::of(&wire.ipcm_response_id),
                payload: Payload::of(wire.response.map_or("null", RawValue::get)),
                error: wire.ipcm_error.map(|error| error.as_str().map_or_else(|| error.to_string(), str::to_owned)),
                more: is_truthy(&wire.ipcm_more),
                answer: string(wire.ipcm_answer),
            })
        } else if is_truthy(&wire.ipcm_cancel_id) {
            Self::Cancel(RequestId::of(&wire.ipcm_cancel_id))
        } else {
            Self::General
        }
    }
}

/// A request as it is sent.
#[derive(Serialize)]
pub(super) struct RequestOut<'a, T: Serialize + ?Sized> {
    ipcm_request_id: &'a RequestId,
    request: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipcm_stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipcm_ask: Option<&'a str>,
}

impl<'a, T: Serialize + ?Sized> RequestOut<'a, T> {
    pub(super) fn new(id: &'a RequestId, request: &'a T, takes_many: bool) -> Self {
        Self { ipcm_request_id: id, request, ipcm_stream: takes_many.then_some(true), ipcm_ask: None }
    }

    pub(super) fn asking(mut self, ask: Option<&'a str>) -> Self {
        self.ipcm_ask = ask;
        self
    }
}

/// A response as it is sent.
#[derive(Serialize)]
pub(super) struct ResponseOut<'a> {
    pub(super) ipcm_response_id: &'a RequestId,
    pub(super) response: &'a Payload,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ipcm_error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ipcm_more: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ipcm_answer: Option<&'a str>,
}

impl<'a> ResponseOut<'a> {
    pub(super) fn new(id: &'a RequestId, response: &'a Payload) -> Self {
        Self { ipcm_response_id: id, response, ipcm_error: None, ipcm_more: None, ipcm_answer: None }
    }
}

/// The content that takes a request back.
pub(super) fn cancel(id: &RequestId) -> Result<Content> {
    #[derive(Serialize)]
    struct Cancel<'a> {
        ipcm_cancel_id: &'a RequestId,
    }
    Content::new(&Cancel { ipcm_cancel_id: id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn envelope(content: &Value) -> Envelope {
        Envelope::of(&Message::builder("a").to("b").content(content).unwrap().build().unwrap())
    }

    #[test]
    fn requests_responses_and_all_else() {
        let Envelope::Request(request) =
            envelope(&json!({"ipcm_request_id": "x", "request": null, "ipcm_response_id": "y"}))
        else {
            panic!("requests are looked for first")
        };
        assert_eq!((request.id.to_string().as_str(), request.payload.value()), ("x", &Value::Null));
        let Envelope::Response(response) = envelope(&json!({"ipcm_response_id": 17, "response": [1]})) else {
            panic!()
        };
        assert_eq!((response.id.to_string().as_str(), response.payload.as_json(), response.error), ("17", "[1]", None));
        let error = json!({"ipcm_response_id": "x", "response": null, "ipcm_error": null});
        assert!(matches!(envelope(&error), Envelope::Response(ResponseParts { error: Some(_), .. })));
        for general in [
            json!({"ipcm_request_id": ""}),
            json!({"ipcm_response_id": 0}),
            json!({"terminate": 1}),
            json!(["ipcm_request_id", "\"ipcm_request_id\""]),
            json!("{\"ipcm_request_id\":\"x\"}"),
        ] {
            assert!(matches!(envelope(&general), Envelope::General), "{general}");
        }
        assert!(matches!(envelope(&json!({"ipcm_cancel_id": "x"})), Envelope::Cancel(_)));
    }

    #[test]
    fn what_is_sent_has_both_keys_and_no_more_than_it_must() {
        let id = RequestId::new("x");
        let sent = serde_json::to_value(RequestOut::new(&id, &Value::Null, false)).unwrap();
        assert_eq!(sent, json!({"ipcm_request_id": "x", "request": null}));
        let sent = serde_json::to_value(ResponseOut::new(&id, &Payload::null())).unwrap();
        assert_eq!(sent, json!({"ipcm_response_id": "x", "response": null}));
        let parts = [Payload::new(&1).unwrap(), Payload::new("a").unwrap()];
        assert_eq!(Payload::array(&parts).unwrap().as_json(), r#"[1,"a"]"#);
    }
}
