// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages that are put back.

use serde_json::{Value, json};

use crate::context::contents;
use crate::{Clause, Context, Need, PATIENCE};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "requeue.unchanged",
        text: "Messages that were put back come again as they were: id, sender, stamp, content; none is counted twice.",
        source: &["FS-04", "A6", "A7"],
        needs: &[],
        run: unchanged,
    },
    Clause {
        id: "requeue.at_once",
        text: "What was put back is ready at once, without another message coming.",
        source: &["B5"],
        needs: &[],
        run: at_once,
    },
    Clause {
        id: "requeue.in_front",
        text: "What was put back comes before what arrived later.",
        source: &["FS-04"],
        needs: &[],
        run: in_front,
    },
    Clause {
        id: "requeue.under_load",
        text: "What was put back comes before what arrives meanwhile, also where the mailbox was empty.",
        source: &["FS-04"],
        needs: &[],
        run: under_load,
    },
    Clause {
        id: "requeue.leaves_freely",
        text: "A peer with nothing but put-back messages can leave, and they are handed over as unread.",
        source: &["B4"],
        needs: &[],
        run: leaves_freely,
    },
    Clause {
        id: "requeue.for_the_next_life",
        text: "What was put back is there when the name is continued.",
        source: &["FS-04", "SUS-01"],
        needs: &[Need::Suspend],
        run: for_the_next_life,
    },
];

fn unchanged(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    b.send("a", json!({"n": 1})).unwrap();
    b.send("a", json!({"n": 2})).unwrap();
    let first: Vec<_> = (0..2).map(|_| a.recv_timeout(PATIENCE).unwrap()).collect();
    a.requeue(&first).unwrap();
    let again: Vec<_> = (0..2).map(|_| a.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(first, again);
    assert!(a.get_messages().unwrap().is_empty());
    assert_eq!(a.stats().read.get("b"), Some(&2));
    assert_eq!(a.stats().sent.get("a"), None);
    a.requeue(&again[..1]).unwrap();
    assert_eq!(a.recv_timeout(PATIENCE).unwrap(), again[0]);
    a.requeue(&[]).unwrap();
    assert!(!a.is_ready().unwrap());
}

fn at_once(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    a.send("b", "x").unwrap();
    let seen = b.must(&json!({"op": "recv", "timeout": PATIENCE.as_secs()}))["messages"].clone();
    b.must(&json!({"op": "requeue", "messages": seen}));
    assert_eq!(b.must(&json!({"op": "ready"}))["value"], true);
    assert_eq!(b.recv_count(1)[0].content, "x");
}

fn in_front(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    for number in 0..3 {
        b.send("a", &number).unwrap();
    }
    let taken = a.get_messages().unwrap();
    b.send("a", &3).unwrap();
    a.requeue(&taken).unwrap();
    b.send("a", &4).unwrap();
    let mut got: Vec<Value> = Vec::new();
    while got.len() < 5 {
        got.push(a.recv_timeout(PATIENCE).unwrap().content().clone());
    }
    assert_eq!(got, (0..5).map(Value::from).collect::<Vec<_>>());
}

fn under_load(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    let count = u64::try_from(context.load(400)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..count).for_each(|number| drop(b.send("a", number).unwrap())));
        let mut next = 0;
        while next < count {
            let taken = a.get_at_most(2).unwrap();
            a.requeue(&taken).unwrap();
            for _ in 0..taken.len() {
                assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), next, "out of order");
                next += 1;
            }
        }
    });
}

fn leaves_freely(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    b.send("a", "x").unwrap();
    let taken = a.get_messages().unwrap();
    a.requeue(&taken).unwrap();
    let mut unread = Vec::new();
    a.disconnect_with(|messages| unread = messages).unwrap();
    assert_eq!(contents(&unread), ["x"]);
}

fn for_the_next_life(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    b.send("a", &0).unwrap();
    let taken = a.get_messages().unwrap();
    a.requeue(&taken).unwrap();
    a.suspend(ipc_manager::Suspend::open_ended()).unwrap();
    b.send("a", &1).unwrap();
    let mut a = bus.reconnect("a");
    let got: Vec<Value> = (0..2).map(|_| a.recv_timeout(PATIENCE).unwrap().content().clone()).collect();
    assert_eq!(got, [json!(0), json!(1)]);
    assert_eq!(a.stats().read.get("b"), Some(&2));
}
