// SPDX-License-Identifier: MIT OR Apache-2.0
//! In which order messages arrive.

use ipc_manager::Message;
use serde_json::{Value, json};

use crate::context::contents;
use crate::{Clause, Context, PATIENCE, eventually};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "order.per_sender",
        text: "Messages of one sender arrive in the order in which they were sent, however fast they were made.",
        source: &["BUS-08", "A22"],
        needs: &[],
        run: per_sender,
    },
    Clause {
        id: "order.in_batches",
        text: "Messages taken a few at a time come in the same order as all at once.",
        source: &["T01"],
        needs: &[],
        run: in_batches,
    },
    Clause {
        id: "order.several_senders",
        text: "Messages of several senders at once each keep their sender's order, and each arrives once.",
        source: &["T01"],
        needs: &[],
        run: several_senders,
    },
    Clause {
        id: "order.by_stamp",
        text: "Within one look, messages of different senders are in the order of their stamps.",
        source: &["BUS-16"],
        needs: &[],
        run: by_stamp,
    },
    Clause {
        id: "order.across_ways_of_sending",
        text: "Single sends, batches, broadcasts and sends that may not block keep one order.",
        source: &["A23"],
        needs: &[],
        run: across_ways_of_sending,
    },
];

fn per_sender(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    for text in ["one", "two", "three"] {
        b.send("a", text).unwrap();
    }
    eventually("three messages", || a.is_ready().unwrap());
    let mut got = contents(&a.get_messages().unwrap());
    while got.len() < 3 {
        got.push(a.recv_timeout(PATIENCE).unwrap().content().clone());
    }
    assert_eq!(got, ["one", "two", "three"]);
    let count = context.at_most_unread(200);
    let burst: Vec<Message> = (0..count).map(|number| a.message("b", &number).unwrap()).collect();
    for message in burst {
        a.send_message(message).unwrap();
    }
    let got: Vec<Value> = b.recv_count(count).into_iter().map(|seen| seen.content).collect();
    assert_eq!(got, (0..count).map(Value::from).collect::<Vec<_>>());
}

fn in_batches(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b, mut c) = (bus.client("a"), bus.puppet("b"), bus.client("c"));
    let count = context.at_most_unread(50);
    let singly = count / 2;
    for number in 0..singly {
        b.send("a", number).unwrap();
    }
    // Stored together, and yet one after the other.
    let together: Vec<Message> = (singly..count).map(|number| c.message("a", &number).unwrap()).collect();
    assert_eq!(c.send_all(together).unwrap().len(), count - singly);
    let mut got = Vec::new();
    for most in (1..4).cycle() {
        let batch = a.get_at_most(most).unwrap();
        assert!(batch.len() <= most);
        if batch.is_empty() {
            break;
        }
        got.extend(contents(&batch));
        got.extend(a.try_recv().unwrap().map(|message| message.content().clone()));
    }
    assert_eq!(got, (0..count).map(Value::from).collect::<Vec<_>>());
}

fn several_senders(context: &Context<'_>) {
    let bus = context.bus();
    let mut hub = bus.client("hub");
    let mut senders: Vec<_> = (0..4).map(|number| bus.puppet(&format!("sender-{number}"))).collect();
    let each = context.at_most_unread(100) / senders.len();
    for number in 0..each {
        for sender in &mut senders {
            // Posted, not called: they all send at the same time.
            sender.post(&json!({"op": "send", "to": "hub", "content": number}));
        }
    }
    let mut next = vec![0; senders.len()];
    for _ in 0..each * senders.len() {
        let message = hub.recv_timeout(PATIENCE).unwrap();
        let sender: usize = message.from().as_str().rsplit('-').next().unwrap().parse().unwrap();
        assert_eq!(message.content(), &json!(next[sender]), "out of order from {}", message.from());
        next[sender] += 1;
    }
    for sender in &mut senders {
        (0..each).for_each(|_| assert_eq!(sender.answer().unwrap()["receipt"], "delivered"));
    }
    assert!(hub.get_messages().unwrap().is_empty(), "something arrived twice");
}

fn by_stamp(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b, mut hub) = (bus.client("a"), bus.client("b"), bus.client("hub"));
    let now = 1_800_000_000.0;
    let stamped = |from: &str, after: f64| {
        let builder = Message::builder(from).to("hub").content(&after).unwrap();
        builder.stamp(now + after).build().unwrap()
    };
    a.send_message(stamped("a", 2.0)).unwrap();
    b.send_message(stamped("b", 1.0)).unwrap();
    a.send_message(stamped("a", 4.0)).unwrap();
    b.send_message(stamped("b", 3.0)).unwrap();
    assert_eq!(contents(&hub.get_messages().unwrap()), [json!(1.0), json!(2.0), json!(3.0), json!(4.0)]);
}

fn across_ways_of_sending(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    let mut sent = 0;
    let mut next = || {
        sent += 1;
        sent
    };
    for _ in 0..5 {
        a.send("b", &next()).unwrap();
        assert!(a.broadcast(&next()).unwrap().iter().all(|(_, result)| result.is_ok()));
        a.try_send("b", &next()).unwrap();
        let batch = vec![a.message("b", &next()).unwrap(), a.message("b", &next()).unwrap()];
        assert_eq!(a.send_all(batch).unwrap().len(), 2);
        a.send_timeout("b", &next(), PATIENCE).unwrap();
        let got: Vec<Value> = b.recv_count(6).into_iter().map(|seen| seen.content).collect();
        let last = got.last().and_then(Value::as_i64).unwrap();
        assert_eq!(got, (last - 5..=last).map(Value::from).collect::<Vec<_>>());
    }
}
