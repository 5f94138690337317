// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations on messages that stay in the store until they are acknowledged.

use std::time::{Duration, Instant};

use ipc_manager::{Dead, ErrorKind, Wait};
use serde_json::{Value, json};

use super::answer::{Answer, Failed, Outcome};
use super::engine::Engine;
use super::request::Request;
use crate::message_document::MessageDocument;

impl Engine<'_> {
    pub(super) fn receive(&mut self, request: &Request) -> Outcome {
        let timeout = request.seconds("timeout")?.unwrap_or(Duration::ZERO);
        let asked_to_end = self.asked_to_end;
        let handle = self.client_handle(request)?;
        let client = self.client(request)?;
        let deadline = Instant::now() + timeout;
        let (received, damaged) = loop {
            let received = client.try_receive()?;
            let damaged = client.take_damaged();
            let left = deadline.saturating_duration_since(Instant::now());
            if received.is_some() || !damaged.is_empty() || left.is_zero() || asked_to_end() {
                break (received, damaged);
            }
            // Whatever ended it, the next look tells what there is, and the deadline whether to go on.
            if client.wait(Some(left))? == Wait::BusClosed {
                return Err(Failed::coded(ErrorKind::NoSuchBus, "the bus was removed"));
            }
        };
        let answer = match received {
            Some(delivery) => {
                let told = Answer::new().with_message(delivery.message()).with("attempts", &delivery.attempts());
                Answer::new().with("delivery", &self.keep_delivery(handle, delivery)).followed_by(told)
            }
            None => Answer::new().with("delivery", &Value::Null),
        };
        Ok(answer.with_damaged(&damaged))
    }

    pub(super) fn acknowledge(&mut self, request: &Request) -> Outcome {
        let handle = self.delivery_handle(request)?;
        if let Some((delivery, client)) = self.take_delivery(handle) {
            delivery.acknowledge(client)?;
        }
        Ok(Answer::new())
    }

    /// Puts back or extends.
    pub(super) fn settle(&mut self, request: &Request) -> Outcome {
        let handle = self.delivery_handle(request)?;
        if request.op == "put_back" {
            if let Some((delivery, client)) = self.take_delivery(handle) {
                delivery.put_back();
                // Done now, and not at the next operation.
                client.is_ready()?;
            }
            return Ok(Answer::new());
        }
        request.required("hold")?;
        let hold = request.seconds("hold")?.unwrap_or_default();
        if let Some(delivery) = self.delivery(handle) {
            delivery.extend(hold)?;
        }
        Ok(Answer::new())
    }

    /// Lists or revives dead messages, of the client itself unless another is named.
    pub(super) fn dead(&mut self, request: &Request) -> Outcome {
        let (name, id) = (request.string("name")?, request.string("id")?);
        let client = self.client(request)?;
        let name = name.unwrap_or_else(|| client.name().to_string());
        if request.op == "revive" {
            let revived = match id {
                Some(id) => usize::from(client.revive(&name, &id)?),
                None => client.revive_all(&name)?,
            };
            return Ok(Answer::new().with("revived", &revived));
        }
        let dead = client.dead(&name)?;
        let told = |dead: &Dead| json!({ "message": MessageDocument::new(&dead.message), "attempts": dead.attempts });
        Ok(Answer::new().with("dead", &dead.iter().map(told).collect::<Vec<_>>()))
    }
}
