// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages that stay in the store until they are acknowledged.

use std::time::Duration;

use ipc_manager::{Client, ErrorKind, Limits};
use serde_json::{Value, json};

use crate::context::contents;
use crate::{Bus, Clause, Context, Need, PATIENCE, eventually};

pub(super) const NEEDS: &[Need] = &[Need::Acknowledges];
/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "delivery.until_acknowledged",
        text: "A message that was received is handed out no second time while it is in hand, and never again once it is \
               acknowledged; it counts as read then, and not before.",
        source: &["SUS-01"],
        needs: NEEDS,
        run: until_acknowledged,
    },
    Clause {
        id: "delivery.put_back_in_order",
        text: "What was put back, or dropped, is received again in its old order, and says how often that was.",
        source: &["FS-04"],
        needs: NEEDS,
        run: put_back_in_order,
    },
    Clause {
        id: "delivery.beside_others",
        text: "With messages in hand, the others are read by any call, in order, one by one or in batches.",
        source: &["FS-04"],
        needs: NEEDS,
        run: beside_others,
    },
    Clause {
        id: "delivery.mixed_with_requeue",
        text: "A message that was read and put back can be received: before what came later, counted once.",
        source: &["FS-04", "A7"],
        needs: NEEDS,
        run: mixed_with_requeue,
    },
    Clause {
        id: "delivery.dead_after_so_many",
        text: "What was received as often as it may be is set aside: neither received nor unread any more, listed as \
               dead by any peer, and not in the way of others.",
        source: &["T11"],
        needs: NEEDS,
        run: dead_after_so_many,
    },
    Clause {
        id: "delivery.revived",
        text: "A dead message that is revived is received as if it had never been, and whoever waits for it is woken.",
        source: &["T11"],
        needs: NEEDS,
        run: revived,
    },
    Clause {
        id: "delivery.held_for_so_long",
        text: "What is held for longer than it may be is received again, and acknowledging it late is refused as `timeout`; \
               extended, it is held on.",
        source: &["T08"],
        needs: NEEDS,
        run: held_for_so_long,
    },
    Clause {
        id: "delivery.wakes",
        text: "Who waits for a message is woken when another thread puts one back.",
        source: &["B5"],
        needs: NEEDS,
        run: wakes,
    },
    Clause {
        id: "delivery.unsupported",
        text: "Where messages cannot stay in the store, receiving them so is refused as `unsupported`, and changes nothing.",
        source: &["T11"],
        needs: &[Need::NeverAcknowledges],
        run: unsupported,
    },
];

/// Joins with other limits on how often a message is received.
pub(super) fn client_that_gives_up_after(
    context: &Context<'_>,
    bus: &Bus<'_>,
    name: &str,
    delivery_attempts: u32,
) -> Client {
    let limits = Limits { delivery_attempts, ..Limits::default() };
    let builder = Client::builder(name, bus.info()).registry(context.subject().registry()).limits(limits);
    builder.connect().unwrap()
}

pub(super) fn send_numbers(from: &mut Client, to: &str, numbers: std::ops::Range<u32>) {
    for number in numbers {
        from.send(to, &number).unwrap();
    }
}

/// Receives so many and acknowledges them; what they carry.
pub(super) fn finish(client: &mut Client, count: usize) -> Vec<Value> {
    let one = |_| {
        let delivery = client.receive_timeout(PATIENCE).unwrap();
        let content = delivery.message().content().clone();
        delivery.acknowledge(client).unwrap();
        content
    };
    (0..count).map(one).collect()
}

fn until_acknowledged(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    assert!(b.try_receive().unwrap().is_none());
    a.send("b", &1).unwrap();
    let delivery = b.receive_timeout(PATIENCE).unwrap();
    assert_eq!((delivery.message().content(), delivery.attempts()), (&json!(1), 1));
    assert!(b.try_receive().unwrap().is_none() && b.try_recv().unwrap().is_none());
    assert!(b.get_messages().unwrap().is_empty() && !b.is_ready().unwrap());
    assert_eq!(b.wait(Some(Duration::from_millis(1))).unwrap(), ipc_manager::Wait::Timeout);
    assert_eq!(b.stats().read.get("a"), None);
    delivery.acknowledge(&mut b).unwrap();
    assert_eq!(b.stats().read.get("a"), Some(&1));
    assert!(b.try_receive().unwrap().is_none() && b.try_recv().unwrap().is_none());
    a.send("b", &2).unwrap();
    let delivery = b.receive_timeout(PATIENCE).unwrap();
    assert_eq!(delivery.acknowledge(&mut a).unwrap_err().kind(), ErrorKind::Usage, "it is not a's");
    assert_eq!(finish(&mut b, 1), [2]);
    b.disconnect().unwrap();
}

