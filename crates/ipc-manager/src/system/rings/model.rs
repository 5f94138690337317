// SPDX-License-Identifier: MIT OR Apache-2.0
//! The waiting rule under every order of threads that there is time for. The sleep here ends by a ring only, so a ring that
//! is lost is a deadlock, which the model reports. Each rule is broken on purpose, too: a model that does not notice proves
//! nothing.

use std::collections::VecDeque;
use std::convert::Infallible;

use shuttle::sync::{Arc, Condvar, Mutex};
use shuttle::thread;

use super::{Marked, Rings, change, look, store, take_change, wait};

/// How many orders are tried of each model, and at most of one that is broken.
const ORDERS: usize = 400;
const ORDERS_OF_A_BROKEN_ONE: usize = 10_000;
/// Context switches at surprising moments that one order has at most.
const SURPRISES: usize = 3;

/// `IPC_MANAGER_LOAD` says how many orders to try instead.
fn explore(model: impl Fn() + Send + Sync + Clone + 'static) {
    let asked = std::env::var("IPC_MANAGER_LOAD").ok().and_then(|orders| orders.parse().ok());
    let orders = asked.unwrap_or(ORDERS);
    shuttle::check_random(model.clone(), orders);
    shuttle::check_pct(model, orders, SURPRISES);
}

/// Whether the model runs into something within so many orders. What it says is not shown: it is meant to.
fn fails(model: impl Fn() + Send + Sync + 'static) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| shuttle::check_random(model, ORDERS_OF_A_BROKEN_ONE)))
        .is_err()
}

/// Something that is readable from a ring until it is forgotten, as a descriptor is.
#[derive(Default)]
struct Level {
    rings: Mutex<bool>,
    changed: Condvar,
}

impl Level {
    fn ring(&self) {
        *self.rings.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn forget(&self) {
        *self.rings.lock().unwrap() = false;
    }

    fn sleep(&self) {
        let mut rings = self.rings.lock().unwrap();
        while !*rings {
            rings = self.changed.wait(rings).unwrap();
        }
    }
}

/// A mailbox with a bell, as senders and its reader share it.
#[derive(Default)]
struct Mailbox {
    messages: Mutex<VecDeque<u32>>,
    bell: Level,
}

/// Its reader, which takes one message a look.
struct Reader {
    mailbox: Arc<Mailbox>,
    /// Whether it looks before it forgets, against the rule.
    looks_first: bool,
    /// Whether it keeps quiet about what is left, against the rule.
    is_quiet: bool,
}

impl Rings for Reader {
    fn forget_rings(&mut self) {
        if !self.looks_first {
            self.mailbox.bell.forget();
        }
    }

    fn ring_on(&mut self) {
        if !self.is_quiet {
            self.mailbox.bell.ring();
        }
    }
}

impl Reader {
    fn take(&mut self) -> u32 {
        let one = |reader: &mut Self| {
            let mut messages = reader.mailbox.messages.lock().unwrap();
            let taken = (messages.pop_front(), !messages.is_empty());
            drop(messages);
            if reader.looks_first {
                reader.mailbox.bell.forget();
            }
            Ok::<_, Infallible>(taken)
        };
        let look = |reader: &mut Self| look(reader, one, |(_, is_left)| *is_left).map(|(message, _)| message);
        // As an event loop of the user's does it: sleep until it rings, and only then look.
        let sleep = |reader: &mut Self| {
            reader.mailbox.bell.sleep();
            Ok(None)
        };
        match wait(self, look, sleep) {
            Ok(message) => message,
        }
    }
}

fn put(mailbox: &Mailbox, message: u32) {
    let put = || {
        mailbox.messages.lock().unwrap().push_back(message);
        Ok::<_, Infallible>(())
    };
    match store(put, |()| mailbox.bell.ring()) {
        Ok(()) => {}
    }
}

/// Two senders, of whom each sends two messages, and a reader; `polls`: it sleeps before it looks, each time.
fn mailbox_model(looks_first: bool, is_quiet: bool, polls: bool) {
    let mailbox = Arc::new(Mailbox::default());
    let senders: Vec<_> = [10, 20]
        .into_iter()
        .map(|first| {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || (first..first + 2).for_each(|message| put(&mailbox, message)))
        })
        .collect();
    let mut reader = Reader { mailbox: Arc::clone(&mailbox), looks_first, is_quiet };
    let mut taken: Vec<u32> = Vec::new();
    for _ in 0..4 {
        if polls {
            mailbox.bell.sleep();
        }
        taken.push(reader.take());
    }
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    taken.sort_unstable();
    assert_eq!(taken, [10, 11, 20, 21]);
}

