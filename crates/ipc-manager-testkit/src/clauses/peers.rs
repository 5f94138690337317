// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is on the bus.

use std::time::{Duration, Instant};

use ipc_manager::PeerState;
use serde_json::json;

use crate::context::names;
use crate::{Clause, Context, PATIENCE};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "peers.the_others",
        text: "A peer sees the others, sorted, and never itself.",
        source: &["PEER-01"],
        needs: &[],
        run: the_others,
    },
    Clause {
        id: "peers.records",
        text: "A peer's record says its process and that it is active; of an unknown name there is none.",
        source: &["PEER-02", "CLI-10"],
        needs: &[],
        run: records,
    },
    Clause {
        id: "peers.gone_when_left",
        text: "A peer that left is neither listed nor on record.",
        source: &["PEER-03"],
        needs: &[],
        run: gone_when_left,
    },
    Clause {
        id: "peers.wait_for_one_that_is_there",
        text: "Waiting for a peer that is there ends at once.",
        source: &["CLI-06"],
        needs: &[],
        run: wait_for_one_that_is_there,
    },
    Clause {
        id: "peers.wait_for_one_that_never_comes",
        text: "Waiting for a peer that never comes ends at the deadline, with no.",
        source: &["CLI-07"],
        needs: &[],
        run: wait_for_one_that_never_comes,
    },
    Clause {
        id: "peers.wait_for_one_that_comes",
        text: "Waiting for a peer without a deadline ends when it comes.",
        source: &["CLI-08", "CLI-09"],
        needs: &[],
        run: wait_for_one_that_comes,
    },
    Clause {
        id: "peers.many",
        text: "Dozens of peers join one bus, each reaches one, and one reaches all.",
        source: &["T13"],
        needs: &[],
        run: many,
    },
    Clause {
        id: "peers.reap_spares_the_living",
        text: "Reaping removes nobody who lives, and nothing that waits for them.",
        source: &["PEER-06", "T06"],
        needs: &[],
        run: reap_spares_the_living,
    },
];

fn the_others(context: &Context<'_>) {
    let bus = context.bus();
    let mut m = bus.client("m");
    let (mut z, mut b) = (bus.puppet("z"), bus.puppet("b"));
    assert_eq!(names(&m.peers().unwrap()), ["b", "z"]);
    assert_eq!((z.peers(), b.peers()), (vec!["b".into(), "m".into()], vec!["m".into(), "z".into()]));
    let records = m.all_peers().unwrap();
    assert_eq!(names(records.iter().map(|record| &record.name)), ["b", "z"]);
    assert!(records.iter().all(|record| record.state == PeerState::Active));
}

fn records(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    let record = a.peer("b").unwrap().expect("b is registered");
    assert_eq!((record.name.as_str(), record.pid, record.state), ("b", Some(b.pid()), PeerState::Active));
    let own = a.peer("a").unwrap().expect("a sees its own record");
    assert_eq!((own.pid, own.state), (Some(std::process::id()), PeerState::Active));
    assert!(a.peer("nobody").unwrap().is_none());
    let seen = b.peer("a");
    assert_eq!((seen.exists, seen.active, seen.suspended, seen.pid), (true, true, false, Some(std::process::id())));
    let seen = b.peer("nobody");
    assert_eq!((seen.exists, seen.active, seen.suspended, seen.pid), (false, false, false, None));
    if let Some(unread) = record.unread {
        a.send("b", "x").unwrap();
        assert_eq!(a.peer("b").unwrap().unwrap().unread, Some(unread + 1));
    }
}

fn gone_when_left(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b, mut c) = (bus.client("a"), bus.puppet("b"), bus.puppet("c"));
    b.disconnect();
    assert_eq!(names(&a.peers().unwrap()), ["c"]);
    assert!(a.peer("b").unwrap().is_none());
    assert_eq!(names(a.all_peers().unwrap().iter().map(|record| &record.name)), ["c"]);
    let seen = c.peer("b");
    assert!(!seen.exists && !seen.active && seen.pid.is_none());
}

fn wait_for_one_that_is_there(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, b) = (bus.client("a"), bus.puppet("b"));
    for timeout in [Some(PATIENCE), Some(Duration::ZERO), None] {
        assert!(a.wait_for_peer("b", timeout).unwrap());
    }
    drop(b);
}

fn wait_for_one_that_never_comes(context: &Context<'_>) {
    let bus = context.bus();
    let mut a = bus.client("a");
    let started = Instant::now();
    assert!(!a.wait_for_peer("nobody", Some(Duration::from_millis(300))).unwrap());
    assert!(started.elapsed() >= Duration::from_millis(300), "it gave up before its deadline");
    assert!(!a.wait_for_peer("nobody", Some(Duration::ZERO)).unwrap());
}

fn wait_for_one_that_comes(context: &Context<'_>) {
    let bus = context.bus();
    let (mut waiting, mut late) = (bus.puppet("waiting"), bus.idle_puppet());
    waiting.post(&json!({"op": "peer", "name": "late", "timeout": PATIENCE.as_secs()}));
    waiting.wait_until_asleep();
    late.try_connect("late").unwrap();
    assert_eq!(waiting.answer().unwrap()["active"], true);
    let mut a = bus.client("a");
    let mut later = bus.idle_puppet();
    later.post(&json!({"op": "connect", "name": "later", "info": bus.info().to_string()}));
    assert!(a.wait_for_peer("later", None).unwrap());
    later.answer().unwrap();
}

fn many(context: &Context<'_>) {
    let bus = context.bus();
    let mut hub = bus.client("hub");
    let count = context.at_most_unread(60);
    let mut peers: Vec<_> = (0..count).map(|number| bus.client(&format!("peer-{number:03}"))).collect();
    assert_eq!(hub.peers().unwrap().len(), count);
    for peer in &mut peers {
        peer.send("hub", "here").unwrap();
    }
    let mut senders: Vec<String> = (0..count).map(|_| hub.recv_timeout(PATIENCE).unwrap().from().to_string()).collect();
    senders.sort();
    assert_eq!(senders, names(peers.iter().map(ipc_manager::Client::name)));
    assert!(hub.broadcast("to all").unwrap().iter().all(|(_, result)| result.is_ok()));
    for peer in &mut peers {
        assert_eq!(peer.recv_timeout(PATIENCE).unwrap().content(), "to all");
    }
}

fn reap_spares_the_living(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    a.send("b", "waits").unwrap();
    b.send("a", "waits").unwrap();
    assert!(a.reap().unwrap().is_empty());
    assert_eq!(b.must(&json!({"op": "reap"}))["removed"], 0);
    assert_eq!(b.recv_count(1)[0].content, "waits");
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "waits");
}
