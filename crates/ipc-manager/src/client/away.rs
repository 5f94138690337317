// SPDX-License-Identifier: MIT OR Apache-2.0
//! A store that is away for a while, as a server that restarts: calls that may wait try again until it is back.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::system::poll::{self, Woken};
use crate::system::{Backoff, Deadline};

/// First and longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// The attempts of one call.
pub(crate) struct Away {
    pauses: Backoff,
    tries: u32,
    /// How long to wait now, for a loop that sleeps by itself.
    pause: Option<Duration>,
}

impl Away {
    pub(crate) fn new() -> Self {
        Self { pauses: Backoff::new(PAUSES.0, PAUSES.1), tries: 0, pause: None }
    }

    /// Sleeps a moment after a call that failed because the store is away and that is to be made again; there is always
    /// one attempt at the deadline.
    ///
    /// # Errors
    /// The error itself, if it is another one or the time is over.
    pub(crate) fn ride_out(&mut self, error: Error, deadline: Deadline) -> Result<Woken> {
        if !error.is_away() || deadline.has_passed() {
            return Err(error);
        }
        let pause = self.next_pause(&error);
        poll::readable(&[], deadline.left(pause))
            .map_err(|failed| Error::system(failed, "waiting for the store failed"))
    }

    /// Takes note of how a look at the store ended, in a loop that sleeps by itself.
    ///
    /// # Errors
    /// Those that say something else than that the store is away.
    pub(crate) fn note(&mut self, looked: Result<()>) -> Result<()> {
        match looked {
            Err(error) if error.is_away() => {
                self.pause = Some(self.next_pause(&error));
                Ok(())
            }
            looked => {
                self.is_over();
                looked
            }
        }
    }

    /// How long such a loop may sleep; `None` if the store is there.
    pub(crate) fn pause(&self) -> Option<Duration> {
        self.pause
    }

    fn next_pause(&mut self, error: &Error) -> Duration {
        if self.tries == 0 {
            log::info!("waiting until the store is back: {error}");
        }
        self.tries += 1;
        self.pauses.next()
    }

    /// The store is back: the next time it is away is another one.
    pub(crate) fn is_over(&mut self) {
        if self.tries > 0 {
            *self = Self::new();
        }
    }
}
