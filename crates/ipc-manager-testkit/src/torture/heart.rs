// SPDX-License-Identifier: MIT OR Apache-2.0
//! A heartbeat: when it stops, all of the run was stopped from outside, or got no processor, and no call is late for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::journal::now;

/// Between two beats.
const BEAT: Duration = Duration::from_millis(50);
/// A gap that is so long is no beat that came late.
const GAP: u64 = 500_000_000;

/// It beats until the process ends.
#[derive(Debug, Clone)]
pub(super) struct Heart(Arc<Mutex<Vec<(u64, u64)>>>);

impl Heart {
    pub(super) fn start() -> Self {
        let heart = Self(Arc::default());
        let own = heart.clone();
        let beat = move || {
            let mut last = now();
            loop {
                thread::sleep(BEAT); // between two beats
                let beat = now();
                if beat - last > GAP {
                    own.0.lock().unwrap_or_else(PoisonError::into_inner).push((last, beat));
                }
                last = beat;
            }
        };
        thread::Builder::new().name("heart".into()).spawn(beat).expect("a thread can be made");
        heart
    }

    /// When it stopped.
    pub(super) fn stalls(&self) -> Vec<(u64, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long it stopped within a time.
    pub(super) fn stalled(&self, begun: u64, ended: u64) -> u64 {
        self.stalls().iter().map(|stall| stall.1.min(ended).saturating_sub(stall.0.max(begun))).sum()
    }
}
