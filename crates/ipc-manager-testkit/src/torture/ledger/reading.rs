// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one process of a reader got, in which order, and what it may have had in hand when it ended.

use std::collections::HashMap;

use serde_json::Value;

use super::super::actor::Life;
use super::super::handed::{Hands, Turns};
use super::super::plan::Back;
use super::Sums;

/// What one process of a reader got of one sender: the numbers in their order.
type Got = HashMap<String, Vec<u64>>;

/// One process that read.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) got: Got,
    pub(super) turns: Turns,
    pub(super) back: Back,
    /// How many messages it may have had in hand when it ended.
    pub(super) in_hand: u64,
    /// How many of them since a server did not say whether it gave them out; they come with the next.
    pub(super) in_doubt: u64,
    /// Unread messages that it was told were thrown away; nothing where it was killed before it was told.
    pub(super) discarded: Option<u64>,
    pub(super) ended: u64,
    pub(super) was_killed: bool,
}

impl Reading {
    /// A process that has read nothing yet.
    pub(super) fn of(life: &Life) -> Self {
        Self {
            got: Got::new(),
            turns: Turns::new(),
            back: life.back,
            in_hand: 0,
            in_doubt: 0,
            discarded: None,
            ended: life.ended,
            was_killed: life.was_killed,
        }
    }
}

impl Sums {
    /// Adds what one process of a reader wrote down.
    pub(super) fn note_read(
        &mut self,
        mut reading: Reading,
        records: &[Vec<Value>],
        arrivals: &mut HashMap<String, usize>,
        hands: &mut Hands,
        life: usize,
    ) -> Reading {
        for record in records {
            let text = |at: usize| record.get(at).and_then(Value::as_str).unwrap_or_default();
            let number = record.get(3).and_then(Value::as_u64).unwrap_or(0);
            // Where it came to first says whom it can have come to at all.
            let is_new = matches!(text(0), "got" | "held") && !hands.knows(text(1));
            hands.note(life, record, &mut reading.turns);
            if is_new {
                reading.got.entry(text(2).to_owned()).or_default().push(number);
            }
            if matches!(text(0), "got" | "done") {
                *arrivals.entry(text(1).to_owned()).or_default() += 1;
            }
            if text(0) == "got" && record[4] != true || text(0) == "held" && record[5] != true {
                self.corrupt += 1;
                self.violated(format!("{} of {} was damaged", text(1), text(2)));
            }
            match text(0) {
                "joined" => reading.discarded = record[1].as_u64(),
                "batch" => reading.in_hand = record[1].as_u64().unwrap_or(0) + reading.in_doubt,
                "failed" if text(1) == "receive" => reading.in_doubt = reading.in_hand,
                "got" => {
                    reading.in_doubt = 0;
                    // What is noted is not in hand any more.
                    reading.in_hand = reading.in_hand.saturating_sub(1);
                }
                "damaged" => {
                    self.corrupt += 1;
                    self.violated(format!("something in a mailbox was damaged: {}", record[1]));
                }
                _ => {}
            }
        }
        hands.ended(reading.was_killed, &mut reading.turns);
        reading
    }
}
