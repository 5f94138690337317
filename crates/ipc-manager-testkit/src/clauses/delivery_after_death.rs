// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages in the hand of a reader that is killed.

use serde_json::{Value, json};

use super::delivery::client_that_gives_up_after;
use crate::{Bus, Clause, Context, Need, PATIENCE, Puppet};

const NEEDS: &[Need] = &[Need::Acknowledges, Need::Processes, Need::OutlivesProcesses];

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "delivery.after_a_kill",
        text: "What a killed reader had in hand is received again by who continues the name, in order, and says so; what it \
               had acknowledged is not.",
        source: &["T04", "T05"],
        needs: NEEDS,
        run: after_a_kill,
    },
    Clause {
        id: "delivery.after_a_kill_by_others",
        text: "What a killed reader had in hand is an unread message to a reader that knows nothing of acknowledging, once.",
        source: &["T04", "T23"],
        needs: NEEDS,
        run: after_a_kill_by_others,
    },
    Clause {
        id: "delivery.kills_its_readers",
        text: "A message whose readers die of it is set aside after so many of them, and what came later is received.",
        source: &["T05", "T11"],
        needs: NEEDS,
        run: kills_its_readers,
    },
    Clause {
        id: "delivery.discarded_after_a_kill",
        text: "Who takes the name of a killed reader afresh is told of what it had in hand and of what was dead, as of \
               anything unread.",
        source: &["T04"],
        needs: NEEDS,
        run: discarded_after_a_kill,
    },
    Clause {
        id: "delivery.killed_again_and_again",
        text: "However often readers are killed, every message is acknowledged once in the end, in order.",
        source: &["T05"],
        needs: NEEDS,
        run: killed_again_and_again,
    },
];

/// Receives one; its handle, content and how often it was handed out.
#[track_caller]
fn receive(puppet: &mut Puppet) -> (String, Value, u64) {
    let answer = puppet.must(&json!({"op": "receive", "timeout": PATIENCE.as_secs()}));
    let handle = answer["delivery"].as_str().expect("a message came").to_owned();
    (handle, answer["message"]["content"].clone(), answer["attempts"].as_u64().unwrap())
}

fn acknowledge(puppet: &mut Puppet, handle: &str) {
    puppet.must(&json!({"op": "acknowledge", "delivery": handle}));
}

/// A reader that continues a name.
fn next_life(bus: &Bus<'_>, name: &str) -> Puppet {
    let mut puppet = bus.idle_puppet();
    puppet.try_reconnect(name).unwrap();
    puppet
}

/// A reader that was killed with the messages 1 and 2 in hand, having acknowledged 0; 3 and 4 it never saw.
fn killed_reader(bus: &Bus<'_>) {
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    for number in 0..5 {
        a.send("b", &number).unwrap();
    }
    let (first, content, _) = receive(&mut b);
    assert_eq!(content, 0);
    for number in 1..3 {
        assert_eq!(receive(&mut b).1, number);
    }
    acknowledge(&mut b, &first);
    b.kill();
}

fn after_a_kill(context: &Context<'_>) {
    let bus = context.bus();
    killed_reader(&bus);
    let mut b = next_life(&bus, "b");
    for (number, attempts) in [(1, 2), (2, 2), (3, 1), (4, 1)] {
        let (handle, content, seen) = receive(&mut b);
        assert_eq!((content, seen), (json!(number), attempts));
        acknowledge(&mut b, &handle);
    }
    assert!(b.must(&json!({"op": "receive"}))["delivery"].is_null());
    assert_eq!(b.stats()["read"], json!({"a": 4}));
}

fn after_a_kill_by_others(context: &Context<'_>) {
    let bus = context.bus();
    killed_reader(&bus);
    let mut b = next_life(&bus, "b");
    let seen: Vec<Value> = b.recv_count(4).into_iter().map(|message| message.content).collect();
    assert_eq!(seen, [1, 2, 3, 4]);
    assert!(b.recv_now().is_empty());
    assert!(b.must(&json!({"op": "receive"}))["delivery"].is_null());
}

fn kills_its_readers(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    for number in 0..2 {
        a.send("b", &number).unwrap();
    }
    let most = u64::from(ipc_manager::Limits::DEFAULT.delivery_attempts);
    for attempt in 1..=most {
        let (_, content, seen) = receive(&mut b);
        assert_eq!((content, seen), (json!(0), attempt));
        b.kill();
        b = next_life(&bus, "b");
    }
    let (handle, content, _) = receive(&mut b);
    assert_eq!(content, 1);
    acknowledge(&mut b, &handle);
    let dead = a.dead("b").unwrap();
    assert_eq!((dead.len(), dead[0].message.content(), u64::from(dead[0].attempts)), (1, &json!(0), most));
}

fn discarded_after_a_kill(context: &Context<'_>) {
    let bus = context.bus();
    let mut a = client_that_gives_up_after(context, &bus, "a", 1);
    let mut b = bus.idle_puppet();
    b.must(&json!({"op": "connect", "name": "b", "info": bus.info().to_string(), "delivery_attempts": 1}));
    for number in 0..4 {
        a.send("b", &number).unwrap();
    }
    let (first, ..) = receive(&mut b);
    b.must(&json!({"op": "put_back", "delivery": first}));
    assert_eq!(receive(&mut b).1, 1);
    assert_eq!(a.dead("b").unwrap().len(), 1);
    b.kill();
    let mut b = bus.client("b");
    assert_eq!(b.discarded(), 4, "one was dead, one in hand, two unread");
    assert!(b.try_receive().unwrap().is_none() && b.dead("b").unwrap().is_empty());
}

fn killed_again_and_again(context: &Context<'_>) {
    let bus = context.bus();
    let mut a = bus.client("a");
    let mut b = bus.puppet("b");
    let count = context.load(40).max(8);
    for number in 0..count {
        a.send("b", &number).unwrap();
    }
    let mut done = Vec::new();
    while done.len() < count {
        let (handle, content, _) = receive(&mut b);
        // Every third life ends with one in hand, and one acknowledged behind it.
        if done.len() % 8 == 5 {
            let (behind, next, _) = receive(&mut b);
            acknowledge(&mut b, &behind);
            b.kill();
            b = next_life(&bus, "b");
            let (handle, again, attempts) = receive(&mut b);
            assert_eq!((&again, attempts), (&content, 2));
            acknowledge(&mut b, &handle);
            done.extend([content, next]);
        } else {
            acknowledge(&mut b, &handle);
            done.push(content);
        }
    }
    assert_eq!(done, (0..count).map(Value::from).collect::<Vec<_>>());
    assert!(b.must(&json!({"op": "receive"}))["delivery"].is_null());
    assert!(a.dead("b").unwrap().is_empty());
}