fn put_back_in_order(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    send_numbers(&mut a, "b", 0..6);
    for attempt in 1..=2 {
        let held: Vec<_> = (0..4).map(|_| b.receive_timeout(PATIENCE).unwrap()).collect();
        for (number, delivery) in (0..).zip(held) {
            assert_eq!((delivery.message().content(), delivery.attempts()), (&json!(number), attempt));
            if number % 2 == 0 { delivery.put_back() } else { drop(delivery) }
        }
    }
    send_numbers(&mut a, "b", 6..8);
    assert_eq!(finish(&mut b, 8), (0..8).map(Value::from).collect::<Vec<_>>());
    assert_eq!(b.stats().read.get("a"), Some(&8));
    assert!(b.try_receive().unwrap().is_none());
}

fn beside_others(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    send_numbers(&mut a, "b", 0..10);
    let held: Vec<_> = (0..3).map(|_| b.receive_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), 3);
    assert_eq!(contents(&b.get_at_most(2).unwrap()), [4, 5]);
    let later = b.receive_timeout(PATIENCE).unwrap();
    assert_eq!(later.message().content(), 6);
    assert_eq!(contents(&b.get_messages().unwrap()), [7, 8, 9]);
    assert!(!b.is_ready().unwrap());
    a.send("b", &10).unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), 10);
    later.acknowledge(&mut b).unwrap();
    // Let go of in the middle, and read in another way.
    let mut held = held;
    held.remove(1).put_back();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), 1);
    held.into_iter().for_each(|delivery| delivery.acknowledge(&mut b).unwrap());
    assert!(b.try_recv().unwrap().is_none());
    assert_eq!(b.stats().read.get("a"), Some(&11));
}

fn mixed_with_requeue(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    send_numbers(&mut a, "b", 0..3);
    let taken = b.recv_timeout(PATIENCE).unwrap();
    b.requeue(&[taken]).unwrap();
    let delivery = b.receive_timeout(PATIENCE).unwrap();
    assert_eq!((delivery.message().content(), delivery.attempts()), (&json!(0), 1));
    let second = b.receive_timeout(PATIENCE).unwrap();
    drop((second, delivery));
    let delivery = b.receive_timeout(PATIENCE).unwrap();
    assert_eq!((delivery.message().content(), delivery.attempts()), (&json!(0), 2));
    let (id, extra) = (delivery.message().id().clone(), delivery.message().extra().clone());
    assert!(extra.is_empty(), "{id}: what a protocol notes is not the message's: {extra:?}");
    delivery.acknowledge(&mut b).unwrap();
    let taken = b.recv_timeout(PATIENCE).unwrap();
    assert!(taken.extra().is_empty(), "{:?}", taken.extra());
    b.requeue(&[taken]).unwrap();
    assert_eq!(finish(&mut b, 2), [1, 2]);
    assert_eq!(b.stats().read.get("a"), Some(&3), "each is counted once");
}

fn dead_after_so_many(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), client_that_gives_up_after(context, &bus, "b", 2));
    send_numbers(&mut a, "b", 0..2);
    for attempt in 1..=2 {
        let delivery = b.receive_timeout(PATIENCE).unwrap();
        assert_eq!((delivery.message().content(), delivery.attempts()), (&json!(0), attempt));
        delivery.put_back();
    }
    assert_eq!(finish(&mut b, 1), [1]);
    assert!(b.try_receive().unwrap().is_none() && b.try_recv().unwrap().is_none() && !b.is_ready().unwrap());
    let mut puppet = bus.puppet("c");
    let seen = puppet.must(&json!({"op": "dead", "name": "b"}))["dead"].clone();
    assert_eq!(
        (&seen[0]["message"]["content"], &seen[0]["attempts"], seen.as_array().unwrap().len()),
        (&json!(0), &json!(2), 1)
    );
    let dead = b.dead("b").unwrap();
    assert_eq!((dead.len(), dead[0].message.from().as_str(), dead[0].attempts), (1, "a", 2));
    assert!(dead[0].message.extra().is_empty());
    assert!(a.dead("a").unwrap().is_empty());
    assert_eq!(a.dead("nobody").unwrap_err().kind(), ErrorKind::NoSuchPeer);
    assert_eq!(a.revive_all("nobody").unwrap_err().kind(), ErrorKind::NoSuchPeer);
    if context.capabilities().observable {
        let record = bus.observer().unwrap().peer("b").unwrap().unwrap();
        assert_eq!(record.unread, Some(0), "what is dead is not unread");
    }
}

