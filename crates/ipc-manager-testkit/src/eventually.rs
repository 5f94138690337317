// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for conditions: never for a time, always with a deadline.

use std::thread;
use std::time::{Duration, Instant};

/// How long a condition may take before a test gives up. Generous: it is only ever waited out by a failing test.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until a condition holds.
///
/// # Panics
/// If it does not hold within [`PATIENCE`], saying what was waited for.
///
/// ```
/// let mut asked = 0;
/// ipc_manager_testkit::eventually("the third question", || {
///     asked += 1;
///     asked == 3
/// });
/// ```
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    eventually_some(what, || condition().then_some(()));
}

/// Waits until there is an answer, and returns it.
///
/// # Panics
/// If there is none within [`PATIENCE`], saying what was waited for.
#[track_caller]
pub fn eventually_some<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(pause); // between two looks; nothing is assumed to take so long
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Now, on the clock that all processes of the machine share and nobody sets.
pub(crate) fn clock() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // It counts from when the machine was started.
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs().try_into().unwrap_or(0))
}
