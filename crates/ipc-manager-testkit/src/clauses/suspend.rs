// SPDX-License-Identifier: MIT OR Apache-2.0
//! Leaving for a while.

use std::time::{Duration, SystemTime};

use ipc_manager::{ErrorKind, PeerState, Receipt, Suspend, Wait, WaitFor};
use serde_json::{Value, json};

use crate::context::{contents, names};
use crate::{Clause, Context, Need, PATIENCE};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "suspend.mailbox_stays",
        text: "A suspended peer's mailbox stays and takes messages; who continues the name gets all, in order.",
        source: &["SUS-01", "T14"],
        needs: &[Need::Suspend],
        run: mailbox_stays,
    },
    Clause {
        id: "suspend.listed",
        text: "A suspended peer is listed as suspended, without a process, and gets broadcasts.",
        source: &["SUS-01", "A5"],
        needs: &[Need::Suspend],
        run: listed,
    },
    Clause {
        id: "suspend.name_is_kept",
        text: "A suspended name cannot be taken afresh: `name_in_use`.",
        source: &["SUS-01"],
        needs: &[Need::Suspend],
        run: name_is_kept,
    },
    Clause {
        id: "suspend.outlives_its_process",
        text: "A suspended peer and its messages survive the end of its process and every reaping.",
        source: &["A5", "T14"],
        needs: &[Need::Suspend, Need::OutlivesProcesses],
        run: outlives_its_process,
    },
    Clause {
        id: "suspend.reaping",
        text: "Reaping leaves suspended peers and their messages alone.",
        source: &["A5"],
        needs: &[Need::Suspend],
        run: reaping,
    },
    Clause {
        id: "suspend.deadline",
        text: "A suspended peer counts as gone once its deadline is past, and not before.",
        source: &["SUS-03", "SUS-04", "WAI-03"],
        needs: &[Need::Suspend],
        run: deadline,
    },
    Clause {
        id: "suspend.continued_is_active",
        text: "Who continues a name is active and has no deadline any more.",
        source: &["FS-05", "SUS-01"],
        needs: &[Need::Suspend],
        run: continued_is_active,
    },
    Clause {
        id: "suspend.several_times",
        text: "A name can be suspended and continued again and again, and no message is lost or doubled.",
        source: &["T14"],
        needs: &[Need::Suspend],
        run: several_times,
    },
    Clause {
        id: "suspend.without_statistics",
        text: "A suspended name can be continued whatever became of its counters: they start at zero.",
        source: &["C5"],
        needs: &[Need::Suspend, Need::OutlivesProcesses],
        run: without_statistics,
    },
    Clause {
        id: "suspend.refused",
        text: "Where a peer cannot keep its mailbox, suspending is refused as `unsupported` and changes nothing.",
        source: &["SUS-05", "A14"],
        needs: &[Need::NoSuspend],
        run: refused,
    },
];

fn mailbox_stays(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    let third = context.at_most_unread(60) / 3;
    let mut sent = 0..;
    for number in sent.by_ref().take(third) {
        assert_eq!(b.send("a", number).unwrap().receipt, "delivered");
    }
    a.suspend(Suspend::open_ended()).unwrap();
    assert!(!a.is_connected());
    for number in sent.by_ref().take(third) {
        assert_eq!(b.send("a", number).unwrap().receipt, "stored");
    }
    let mut again = bus.idle_puppet();
    again.try_reconnect("a").unwrap();
    for number in sent.take(third) {
        assert_eq!(b.send("a", number).unwrap().receipt, "delivered");
    }
    let got: Vec<Value> = again.recv_count(third * 3).into_iter().map(|seen| seen.content).collect();
    assert_eq!(got, (0..third * 3).map(Value::from).collect::<Vec<_>>());
}

fn listed(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b, mut c) = (bus.client("a"), bus.puppet("b"), bus.puppet("c"));
    b.suspend().unwrap();
    assert_eq!(names(&a.peers().unwrap()), ["b", "c"]);
    let record = a.peer("b").unwrap().expect("it is registered");
    assert_eq!((record.pid, record.state), (None, PeerState::Suspended { until: None }));
    let seen = c.peer("b");
    assert_eq!((seen.exists, seen.active, seen.suspended, seen.pid), (true, false, true, None));
    assert!(!a.wait_for_peer("b", Some(Duration::ZERO)).unwrap());
    let results = a.broadcast("to all").unwrap();
    let receipts: Vec<_> = results.iter().map(|(_, result)| *result.as_ref().unwrap()).collect();
    assert_eq!(receipts, [Receipt::Stored, Receipt::Delivered]);
    b.try_reconnect("b").unwrap();
    assert_eq!(b.recv_count(1)[0].content, "to all");
}

