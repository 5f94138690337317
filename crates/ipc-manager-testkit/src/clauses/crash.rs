// SPDX-License-Identifier: MIT OR Apache-2.0
//! Peers that are killed: what is left of them, and what is not lost for it.

use std::time::Duration;

use ipc_manager::{PeerState, Receipt};
use serde_json::{Value, json};

use crate::context::{contents, names};
use crate::{Clause, Context, Need, PATIENCE};

/// What every clause of this theme needs.
const PROCESSES: &[Need] = &[Need::Processes];

/// What those need that are about messages in the mailbox of a dead peer.
const OUTLIVES: &[Need] = &[Need::Processes, Need::OutlivesProcesses];

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "crash.seen_as_dead",
        text: "A killed peer is seen as dead, also before anybody reaped its process, and is not listed as a peer.",
        source: &["PEER-04", "PEER-07", "B8"],
        needs: PROCESSES,
        run: seen_as_dead,
    },
    Clause {
        id: "crash.name_is_free",
        text: "The name of a killed peer can be taken, and its new holder works.",
        source: &["PEER-05", "T03"],
        needs: PROCESSES,
        run: name_is_free,
    },
    Clause {
        id: "crash.reaped",
        text: "Reaping removes what killed peers left, names them, and finds nothing the second time.",
        source: &["PEER-06"],
        needs: PROCESSES,
        run: reaped,
    },
    Clause {
        id: "crash.sent_messages_stay",
        text: "What a killed peer had sent arrives, also after it was reaped.",
        source: &["T06", "A8"],
        needs: PROCESSES,
        run: sent_messages_stay,
    },
    Clause {
        id: "crash.whole_or_not",
        text: "A peer killed while it sends leaves whole messages only: each acknowledged one arrives once, in order.",
        source: &["T03"],
        needs: PROCESSES,
        run: whole_or_not,
    },
    Clause {
        id: "crash.continue",
        text: "Who continues the name of a killed peer gets every unread message.",
        source: &["T04", "A10"],
        needs: OUTLIVES,
        run: continue_after_a_kill,
    },
    Clause {
        id: "crash.connect_tells_what_it_discards",
        text: "Who takes the name of a killed peer afresh is told how many unread messages were thrown away.",
        source: &["T04"],
        needs: OUTLIVES,
        run: connect_tells_what_it_discards,
    },
    Clause {
        id: "crash.stored_not_delivered",
        text: "A message to a killed peer is `stored`, and waits for who continues the name.",
        source: &["T07"],
        needs: OUTLIVES,
        run: stored_not_delivered,
    },
    Clause {
        id: "crash.senders_live",
        text: "No sender dies or hangs because its recipient was killed, replaced or stopped.",
        source: &["T05", "T07", "B2"],
        needs: PROCESSES,
        run: senders_live,
    },
    Clause {
        id: "crash.stopped_is_alive",
        text: "A stopped peer is alive: its name is taken, it is not reaped, and it goes on where it was.",
        source: &["T08"],
        needs: PROCESSES,
        run: stopped_is_alive,
    },
];

fn seen_as_dead(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b, c) = (bus.client("a"), bus.puppet("b"), bus.puppet("c"));
    b.kill_unreaped();
    for reaped in [false, true] {
        if reaped {
            b.reap();
        }
        let record = a.peer("b").unwrap().expect("what it left is still in the store");
        assert_eq!((record.state, record.pid), (PeerState::Dead, Some(b.pid())), "reaped: {reaped}");
        assert_eq!(names(&a.peers().unwrap()), ["c"]);
        assert_eq!(names(a.all_peers().unwrap().iter().map(|record| &record.name)), ["b", "c"]);
        assert!(!a.wait_for_peer("b", Some(Duration::ZERO)).unwrap());
    }
    assert!(a.broadcast("to the living").unwrap().iter().all(|(name, result)| *name == "c" && result.is_ok()));
    drop(c);
}

fn name_is_free(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    for round in 0..5 {
        b.send("a", round).unwrap();
        b.kill_unreaped();
        let mut next = bus.puppet("b");
        assert_eq!(a.peer("b").unwrap().and_then(|record| record.pid), Some(next.pid()));
        assert!(next.recv_now().is_empty());
        a.send("b", &round).unwrap();
        assert_eq!(next.recv_count(1)[0].content, round);
        assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), round);
        b = next;
    }
}

