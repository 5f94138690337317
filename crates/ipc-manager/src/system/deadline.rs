// SPDX-License-Identifier: MIT OR Apache-2.0
//! Points in time to be done by, on the monotonic clock.

use std::time::{Duration, Instant};

/// When a call must be over. Never affected by the wall clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// No deadline.
    pub(crate) const NEVER: Self = Self(None);

    /// So long from now; too far away for the clock is never.
    pub(crate) fn after(duration: Duration) -> Self {
        Self(Instant::now().checked_add(duration))
    }

    /// This one, or so long from now if this one never passes.
    pub(crate) fn or_after(self, duration: Duration) -> Self {
        if self.0.is_some() { self } else { Self::after(duration) }
    }

    /// Whether it will never pass.
    pub(crate) fn is_never(self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn has_passed(self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }

    /// What is left of it, at most `most`.
    pub(crate) fn left(self, most: Duration) -> Duration {
        self.0.map_or(most, |end| end.saturating_duration_since(Instant::now()).min(most))
    }

    /// What is left of it; `None` if it never passes.
    pub(crate) fn remaining(self) -> Option<Duration> {
        self.0.map(|end| end.saturating_duration_since(Instant::now()))
    }
}

/// Waits that grow, for what can only be polled.
pub(crate) struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { next: first, most }
    }

    /// How long to wait now; the next one is twice as long, up to the most.
    pub(crate) fn next(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(self.most);
        now
    }
}
