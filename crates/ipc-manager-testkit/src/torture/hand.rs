// SPDX-License-Identifier: MIT OR Apache-2.0
//! A reader that acknowledges: what it has in hand, and what it writes down of it.

use std::time::Duration;

use ipc_manager::{Client, Delivery, ErrorKind};
use serde_json::{Value, json};

use super::parts::is_sound;
use super::worker::{CALL, Worker};

/// How often a message is handed out before it is set aside as dead: few times, so that some die.
pub(super) const ATTEMPTS: u32 = 3;
/// Most messages in hand at once.
const MOST: usize = 6;

/// Messages in hand.
#[derive(Debug, Default)]
pub(super) struct Hand(Vec<Delivery>);

/// Says what is done with a message.
fn record(what: &str, delivery: &Delivery) -> Value {
    let message = delivery.message();
    json!([what, message.id().as_str(), message.from().as_str(), message.content()["n"]])
}

impl Hand {
    /// Takes some messages into the hand, and acknowledges, puts back or keeps each. Returns as reading does.
    pub(super) fn work(&mut self, worker: &mut Worker, client: &mut Client, patience: Duration) -> Option<bool> {
        if worker.dice.chance(4) {
            revives(worker, client);
        }
        // What was read without a word before is noted by now.
        worker.journal.note(&json!(["batch", 0]));
        let most = usize::try_from(worker.dice.between(1, 5)).unwrap_or(1);
        let (mut came, mut is_first) = (false, true);
        for _ in 0..most {
            if self.0.len() == MOST {
                break;
            }
            let received = worker.timed("hold", CALL, || {
                if is_first { client.receive_timeout(patience).map(Some) } else { client.try_receive() }
            });
            is_first = false;
            for damaged in client.take_damaged() {
                worker.journal.note(&json!(["damaged", format!("{damaged:?}")]));
            }
            match received {
                Ok(Some(delivery)) => {
                    let mut held = record("held", &delivery);
                    let list = held.as_array_mut().expect("a record is a list");
                    list.extend([delivery.attempts().into(), is_sound(delivery.message()).into()]);
                    worker.journal.note(&held);
                    self.0.push(delivery);
                    came = true;
                    worker.is_well();
                }
                Ok(None) => break,
                Err(error) if error.kind() == ErrorKind::Timeout => break,
                Err(error) => {
                    if !worker.bears("receive", &error) {
                        return None;
                    }
                    break;
                }
            }
        }
        for delivery in std::mem::take(&mut self.0) {
            match worker.dice.below(100) {
                0..65 => acknowledge(worker, client, delivery),
                65..80 => put_back(worker, delivery),
                _ => self.0.push(delivery),
            }
        }
        // What is kept in hand hides nothing: there may be more.
        Some(came || !self.0.is_empty())
    }

    /// Acknowledges all that is in hand.
    pub(super) fn finish(&mut self, worker: &mut Worker, client: &mut Client) {
        self.0.drain(..).for_each(|delivery| acknowledge(worker, client, delivery));
    }

    /// Puts back all that is in hand, before its reader leaves; dead messages come to life then.
    pub(super) fn let_go(&mut self, worker: &mut Worker) {
        self.0.drain(..).for_each(|delivery| put_back(worker, delivery));
        worker.journal.note(&json!(["revive"]));
    }
}

fn acknowledge(worker: &mut Worker, client: &mut Client, delivery: Delivery) {
    let (begins, done) = (record("acknowledges", &delivery), record("done", &delivery));
    worker.journal.note(&begins);
    match worker.timed("acknowledge", CALL, || delivery.acknowledge(client)) {
        Ok(()) => worker.journal.note(&done),
        Err(error) => {
            worker.journal.failed("acknowledge", &error);
            let mut back = begins;
            back[0] = "back".into();
            worker.journal.note(&back);
        }
    }
}

fn put_back(worker: &Worker, delivery: Delivery) {
    worker.journal.note(&record("back", &delivery));
    delivery.put_back();
}

/// Gives the dead another chance.
fn revives(worker: &Worker, client: &mut Client) {
    worker.journal.note(&json!(["revive"]));
    if let Err(error) = worker.timed("revive", CALL, || client.revive_all(&worker.name)) {
        worker.journal.failed("revive", &error);
    }
}
