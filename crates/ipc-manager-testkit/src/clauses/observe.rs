// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looking at a bus without joining it.

use std::time::Duration;

use ipc_manager::{ErrorKind, PeerState};
use serde_json::json;

use crate::context::names;
use crate::{Clause, Context, Need, PATIENCE};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "observe.peers_and_counters",
        text: "An observer sees peers and counters, and nobody sees the observer.",
        source: &["PEER-07"],
        needs: &[Need::Observable],
        run: peers_and_counters,
    },
    Clause {
        id: "observe.changes_nothing",
        text: "Observing takes no message, no name and nothing out of the store.",
        source: &["PEER-07"],
        needs: &[Need::Observable],
        run: changes_nothing,
    },
    Clause {
        id: "observe.changes",
        text: "An observer is told when a peer comes or goes, and waits no longer than it was told to.",
        source: &["CLI-09"],
        needs: &[Need::Observable],
        run: changes,
    },
    Clause {
        id: "observe.refused",
        text: "Where one must join to look, observing is refused as `unsupported`.",
        source: &["STO-03"],
        needs: &[Need::NotObservable],
        run: refused,
    },
];

fn peers_and_counters(context: &Context<'_>) {
    let bus = context.bus();
    let mut observer = bus.observer().unwrap();
    assert!(observer.peers().unwrap().is_empty());
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    a.send("b", &1).unwrap();
    a.write_stats().unwrap();
    b.recv_count(1);
    b.must(&json!({"op": "write_stats"}));
    let records = observer.peers().unwrap();
    assert_eq!(names(records.iter().map(|record| &record.name)), ["a", "b"]);
    assert!(records.iter().all(|record| record.state == PeerState::Active));
    assert_eq!(observer.peer("b").unwrap().and_then(|record| record.pid), Some(b.pid()));
    assert!(observer.peer("nobody").unwrap().is_none());
    let stats = observer.stats().unwrap();
    assert_eq!((stats["a"].sent["b"], stats["b"].read["a"]), (1, 1));
    assert!(observer.audit().unwrap().is_balanced());
    assert_eq!(names(&a.peers().unwrap()), ["b"]);
    assert_eq!(b.peers(), ["a"]);
}

fn changes_nothing(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    b.send("a", "waits").unwrap();
    let before = context.sandbox().listing();
    {
        let mut observer = bus.observer().unwrap();
        observer.peers().unwrap();
        observer.stats().unwrap();
        observer.audit().unwrap();
    }
    assert_eq!(context.sandbox().listing(), before);
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "waits");
}

fn changes(context: &Context<'_>) {
    let bus = context.bus();
    let mut observer = bus.observer().unwrap();
    assert!(observer.peers().unwrap().is_empty());
    assert!(!observer.wait_for_change(Some(Duration::from_millis(20))).unwrap());
    let mut b = bus.puppet("b");
    assert!(observer.wait_for_change(Some(PATIENCE)).unwrap());
    assert_eq!(names(observer.peers().unwrap().iter().map(|record| &record.name)), ["b"]);
    b.disconnect();
    assert!(observer.wait_for_change(Some(PATIENCE)).unwrap());
    assert!(observer.peers().unwrap().is_empty());
}

fn refused(context: &Context<'_>) {
    let bus = context.bus();
    let refused = bus.observer().and_then(|mut observer| observer.peers());
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported);
}
