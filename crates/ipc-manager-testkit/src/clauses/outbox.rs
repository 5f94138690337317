// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends that may not wait, over mailboxes that are full: held back, in order, bounded, and never forgotten.

use std::thread;
use std::time::Duration;

use ipc_manager::{Client, ErrorKind, Limits, Receipt, Stored};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use super::kernel::{assert_numbered, fill, numbered};
use crate::context::contents;
use crate::{Clause, Context, Need, PATIENCE, eventually};

/// What every clause of this theme needs, and those that need another process besides.
const QUEUES: &[Need] = &[Need::Queues];
const QUEUES_BETWEEN_PROCESSES: &[Need] = &[Need::Queues, Need::Processes];

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "outbox.held_back",
        text: "A send that may not wait and finds no room is `queued`, counts as pending for that peer, and not as sent.",
        source: &["OUT-01", "C3"],
        needs: QUEUES,
        run: held_back,
    },
    Clause {
        id: "outbox.drained",
        text: "What was held back goes out once there is room, whole and in order, and counts as sent then.",
        source: &["OUT-02", "C3"],
        needs: QUEUES,
        run: drained,
    },
    Clause {
        id: "outbox.only_one",
        text: "A backlog for one peer is no obstacle for messages to another.",
        source: &["OUT-03"],
        needs: QUEUES,
        run: only_one,
    },
    Clause {
        id: "outbox.no_overtaking",
        text: "No message overtakes one that was held back for the same peer, whichever way it is sent.",
        source: &["A23"],
        needs: QUEUES,
        run: no_overtaking,
    },
    Clause {
        id: "outbox.blocking_flushes",
        text: "A send that waits first sends what was held back for that peer; by its deadline it ends in any case.",
        source: &["A23", "B11"],
        needs: QUEUES_BETWEEN_PROCESSES,
        run: blocking_flushes,
    },
    Clause {
        id: "outbox.bounded",
        text: "An outbox that is full refuses one more message as `would_block`, and hands it back.",
        source: &["OUT-01"],
        needs: QUEUES,
        run: bounded,
    },
    Clause {
        id: "outbox.while_waiting",
        text: "What was held back goes out by itself while its sender waits for anything.",
        source: &["OUT-02"],
        needs: QUEUES_BETWEEN_PROCESSES,
        run: while_waiting,
    },
    Clause {
        id: "outbox.wakes_an_event_loop",
        text: "An event loop of one's own is told when there may be room for what was held back.",
        source: &["OUT-02"],
        needs: QUEUES,
        run: wakes_an_event_loop,
    },
    Clause {
        id: "outbox.leaves_when_empty",
        text: "Who leaves with a backlog sends it first, as long as somebody reads.",
        source: &["B12"],
        needs: QUEUES_BETWEEN_PROCESSES,
        run: leaves_when_empty,
    },
    Clause {
        id: "outbox.leaves_by_a_deadline",
        text: "Who leaves with a backlog that nobody reads has left within seconds, and is handed what did not go.",
        source: &["B12"],
        needs: QUEUES,
        run: leaves_by_a_deadline,
    },
    Clause {
        id: "outbox.reader_gone",
        text: "What was held back for a peer that is gone is handed back, each message with the reason.",
        source: &["A18", "B12"],
        needs: QUEUES_BETWEEN_PROCESSES,
        run: reader_gone,
    },
    Clause {
        id: "outbox.never_used",
        text: "Where nothing is ever held back, the calls for it say so and do nothing.",
        source: &["CLI-11"],
        needs: &[Need::NeverQueues],
        run: never_used,
    },
];

/// Reads at b and drains at a until so many numbered messages have come, in order.
fn read_numbered(a: &mut Client, b: &mut Client, count: usize) {
    let mut got = Vec::new();
    eventually("all messages", || {
        got.extend(contents(&b.get_messages().unwrap()));
        a.drain_pending().unwrap();
        got.len() >= count
    });
    assert_numbered(&got, count);
    assert!(b.get_messages().unwrap().is_empty(), "something arrived twice");
    assert!(a.take_unsent().is_empty() && b.take_damaged().is_empty());
}

fn held_back(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b, c) = (bus.client("a"), bus.client("b"), bus.client("c"));
    assert!(!a.has_pending_sends() && a.can_send_to("b").unwrap());
    let count = fill(&mut a, "b");
    assert_eq!((a.pending_sends(), a.pending_sends_to("b").unwrap(), a.pending_sends_to("c").unwrap()), (1, 1, 0));
    assert!(a.has_pending_sends() && !a.can_send_to("b").unwrap() && a.can_send_to("c").unwrap());
    assert_eq!(a.stats().sent.get("b"), Some(&i64::try_from(count).unwrap()), "what is held back was counted");
    assert_eq!(a.try_send("b", &numbered(count + 1)).unwrap(), Receipt::Queued);
    assert_eq!(a.pending_sends_to("b").unwrap(), 2);
    read_numbered(&mut a, &mut b, count + 2);
    drop(c);
}

