// SPDX-License-Identifier: MIT OR Apache-2.0
//! A request: checked as a whole before anything is done, so that a refused one has changed nothing.

use std::time::Duration;

use ipc_manager::{Content, ErrorKind};
use serde_json::{Map, Value};

use super::answer::Failed;

/// Every operation, and the fields that it takes beside `op` and `rid`.
pub(super) const OPERATIONS: &[(&str, &[&str])] = &[
    ("version", &[]),
    ("spawn", &["protocol", "protocols", "serializer", "guard", "signal", "route", "audit", "group"]),
    ("connect", &["name", "info", "bus", "user", "password", "group", "listen", "hold", "delivery_attempts"]),
    ("reconnect", &["name", "info", "bus", "user", "password", "group", "listen", "hold", "delivery_attempts"]),
    ("send", &["client", "to", "content", "broadcast", "message"]),
    ("try_send", &["client", "to", "content", "broadcast", "message"]),
    ("broadcast", &["client", "content"]),
    ("recv", &["client", "timeout", "max"]),
    ("requeue", &["client", "message", "messages"]),
    ("receive", &["client", "timeout"]),
    ("acknowledge", &["client", "delivery"]),
    ("put_back", &["client", "delivery"]),
    ("extend", &["client", "delivery", "hold"]),
    ("dead", &["client", "name"]),
    ("revive", &["client", "name", "id"]),
    ("ready", &["client"]),
    ("pending", &["client"]),
    ("peers", &["client"]),
    ("peer", &["client", "name", "timeout"]),
    ("reap", &["client"]),
    ("stats", &["client"]),
    ("write_stats", &["client"]),
    ("read_stats", &["client"]),
    ("all_stats", &["client"]),
    ("drain_pending", &["client"]),
    ("pending_sends", &["client"]),
    ("set_blocking", &["client", "value"]),
    ("suspend", &["client", "expires_in", "expires_at"]),
    ("disconnect", &["client", "unread"]),
    ("terminate", &["bus"]),
    ("wait", &["bus", "timeout"]),
    ("audit", &["bus"]),
    ("shutdown", &["bus"]),
    ("unspawn", &["bus"]),
    ("request", &["client", "to", "content", "timeout"]),
    ("fds", &["client"]),
];

/// One request whose operation and fields are known. Values are looked at by the operation.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) op: &'static str,
    pub(super) rid: Option<Value>,
    fields: Map<String, Value>,
}

/// Why a line is no request.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) rid: Option<Value>,
    pub(super) message: String,
    /// Whether it asked to send a message, which will never arrive.
    pub(super) sends: bool,
}

impl Refused {
    /// The line that answers it.
    pub(super) fn line(&self) -> String {
        let failed = Failed::usage(&self.message);
        let failed = if self.sends { failed.not_stored() } else { failed };
        failed.line(self.rid.as_ref())
    }
}

impl Request {
    /// Understands a line.
    pub(super) fn parse(line: &[u8]) -> Result<Self, Refused> {
        let refused = |rid: Option<Value>, message: String| Refused { rid, message, sends: false };
        let text = std::str::from_utf8(line)
            .map_err(|error| refused(None, format!("the request is not UTF-8 (byte {})", error.valid_up_to())))?;
        let read = Content::from_json(text).map_err(|error| match error.kind() {
            ErrorKind::Serialize => refused(None, "a request is a JSON object".into()),
            _ => refused(None, format!("the request is not JSON: {error}")),
        })?;
        let Value::Object(mut fields) = read.value().clone() else {
            return Err(refused(None, "a request is a JSON object".into()));
        };
        let rid = fields.remove("rid");
        let known = || OPERATIONS.iter().map(|(op, _)| *op).collect::<Vec<_>>().join(", ");
        let op = match fields.remove("op") {
            Some(Value::String(op)) => op,
            Some(_) => return Err(refused(rid, format!("`op` must be a string, one of {}", known()))),
            None => return Err(refused(rid, format!("a request needs `op`, one of {}", known()))),
        };
        let Some((op, takes)) = OPERATIONS.iter().find(|(name, _)| *name == op) else {
            return Err(refused(rid, format!("there is no op {op:?}; known are {}", known())));
        };
        if let Some(field) = fields.keys().find(|field| !takes.contains(&field.as_str())) {
            let takes = if takes.is_empty() { "nothing".to_owned() } else { takes.join(", ") };
            let message = format!("`{op}` takes no field {field:?}; it takes {takes}");
            return Err(Refused { sends: matches!(*op, "send" | "try_send"), ..refused(rid, message) });
        }
        // A null is as good as nothing: that is how many languages say that an argument was not given.
        fields.retain(|field, value| !value.is_null() || field == "content");
        Ok(Self { op, rid, fields })
    }

    /// A field's value, if it was given.
    pub(super) fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field)
    }

    /// A field that must be given.
    pub(super) fn required(&self, field: &str) -> Result<&Value, String> {
        self.get(field).ok_or_else(|| format!("`{}` needs `{field}`", self.op))
    }

    /// A field that is a string. Numbers will do: some languages do not tell them apart.
    pub(super) fn string(&self, field: &str) -> Result<Option<String>, String> {
        self.get(field).map(|value| text(value).ok_or_else(|| format!("`{field}` must be a string"))).transpose()
    }

    /// A field that is a string and must be given.
    pub(super) fn required_string(&self, field: &str) -> Result<String, String> {
        self.required(field)?;
        self.string(field)?.ok_or_else(|| format!("`{}` needs `{field}`", self.op))
    }

    /// A field that is true or false.
    pub(super) fn boolean(&self, field: &str) -> Result<Option<bool>, String> {
        self.get(field).map(|value| truth(value).ok_or_else(|| format!("`{field}` must be true or false"))).transpose()
    }

    /// A field that is a number of things.
    pub(super) fn count(&self, field: &str) -> Result<Option<usize>, String> {
        let count = |value: &Value| value.as_u64().and_then(|count| usize::try_from(count).ok());
        let wrong = || format!("`{field}` must be a whole number, 0 or more");
        self.get(field).map(|value| count(value).ok_or_else(wrong)).transpose()
    }

    /// A field that is a time in seconds, from now or since the epoch.
    pub(super) fn seconds(&self, field: &str) -> Result<Option<Duration>, String> {
        let wrong = || format!("`{field}` must be a number of seconds, 0 or more");
        let seconds = |value: &Value| Duration::try_from_secs_f64(value.as_f64()?).ok();
        self.get(field).map(|value| seconds(value).ok_or_else(wrong)).transpose()
    }
}

/// A string, or a number as its digits.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// True or false, also as 1 and 0: some languages do not tell them apart.
pub(super) fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::Number(number) if number.as_u64() == Some(0) => Some(false),
        Value::Number(number) if number.as_u64() == Some(1) => Some(true),
        _ => None,
    }
}
