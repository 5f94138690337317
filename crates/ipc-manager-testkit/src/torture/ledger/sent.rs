// SPDX-License-Identifier: MIT OR Apache-2.0
//! What senders say of their messages.

use std::collections::HashMap;

use serde_json::Value;

/// What a sender says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing: it died with it, or did not come to know.
    Nothing,
    Stored,
    /// It waits in the sender, which may die with it.
    HeldBack,
    Refused,
    InDoubt,
}

#[derive(Debug)]
pub(super) struct Sent {
    pub(super) from: &'static str,
    pub(super) to: String,
    pub(super) number: u64,
    pub(super) tried: u64,
    pub(super) said: Said,
}

/// Adds what one process of a sender wrote down.
pub(super) fn note(from: &'static str, records: &[Vec<Value>], sent: &mut HashMap<String, Sent>) {
    let mut held_back = Vec::new();
    for record in records {
        let text = |at: usize| record.get(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let id = text(1);
        let mut say = |said: Said| sent.get_mut(&id).map(|sent| sent.said = said);
        match &*text(0) {
            "try" => {
                let number = |at: usize| record.get(at).and_then(Value::as_u64).unwrap_or(0);
                let message = Sent { from, to: text(2), number: number(3), tried: number(4), said: Said::Nothing };
                sent.insert(id, message);
            }
            "ack" => drop(say(Said::Stored)),
            "queued" => {
                say(Said::HeldBack);
                held_back.push(id);
            }
            "refused" => drop(say(Said::Refused)),
            "doubt" => drop(say(Said::InDoubt)),
            "flushed" => {
                for id in held_back.drain(..) {
                    if let Some(sent) = sent.get_mut(&id).filter(|sent| sent.said == Said::HeldBack) {
                        sent.said = Said::Stored;
                    }
                }
            }
            _ => {}
        }
    }
}