fn drained(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    assert_eq!(a.drain_pending().unwrap(), 0);
    let count = fill(&mut a, "b");
    let mut got = contents(&b.get_messages().unwrap());
    let mut drained = 0;
    eventually("room", || {
        drained += a.drain_pending().unwrap();
        got.extend(contents(&b.get_messages().unwrap()));
        drained > 0
    });
    assert_eq!((drained, a.pending_sends()), (1, 0));
    eventually("the message that was held back", || {
        got.extend(contents(&b.get_messages().unwrap()));
        got.len() > count
    });
    assert_numbered(&got, count + 1);
    assert_eq!(a.stats().sent.get("b"), Some(&i64::try_from(count + 1).unwrap()));
    assert!(a.can_send_to("b").unwrap());
}

fn only_one(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b, mut c) = (bus.client("a"), bus.client("b"), bus.client("c"));
    let count = fill(&mut a, "b");
    assert_eq!(a.try_send("c", "free").unwrap(), Receipt::Delivered);
    assert_eq!(c.recv_timeout(PATIENCE).unwrap().content(), "free");
    assert_eq!(a.send("c", "blocking").unwrap(), Receipt::Delivered);
    assert_eq!(c.recv_timeout(PATIENCE).unwrap().content(), "blocking");
    let receipts: Vec<_> =
        a.broadcast(&numbered(count + 1)).unwrap().into_iter().map(|(_, sent)| sent.unwrap()).collect();
    assert_eq!(receipts, [Receipt::Queued, Receipt::Delivered]);
    assert_eq!(c.recv_timeout(PATIENCE).unwrap().content(), &numbered(count + 1));
    read_numbered(&mut a, &mut b, count + 2);
}

fn no_overtaking(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    let mut sent = fill(&mut a, "b") + 1;
    let mut got = Vec::new();
    for round in 0..20 {
        // There is room for some now, but not for all that wait.
        got.extend(contents(&b.get_at_most(round % 3).unwrap()));
        a.set_blocking(false);
        let receipt = match round % 4 {
            0 => a.try_send("b", &numbered(sent)).unwrap(),
            1 => a.send("b", &numbered(sent)).unwrap(),
            2 => a.send_all([a.message("b", &numbered(sent)).unwrap()]).unwrap()[0],
            _ => a.broadcast(&numbered(sent)).unwrap().remove(0).1.unwrap(),
        };
        assert!(matches!(receipt, Receipt::Queued | Receipt::Delivered), "{receipt}");
        sent += 1;
    }
    eventually("all messages", || {
        a.drain_pending().unwrap();
        got.extend(contents(&b.get_messages().unwrap()));
        got.len() >= sent
    });
    assert_numbered(&got, sent);
}

fn blocking_flushes(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    let count = fill(&mut a, "b");
    let error = a.send_timeout("b", "late", Duration::from_millis(50)).unwrap_err();
    assert_eq!((error.kind(), error.stored()), (ErrorKind::Timeout, Some(Stored::No)), "{error:?}");
    assert_eq!(error.into_message().expect("it is handed back").content(), "late");
    assert_eq!(a.pending_sends(), 1, "what is held back stays so");
    let got = thread::scope(|scope| {
        let reader = scope.spawn(|| b.recv_count(count + 2));
        assert_eq!(a.send_timeout("b", &numbered(count + 1), PATIENCE).unwrap(), Receipt::Delivered);
        reader.join().unwrap()
    });
    assert_numbered(&got.into_iter().map(|seen| seen.content).collect::<Vec<_>>(), count + 2);
    assert_eq!(a.pending_sends(), 0);
}

fn bounded(context: &Context<'_>) {
    let bus = context.bus();
    let builder = Client::builder("a", bus.info()).registry(context.subject().registry());
    let mut a = builder.limits(Limits { outbox_messages: 3, ..Limits::DEFAULT }).connect().unwrap();
    let mut b = bus.client("b");
    let count = fill(&mut a, "b");
    for number in 1..3 {
        assert_eq!(a.try_send("b", &numbered(count + number)).unwrap(), Receipt::Queued);
    }
    let error = a.try_send("b", "one too many").unwrap_err();
    assert_eq!((error.kind(), error.stored()), (ErrorKind::WouldBlock, Some(Stored::No)), "{error:?}");
    assert_eq!(error.into_message().expect("it is handed back").content(), "one too many");
    assert_eq!(a.pending_sends(), 3);
    read_numbered(&mut a, &mut b, count + 3);
}

