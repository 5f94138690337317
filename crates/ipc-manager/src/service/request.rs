// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a service is asked, and what it says.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::envelope::{Envelope, Payload, RequestId, RequestParts, ResponseParts};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::name::PeerName;

/// What a callback comes to. Any error will do.
///
/// ```
/// fn callback(_: &mut ipc_manager::Service) -> ipc_manager::ServiceResult {
///     let number: i32 = "17".parse()?;
///     if number == 17 { Ok(()) } else { Err("another number".into()) }
/// }
/// let callback = ipc_manager::Callback::interval(callback);
/// assert_eq!(callback.when(), ipc_manager::When::Interval);
/// ```
pub type ServiceResult<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A request that a service was sent.
///
/// ```
/// use ipc_manager::{Message, Request};
/// let content = serde_json::json!({"ipcm_request_id": "1", "request": [2, 3]});
/// let message = Message::builder("a").to("calc").content(&content)?.build()?;
/// let request = Request::of(&message).expect("it is one");
/// assert_eq!((request.from().as_str(), request.parse::<(i32, i32)>()?), ("a", (2, 3)));
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Request {
    message: Message,
    parts: RequestParts,
}

impl Request {
    /// Understands a message as a request; `None` if it is none.
    #[must_use]
    pub fn of(message: &Message) -> Option<Self> {
        match Envelope::of(message) {
            Envelope::Request(parts) => Some(Self::new(message.clone(), parts)),
            _ => None,
        }
    }

    pub(super) fn new(message: Message, parts: RequestParts) -> Self {
        Self { message, parts }
    }

    /// Which request it is.
    #[must_use]
    pub fn id(&self) -> &RequestId {
        &self.parts.id
    }

    /// Who asks, and who is answered.
    #[must_use]
    pub fn from(&self) -> &PeerName {
        self.message.from()
    }

    /// What is asked: any value, null too.
    #[must_use]
    pub fn value(&self) -> &Value {
        self.parts.payload.value()
    }

    /// What is asked, as JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        self.parts.payload.as_json()
    }

    /// Decodes what is asked into a type of the caller's.
    ///
    /// # Errors
    /// [`Deserialize`](ErrorKind::Deserialize) if it has another shape.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        self.parts.payload.parse()
    }

    /// Whether who asks takes several responses as they come. Others are given all of them as one array.
    #[must_use]
    pub fn takes_many(&self) -> bool {
        self.parts.takes_many
    }

    /// The whole message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// What it takes to answer later: small, and free of this request's borrow.
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        Ticket { id: self.parts.id.clone(), from: self.message.from().clone() }
    }

    pub(super) fn ask(&self) -> Option<&str> {
        self.parts.ask.as_deref()
    }
}

/// Which request is answered: kept by who answers later than in the handler.
///
/// ```
/// use ipc_manager::{Message, Request};
/// let content = serde_json::json!({"ipcm_request_id": "1", "request": null});
/// let message = Message::builder("a").to("b").content(&content)?.build()?;
/// let ticket = Request::of(&message).expect("it is one").ticket();
/// assert_eq!((ticket.from().as_str(), ticket.id().to_string().as_str()), ("a", "1"));
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    from: PeerName,
    id: RequestId,
}

impl Ticket {
    pub(super) fn new(from: PeerName, id: RequestId) -> Self {
        Self { from, id }
    }

    /// Which request it is.
    #[must_use]
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    /// Who asked, and is answered.
    #[must_use]
    pub fn from(&self) -> &PeerName {
        &self.from
    }
}

/// What a request handler says.
///
/// ```
/// use ipc_manager::Reply;
/// let now = Reply::new(&serde_json::json!({"sum": 5}))?;
/// assert!(matches!(now, Reply::Now(_)) && matches!(Reply::Later, Reply::Later));
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone)]
pub enum Reply {
    /// This is the answer.
    Now(Answer),
    /// The answer comes later, from any callback, under the request's [`Ticket`].
    Later,
}