fn reaped(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b, mut c, mut d) = (bus.client("a"), bus.puppet("b"), bus.puppet("c"), bus.puppet("d"));
    b.kill();
    c.kill();
    assert_eq!(names(&a.reap().unwrap()), ["b", "c"]);
    assert!(a.peer("b").unwrap().is_none() && a.peer("c").unwrap().is_none());
    assert_eq!(names(a.all_peers().unwrap().iter().map(|record| &record.name)), ["d"]);
    assert!(a.reap().unwrap().is_empty());
    assert_eq!(d.must(&json!({"op": "reap"}))["removed"], 0);
    a.send("d", "alive").unwrap();
    assert_eq!(d.recv_count(1)[0].content, "alive");
}

fn sent_messages_stay(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b, mut third) = (bus.client("a"), bus.puppet("b"), bus.puppet("third"));
    let count = context.at_most_unread(20);
    for number in 0..count {
        b.send("a", number).unwrap();
    }
    b.kill();
    assert_eq!(third.must(&json!({"op": "reap"}))["removed"], 1);
    let got: Vec<Value> = (0..count).map(|_| a.recv_timeout(PATIENCE).unwrap().content().clone()).collect();
    assert_eq!(got, (0..count).map(Value::from).collect::<Vec<_>>());
}

fn whole_or_not(context: &Context<'_>) {
    let bus = context.bus();
    let mut a = bus.client("a");
    for round in 0..5_usize {
        let mut b = bus.puppet("b");
        let body = "x".repeat(6_000);
        // Many are under way when it dies; the later the round, the more were acknowledged by then.
        for number in 0..context.at_most_unread(200) {
            b.post(&json!({"op": "send", "to": "a", "content": [round, number, body]}));
        }
        let at_once = context.at_most_unread(round * 10);
        let mut acked = (0..at_once).filter(|_| b.answer().is_ok()).count();
        b.kill();
        while b.answer().is_ok() {
            acked += 1;
        }
        let mut next = 0;
        while let Ok(message) = a.recv_timeout(Duration::ZERO) {
            assert_eq!(message.content(), &json!([round, next, body]), "torn, doubled or out of order");
            next += 1;
        }
        assert!(next >= acked, "{acked} were acknowledged and {next} arrived");
        assert!(a.take_damaged().is_empty(), "a message was torn");
    }
}

fn continue_after_a_kill(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    let count = context.at_most_unread(100);
    for number in 0..count {
        a.send("b", &number).unwrap();
    }
    b.kill();
    let mut again = bus.idle_puppet();
    again.try_reconnect("b").unwrap();
    let got: Vec<Value> = again.recv_count(count).into_iter().map(|seen| seen.content).collect();
    assert_eq!(got, (0..count).map(Value::from).collect::<Vec<_>>());
}

fn connect_tells_what_it_discards(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    assert_eq!(a.discarded(), 0);
    let count = context.at_most_unread(100);
    for number in 0..count {
        a.send("b", &number).unwrap();
    }
    b.kill();
    let mut next = bus.client("b");
    assert_eq!(next.discarded(), count);
    assert!(next.get_messages().unwrap().is_empty());
}

fn stored_not_delivered(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    b.kill_unreaped();
    for number in 0..context.at_most_unread(20) {
        assert_eq!(a.send("b", &number).unwrap(), Receipt::Stored);
    }
    let mut again = bus.reconnect("b");
    let got = contents(&again.get_messages().unwrap());
    assert_eq!(got, (0..context.at_most_unread(20)).map(Value::from).collect::<Vec<_>>());
}

fn senders_live(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut sender) = (bus.client("a"), bus.puppet("sender"));
    for _ in 0..4 {
        let mut b = bus.puppet("b");
        for number in 0..20 {
            sender.post(&json!({"op": "send", "to": "b", "content": number}));
        }
        b.kill();
        for _ in 0..20 {
            // Stored or refused, as the protocol promises; what matters is that there is an answer.
            if let Err(failure) = sender.answer() {
                assert_ne!(failure.code(), "gone", "the sender died with its recipient");
            }
        }
        drop(bus.puppet("b"));
    }
    sender.send("a", "alive").unwrap();
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "alive");
}

fn stopped_is_alive(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    b.stop();
    assert!(a.reap().unwrap().is_empty());
    assert_eq!(a.peer("b").unwrap().map(|record| record.state), Some(PeerState::Active));
    assert!(bus.try_client("b").is_err());
    let count = context.at_most_unread(10);
    for number in 0..count {
        a.send("b", &number).unwrap();
    }
    b.cont();
    let got: Vec<Value> = b.recv_count(count).into_iter().map(|seen| seen.content).collect();
    assert_eq!(got, (0..count).map(Value::from).collect::<Vec<_>>());
}
