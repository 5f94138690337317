// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting: what ends it, and what it tells.

use std::time::{Duration, Instant};

use ipc_manager::{ErrorKind, Wait, WaitFor};
use serde_json::json;

use crate::context::names;
use crate::{Clause, Context, Need, PATIENCE, eventually};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "wait.ready",
        text: "A peer is ready while a whole message waits, and not before it came nor after it was taken.",
        source: &["STO-04", "FS-11", "C19"],
        needs: &[],
        run: ready,
    },
    Clause {
        id: "wait.woken_by_a_message",
        text: "A sleeping reader is woken by a message.",
        source: &["CLI-09"],
        needs: &[],
        run: woken_by_a_message,
    },
    Clause {
        id: "wait.never_misses",
        text: "A message that comes just before or while a reader goes to sleep wakes it all the same.",
        source: &["T01"],
        needs: &[],
        run: never_misses,
    },
    Clause {
        id: "wait.takes_nothing",
        text: "Waiting says that a message is there and takes none.",
        source: &["BUS-02"],
        needs: &[],
        run: takes_nothing,
    },
    Clause {
        id: "wait.deadline",
        text: "Waiting without a message ends at the deadline and says so.",
        source: &["CLI-07"],
        needs: &[],
        run: deadline,
    },
    Clause {
        id: "wait.peers_come_and_go",
        text: "Waiting tells who came and who went.",
        source: &["CLI-09", "PRT-09"],
        needs: &[],
        run: peers_come_and_go,
    },
    Clause {
        id: "wait.peer_gone",
        text: "Waiting on behalf of a peer ends when it leaves.",
        source: &["WAI-04"],
        needs: &[],
        run: peer_gone,
    },
    Clause {
        id: "wait.peer_killed",
        text: "Waiting on behalf of a peer ends when it is killed, also before anybody reaped it.",
        source: &["WAI-01", "B8"],
        needs: &[Need::Processes],
        run: peer_killed,
    },
    Clause {
        id: "wait.descriptors",
        text: "There are descriptors to poll, and a message makes one readable.",
        source: &["SOC-01"],
        needs: &[Need::Descriptors],
        run: descriptors,
    },
    Clause {
        id: "wait.no_descriptors",
        text: "There are no descriptors to poll where readers look again and again.",
        source: &["STO-02"],
        needs: &[Need::NoDescriptors],
        run: no_descriptors,
    },
    Clause {
        id: "wait.without_a_ring",
        text: "A message is received although every ring for it is lost: at the next look, which is soon enough.",
        source: &["T01"],
        needs: &[],
        run: without_a_ring,
    },
];

fn ready(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    assert!(!a.is_ready().unwrap() && !a.is_pending().unwrap());
    b.send("a", "x").unwrap();
    eventually("a message to be ready", || a.is_ready().unwrap());
    assert_eq!(a.get_messages().unwrap().len(), 1);
    assert!(!a.is_ready().unwrap() && !a.is_pending().unwrap());
    a.send("b", "y").unwrap();
    eventually("a message to be ready", || b.must(&json!({"op": "ready"}))["value"] == true);
    assert_eq!(b.recv_count(1).len(), 1);
    assert_eq!(b.must(&json!({"op": "ready"}))["value"], false);
    assert_eq!(b.must(&json!({"op": "pending"}))["value"], false);
}

fn woken_by_a_message(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    for round in 0..5 {
        b.post(&json!({"op": "recv", "timeout": PATIENCE.as_secs(), "max": 1}));
        b.wait_until_asleep();
        a.send("b", &round).unwrap();
        let answer = b.answer().unwrap();
        assert_eq!(answer["messages"][0]["content"], round);
    }
}

fn never_misses(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    for round in 0..300 {
        // Sent while the other is on its way to sleep: sooner in some rounds, later in others.
        b.post(&json!({"op": "recv", "timeout": PATIENCE.as_secs(), "max": 1}));
        (0..round * 20).for_each(|_| std::hint::spin_loop());
        a.send("b", &round).unwrap();
        let answer = b.answer().unwrap();
        assert_eq!(answer["messages"][0]["content"], round);
    }
}

fn takes_nothing(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    b.send("a", "x").unwrap();
    for _ in 0..3 {
        assert!(matches!(a.wait(Some(PATIENCE)).unwrap(), Wait::Message));
    }
    assert_eq!(a.get_messages().unwrap().len(), 1);
    assert!(matches!(a.wait(Some(Duration::ZERO)).unwrap(), Wait::Timeout));
}

