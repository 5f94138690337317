// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests and responses on the wire: contents of ordinary messages with keys of their own, as docs/formats.md
//! describes them. Only contents that can be one are decoded.

mod outgoing;
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
use crate::message::{Message, MessageId, is_truthy};
use crate::short_text::ShortText;

pub(super) use outgoing::{CancelOut, RequestOut, ResponseOut};

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
pub struct RequestId(Id);

/// Any JSON value that is true for the reference can be an id. Equal ones are kept alike.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Id {
    /// A text of ASCII characters without any to escape: nearly every id.
    Text(ShortText<36>),
    /// The JSON text of any other.
    Json(Box<str>),
}

impl RequestId {
    /// Takes an id of the caller's choice. It must not be empty, nor `0`: that is no id on the wire.
    #[must_use]
    pub fn new(id: &str) -> Self {
        if json::is_plain(id.as_bytes()) { Self::plain(id) } else { Self::of(&id.into()) }
    }

    pub(super) fn generate() -> Self {
        Self::plain(MessageId::generate().as_str())
    }

    /// Of a text without anything to escape.
    fn plain(id: &str) -> Self {
        Self(Id::Text(id.into()))
    }

    fn of(value: &Value) -> Self {
        match value.as_str().filter(|text| json::is_plain(text.as_bytes())) {
            Some(text) => Self::plain(text),
            None => {
                let text = value.to_string();
                // It came in a message that was checked, or is a text.
                Self(Id::Json(on_the_wire(text.clone(), &Limits::DEFAULT).unwrap_or(text).into()))
            }
        }
    }

    fn append_to(&self, out: &mut String) {
        match &self.0 {
            Id::Text(text) => {
                out.push('"');
                out.push_str(text.as_str());
                out.push('"');
            }
            Id::Json(json) => out.push_str(json),
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Id::Text(text) => f.write_str(text.as_str()),
            Id::Json(json) => match serde_json::from_str(json) {
                Ok(Value::String(text)) => f.write_str(&text),
                _ => f.write_str(json),
            },
        }
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut json = String::new();
        self.append_to(&mut json);
        write!(f, "{}", crate::error::Escaped(&json))
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
        json::to_wire(value, &limits_inside(), &mut text)?;
        Ok(Self { json: (text != "null").then(|| text.into()), value: OnceLock::new() })
    }

    /// Of JSON text that was checked, or written here.
    fn of(json: &str) -> Self {
        Self { json: (json != "null").then(|| json.into()), value: OnceLock::new() }
    }

    /// Several values as one array.
    ///
    /// # Errors
    /// As of [`new`](Payload::new): together they may pass a limit.
    pub(super) fn array(parts: &[Self]) -> Result<Self> {
        let parts: Vec<&str> = parts.iter().map(Self::as_json).collect();
        let text = format!("[{}]", parts.join(","));
        on_the_wire(text, &limits_inside()).map(|text| Self::of(&text))
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

/// JSON text as it may be sent.
fn on_the_wire(text: String, limits: &Limits) -> Result<String> {
    let raw = RawValue::from_string(text)
        .map_err(|error| Error::new(ErrorKind::Serialize, "this is not JSON").with_source(error))?;
    let mut text = String::new();
    json::to_wire(&raw, limits, &mut text)?;
    Ok(text)
}

/// The limits of what is within an envelope: two levels belong to the message and the envelope around it.
fn limits_inside() -> Limits {
    Limits { json_depth: Limits::DEFAULT.json_depth.saturating_sub(2), ..Limits::DEFAULT }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::ToContent;
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
        let sent = |content: &dyn ToContent| {
            let mut out = String::new();
            content.append_to(&mut out, &Limits::DEFAULT).map(|()| out)
        };
        let id = RequestId::new("x");
        assert_eq!(
            sent(&RequestOut::new(&id, &Value::Null, false)).unwrap(),
            r#"{"ipcm_request_id":"x","request":null}"#
        );
        let all = RequestOut::new(&id, "a\"", true).asking(Some(PING));
        assert_eq!(
            sent(&all).unwrap(),
            r#"{"ipcm_request_id":"x","request":"a\"","ipcm_stream":true,"ipcm_ask":"ping"}"#
        );
        let null = Payload::null();
        assert_eq!(sent(&ResponseOut::new(&id, &null)).unwrap(), r#"{"ipcm_response_id":"x","response":null}"#);
        let all = ResponseOut { error: Some("\u{e9}"), more: true, answer: Some(PING), ..ResponseOut::new(&id, &null) };
        assert_eq!(
            sent(&all).unwrap(),
            r#"{"ipcm_response_id":"x","response":null,"ipcm_error":"\u00e9","ipcm_more":true,"ipcm_answer":"ping"}"#
        );
        assert_eq!(sent(&CancelOut(&id)).unwrap(), r#"{"ipcm_cancel_id":"x"}"#);
    }

    #[test]
    fn limits_hold_for_the_whole_of_what_is_sent() {
        let sent = |content: &dyn ToContent, limits: &Limits| {
            content.append_to(&mut String::new(), limits).map_err(|error| error.kind())
        };
        let (id, pair) = (RequestId::new("x"), json!([[1], 2]));
        let response = Payload::new(&pair).unwrap();
        let envelope = (RequestOut::new(&id, &pair, false), ResponseOut::new(&id, &response));
        let both = |limits: &Limits| (sent(&envelope.0, limits), sent(&envelope.1, limits));
        let of = |bytes, depth, elements| Limits {
            decoded_bytes: bytes,
            json_depth: depth,
            json_elements: elements,
            ..Limits::DEFAULT
        };
        assert_eq!(both(&of(100, 3, 100)), (Ok(()), Ok(())));
        assert_eq!(both(&of(30, 3, 100)), (Err(ErrorKind::TooLarge), Err(ErrorKind::TooLarge)));
        assert_eq!(both(&of(100, 2, 100)), (Err(ErrorKind::Serialize), Err(ErrorKind::Serialize)));
        assert_eq!(both(&of(100, 3, 2)), (Err(ErrorKind::TooLarge), Err(ErrorKind::TooLarge)));
    }

    #[test]
    fn ids_of_any_kind_are_echoed_as_they_came() {
        let echoed = |json: &str| {
            let content: Value = serde_json::from_str(&format!(r#"{{"ipcm_request_id":{json},"request":1}}"#)).unwrap();
            let Envelope::Request(request) = envelope(&content) else { panic!("{json} is an id") };
            let mut out = String::new();
            request.id.append_to(&mut out);
            (out, request.id.to_string())
        };
        let long = format!("\"{}\"", "x".repeat(100));
        for json in ["\"x\"", "17", "1.5", "[1,\"a\"]", "{\"a\":null}", "true", "\"a\\\"b\"", &long] {
            assert_eq!(echoed(json).0, json);
        }
        assert_eq!(echoed("\"\u{e9}\""), ("\"\\u00e9\"".to_owned(), "\u{e9}".to_owned()));
        assert_eq!(RequestId::new("\u{e9} \"").to_string(), "\u{e9} \"");
    }

    #[test]
    fn parts_become_one_array() {
        let parts = [Payload::new(&1).unwrap(), Payload::new("a").unwrap()];
        assert_eq!(Payload::array(&parts).unwrap().as_json(), r#"[1,"a"]"#);
    }
}
