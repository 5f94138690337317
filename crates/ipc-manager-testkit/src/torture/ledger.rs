// SPDX-License-Identifier: MIT OR Apache-2.0
//! What became of each acknowledged message: once, lost and why, doubled, damaged, out of order.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use super::actor::Actor;
use super::handed::{Hands, Turn, Turns};
use super::journal;
use super::parts::A_LIFE;
use super::plan::{Back, Part};

/// What a sender says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// Nothing: it died with it, or did not come to know.
    Nothing,
    Stored,
    /// It waits in the sender, which may die with it.
    HeldBack,
    Refused,
    InDoubt,
}

#[derive(Debug)]
struct Sent {
    from: &'static str,
    to: String,
    number: u64,
    tried: u64,
    said: Said,
}

/// What one process of a reader got of one sender: the numbers in their order.
type Got = HashMap<String, Vec<u64>>;

/// One process that read.
#[derive(Debug)]
struct Reading {
    got: Got,
    turns: Turns,
    back: Back,
    /// How many messages it may have had in hand when it ended.
    in_hand: u64,
    /// How many of them since a server did not say whether it gave them out; they come with the next.
    in_doubt: u64,
    /// Unread messages that it was told were thrown away; nothing where it was killed before it was told.
    discarded: Option<u64>,
    ended: u64,
    was_killed: bool,
}

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
}

/// When each process of each sender began and ended.
type Spans = HashMap<&'static str, Vec<(u64, u64)>>;

/// Adds up what all processes wrote down. With a server calls are repeated by themselves, so that what was handed out
/// may be counted more often.
pub(super) fn add_up(actors: &[Actor], weather: &Weather, is_durable: bool, counts_exactly: bool) -> Sums {
    let (mut sums, mut spans) = (Sums::default(), Spans::new());
    let mut sent = HashMap::new();
    let mut arrivals: HashMap<String, usize> = HashMap::new();
    let mut readings: BTreeMap<&str, Vec<Reading>> = BTreeMap::new();
    let mut all_hands: HashMap<&str, Hands> = HashMap::new();
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
                    note_sent(actor.name, &records, &mut sent);
                }
                Part::Reader => {
                    let reading = Reading {
                        got: Got::new(),
                        turns: Turns::new(),
                        back: life.back,
                        in_hand: 0,
                        in_doubt: 0,
                        discarded: None,
                        ended: life.ended,
                        was_killed: life.was_killed,
                    };
                    let reading = sums.note_read(reading, &records, &mut arrivals, hands, number);
                    readings.entry(actor.name).or_default().push(reading);
                }
                Part::Asker => sums.note_asked(&records),
                Part::Owner | Part::Service => {}
            }
        }
        if counts_exactly {
            hands.check_counts();
        }
        sums.again += hands.again;
        sums.violations.append(&mut hands.violations);
    }
    for (name, lives) in &readings {
        sums.note_order(name, lives, &spans, &weather.clock);
    }
    sums.judge(&sent, &arrivals, &mut readings, &all_hands, is_durable);
    sums
}