fn while_waiting(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    let count = fill(&mut a, "b");
    for number in 1..20 {
        assert_eq!(a.try_send("b", &numbered(count + number)).unwrap(), Receipt::Queued);
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            let got: Vec<_> = b.recv_count(count + 20).into_iter().map(|seen| seen.content).collect();
            assert_numbered(&got, count + 20);
            b.send("a", "all came").unwrap();
        });
        assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "all came");
    });
    assert_eq!(a.pending_sends(), 0);
}

/// Whether one of these becomes writable, or fails, within the time.
fn is_writable(a: &Client, within: Duration) -> bool {
    let wake = a.wake_for_room().unwrap();
    let mut polled: Vec<_> = wake.descriptors.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::OUT)).collect();
    let timeout = Timespec { tv_sec: within.as_secs().try_into().unwrap(), tv_nsec: within.subsec_nanos().into() };
    poll(&mut polled, Some(&timeout)).unwrap() > 0
}

fn wakes_an_event_loop(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    assert!(a.wake_for_room().unwrap().descriptors.is_empty(), "nothing is held back");
    let count = fill(&mut a, "b");
    assert!(!a.wake_for_room().unwrap().descriptors.is_empty());
    assert!(!is_writable(&a, Duration::ZERO), "there is no room");
    let mut got = contents(&b.get_messages().unwrap());
    assert!(is_writable(&a, PATIENCE), "there is room");
    eventually("the rest", || {
        a.drain_pending().unwrap();
        got.extend(contents(&b.get_messages().unwrap()));
        got.len() > count
    });
    assert_numbered(&got, count + 1);
    assert!(a.wake_for_room().unwrap().descriptors.is_empty());
}

fn leaves_when_empty(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    let count = fill(&mut a, "b");
    for number in 1..20 {
        assert_eq!(a.try_send("b", &numbered(count + number)).unwrap(), Receipt::Queued);
    }
    let got = thread::scope(|scope| {
        let reader = scope.spawn(|| b.recv_count(count + 20));
        a.disconnect().unwrap();
        reader.join().unwrap()
    });
    assert_numbered(&got.into_iter().map(|seen| seen.content).collect::<Vec<_>>(), count + 20);
    assert!(a.take_unsent().is_empty());
}

fn leaves_by_a_deadline(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    let count = fill(&mut a, "b");
    assert_eq!(a.try_send("b", &numbered(count + 1)).unwrap(), Receipt::Queued);
    let error = a.disconnect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert_eq!(contents(error.messages()), [numbered(count), numbered(count + 1)]);
    let unsent = a.take_unsent();
    assert!(unsent.iter().all(|error| error.kind() == ErrorKind::Timeout), "{unsent:?}");
    assert_eq!(unsent.len(), 2);
    assert!(!a.is_connected());
    let mut got = Vec::new();
    eventually("what went", || {
        got.extend(contents(&b.get_messages().unwrap()));
        got.len() >= count
    });
    assert_numbered(&got, count);
    assert!(b.peer("a").unwrap().is_none());
}

fn reader_gone(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    let count = fill(&mut a, "b");
    assert_eq!(a.try_send("b", &numbered(count + 1)).unwrap(), Receipt::Queued);
    b.kill();
    let mut unsent = Vec::new();
    eventually("word of what was held back", || {
        a.drain_pending().unwrap();
        unsent.extend(a.take_unsent());
        unsent.len() >= 2
    });
    assert_eq!(a.pending_sends(), 0);
    for (error, number) in unsent.into_iter().zip(count..) {
        assert!(matches!(error.kind(), ErrorKind::PeerGone | ErrorKind::NoSuchPeer), "{error:?}");
        assert_eq!(error.into_message().expect("it is handed back").content(), &numbered(number));
    }
    assert_eq!(a.stats().sent.get("b"), Some(&i64::try_from(count).unwrap()), "what did not go was counted");
    a.disconnect().unwrap();
}

fn never_used(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    assert!(a.is_blocking());
    assert_eq!(a.try_send("b", "at once").unwrap(), Receipt::Delivered);
    assert_eq!((a.pending_sends(), a.pending_sends_to("b").unwrap(), a.has_pending_sends()), (0, 0, false));
    assert_eq!(a.drain_pending().unwrap(), 0);
    assert!(a.can_send_to("b").unwrap());
    assert!(a.wake_for_room().unwrap().descriptors.is_empty());
    assert!(a.take_unsent().is_empty());
    a.set_blocking(false);
    a.send("b", json!(["not blocking"]).to_string().as_str()).unwrap();
    assert_eq!(contents(&b.get_messages().unwrap()), ["at once", "[\"not blocking\"]"]);
}
