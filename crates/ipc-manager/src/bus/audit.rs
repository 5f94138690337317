// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether every message that was sent was also read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::OWNER_NAMES;
use crate::error::Escaped;
use crate::name::PeerName;
use crate::stats::Stats;

/// Sent versus received, per pair of peers.
///
/// Counters come from the store, where peers write them as they leave, and from the clients of this process. A peer
/// that was killed wrote none, so what it read and sent shows as a difference: the truth is not known.
///
/// ```
/// let mut bus = ipc_manager::Spawn::builder().protocol("MessageFiles").spawn()?;
/// let (mut a, mut b) = (bus.connect("a")?, bus.connect("b")?);
/// a.send("b", &1)?;
/// a.send("b", &2)?;
/// b.recv()?;
/// let audit = bus.audit()?;
/// assert_eq!(audit.delta()["a -> b"], 1, "one was sent but not read");
/// assert_eq!((audit.sent(), audit.read()), (2, 1));
/// # b.recv()?;
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    delta: BTreeMap<String, i64>,
    sent: i64,
    read: i64,
    remaining: Vec<PeerName>,
}

impl Audit {
    /// Compares the counters of all peers.
    pub(super) fn of(all: &BTreeMap<PeerName, Stats>) -> Self {
        let count = |side: fn(&Stats) -> &BTreeMap<String, i64>, whose: &str, other: &str| {
            all.get(whose).and_then(|stats| side(stats).get(other)).copied().unwrap_or(0)
        };
        let mut pairs = BTreeSet::new();
        for (name, stats) in all {
            pairs.extend(stats.sent.keys().map(|to| (name.as_str(), to.as_str())));
            pairs.extend(stats.read.keys().map(|from| (from.as_str(), name.as_str())));
        }
        let mut audit = Self::default();
        for (from, to) in
            pairs.into_iter().filter(|(from, to)| !OWNER_NAMES.contains(from) && !OWNER_NAMES.contains(to))
        {
            let sent = count(|stats| &stats.sent, from, to);
            let read = count(|stats| &stats.read, to, from);
            audit.sent = audit.sent.saturating_add(sent);
            audit.read = audit.read.saturating_add(read);
            if sent != read {
                audit.delta.insert(format!("{from} -> {to}"), sent.saturating_sub(read));
            }
        }
        audit
    }

    pub(super) fn with_remaining(mut self, remaining: Vec<PeerName>) -> Self {
        self.remaining = remaining;
        self
    }

    /// Whether every message that was sent was read.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.delta.is_empty()
    }

    /// The differences, by `from -> to`: positive for messages sent but not read. Empty when all is well.
    #[must_use]
    pub fn delta(&self) -> &BTreeMap<String, i64> {
        &self.delta
    }

    /// How many messages were sent, in all.
    #[must_use]
    pub fn sent(&self) -> i64 {
        self.sent
    }

    /// How many messages were read, in all.
    #[must_use]
    pub fn read(&self) -> i64 {
        self.read
    }

    /// Peers that were still alive when the wait for their end was over; only after a shutdown.
    #[must_use]
    pub fn remaining(&self) -> &[PeerName] {
        &self.remaining
    }
}

/// A line of totals, and a line for each difference.
impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sent, {} read", self.sent, self.read)?;
        if self.is_balanced() {
            return f.write_str(", nothing lost");
        }
        for (pair, count) in &self.delta {
            let what = if *count > 0 { "sent but not read" } else { "read but not sent" };
            write!(f, "\n{:>8} {what}: {}", count.unsigned_abs(), Escaped(pair))?;
        }
        Ok(())
    }
}
