// SPDX-License-Identifier: MIT OR Apache-2.0
//! What became of messages that were handed out to be acknowledged: handed out again only where nobody had
//! acknowledged them, with a true count.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::hand::ATTEMPTS;

/// What happens to a reader, as far as the order of what it gets is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Came(u64),
    /// It is unread again, in its old place.
    Back(u64),
}

/// Turns of one process of a reader, for each sender.
pub(super) type Turns = HashMap<String, Vec<Turn>>;

/// A message that was handed out.
#[derive(Debug, Default)]
struct Handed {
    from: String,
    number: u64,
    /// What the last one who had it was told.
    attempts: u64,
    /// Times that it was handed out and nobody wrote it down.
    unnoted: u64,
    /// It may be as if it had never been handed out.
    may_start_over: bool,
    /// It may have been dead, and so comes in no order.
    may_have_died: bool,
    in_hand: bool,
    is_done: bool,
    /// It was being acknowledged when its reader was last heard of.
    in_doubt: bool,
    /// Which process of the name had it last.
    last_life: usize,
}

/// All that was handed out by one name.
#[derive(Debug, Default)]
pub(super) struct Hands {
    handed: HashMap<String, Handed>,
    /// Put in front of what was in hand, and so before what is older; it may come several times from there.
    in_front: HashSet<String>,
    /// How often something may have been handed out without a note of it.
    troubles: u64,
    /// What was handed out again under the same count: a store on a full disk says so rather than keep it.
    uncounted: Vec<String>,
    /// How many were handed out again.
    pub(super) again: usize,
    pub(super) violations: Vec<String>,
}

impl Hands {
    /// Takes note of a record of a process of the name.
    pub(super) fn note(&mut self, life: usize, record: &[Value], turns: &mut Turns) {
        let text = |at: usize| record.get(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |at: usize| record.get(at).and_then(Value::as_u64).unwrap_or(0);
        let id = text(1);
        if matches!(&*text(0), "got" | "held")
            && self.handed.get(&id).is_none_or(|handed| !handed.may_have_died)
            && !self.in_front.contains(&id)
        {
            turns.entry(text(2)).or_default().push(Turn::Came(number(3)));
        }
        match &*text(0) {
            "held" => {
                self.held(life, &id, number(4));
                let handed = self.handed.entry(id).or_default();
                (handed.from, handed.number) = (text(2), number(3));
            }
            "acknowledges" => self.with(&id, |handed| handed.in_doubt = true),
            "done" => self.with(&id, |handed| (handed.is_done, handed.in_hand, handed.in_doubt) = (true, false, false)),
            "back" => {
                turns.entry(text(2)).or_default().push(Turn::Back(number(3)));
                self.with(&id, |handed| handed.in_hand = false);
            }
            "requeue" => {
                self.with(&id, |handed| handed.may_start_over = true);
                if self.handed.values().any(|handed| handed.in_hand) {
                    self.in_front.insert(id);
                }
            }
            "revive" => {
                for handed in self.handed.values_mut().filter(|handed| !handed.in_hand) {
                    (handed.may_start_over, handed.may_have_died) = (true, true);
                }
            }
            "failed" if id == "receive" => self.troubles += 1,
            _ => {}
        }
    }

    fn with(&mut self, id: &str, change: impl FnOnce(&mut Handed)) {
        if let Some(handed) = self.handed.get_mut(id) {
            change(handed);
        }
    }

    fn held(&mut self, life: usize, id: &str, attempts: u64) {
        let handed = self.handed.entry(id.to_owned()).or_default();
        let say = |what: &str| {
            let (before, number) = (handed.attempts, handed.number);
            format!("{id}, {number}, {what}: the count is {attempts}, and was {before}")
        };
        let mut wrong = |what: &str| self.violations.push(say(what));
        if handed.is_done {
            wrong("was handed out after it was acknowledged");
        }
        if handed.in_hand {
            wrong("was handed out while it was in hand");
        }
        if attempts > u64::from(ATTEMPTS) {
            wrong("was handed out more often than it may be");
        }
        if attempts == 0 || attempts < handed.attempts && !handed.may_start_over {
            wrong("was handed out again, which was not counted");
        } else if attempts == handed.attempts && !handed.may_start_over {
            self.uncounted.push(say("was handed out again, which was not counted"));
        }
        self.again += usize::from(handed.attempts > 0);
        let counted_from = if attempts > handed.attempts { handed.attempts } else { 0 };
        handed.unnoted += attempts.saturating_sub(counted_from + 1);
        (handed.attempts, handed.may_start_over, handed.may_have_died) = (attempts, false, false);
        (handed.in_hand, handed.in_doubt, handed.last_life) = (true, false, life);
    }

    /// A process of the name ended: what it had in hand is unread again.
    pub(super) fn ended(&mut self, was_killed: bool, turns: &mut Turns) {
        self.troubles += u64::from(was_killed);
        for handed in self.handed.values_mut().filter(|handed| handed.in_hand) {
            handed.in_hand = false;
            turns.entry(handed.from.clone()).or_default().push(Turn::Back(handed.number));
        }
    }

    /// Whether a message was handed out before.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.handed.contains_key(id)
    }