fn note_sent(from: &'static str, records: &[Vec<Value>], sent: &mut HashMap<String, Sent>) {
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

    fn note_read(
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

    /// First in, first out, for each sender, through all processes of a reader. What another process of a sender sent
    /// is not compared across a step of the clock: the kernel's clock, and so the times of files, by which the next
    /// process knows how late it is, cannot be set here.
    fn note_order(&mut self, reader: &str, lives: &[Reading], spans: &Spans, clock: &[u64]) {
        let span = |from: &str, number: u64| {
            let life = usize::try_from(number / A_LIFE).ok()?;
            spans.get(from)?.get(life).copied()
        };
        let mut last: HashMap<&str, u64> = HashMap::new();
        for (number, life) in lives.iter().enumerate() {
            for (from, turns) in &life.turns {
                let last = last.entry(from).or_insert(0);
                for turn in turns {
                    let came = match turn {
                        Turn::Came(came) => *came,
                        Turn::Back(again) => {
                            *last = again.saturating_sub(1).min(*last);
                            continue;
                        }
                    };
                    let was_set = came / A_LIFE != *last / A_LIFE
                        && span(from, came)
                            .zip(span(from, *last))
                            .is_some_and(|(older, newer)| clock.iter().any(|step| (older.0..=newer.1).contains(step)));
                    if came < *last && !was_set {
                        self.out_of_order += 1;
                        self.violations.push(format!("{reader}-{number:03} got {came} of {from} after {last}"));
                    }
                    *last = came.max(*last);
                }
            }
        }
    }

    fn judge(
        &mut self,
        sent: &HashMap<String, Sent>,
        arrivals: &HashMap<String, usize>,
        readings: &mut BTreeMap<&str, Vec<Reading>>,
        hands: &HashMap<&str, Hands>,
        is_durable: bool,
    ) {
        let mut missing = Vec::new();
        for (id, message) in sent {
            let came = arrivals.get(id).copied().unwrap_or(0);
            if came > 1 {
                self.doubled += 1;
                self.violated(format!("{id} of {} came {came} times, {:?}", message.from, message.said));
            }
            match message.said {
                Said::Stored => {
                    self.acked += 1;
                    self.once += usize::from(came == 1);
                    if came == 0 {
                        missing.push((id, message));
                    }
                }
                Said::Refused => {
                    self.refused += 1;
                    if came > 0 {
                        self.violated(format!("{id} of {} was refused, and came", message.from));
                    }
                }
                Said::InDoubt | Said::HeldBack | Said::Nothing => self.in_doubt += 1,
            }
        }
        if let Some(id) = arrivals.keys().find(|id| !sent.contains_key(*id)) {
            self.violated(format!("{id} came, and nobody sent it"));
        }
        // Those last that may have been with more processes, since any excuse serves them.
        let last_life = |id: &str, to: &str| hands.get(to).and_then(|hands| hands.last_life(id));
        missing.sort_by_key(|(id, message)| (last_life(id, &message.to).is_some(), message.tried));
        for (id, message) in missing {
            let lives = readings.get_mut(message.to.as_str()).map(Vec::as_mut_slice).unwrap_or_default();
            let held = last_life(id, &message.to);
            let is_in_doubt = hands.get(message.to.as_str()).is_some_and(|hands| hands.is_in_doubt(id));
            let cause = is_in_doubt.then_some("acknowledged, and its reader did not come to know");
            if let Some(cause) = cause.or_else(|| excuse(message, lives, held, is_durable)) {
                *self.excused.entry(cause).or_default() += 1;
            } else {
                self.lost += 1;
                let place = format!("{} of {} to {}", message.number, message.from, message.to);
                self.violated(format!("{id}, {place}, was acknowledged and is lost"));
            }
        }
    }
}

/// Why a message may be lost: it must have been in the mailbox or hand of a process that was killed.
fn excuse(message: &Sent, lives: &mut [Reading], held: Option<usize>, is_durable: bool) -> Option<&'static str> {
    let numbers = |life: &Reading| life.got.get(message.from).cloned().unwrap_or_default();
    // The processes that it can have come to: those between the ones that got what is older and what is newer.
    let is_after = |life: &Reading| numbers(life).iter().any(|number| *number > message.number);
    let is_before = |life: &Reading| numbers(life).iter().any(|number| *number < message.number);
    let last = lives.iter().position(is_after).unwrap_or(lives.len().saturating_sub(1));
    let first = if is_durable {
        lives.iter().rposition(is_before).unwrap_or(0)
    } else {
        // What was put back lies in a file, so who comes next may get what is older than what was lost.
        lives.iter().position(|life| message.tried <= life.ended).unwrap_or(lives.len())
    };
    // What was handed out and not acknowledged was in the store when others got what is newer.
    let (first, last) = held.map_or((first, last), |held| (held, lives.len()));
    for at in first..=last.min(lives.len().saturating_sub(1)) {
        let overtakes = is_after(&lives[at]);
        // Who got something newer had read this one before, or it was not in its mailbox.
        if !is_durable && lives[at].was_killed && !overtakes && message.tried <= lives[at].ended {
            return Some("its reader died");
        }
        if is_durable && at > first && lives[at].back == Back::Afresh && lives[at - 1].was_killed {
            match &mut lives[at].discarded {
                Some(0) => {}
                Some(discarded) => {
                    *discarded -= 1;
                    return Some("thrown away by who took the name afresh, and counted");
                }
                None if lives[at].was_killed => {
                    return Some("thrown away by who was killed taking the name afresh");
                }
                None => {}
            }
        }
        if is_durable && lives[at].was_killed && lives[at].in_hand > 0 && message.tried <= lives[at].ended {
            lives[at].in_hand -= 1;
            return Some("in hand of a killed reader");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::actor::Life;
    use super::*;
    use crate::Sandbox;

    /// What a sender says that got all of these acknowledged, in this order.
    fn sender(ids: &[&str]) -> Vec<Value> {
        let said = |(number, id): (usize, &&str)| [json!(["try", id, "r0", number + 1, 5]), json!(["ack", id])];
        ids.iter().enumerate().flat_map(said).collect()
    }

    fn got(id: &str, number: u64) -> Value {
        json!(["got", id, "s0", number, true])
    }

    /// The sums of one sender and of a reader that had these lives, each with whether it was killed.
    fn sums(sent: &[Value], read: &[(&[Value], bool, Back)], is_durable: bool) -> Sums {
        let sandbox = Sandbox::new();
        let write = |name: &str, records: &[Value]| {
            let path = sandbox.dir().join(name);
            std::fs::write(&path, records.iter().map(|record| format!("{record}\n")).collect::<String>()).unwrap();
            path
        };
        let life = |journal, was_killed, back| Life { back, journal, ended: 10, was_killed, stops: vec![(100, 200)] };
        let (mut s0, mut r0) = (Actor::new("s0", Part::Sender), Actor::new("r0", Part::Reader));
        s0.lives.push(life(write("s0", sent), false, Back::Afresh));
        for (number, (records, was_killed, back)) in read.iter().enumerate() {
            r0.lives.push(life(write(&format!("r0-{number}"), records), *was_killed, *back));
        }
        add_up(&[s0, r0], &Weather::default(), is_durable, true)
    }

    const NEXT: (&[Value], bool, Back) = (&[], false, Back::Continued);

    #[test]
    fn what_arrives_once_is_in_order() {
        let sums = sums(&sender(&["a", "b"]), &[(&[got("a", 1), got("b", 2)], false, Back::Afresh)], true);
        assert_eq!((sums.acked, sums.once, sums.lost), (2, 2, 0));
        assert!(sums.violations.is_empty(), "{:?}", sums.violations);
    }

    #[test]
    fn a_loss_without_a_kill_is_one() {
        let sums = sums(&sender(&["a", "b"]), &[(&[got("b", 2)], false, Back::Afresh)], true);
        assert_eq!((sums.lost, sums.violations.len()), (1, 1));
    }

    #[test]
    fn a_killed_reader_takes_what_was_in_hand_and_no_more() {
        let killed: (&[Value], bool, Back) = (&[json!(["batch", 1])], true, Back::Afresh);
        let sums = sums(&sender(&["a", "b"]), &[killed, NEXT], true);
        assert_eq!((sums.excused.values().sum::<usize>(), sums.lost), (1, 1));
    }

    #[test]
    fn a_kernel_mailbox_goes_with_its_reader_but_what_was_overtaken_does_not() {
        let lost = |read: &[Value]| sums(&sender(&["a", "b", "c"]), &[(read, true, Back::Afresh), NEXT], false).lost;
        assert_eq!(lost(&[got("a", 1)]), 0);
        assert_eq!(lost(&[got("b", 2)]), 1);
    }

    #[test]
    fn what_is_thrown_away_must_have_been_counted() {
        let killed: (&[Value], bool, Back) = (&[], true, Back::Afresh);
        let lost = |count: u64| {
            let afresh: &[Value] = &[json!(["joined", count, 7])];
            sums(&sender(&["a", "b"]), &[killed, (afresh, false, Back::Afresh)], true).lost
        };
        assert_eq!([lost(2), lost(1), lost(0)], [0, 1, 2]);
    }

    #[test]
    fn doubled_damaged_misplaced_and_refused_ones_show() {
        let damaged = json!(["got", "b", "s0", 2, false]);
        let twice = sums(&sender(&["a"]), &[(&[got("a", 1), got("a", 1)], false, Back::Afresh)], true);
        let whole = sums(&sender(&["a", "b"]), &[(&[got("a", 1), damaged], false, Back::Afresh)], true);
        let order = sums(&sender(&["a", "b"]), &[(&[got("b", 2), got("a", 1)], false, Back::Afresh)], true);
        assert_eq!((twice.doubled, whole.corrupt, order.out_of_order), (1, 1, 1));
        let refused = [json!(["try", "a", "r0", 1, 5]), json!(["refused", "a", "store", ""])];
        let came = sums(&refused, &[(&[got("a", 1)], false, Back::Afresh)], true);
        assert_eq!(came.violations.len(), 1);
    }

    #[test]
    fn a_call_is_late_only_in_its_own_time() {
        let late = |begun: u64, ended: u64| {
            let sent = [json!(["late", "send", begun, ended, 50])];
            sums(&sent, &[], true).late
        };
        // Stopped from 100 to 200.
        assert_eq!([late(90, 210), late(90, 260), late(300, 360)], [0, 1, 1]);
    }
}