/// An answer: any JSON value, null too.
///
/// ```
/// use ipc_manager::{Answer, Reply, Service};
/// # let kept: Option<Answer> = None;
/// let Reply::Now(answer) = Reply::new(&[1, 2])? else { panic!("it answers now") };
/// let service = Service::builder("pair").on_request(move |_, _| Ok(Reply::Now(answer.clone())));
/// let mut pair = service.spawn_thread()?;
/// assert_eq!(pair.request("pair", &())?, serde_json::json!([1, 2]));
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Answer(pub(super) Payload);

impl Reply {
    /// Answers with a value.
    ///
    /// # Errors
    /// [`Serialize`](ErrorKind::Serialize) if it cannot be JSON, [`TooLarge`](ErrorKind::TooLarge) past a limit.
    pub fn new<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Ok(Self::Now(Answer(Payload::new(value)?)))
    }

    /// Answers with null.
    #[must_use]
    pub fn null() -> Self {
        Self::Now(Answer(Payload::null()))
    }
}

/// What a service answered.
///
/// ```
/// use ipc_manager::{Message, Response};
/// let content = serde_json::json!({"ipcm_response_id": "1", "response": null, "ipcm_error": "no such thing"});
/// let message = Message::builder("calc").to("a").content(&content)?.build()?;
/// let response = Response::of(&message).expect("it is one");
/// assert_eq!(response.error(), Some("no such thing"));
/// assert_eq!(response.into_value().unwrap_err().kind(), ipc_manager::ErrorKind::ServiceError);
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Response {
    message: Message,
    parts: ResponseParts,
}

impl Response {
    /// Understands a message as a response; `None` if it is none.
    #[must_use]
    pub fn of(message: &Message) -> Option<Self> {
        match Envelope::of(message) {
            Envelope::Response(parts) => Some(Self::new(message.clone(), parts)),
            _ => None,
        }
    }

    pub(super) fn new(message: Message, parts: ResponseParts) -> Self {
        Self { message, parts }
    }

    /// Which request it answers.
    #[must_use]
    pub fn id(&self) -> &RequestId {
        &self.parts.id
    }

    /// Who answered. Mostly who was asked; a service may have somebody else answer.
    #[must_use]
    pub fn from(&self) -> &PeerName {
        self.message.from()
    }

    /// The answer: any value; null where there is an [`error`](Response::error).
    #[must_use]
    pub fn value(&self) -> &Value {
        self.parts.payload.value()
    }

    /// The answer, as JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        self.parts.payload.as_json()
    }

    /// Decodes the answer into a type of the caller's, whatever the [`error`](Response::error) is.
    ///
    /// # Errors
    /// [`Deserialize`](ErrorKind::Deserialize) if it has another shape.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        self.parts.payload.parse()
    }

    /// Why the service could not do it, in its words.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.parts.error.as_deref()
    }

    /// Whether this is the last response to its request.
    #[must_use]
    pub fn is_final(&self) -> bool {
        !self.parts.more || self.parts.error.is_some()
    }

    /// The whole message; its content is the response's envelope.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The answer, or the service's error as one.
    ///
    /// # Errors
    /// [`ServiceError`](ErrorKind::ServiceError) with the service's words.
    pub fn into_value(self) -> Result<Value> {
        self.checked().map(|response| response.parts.payload.into_value())
    }

    /// Itself, unless it is an error.
    pub(super) fn checked(self) -> Result<Self> {
        match self.error() {
            None => Ok(self),
            Some(words) => {
                let words = words.trim_end();
                let detail = if words.is_empty() { "the service answered with an error" } else { words };
                Err(Error::new(ErrorKind::ServiceError, detail).about_peer(self.from().as_str()))
            }
        }
    }

    /// What a service of ours understood of what was asked beside the handler.
    pub(super) fn understood(&self) -> Option<&str> {
        self.parts.answer.as_deref()
    }
}