fn deadline(context: &Context<'_>) {
    let bus = context.bus();
    let mut a = bus.client("a");
    let started = Instant::now();
    assert!(matches!(a.wait(Some(Duration::from_millis(200))).unwrap(), Wait::Timeout));
    assert!(started.elapsed() >= Duration::from_millis(200), "it gave up before its deadline");
    assert!(matches!(a.wait_for(&WaitFor::nothing().within(Duration::from_millis(20))).unwrap(), Wait::Timeout));
    let error = a.recv_timeout(Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(a.is_connected());
}

fn peers_come_and_go(context: &Context<'_>) {
    let bus = context.bus();
    let mut a = bus.client("a");
    let change = WaitFor::message().or_peer_change().within(PATIENCE);
    // What is there when the first wait begins is where changes count from.
    let look = WaitFor::message().or_peer_change().within(Duration::ZERO);
    assert!(matches!(a.wait_for(&look).unwrap(), Wait::Timeout));
    let mut b = bus.puppet("b");
    match a.wait_for(&change).unwrap() {
        Wait::PeerChange { came, gone } => assert_eq!((names(&came), names(&gone)), (vec!["b".into()], vec![])),
        other => panic!("b came, and the wait ended with {other:?}"),
    }
    b.disconnect();
    match a.wait_for(&change).unwrap() {
        Wait::PeerChange { came, gone } => assert_eq!((names(&came), names(&gone)), (vec![], vec!["b".into()])),
        other => panic!("b left, and the wait ended with {other:?}"),
    }
}

fn peer_gone(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    let wait = WaitFor::message().or_gone("b").unwrap().within(PATIENCE);
    b.post(&json!({"op": "disconnect", "unread": "discard"}));
    assert!(matches!(a.wait_for(&wait).unwrap(), Wait::PeerGone(name) if name == "b"));
    b.answer().unwrap();
    assert!(matches!(a.wait_for(&wait).unwrap(), Wait::PeerGone(name) if name == "b"), "it is still gone");
}

fn peer_killed(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    let look = WaitFor::message().or_gone("b").unwrap().within(Duration::ZERO);
    assert!(matches!(a.wait_for(&look).unwrap(), Wait::Timeout));
    b.kill_unreaped();
    let wait = WaitFor::message().or_gone("b").unwrap().within(PATIENCE);
    assert!(matches!(a.wait_for(&wait).unwrap(), Wait::PeerGone(name) if name == "b"));
}

fn descriptors(context: &Context<'_>) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    assert!(a.get_messages().unwrap().is_empty());
    assert!(!a.wake().unwrap().descriptors.is_empty());
    b.send("a", "x").unwrap();
    let wake = a.wake().unwrap();
    let mut polled: Vec<_> = wake.descriptors.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let patience = Timespec { tv_sec: PATIENCE.as_secs().try_into().unwrap(), tv_nsec: 0 };
    assert!(poll(&mut polled, Some(&patience)).unwrap() > 0, "nothing became readable");
}

fn no_descriptors(context: &Context<'_>) {
    let bus = context.bus();
    let a = bus.client("a");
    let wake = a.wake().unwrap();
    assert!(wake.descriptors.is_empty());
    assert!(wake.look_every <= Duration::from_secs(1), "it would look too rarely");
}

fn without_a_ring(context: &Context<'_>) {
    let bus = context.bus();
    let (mut reader, mut sender) = (bus.client("reader"), bus.client("sender"));
    let every = reader.wake().unwrap().look_every;
    assert!(every <= PATIENCE, "{every:?} is for ever");
    let own = rustix::thread::gettid();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // For long enough that it is no look at the store that it waits for.
            let mut looks_asleep = 0;
            eventually("the reader to sleep", || {
                looks_asleep = if is_asleep(own) { looks_asleep + 1 } else { 0 };
                looks_asleep >= 20
            });
            sender.send("reader", "unheard").unwrap();
        });
        let begun = Instant::now();
        let message = ipc_manager::without_rings(|| reader.recv_timeout(every + PATIENCE)).unwrap();
        assert_eq!(message.content(), "unheard");
        println!("told of a message without a ring, over {}, after {:.1?}", context.subject().name(), begun.elapsed());
    });
}

/// Whether a thread of this process sleeps in the kernel; where that cannot be known, it is taken to.
fn is_asleep(thread: rustix::process::Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{}/stat", thread.as_raw_nonzero()));
    stat.map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S')))
}
