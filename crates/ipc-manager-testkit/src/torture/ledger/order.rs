// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether messages came in the order in which they were sent.

use std::collections::HashMap;

use super::super::handed::Turn;
use super::super::parts::A_LIFE;
use super::Sums;
use super::reading::Reading;

/// When each process of each sender began and ended.
pub(super) type Spans = HashMap<&'static str, Vec<(u64, u64)>>;

impl Sums {
    /// First in, first out, for each sender, through all processes of a reader. What another process of a sender sent
    /// is not compared across a step of the clock: the kernel's clock, and so the times of files, by which the next
    /// process knows how late it is, cannot be set here.
    pub(super) fn note_order(&mut self, reader: &str, lives: &[Reading], spans: &Spans, clock: &[u64]) {
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
}
