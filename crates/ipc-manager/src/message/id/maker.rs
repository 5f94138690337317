// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes UUIDs of version 7 without asking the kernel for random bits each time: behind the time stands a counter, and
//! behind that what tells this thread of this process from all others; RFC 9562, section 6.2.

use std::cell::Cell;

use uuid::{Builder, Uuid};

use crate::system::process::own_pid;

/// How many bits the counter has. The other 50 of the 74 are random.
const COUNTER_BITS: u32 = 24;
const RANDOM: u64 = (1 << 50) - 1;

/// What a thread makes ids from.
#[derive(Clone, Copy)]
struct Maker {
    /// The process that it belongs to; a forked child begins anew.
    pid: u32,
    milliseconds: u64,
    counter: u32,
    random: u64,
}

thread_local! {
    static MAKER: Cell<Maker> = const { Cell::new(Maker { pid: 0, milliseconds: 0, counter: 0, random: 0 }) };
}

/// Makes the next id, at so many milliseconds since the epoch. Those of one thread sort in the order of their making.
pub(super) fn next(now: u64) -> Uuid {
    let made = MAKER.try_with(|maker| {
        let (next, id) = maker.get().next(now);
        maker.set(next);
        id
    });
    // Only a thread that is ending has none.
    made.unwrap_or_else(|_| Uuid::now_v7())
}

/// Whether this thread made an id, in this process.
pub(super) fn is_of_this_thread(id: Uuid) -> bool {
    let maker = MAKER.try_with(Cell::get);
    maker.is_ok_and(|maker| maker.pid == own_pid() && (id.as_u64_pair().1 & RANDOM) == maker.random)
}

impl Maker {
    fn next(self, now: u64) -> (Self, Uuid) {
        let pid = own_pid();
        let mut maker = if self.pid == pid { self } else { Self::new(pid) };
        maker.counter = (maker.counter + 1) & ((1 << COUNTER_BITS) - 1);
        // A counter that begins again within a millisecond would sort before what it follows.
        let least = maker.milliseconds + u64::from(maker.counter == 0);
        maker.milliseconds = now.max(least);
        (maker, maker.id())
    }

    fn new(pid: u32) -> Self {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        // Both without the bits in which every UUID has its version and variant; the upper half of the counter is free.
        let counter = u32::try_from(high >> 41).unwrap_or(0);
        Self { pid, milliseconds: 0, counter, random: low & RANDOM }
    }

    fn id(self) -> Uuid {
        let tail = u128::from(self.counter) << 50 | u128::from(self.random);
        // Twelve bits before the variant, and 62 behind it, which the builder sets around them.
        let (high, low) = (tail >> 62, tail & ((1 << 62) - 1));
        let bytes = (high << 64 | low).to_be_bytes();
        let mut ten = [0; 10];
        ten.copy_from_slice(&bytes[6..]);
        Builder::from_unix_timestamp_millis(self.milliseconds, &ten).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const NOW: u64 = 1_764_000_000_000;

    #[test]
    fn ids_are_of_version_7_differ_and_sort() {
        let ids: Vec<Uuid> = (0..100_000).map(|number| next(NOW + number / 1000)).collect();
        assert!(ids.is_sorted());
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        for id in &ids {
            assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
        }
        assert_eq!(ids[0].get_timestamp().unwrap().to_unix(), (NOW / 1000, 0));
    }

    #[test]
    fn a_thread_knows_what_it_made() {
        let id = next(NOW);
        let theirs = std::thread::spawn(move || (next(NOW), is_of_this_thread(id))).join().unwrap();
        assert!(is_of_this_thread(id) && is_of_this_thread(next(NOW)));
        assert!(!theirs.1 && !is_of_this_thread(theirs.0) && !is_of_this_thread(Uuid::now_v7()));
    }

    #[test]
    fn threads_differ() {
        let make = || (0..1000).map(|_| next(NOW)).collect::<Vec<_>>();
        let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(make)).collect();
        let ids: Vec<Uuid> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 8000);
    }

    #[test]
    fn the_counter_keeps_the_order_where_it_begins_again() {
        let last = Maker { pid: own_pid(), milliseconds: NOW, counter: (1 << COUNTER_BITS) - 2, random: 0 };
        let (last, first) = last.next(NOW);
        let (_, second) = last.next(NOW - 1);
        assert!(first < second);
    }

    #[test]
    fn another_process_begins_anew() {
        let ours = Maker::new(own_pid());
        let (theirs, _) = Maker { pid: ours.pid + 1, ..ours }.next(NOW);
        assert_eq!(theirs.pid, own_pid());
        assert_ne!(theirs.random, ours.random);
    }
}
