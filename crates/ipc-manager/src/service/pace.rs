// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the answers of one turn wait for each other, so that the store takes them in one step.
//!
//! Where each message costs a transaction, a service that many ask is as fast as its answers are few. But an answer must not
//! wait for a handler that works for long, so that is done only while handlers have been quick of late.

use std::time::{Duration, Instant};

/// A handler that takes longer is slow.
const QUICK: Duration = Duration::from_millis(1);
/// For how many requests a slow one is remembered.
const REMEMBERED: u32 = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    /// Whether the store takes several messages in one step.
    pays: bool,
    /// How many quick ones are still to come before handlers count as quick.
    slow: u32,
    /// Whether the answer to the request at hand may wait for the next one's.
    pub(super) goes_together: bool,
}

impl Pace {
    pub(super) fn new(pays: bool) -> Self {
        // Nothing is known of the handler yet.
        Self { pays, slow: REMEMBERED / 8, goes_together: false }
    }

    /// A message is dispatched, and others of its batch wait behind it, or none.
    pub(super) fn next(&mut self, others_wait: bool) {
        self.goes_together = self.pays && others_wait && self.slow == 0;
    }

    /// A handler begins.
    pub(super) fn begins(&self) -> Option<Instant> {
        self.pays.then(Instant::now)
    }

    /// It has ended.
    pub(super) fn ends(&mut self, begun: Option<Instant>) {
        if let Some(begun) = begun {
            self.slow = if begun.elapsed() > QUICK { REMEMBERED } else { self.slow.saturating_sub(1) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_wait_for_each_other_only_behind_quick_handlers() {
        let mut pace = Pace::new(true);
        for _ in 0..REMEMBERED {
            pace.ends(Some(Instant::now()));
        }
        pace.next(true);
        assert!(pace.goes_together);
        pace.next(false);
        assert!(!pace.goes_together, "nothing comes behind it");
        pace.ends(Instant::now().checked_sub(QUICK * 2));
        pace.next(true);
        assert!(!pace.goes_together, "a handler was slow");
        let mut streams = Pace::new(false);
        assert!(streams.begins().is_none());
        streams.next(true);
        assert!(!streams.goes_together);
    }
}
