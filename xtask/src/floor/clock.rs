// SPDX-License-Identifier: MIT OR Apache-2.0
//! The clock that all processes share.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since some moment that is the same in every process.
pub(super) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
