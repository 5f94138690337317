// SPDX-License-Identifier: MIT OR Apache-2.0
//! What became of each acknowledged message: once, lost and why, doubled, damaged, out of order.

mod judgement;
mod order;
mod reading;
mod sent;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::actor::Actor;
use super::handed::Hands;
use super::journal;
use super::plan::Part;
use order::Spans;
use reading::Reading;

/// The sums.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) acked: usize,
    pub(super) once: usize,
    /// Handed out again to be acknowledged.
    pub(super) again: usize,
    pub(super) refused: usize,
    pub(super) in_doubt: usize,
    /// Lost, by cause.
    pub(super) excused: BTreeMap<&'static str, usize>,
    pub(super) lost: usize,
    pub(super) doubled: usize,
    pub(super) corrupt: usize,
    pub(super) out_of_order: usize,
    pub(super) late: usize,
    pub(super) asked: usize,
    pub(super) answered: usize,
    pub(super) violations: Vec<String>,
}

/// What a run did to all, beside what it did to single processes.
#[derive(Debug, Default)]
pub(super) struct Weather {
    /// When all of it was stopped from outside.
    pub(super) stalls: Vec<(u64, u64)>,
    /// When the clock was set.
    pub(super) clock: Vec<u64>,
    /// How many calls were refused, where the name of a file holds how often a message was handed out.
    pub(super) refusals: usize,
}

/// Adds up what all processes wrote down. With a server calls are repeated by themselves, so that what was handed out
/// may be counted more often.
pub(super) fn add_up(actors: &[Actor], weather: &Weather, is_durable: bool, counts_exactly: bool) -> Sums {
    let (mut sums, mut spans) = (Sums::default(), Spans::new());
    let mut sent = HashMap::new();
    let mut arrivals: HashMap<String, usize> = HashMap::new();
    let mut readings: BTreeMap<&str, Vec<Reading>> = BTreeMap::new();
    let mut all_hands: HashMap<&str, Hands> = HashMap::new();
    let mut refusals = weather.refusals;
    for actor in actors {
        let hands = all_hands.entry(actor.name).or_default();
        for (number, life) in actor.lives.iter().enumerate() {
            let records = journal::read(&life.journal);
            let stops: Vec<(u64, u64)> = life.stops.iter().chain(&weather.stalls).copied().collect();
            sums.note_late(actor.name, &records, &stops);
            match actor.part {
                Part::Sender => {
                    let joining = records.iter().find(|record| record[0] == "joining");
                    let begun = joining.and_then(|record| record[2].as_u64()).unwrap_or(0);
                    spans.entry(actor.name).or_default().push((begun, life.ended));
                    sent::note(actor.name, &records, &mut sent);
                }
                Part::Reader => {
                    let reading = sums.note_read(Reading::of(life), &records, &mut arrivals, hands, number);
                    readings.entry(actor.name).or_default().push(reading);
                }
                Part::Asker => sums.note_asked(&records),
                Part::Owner | Part::Service => {}
            }
        }
        if counts_exactly {
            hands.check_counts();
        }
        hands.check_uncounted(&mut refusals);
        sums.again += hands.again;
        sums.violations.append(&mut hands.violations);
    }
    for (name, lives) in &readings {
        sums.note_order(name, lives, &spans, &weather.clock);
    }
    sums.judge(&sent, &arrivals, &mut readings, &all_hands, is_durable);
    sums
}

impl Sums {
    fn violated(&mut self, what: String) {
        self.violations.push(what);
    }

    /// Calls that took longer than they may, without the time in which their process was stopped.
    fn note_late(&mut self, name: &str, records: &[Vec<Value>], stops: &[(u64, u64)]) {
        for record in records.iter().filter(|record| record[0] == "late") {
            let number = |at: usize| record.get(at).and_then(Value::as_u64).unwrap_or(0);
            let (begun, ended, most) = (number(2), number(3), number(4));
            let overlap = |stop: &(u64, u64)| stop.1.min(ended).saturating_sub(stop.0.max(begun));
            let took = (ended - begun).saturating_sub(stops.iter().map(overlap).sum());
            if took > most {
                self.late += 1;
                self.violated(format!("{name}: {} took {} ms of its own time", record[1], took / 1_000_000));
            }
        }
    }

    fn note_asked(&mut self, records: &[Vec<Value>]) {
        for record in records {
            match record[0].as_str().unwrap_or_default() {
                "asked" => self.asked += 1,
                "answered" => self.answered += 1,
                "wrong" => {
                    self.corrupt += 1;
                    self.violated(format!("request {} got another's answer", record[1]));
                }
                _ => {}
            }
        }
    }
}