fn revived(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), client_that_gives_up_after(context, &bus, "b", 1));
    send_numbers(&mut a, "b", 0..3);
    for _ in 0..3 {
        drop(b.receive_timeout(PATIENCE).unwrap());
    }
    assert!(b.try_receive().unwrap().is_none());
    let dead = a.dead("b").unwrap();
    assert_eq!(dead.iter().map(|dead| dead.message.content().clone()).collect::<Vec<_>>(), [0, 1, 2]);
    let mut puppet = bus.puppet("c");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| finish(&mut b, 1));
        let id = dead[1].message.id().as_str();
        assert_eq!(puppet.must(&json!({"op": "revive", "name": "b", "id": id}))["revived"], 1);
        assert_eq!(waiting.join().unwrap(), [1]);
        assert_eq!(puppet.must(&json!({"op": "revive", "name": "b", "id": id}))["revived"], 0);
    });
    assert_eq!(a.revive_all("b").unwrap(), 2);
    let (first, second) = (b.receive_timeout(PATIENCE).unwrap(), b.receive_timeout(PATIENCE).unwrap());
    assert_eq!((first.attempts(), second.attempts()), (1, 1), "as if it had never been received");
    assert_eq!([first.message().content(), second.message().content()], [&json!(0), &json!(2)]);
    first.acknowledge(&mut b).unwrap();
    second.acknowledge(&mut b).unwrap();
    assert!(a.dead("b").unwrap().is_empty());
    assert_eq!(b.stats().read.get("a"), Some(&3));
}

fn held_for_so_long(context: &Context<'_>) {
    let bus = context.bus();
    let mut a = bus.client("a");
    let builder = Client::builder("b", bus.info()).registry(context.subject().registry());
    let mut b = builder.hold(Duration::from_millis(20)).connect().unwrap();
    a.send("b", &1).unwrap();
    let late = b.receive_timeout(PATIENCE).unwrap();
    let again = b.receive_timeout(PATIENCE).unwrap();
    again.extend(LONG).unwrap();
    assert_eq!((again.message(), again.attempts()), (late.message(), 2));
    assert_eq!(late.extend(LONG).unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(late.acknowledge(&mut b).unwrap_err().kind(), ErrorKind::Timeout);
    assert!(b.receive_timeout(Duration::from_millis(60)).is_err(), "it is held on");
    again.acknowledge(&mut b).unwrap();
    assert_eq!(b.stats().read.get("a"), Some(&1));
}

fn wakes(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    a.send("b", &1).unwrap();
    let delivery = b.receive_timeout(PATIENCE).unwrap();
    let begun = std::time::Instant::now();
    std::thread::scope(|scope| {
        let (asleep, told) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            told.recv().unwrap();
            std::thread::yield_now();
            delivery.put_back();
        });
        asleep.send(()).unwrap();
        assert_eq!(finish(&mut b, 1), [1]);
    });
    assert!(begun.elapsed() < PATIENCE);
    // The same in an event loop of one's own.
    a.send("b", &2).unwrap();
    let delivery = b.receive_timeout(PATIENCE).unwrap();
    while b.is_ready().unwrap() {}
    delivery.put_back();
    eventually("the descriptors to tell", || b.is_ready().unwrap());
}

fn unsupported(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    a.send("b", &1).unwrap();
    assert_eq!(b.receive().unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(b.try_receive().unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(b.receive_timeout(LONG).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(b.dead("b").unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(b.revive_all("b").unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), 1);
}
