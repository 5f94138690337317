// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything at once, at random.

use std::time::Duration;

use crate::torture::{Asked, bounded};
use crate::{Clause, Context, Need};

pub(super) const CLAUSES: &[Clause] = &[Clause {
    id: "torture.all_accounted_for",
    text: "While processes are killed, stopped, interrupted and starved at random moments and calls, each acknowledged message arrives once, whole and in order, or was with a process that was killed, no call hangs, and nothing is left.",
    source: &["T03", "T05", "T08", "T12", "T16", "T17", "T21"],
    needs: &[Need::Processes],
    run: all_accounted_for,
}];

/// The seed, unless `IPC_MANAGER_SEED` says another; what it plans is the same in every run.
const SEED: u64 = 6;

fn all_accounted_for(context: &Context<'_>) {
    let seed = std::env::var("IPC_MANAGER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    bounded(context.subject(), &Asked { seed, length: Duration::from_secs(3), keep: None });
}