    /// Which process of the name had a message last.
    pub(super) fn last_life(&self, id: &str) -> Option<usize> {
        self.handed.get(id).map(|handed| handed.last_life)
    }

    /// Whether a message may have been acknowledged without its reader coming to know.
    pub(super) fn is_in_doubt(&self, id: &str) -> bool {
        self.handed.get(id).is_some_and(|handed| handed.in_doubt)
    }

    /// What was handed out uncounted, more often than a call may have been refused for want of room.
    pub(super) fn check_uncounted(&mut self, refusals: &mut usize) {
        let allowed = self.uncounted.len().min(*refusals);
        *refusals -= allowed;
        self.violations.extend(self.uncounted.drain(..).skip(allowed));
    }

    /// Counts that are too high, where each call that is repeated shows in a journal.
    pub(super) fn check_counts(&mut self) {
        for (id, handed) in self.handed.iter().filter(|(_, handed)| handed.unnoted > self.troubles) {
            let (more, most) = (handed.unnoted, self.troubles);
            self.violations.push(format!("{id} was counted {more} times more than it was handed out, {most} at most"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn held(attempts: u64) -> Value {
        json!(["held", "a", "s0", 1, attempts, true])
    }

    fn is(what: &str) -> Value {
        json!([what, "a", "s0", 1])
    }

    /// What is wrong with these lives, each with whether it was killed.
    fn wrong(lives: &[(&[Value], bool)]) -> usize {
        let mut hands = Hands::default();
        for (life, (records, was_killed)) in lives.iter().enumerate() {
            let mut turns = Turns::new();
            for record in *records {
                hands.note(life, record.as_array().unwrap(), &mut turns);
            }
            hands.ended(*was_killed, &mut turns);
        }
        hands.check_counts();
        hands.check_uncounted(&mut 0);
        hands.violations.len()
    }

    #[test]
    fn a_refused_call_may_cost_a_count() {
        for (mut refusals, wrong) in [(0, 2), (1, 1), (3, 0)] {
            let (mut hands, mut turns) = (Hands::default(), Turns::new());
            for record in [held(1), is("back"), held(1), is("back"), held(1)] {
                hands.note(0, record.as_array().unwrap(), &mut turns);
            }
            hands.check_uncounted(&mut refusals);
            assert_eq!(hands.violations.len(), wrong);
        }
    }

    #[test]
    fn what_was_put_back_or_held_by_a_killed_reader_comes_again_and_is_counted() {
        let done: &[Value] = &[held(3), is("acknowledges"), is("done")];
        assert_eq!(wrong(&[(&[held(1), is("back"), held(2)], true), (done, false)]), 0);
        // Once without a note of it, by one who was killed.
        assert_eq!(wrong(&[(&[held(1)], true), (done, false)]), 0);
        assert_eq!(wrong(&[(&[held(1), is("back")], false), (done, false)]), 1, "nobody else had it");
    }

    #[test]
    fn what_must_not_come_shows() {
        let done = [held(1), is("acknowledges"), is("done"), held(2)];
        assert_eq!(wrong(&[(&done, false)]), 1, "it was acknowledged");
        assert_eq!(wrong(&[(&[held(1), held(2)], false)]), 1, "it was in hand");
        assert_eq!(wrong(&[(&[held(1), is("back"), held(1)], false)]), 1, "the count stood still");
        assert_eq!(wrong(&[(&[held(1), is("back"), json!(["revive"]), held(1)], false)]), 0, "it was revived");
        assert!(wrong(&[(&[held(u64::from(ATTEMPTS) + 1)], true)]) >= 1, "it should be dead");
    }
}
