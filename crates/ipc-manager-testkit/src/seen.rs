// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a puppet answers, in types.

use serde_json::{Map, Value};

/// Why a puppet did not do what it was told.
///
/// ```
/// assert_eq!(ipc_manager_testkit::Failure::Gone.code(), "gone");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// The call was answered with an error.
    Refused {
        /// The error's stable name.
        code: String,
        /// The whole error.
        error: Value,
    },
    /// The puppet is gone.
    Gone,
}

impl Failure {
    /// The error code, or `gone`.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::Gone => "gone",
        }
    }
}

/// What became of a message that a puppet sent.
///
/// ```
/// use ipc_manager_testkit::{Context, Sent, Subject};
/// let subject = Subject::new("LocalMemory");
/// let context = Context::new(&subject);
/// let bus = context.bus();
/// let (_a, mut b) = (bus.client("a"), bus.puppet("b"));
/// let Sent { receipt, .. } = b.send("a", "hello").unwrap();
/// assert_eq!(receipt, "delivered");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The id that it was sent under.
    pub id: String,
    /// `delivered`, `stored` or `queued`.
    pub receipt: String,
}

/// A message as a puppet saw it.
///
/// ```
/// use ipc_manager_testkit::Seen;
/// fn contents(seen: &[Seen]) -> Vec<String> {
///     seen.iter().map(|message| message.content.to_string()).collect()
/// }
/// assert!(contents(&[]).is_empty());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The id.
    pub id: String,
    /// The sender.
    pub from: String,
    /// The recipient.
    pub to: String,
    /// Seconds since the epoch.
    pub stamp: f64,
    /// Whether it is one copy of a message to all.
    pub broadcast: bool,
    /// What it carries.
    pub content: Value,
}

/// A peer as a puppet saw it.
///
/// ```
/// use ipc_manager_testkit::PeerSeen;
/// let suspended = PeerSeen { exists: true, active: false, suspended: true, pid: None };
/// assert_ne!(suspended, PeerSeen { exists: true, active: true, suspended: false, pid: Some(1) });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSeen {
    /// Registered, in any state.
    pub exists: bool,
    /// Its process lives.
    pub active: bool,
    /// It left and keeps its mailbox.
    pub suspended: bool,
    /// The process on record.
    pub pid: Option<u32>,
}

impl Seen {
    /// The messages of an answer.
    pub(crate) fn all_of(answer: &Map<String, Value>) -> Vec<Self> {
        let messages = answer["messages"].as_array().expect("messages are an array");
        let text = |message: &Value, key: &str| message[key].as_str().unwrap_or_default().to_owned();
        let one = |message: &Value| Self {
            id: text(message, "id"),
            from: text(message, "from"),
            to: text(message, "to"),
            stamp: message["stamp"].as_f64().unwrap_or_default(),
            broadcast: message["broadcast"] == true,
            content: message["content"].clone(),
        };
        messages.iter().map(one).collect()
    }
}