fn name_is_kept(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    a.send("b", "waits").unwrap();
    b.suspend().unwrap();
    assert_eq!(bus.try_client("b").unwrap_err().kind(), ErrorKind::NameInUse);
    assert_eq!(bus.idle_puppet().try_connect("b").unwrap_err().code(), "name_in_use");
    b.try_reconnect("b").unwrap();
    assert_eq!(b.recv_count(1)[0].content, "waits");
    assert_eq!(bus.try_reconnect("b").unwrap_err().kind(), ErrorKind::NameInUse);
}

fn outlives_its_process(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    a.send("b", "before").unwrap();
    b.suspend().unwrap();
    b.kill();
    assert_eq!(names(&a.peers().unwrap()), ["b"]);
    assert!(a.reap().unwrap().is_empty());
    assert_eq!(a.send("b", "during").unwrap(), Receipt::Stored);
    assert_eq!(bus.try_client("b").unwrap_err().kind(), ErrorKind::NameInUse);
    assert!(a.reap().unwrap().is_empty());
    let mut again = bus.reconnect("b");
    assert_eq!(again.discarded(), 0);
    assert_eq!(contents(&again.get_messages().unwrap()), ["before", "during"]);
}

fn reaping(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    b.suspend(Suspend::until(SystemTime::UNIX_EPOCH)).unwrap();
    a.send("b", "waits").unwrap();
    assert!(a.reap().unwrap().is_empty());
    let mut b = bus.reconnect("b");
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "waits");
}

fn deadline(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut past, mut ahead) = (bus.client("a"), bus.client("past"), bus.client("ahead"));
    past.suspend(Suspend::until(SystemTime::now() - Duration::from_secs(60))).unwrap();
    ahead.suspend(Suspend::within(Duration::from_secs(3_600))).unwrap();
    let gone = |name: &str| WaitFor::message().or_gone(name).unwrap().within(Duration::ZERO);
    assert!(matches!(a.wait_for(&gone("past")).unwrap(), Wait::PeerGone(name) if name == "past"));
    assert!(matches!(a.wait_for(&gone("ahead")).unwrap(), Wait::Timeout));
    let Some(PeerState::Suspended { until: Some(until) }) = a.peer("ahead").unwrap().map(|record| record.state) else {
        panic!("the deadline is not on record");
    };
    let left = until.duration_since(SystemTime::now()).expect("it is ahead");
    assert!(left > Duration::from_secs(3_000) && left <= Duration::from_secs(3_600), "{left:?}");
    // A deadline ends waiting for the peer; the name and the mailbox stay.
    a.send("past", "all the same").unwrap();
    assert_eq!(bus.reconnect("past").recv_timeout(PATIENCE).unwrap().content(), "all the same");
}

fn continued_is_active(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    b.must(&json!({"op": "suspend", "expires_in": 60}));
    let mut again = bus.idle_puppet();
    again.try_reconnect("b").unwrap();
    let record = a.peer("b").unwrap().unwrap();
    assert_eq!((record.pid, record.state), (Some(again.pid()), PeerState::Active));
    assert_eq!(a.send("b", "x").unwrap(), Receipt::Delivered);
    assert_eq!(again.recv_count(1).len(), 1);
    again.suspend().unwrap();
    assert_eq!(a.peer("b").unwrap().unwrap().state, PeerState::Suspended { until: None }, "an old deadline is back");
}

fn several_times(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    let mut next = 0;
    for round in 0..10 {
        b.suspend().unwrap();
        a.send("b", &round).unwrap();
        b.try_reconnect("b").unwrap();
        if round % 3 == 0 {
            for seen in b.recv_now() {
                assert_eq!(seen.content, next);
                next += 1;
            }
        }
    }
    assert_eq!(next, 10);
}

fn without_statistics(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    b.send("a", 1).unwrap();
    a.send("b", "waits").unwrap();
    // Killed, it never stored its counters.
    b.kill();
    let mut again = bus.reconnect("b");
    assert!(again.stats().sent.is_empty());
    assert_eq!(again.recv_timeout(PATIENCE).unwrap().content(), "waits");
}

fn refused(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    b.send("a", "waits").unwrap();
    let error = a.suspend(Suspend::open_ended()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(a.is_connected());
    assert_eq!(b.suspend().unwrap_err().code(), "unsupported");
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "waits");
    a.send("b", "still there").unwrap();
    assert_eq!(b.recv_count(1)[0].content, "still there");
}
