// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looking again before sleeping: whoever waits for an answer that is on its way has it sooner than the kernel could wake
//! it. Written once for receiving, for services and for whoever asks them.

use std::time::{Duration, Instant};

use super::Client;
use crate::error::Result;

/// A wait that was shorter makes the next one begin with looking again and again, for so long at most.
const SHORT_WAIT: Duration = Duration::from_micros(50);
const LOOK_AGAIN: Duration = Duration::from_micros(50);

/// Whether the waits of a client are short.
#[derive(Debug, Default)]
pub(super) struct ShortWaits {
    last_was_short: bool,
    /// Since when nothing has come.
    since: Option<Instant>,
}

impl ShortWaits {
    /// Something came.
    pub(super) fn end(&mut self) {
        self.last_was_short = self.since.take().is_none_or(|since| since.elapsed() < SHORT_WAIT);
    }

    /// Nothing came, and nobody waits for it any more.
    pub(super) fn give_up(&mut self) {
        *self = Self::default();
    }

    /// Nothing came yet. Returns whether to look again at once, having let others run.
    pub(super) fn looks_again(&mut self) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        let looks_again = self.last_was_short && since.elapsed() < LOOK_AGAIN;
        if looks_again {
            std::thread::yield_now();
        }
        looks_again
    }
}

impl Client {
    /// Looks for a message again and again, for a moment, if the last one came within one. To be called where nothing is
    /// there, before sleeping; returns whether something may be there now.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) fn comes_at_once(&mut self) -> Result<bool> {
        while self.outbox.is_empty() && self.short_waits.looks_again() {
            if self.is_ready()? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
