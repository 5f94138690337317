// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations that send and receive.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ipc_manager::{Client, Content, ErrorKind, Message, Wait};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Failed, Outcome};
use super::engine::Engine;
use super::request::{Request, text, truth};

/// Most messages that one `recv` answers with, unless told.
const MOST: usize = 1_000;
/// How long a request is waited for, unless told.
const REQUEST: Duration = Duration::from_secs(10);

impl Engine<'_> {
    pub(super) fn send(&mut self, request: &Request) -> Outcome {
        let client = self.client(request).map_err(Failed::not_stored)?;
        let message = outgoing(request, client).map_err(Failed::not_stored)?;
        let id = message.id().to_string();
        let sent = if request.op == "send" { client.send_message(message) } else { client.try_send_message(message) };
        match sent {
            Ok(receipt) => Ok(Answer::new().with("id", &id).with("receipt", &receipt.to_string())),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let beside = Answer::new().with("id", &id).with("receipt", "refused");
                Err(Failed::of_sending(&error).beside(beside))
            }
            Err(error) => Err(Failed::of_sending(&error)),
        }
    }

    pub(super) fn broadcast(&mut self, request: &Request) -> Outcome {
        let content = request.required("content")?;
        let mut results = BTreeMap::new();
        for (name, result) in self.client(request)?.broadcast(content)? {
            let part = match result {
                Ok(_) => json!({ "sent": true }),
                Err(error) => json!({ "sent": false, "error": Failed::of_sending(&error).object() }),
            };
            results.insert(name.to_string(), part);
        }
        Ok(Answer::new().with("results", &results))
    }

    pub(super) fn recv(&mut self, request: &Request) -> Outcome {
        let timeout = request.seconds("timeout")?.unwrap_or(Duration::ZERO);
        let most = request.count("max")?.unwrap_or(MOST);
        let asked_to_end = self.asked_to_end;
        let client = self.client(request)?;
        let deadline = Instant::now() + timeout;
        loop {
            let messages = client.get_at_most(most)?;
            let damaged = client.take_damaged();
            let left = deadline.saturating_duration_since(Instant::now());
            if !messages.is_empty() || !damaged.is_empty() || most == 0 || left.is_zero() || asked_to_end() {
                return Ok(Answer::new().with_messages(&messages, &damaged));
            }
            // Whatever ended it, the next look tells what there is, and the deadline whether to go on.
            match client.wait(Some(left))? {
                Wait::BusClosed => return Err(Failed::coded(ErrorKind::NoSuchBus, "the bus was removed")),
                _ => continue,
            }
        }
    }

    /// Asks a service. What else comes meanwhile goes back to the mailbox.
    pub(super) fn request(&mut self, request: &Request) -> Outcome {
        let to = request.required_string("to")?;
        let content = request.required("content")?;
        let timeout = request.seconds("timeout")?.unwrap_or(REQUEST);
        let response = self.client(request)?.request(&to, content, Some(timeout))?;
        Ok(Answer::new().with("response", &response.into_value()?))
    }

    pub(super) fn requeue(&mut self, request: &Request) -> Outcome {
        let values = match (request.get("message"), request.get("messages")) {
            (Some(message), None) => std::slice::from_ref(message),
            (None, Some(Value::Array(messages))) => messages.as_slice(),
            (None, Some(_)) => return Err(Failed::usage("`messages` must be an array")),
            (Some(_), Some(_)) => return Err(Failed::usage("`message` and `messages` exclude each other")),
            (None, None) => return Err(Failed::usage("`requeue` needs `message` or `messages`")),
        };
        let client = self.client(request)?;
        let own = client.name().to_string();
        let messages = values.iter().map(|value| whole(value, None, Some(&own))).collect::<Result<Vec<_>, _>>()?;
        client.requeue(&messages)?;
        Ok(Answer::new())
    }
}

/// The message that a request asks to send.
fn outgoing(request: &Request, client: &Client) -> Result<Message, Failed> {
    let own = client.name().as_str();
    if let Some(message) = request.get("message") {
        if let Some(field) = ["to", "content", "broadcast"].into_iter().find(|field| request.get(field).is_some()) {
            return Err(Failed::usage(format!("`message` is whole, so there can be no {field:?} beside it")));
        }
        return whole(message, Some(own), None);
    }
    let to = request.required_string("to")?;
    let content = request.required("content")?;
    let Some(broadcast) = request.boolean("broadcast")? else { return Ok(client.message(&to, content)?) };
    Ok(Message::builder(own).to(&to).broadcast(broadcast).content(content)?.build()?)
}

/// A message from an object such as `recv` answers with. The sender is the one given, or that of the object; so is the
/// recipient, unless the object names one.
fn whole(value: &Value, from: Option<&str>, to: Option<&str>) -> Result<Message, Failed> {
    let fields = value.as_object().ok_or_else(|| Failed::usage("a message must be an object"))?;
    let field = |name: &str| -> Result<Option<String>, Failed> {
        match fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                text(value).map(Some).ok_or_else(|| Failed::usage(format!("the message's {name:?} must be a string")))
            }
        }
    };
    let from = match from {
        Some(from) => from.to_owned(),
        None => field("from")?.ok_or_else(|| Failed::usage("the message has no \"from\""))?,
    };
    let mut builder = Message::builder(&from);
    if let Some(to) = field("to")?.as_deref().or(to) {
        builder = builder.to(to);
    }
    if let Some(id) = field("id")? {
        builder = builder.id(&id);
    }
    if let Some(stamp) = fields.get("stamp").filter(|stamp| !stamp.is_null()) {
        let seconds = stamp.as_f64().or_else(|| stamp.as_str()?.parse().ok());
        builder = builder.stamp(seconds.ok_or_else(|| Failed::usage("the message's \"stamp\" must be a number"))?);
    }
    if let Some(broadcast) = fields.get("broadcast").filter(|broadcast| !broadcast.is_null()) {
        let truth =
            truth(broadcast).ok_or_else(|| Failed::usage("the message's \"broadcast\" must be true or false"))?;
        // That it is none goes without saying, and a message that was received does not say it either.
        builder = if truth { builder.broadcast(true) } else { builder };
    }
    let content = fields.get("content").ok_or_else(|| Failed::usage("the message has no \"content\""))?;
    builder = builder.raw_content(Content::new(content)?);
    Ok(extra(fields).fold(builder, |builder, (key, value)| builder.extra(key, value.clone())).build()?)
}

/// The fields of a message that are not its own. The ordinal is its own too, but goes by the stamp.
fn extra(fields: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    const OWN: [&str; 7] = ["id", "from", "to", "stamp", "stamp_ord", "broadcast", "content"];
    fields.iter().filter(|(key, _)| !OWN.contains(&key.as_str()))
}
