// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counters.

use ipc_manager::{Stats, Suspend};
use serde_json::{Value, json};

use crate::{Clause, Context, Need, PATIENCE};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "stats.zero_at_first",
        text: "Fresh counters are empty.",
        source: &["BUS-17"],
        needs: &[],
        run: zero_at_first,
    },
    Clause {
        id: "stats.by_peer",
        text: "Each peer counts what it sent to whom and read from whom; a broadcast counts once per recipient.",
        source: &["BUS-07", "BUS-18"],
        needs: &[],
        run: by_peer,
    },
    Clause {
        id: "stats.stored",
        text: "Stored counters read back as they are, and everybody can see those of all.",
        source: &["BUS-07", "BUS-19", "FS-03"],
        needs: &[],
        run: stored,
    },
    Clause {
        id: "stats.all_at_any_time",
        text: "The counters of all can be read while some peers have not stored theirs.",
        source: &["C4"],
        needs: &[],
        run: all_at_any_time,
    },
    Clause {
        id: "stats.outlive_their_peer",
        text: "Counters stay in the store when their peer left, and a later holder of the name adds to them.",
        source: &["OWN-02"],
        needs: &[],
        run: outlive_their_peer,
    },
    Clause {
        id: "stats.continue",
        text: "Counters go on where they were when a name is continued.",
        source: &["SUS-01"],
        needs: &[Need::Suspend],
        run: go_on,
    },
];

/// Counters as they stand in the store.
fn as_json(stats: &Stats) -> Value {
    serde_json::to_value(stats).unwrap()
}

fn zero_at_first(context: &Context<'_>) {
    let bus = context.bus();
    let (a, mut b) = (bus.client("a"), bus.puppet("b"));
    assert_eq!(a.stats(), Stats::default());
    assert_eq!(b.stats(), json!({"read": {}, "sent": {}}));
}

fn by_peer(context: &Context<'_>) {
    let bus = context.bus();
    let (mut first, mut second, mut third) = (bus.client("first"), bus.puppet("second"), bus.client("third"));
    let two = [first.send("second", &1), first.send("second", &2)];
    assert!(two.iter().all(Result::is_ok));
    second.recv_count(2);
    second.send("first", 3).unwrap();
    assert_eq!(first.recv_timeout(PATIENCE).unwrap().content(), 3);
    for number in 4..7 {
        assert_eq!(third.broadcast(&number).unwrap().len(), 2);
    }
    for _ in 4..7 {
        first.recv_timeout(PATIENCE).unwrap();
    }
    second.recv_count(3);
    first.send("second", "unread").unwrap();
    assert_eq!(as_json(&first.stats()), json!({"read": {"second": 1, "third": 3}, "sent": {"second": 3}}));
    assert_eq!(second.stats(), json!({"read": {"first": 2, "third": 3}, "sent": {"first": 1}}));
    assert_eq!(as_json(&third.stats()), json!({"read": {}, "sent": {"first": 3, "second": 3}}));
}

fn stored(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    a.send("b", &1).unwrap();
    a.send("b", &2).unwrap();
    b.recv_count(2);
    a.write_stats().unwrap();
    b.must(&json!({"op": "write_stats"}));
    assert_eq!(a.read_stats().unwrap(), a.stats());
    assert_eq!(as_json(&a.stats()), json!({"read": {}, "sent": {"b": 2}}));
    assert_eq!(b.must(&json!({"op": "read_stats"}))["stats"], json!({"read": {"a": 2}, "sent": {}}));
    let mut c = bus.client("c");
    let all = c.all_stats().unwrap();
    assert_eq!((all["a"].sent["b"], all["b"].read["a"]), (2, 2));
    let seen = b.must(&json!({"op": "all_stats"}))["stats"].clone();
    assert_eq!((&seen["a"]["sent"]["b"], &seen["b"]["read"]["a"]), (&json!(2), &json!(2)));
}

fn all_at_any_time(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    a.all_stats().unwrap();
    a.send("b", &1).unwrap();
    b.must(&json!({"op": "write_stats"}));
    assert_eq!(a.all_stats().unwrap()["b"], Stats::default());
}

fn outlive_their_peer(context: &Context<'_>) {
    let bus = context.bus();
    let mut a = bus.client("a");
    for round in 1..=2 {
        let mut b = bus.puppet("b");
        b.send("a", round).unwrap();
        a.recv_timeout(PATIENCE).unwrap();
        assert_eq!(b.stats(), json!({"read": {}, "sent": {"a": 1}}), "a client counts from zero");
        b.disconnect();
        assert_eq!(a.all_stats().unwrap()["b"].sent["a"], round, "in the store it adds up");
    }
    assert_eq!(a.stats().read["b"], 2);
}

fn go_on(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    b.send("a", 1).unwrap();
    b.suspend().unwrap();
    b.try_reconnect("b").unwrap();
    b.send("a", 2).unwrap();
    assert_eq!(b.stats(), json!({"read": {}, "sent": {"a": 2}}));
    a.suspend(Suspend::open_ended()).unwrap();
    let mut a = bus.reconnect("a");
    assert!(a.stats().read.is_empty());
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), 1);
}
