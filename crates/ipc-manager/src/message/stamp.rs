// SPDX-License-Identifier: MIT OR Apache-2.0
//! When a message was made, and in which order.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// When a message was made: seconds since the epoch, never infinite or not a number.
///
/// Stamps made here have microseconds and increase strictly within a process, also when its clock is set back, so the
/// order of one sender does not depend on the clock.
///
/// ```
/// use ipc_manager::Stamp;
/// let (first, second) = (Stamp::now(), Stamp::now());
/// assert!(first < second);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stamp(f64);

/// Microseconds of the last stamp made in this process.
static LAST: AtomicU64 = AtomicU64::new(0);

impl Stamp {
    /// Makes the next stamp of this process.
    #[must_use]
    pub fn now() -> Self {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(clock.as_micros()).unwrap_or(u64::MAX - 1);
        let next = |last: u64| Some(now.max(last.saturating_add(1)));
        let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_else(|same| same);
        // Whole microseconds of this century are exact in 53 bits, and the division is the closest double.
        #[allow(clippy::cast_precision_loss)]
        Self(now.max(last.saturating_add(1)) as f64 / 1e6)
    }

    /// Makes every later stamp of this process later than this.
    pub(crate) fn not_before(time: SystemTime) {
        let micros = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        LAST.fetch_max(u64::try_from(micros).unwrap_or(0), Ordering::Relaxed);
    }

    /// Takes seconds since the epoch. `None` unless they are finite.
    #[must_use]
    pub fn from_seconds(seconds: f64) -> Option<Self> {
        seconds.is_finite().then_some(Self(seconds))
    }

    /// Whole milliseconds since the epoch; none for a stamp before it.
    pub(super) fn as_millis(self) -> u64 {
        // Past either end the nearest that there is.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let millis = (self.0 * 1e3) as u64;
        millis
    }

    /// Seconds since the epoch.
    #[must_use]
    pub fn as_seconds(self) -> f64 {
        self.0
    }
}

impl Eq for Stamp {}

impl PartialOrd for Stamp {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Stamp {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Never NaN, and adding zero makes the two zeros one.
        (self.0 + 0.0).total_cmp(&(other.0 + 0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a22_stamps_increase_strictly_also_as_written() {
        let stamps: Vec<Stamp> = (0..10_000).map(|_| Stamp::now()).collect();
        for pair in stamps.windows(2) {
            assert!(pair[0] < pair[1]);
            let wire = |stamp: Stamp| stamp.as_seconds().to_string().parse::<f64>().unwrap();
            assert!(wire(pair[0]) < wire(pair[1]));
        }
    }
}
