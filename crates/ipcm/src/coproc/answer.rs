// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers: one line of ASCII JSON each.

use ipc_manager::{Damaged, Error, ErrorKind, Message, Stored};
use serde::Serialize;
use serde_json::{Value, json};

use crate::failure::chain;
use crate::message_document::MessageDocument;
use crate::output::ascii_json;

/// The answer to a request that was carried out: its fields, in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct Answer {
    fields: String,
}

/// Why a request was not carried out.
#[derive(Debug)]
pub(super) struct Failed {
    code: &'static str,
    message: String,
    /// For operations that send: whether the message may arrive all the same.
    stored: Option<Value>,
    /// Fields of the answer beside the error.
    beside: Answer,
}

/// What an operation comes to.
pub(super) type Outcome = Result<Answer, Failed>;

impl Answer {
    /// An answer without fields of its own.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Adds a field.
    pub(super) fn with<T: Serialize + ?Sized>(mut self, name: &str, value: &T) -> Self {
        // What is answered are strings, numbers and checked JSON; none of that fails to encode.
        let value = ascii_json(value).unwrap_or_else(|_| "null".to_owned());
        self.fields.push_str(&format!(",\"{name}\":{value}"));
        self
    }

    /// Adds the fields of another answer behind these.
    pub(super) fn followed_by(mut self, other: Self) -> Self {
        self.fields.push_str(&other.fields);
        self
    }

    /// Adds a message.
    pub(super) fn with_message(self, message: &Message) -> Self {
        self.with("message", &MessageDocument::new(message))
    }

    /// Adds reports on what was no message, if there was any.
    pub(super) fn with_damaged(self, damaged: &[Damaged]) -> Self {
        if damaged.is_empty() {
            return self;
        }
        let told = |damaged: &Damaged| {
            let kept = damaged.set_aside().map(|path| path.to_string_lossy().into_owned());
            json!({ "message": chain(damaged.error()).join(": "), "kept_at": kept })
        };
        self.with("damaged", &damaged.iter().map(told).collect::<Vec<_>>())
    }

    /// Adds messages that were taken, and reports on what was no message, if there was any.
    pub(super) fn with_messages(self, messages: &[Message], damaged: &[Damaged]) -> Self {
        let documents: Vec<_> = messages.iter().filter_map(MessageDocument::new).collect();
        self.with("messages", &documents).with_damaged(damaged)
    }

    /// The line, for a request under that id.
    pub(super) fn line(&self, rid: Option<&Value>) -> String {
        format!("{{{}\"ok\":true{}}}", rid_field(rid), self.fields)
    }

    /// The line for what is no request.
    pub(super) fn refused(rid: Option<&Value>, message: &str) -> String {
        Failed::usage(message).line(rid)
    }
}

impl Failed {
    /// The request itself is wrong.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::coded(ErrorKind::Usage, message)
    }

    /// A failure of a kind, for which there is no error of the library.
    pub(super) fn coded(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { code: kind.code(), message: message.into(), stored: None, beside: Answer::new() }
    }

    /// A failure to send: says whether the message may arrive all the same.
    pub(super) fn of_sending(error: &Error) -> Self {
        let failed = Self::from(error).not_stored();
        match error.stored() {
            Some(Stored::Maybe) => Self { stored: Some("maybe".into()), ..failed },
            _ => failed,
        }
    }

    /// Says that nothing was sent and nothing will arrive.
    pub(super) fn not_stored(mut self) -> Self {
        self.stored = Some(false.into());
        self
    }

    /// Puts fields beside the error.
    pub(super) fn beside(mut self, fields: Answer) -> Self {
        self.beside = fields;
        self
    }

    /// The error object.
    pub(super) fn object(&self) -> Value {
        let mut object = json!({ "code": self.code, "message": self.message });
        if let (Some(stored), Some(table)) = (&self.stored, object.as_object_mut()) {
            table.insert("stored".into(), stored.clone());
        }
        object
    }

    /// The line, for a request under that id.
    pub(super) fn line(&self, rid: Option<&Value>) -> String {
        let error = Answer::new().with("error", &self.object());
        format!("{{{}\"ok\":false{}{}}}", rid_field(rid), error.fields, self.beside.fields)
    }
}

impl From<&Error> for Failed {
    fn from(error: &Error) -> Self {
        Self { code: error.code(), message: chain(error).join(": "), stored: None, beside: Answer::new() }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<String> for Failed {
    fn from(message: String) -> Self {
        Self::usage(message)
    }
}

/// The id of a request, as the first field of its answer.
fn rid_field(rid: Option<&Value>) -> String {
    match rid.map(ascii_json) {
        Some(Ok(rid)) => format!("\"rid\":{rid},"),
        _ => String::new(),
    }
}
