// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether each acknowledged message arrived once, and if not, whether its loss can be excused.

use std::collections::{BTreeMap, HashMap};

use super::super::handed::Hands;
use super::super::plan::Back;
use super::Sums;
use super::reading::Reading;
use super::sent::{Said, Sent};

impl Sums {
    /// Compares what was sent with what came.
    pub(super) fn judge(
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
