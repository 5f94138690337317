// SPDX-License-Identifier: MIT OR Apache-2.0
//! The books of a fault test: what was acknowledged, and what became of it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Acknowledged, once, lost, twice, corrupt, out of order, hung.
pub(crate) type Counts = [usize; 7];

/// What was counted in this process since last asked.
static COUNTED: Mutex<Counts> = Mutex::new([0; 7]);

/// Adds counts to those of this process.
pub(crate) fn note(counts: Counts) {
    let mut counted = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    counted.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
}

/// What was counted since last asked.
pub(crate) fn take() -> Counts {
    std::mem::take(&mut *COUNTED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Counts of a fault test, printed in one line.
///
/// ```
/// use ipc_manager_testkit::Tally;
/// let mut tally = Tally::default();
/// tally.acked("1");
/// tally.acked("2");
/// tally.arrived("1", "a", 0, true);
/// assert_eq!((tally.once(), tally.lost()), (1, 1));
/// ```
#[derive(Debug, Default, Clone)]
pub struct Tally {
    acked: Vec<String>,
    refused: usize,
    arrivals: HashMap<String, usize>,
    corrupt: usize,
    out_of_order: usize,
    hung: usize,
    last: BTreeMap<String, u64>,
}

impl Tally {
    /// Notes an acknowledged message.
    pub fn acked(&mut self, id: &str) {
        self.acked.push(id.to_owned());
    }

    /// Notes a refused one.
    pub fn refused(&mut self) {
        self.refused += 1;
    }

    /// Notes a call that did not end in time.
    pub fn hung(&mut self) {
        self.hung += 1;
    }

    /// Notes something damaged.
    pub fn corrupt(&mut self) {
        self.corrupt += 1;
    }

    /// Notes an arrival: which message, of whom, the sender's own count, and whether the content is sound.
    pub fn arrived(&mut self, id: &str, from: &str, number: u64, sound: bool) {
        *self.arrivals.entry(id.to_owned()).or_default() += 1;
        self.corrupt += usize::from(!sound);
        let last = self.last.entry(from.to_owned()).or_insert(number);
        self.out_of_order += usize::from(number < *last);
        *last = number.max(*last);
    }

    /// How many were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.acked.len()
    }

    /// How many arrivals there were, of acknowledged messages or not.
    #[must_use]
    pub fn arrivals(&self) -> usize {
        self.arrivals.values().sum()
    }

    /// Acknowledged ones that arrived once.
    #[must_use]
    pub fn once(&self) -> usize {
        self.acked.iter().filter(|id| self.arrivals.get(*id) == Some(&1)).count()
    }

    /// Acknowledged ones that did not arrive.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.acked.iter().filter(|id| !self.arrivals.contains_key(*id)).count()
    }

    /// Messages that arrived more than once.
    #[must_use]
    pub fn twice(&self) -> usize {
        self.arrivals.values().filter(|count| **count > 1).count()
    }

    fn note(&self, what: &str) {
        println!("{what}: {self}");
        note([self.acked.len(), self.once(), self.lost(), self.twice(), self.corrupt, self.out_of_order, self.hung]);
    }

    /// Prints the counts, and checks that nothing was lost, doubled, damaged, out of order or hung.
    ///
    /// # Panics
    /// If something was.
    #[track_caller]
    pub fn assert_clean(&self, what: &str) {
        self.note(what);
        assert_eq!(self.once(), self.acked.len(), "{what}: {self}");
        assert_eq!((self.twice(), self.corrupt, self.out_of_order, self.hung), (0, 0, 0, 0), "{what}: {self}");
    }

    /// Prints the counts, and checks everything but losses, which the caller judges.
    ///
    /// # Panics
    /// If a message came twice, was damaged or out of order, or a call hung.
    #[track_caller]
    pub fn assert_sound(&self, what: &str) {
        self.note(what);
        assert_eq!((self.twice(), self.corrupt, self.out_of_order, self.hung), (0, 0, 0, 0), "{what}: {self}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (acked, once, lost, twice) = (self.acked.len(), self.once(), self.lost(), self.twice());
        write!(f, "acked {acked}, once {once}, lost {lost}, twice {twice}, corrupt {}, ", self.corrupt)?;
        write!(f, "out of order {}, hung {}, refused {}", self.out_of_order, self.hung, self.refused)
    }
}