#[test]
fn no_ring_is_lost() {
    explore(|| mailbox_model(false, false, false));
    explore(|| mailbox_model(false, false, true));
}

#[test]
fn the_model_notices_a_look_before_the_rings_are_forgotten() {
    assert!(fails(|| mailbox_model(true, false, false)));
}

#[test]
fn the_model_notices_what_is_left_and_does_not_ring() {
    assert!(fails(|| mailbox_model(false, true, true)));
}

#[test]
fn the_model_notices_a_ring_before_it_is_stored() {
    assert!(fails(|| {
        let mailbox = Arc::new(Mailbox::default());
        let sender = Arc::clone(&mailbox);
        let sender = thread::spawn(move || {
            sender.bell.ring();
            sender.messages.lock().unwrap().push_back(1);
        });
        let mut reader = Reader { mailbox, looks_first: false, is_quiet: false };
        assert_eq!(reader.take(), 1);
        sender.join().unwrap();
    }));
}

/// What the kernel tells all watchers of one process through one queue, and the bell of each.
#[derive(Default)]
struct Shared {
    descriptors: Mutex<Descriptors>,
    /// One place to sleep for both kinds of wake-up, as poll(2) is.
    told: Condvar,
    marks: [Mutex<bool>; 2],
    /// Held by whoever reads the queue.
    draining: Mutex<()>,
}

#[derive(Default)]
struct Descriptors {
    /// Whom the news are for.
    news: VecDeque<usize>,
    rings: [bool; 2],
}

struct Own<'a>(&'a Shared, usize);

impl Marked for Own<'_> {
    fn mark(&self) {
        *self.0.marks[self.1].lock().unwrap() = true;
    }

    fn unmark(&self) -> bool {
        std::mem::take(&mut *self.0.marks[self.1].lock().unwrap())
    }

    fn ring(&self) {
        self.0.tell(|descriptors| descriptors.rings[self.1] = true);
    }

    fn quiet(&self) {
        self.0.descriptors.lock().unwrap().rings[self.1] = false;
    }
}

impl Shared {
    fn tell(&self, what: impl FnOnce(&mut Descriptors)) {
        what(&mut self.descriptors.lock().unwrap());
        self.told.notify_all();
    }

    /// Until there are news for anybody, or the own bell rings.
    fn sleep(&self, own: usize) {
        let mut now = self.descriptors.lock().unwrap();
        while now.news.is_empty() && !now.rings[own] {
            now = self.told.wait(now).unwrap();
        }
    }

    fn hand_out(&self) {
        let _draining = self.draining.lock().unwrap();
        loop {
            let next = self.descriptors.lock().unwrap().news.pop_front();
            let Some(whom) = next else { return };
            change(&Own(self, whom));
        }
    }

    /// Waits until something changed for one of them.
    fn await_change(&self, own: usize, take_change: impl Fn(&Own<'_>, &dyn Fn()) -> bool) {
        let waited = wait(
            &mut (),
            |()| Ok::<_, Infallible>(take_change(&Own(self, own), &|| self.hand_out()).then_some(())),
            |()| {
                self.sleep(own);
                Ok(None)
            },
        );
        match waited {
            Ok(()) => {}
        }
    }
}

/// Two watchers, one queue: whoever reads the news hands out those of the other.
fn shared_model(take_change: impl Fn(&Own<'_>, &dyn Fn()) -> bool + Copy + Send + 'static) {
    let shared = Arc::new(Shared::default());
    let watchers: Vec<_> = (0..2)
        .map(|own| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.await_change(own, take_change))
        })
        .collect();
    for whom in [0, 1] {
        shared.tell(|descriptors| descriptors.news.push_back(whom));
    }
    watchers.into_iter().for_each(|watcher| watcher.join().unwrap());
}

#[test]
fn news_reach_whom_they_are_for_whoever_reads_them() {
    explore(|| shared_model(|own, hand_out| take_change(own, hand_out)));
}

#[test]
fn the_model_notices_a_bell_that_is_quieted_after_the_mark_was_seen() {
    assert!(fails(|| shared_model(|own, hand_out| {
        hand_out();
        let changed = own.unmark();
        own.quiet();
        changed
    })));
}
