// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections between peers: opened by sending, looked at and closed without loss, and peers that do not listen.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, SystemTime};

use ipc_manager::{Client, ErrorKind, Message, Origin};
use serde_json::json;

use crate::context::{contents, names};
use crate::{Bus, Clause, Context, Need, PATIENCE, eventually};

/// What every clause of this theme needs, and those that need another process besides.
const CONNECTIONS: &[Need] = &[Need::Connections];
const BETWEEN_PROCESSES: &[Need] = &[Need::Connections, Need::Processes];

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "connections.managed",
        text: "A message opens a connection that both sides know by name, and that either can close; the next one opens another.",
        source: &["CON-03", "CON-06"],
        needs: CONNECTIONS,
        run: managed,
    },
    Clause {
        id: "connections.idle",
        text: "Connections that were not used for a given time can be closed; those used since stay.",
        source: &["CON-06", "CON-10"],
        needs: CONNECTIONS,
        run: idle,
    },
    Clause {
        id: "connections.answered",
        text: "A peer that does not listen is answered over the connection that it opened, and over no other.",
        source: &["CON-04", "CON-05"],
        needs: CONNECTIONS,
        run: answered,
    },
    Clause {
        id: "connections.listeners",
        text: "Peers that do not listen are listed, and told from those that do.",
        source: &["CON-07"],
        needs: CONNECTIONS,
        run: listeners,
    },
    Clause {
        id: "connections.quiet_peer_gone",
        text: "A peer that does not listen and was killed is gone, not silent; its name can be taken again.",
        source: &["T07", "CON-05"],
        needs: BETWEEN_PROCESSES,
        run: quiet_peer_gone,
    },
    Clause {
        id: "connections.opened_by_both",
        text: "Two peers that open to each other at once lose nothing, and what each sends stays in order.",
        source: &["A17"],
        needs: BETWEEN_PROCESSES,
        run: opened_by_both,
    },
    Clause {
        id: "connections.closed_under_load",
        text: "Connections closed by either side while messages are on their way cost none of them, and not their order.",
        source: &["A17", "B3"],
        needs: BETWEEN_PROCESSES,
        run: closed_under_load,
    },
    Clause {
        id: "connections.end_is_seen",
        text: "When a peer leaves or is killed, its connections end at the other side, too, and nothing is left pending.",
        source: &["B7", "B10"],
        needs: BETWEEN_PROCESSES,
        run: end_is_seen,
    },
    Clause {
        id: "connections.killed_halfway",
        text: "A peer that is killed with half of a large message out leaves a report, and no hang; all other messages come.",
        source: &["T03", "B7"],
        needs: BETWEEN_PROCESSES,
        run: killed_halfway,
    },
    Clause {
        id: "connections.many_writers",
        text: "Many writers at once, each over its own connection, are read in order and without loss.",
        source: &["T01"],
        needs: CONNECTIONS,
        run: many_writers,
    },
    Clause {
        id: "connections.origin",
        text: "A message says that the process that sent it holds the name in which it was sent.",
        source: &["D4", "D5"],
        needs: BETWEEN_PROCESSES,
        run: origin,
    },
    Clause {
        id: "connections.none",
        text: "Where there are no connections, none are shown, and not listening is refused as `unsupported`.",
        source: &["CON-06"],
        needs: &[Need::NoConnections],
        run: none,
    },
];

/// Joins without letting others connect.
fn quiet(context: &Context<'_>, bus: &Bus<'_>, name: &str) -> ipc_manager::Result<Client> {
    Client::builder(name, bus.info()).registry(context.subject().registry()).listen(false).connect()
}

/// The names of those with whom there are connections, sorted.
fn connected(client: &mut Client) -> Vec<String> {
    let mut named = names(client.connections().unwrap().iter().filter_map(|connection| connection.peer.as_ref()));
    named.dedup();
    named
}

fn managed(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    assert!(a.connections().unwrap().is_empty() && !a.has_connection("b").unwrap());
    assert_eq!((a.last_activity("b").unwrap(), a.disconnect_connection("b").unwrap()), (None, false));
    for round in 0..4 {
        let before = SystemTime::now() - Duration::from_secs(1);
        a.send("b", &round).unwrap();
        assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), round);
        assert_eq!((connected(&mut a), connected(&mut b)), (vec!["b".into()], vec!["a".into()]));
        assert!(a.connections().unwrap()[0].is_opened_here && !b.connections().unwrap()[0].is_opened_here);
        assert!(a.last_activity("b").unwrap().is_some_and(|last| last >= before));
        // Both sides close in turn.
        let (closing, other, name) = if round % 2 == 0 { (&mut a, &mut b, "b") } else { (&mut b, &mut a, "a") };
        assert!(closing.disconnect_connection(name).unwrap());
        assert!(!closing.has_connection(name).unwrap() && !closing.disconnect_connection(name).unwrap());
        eventually("the other side to see the end", || {
            other.is_ready().unwrap();
            other.connections().unwrap().is_empty()
        });
    }
}

fn idle(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, _b, _c) = (bus.client("a"), bus.client("b"), bus.client("c"));
    a.send("b", "early").unwrap();
    let age = |a: &mut Client, name: &str| {
        let last = a.last_activity(name).unwrap().expect("there is a connection");
        SystemTime::now().duration_since(last).unwrap_or_default()
    };
    eventually("the first connection to age", || age(&mut a, "b") > Duration::from_secs(2));
    a.send("c", "late").unwrap();
    let between = (age(&mut a, "b") + age(&mut a, "c")) / 2;
    assert_eq!(a.close_idle_connections(Duration::from_secs(3600)).unwrap(), 0);
    assert_eq!(a.close_idle_connections(between).unwrap(), 1);
    assert_eq!(connected(&mut a), ["c"]);
    a.send("b", "again").unwrap();
    assert_eq!(connected(&mut a), ["b", "c"]);
}

fn answered(context: &Context<'_>) {
    let bus = context.bus();
    let (mut server, mut asker) = (bus.client("server"), quiet(context, &bus, "asker").unwrap());
    for error in [server.send("asker", "x").unwrap_err(), server.try_send("asker", "x").unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NotListening, "{error:?}");
        assert_eq!(error.into_message().expect("it is handed back").content(), "x");
    }
    for round in 0..3 {
        asker.send("server", &round).unwrap();
        assert_eq!(server.recv_timeout(PATIENCE).unwrap().content(), round);
        assert_eq!((connected(&mut server), connected(&mut asker)), (vec!["asker".into()], vec!["server".into()]));
        server.send("asker", &json!({"answer": round})).unwrap();
        assert_eq!(asker.recv_timeout(PATIENCE).unwrap().content()["answer"], round);
    }
    assert!(server.broadcast("to all").unwrap().into_iter().all(|(_, sent)| sent.is_ok()));
    assert_eq!(asker.recv_timeout(PATIENCE).unwrap().content(), "to all");
    assert!(server.disconnect_connection("asker").unwrap());
    assert_eq!(server.send("asker", "x").unwrap_err().kind(), ErrorKind::NotListening);
    // It is not cut off: its next word opens another one.
    asker.send("server", "still here").unwrap();
    assert_eq!(server.recv_timeout(PATIENCE).unwrap().content(), "still here");
    server.send("asker", "so am I").unwrap();
    assert_eq!(asker.recv_timeout(PATIENCE).unwrap().content(), "so am I");
    asker.disconnect().unwrap();
    assert_eq!(server.send("asker", "x").unwrap_err().kind(), ErrorKind::NoSuchPeer);
}

fn listeners(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, _b, _c) = (bus.client("a"), bus.client("b"), quiet(context, &bus, "c").unwrap());
    assert_eq!(names(&a.peers().unwrap()), ["b", "c"]);
    assert_eq!(names(&a.listening_peers().unwrap()), ["b"]);
    assert!(a.peer_is_listener("a").unwrap() && a.peer_is_listener("b").unwrap());
    assert!(!a.peer_is_listener("c").unwrap() && !a.peer_is_listener("never").unwrap());
    let taken = quiet(context, &bus, "b").unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::NameInUse, "{taken:?}");
    assert_eq!(bus.try_client("c").unwrap_err().kind(), ErrorKind::NameInUse);
}

fn quiet_peer_gone(context: &Context<'_>) {
    let bus = context.bus();
    let mut a = bus.client("a");
    for was_connected in [false, true] {
        let mut puppet = bus.idle_puppet();
        puppet.must(&json!({"op": "connect", "name": "q", "info": bus.info().to_string(), "listen": false}));
        if was_connected {
            puppet.send("a", "hello").unwrap();
            assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "hello");
            a.send("q", "hello yourself").unwrap();
        }
        puppet.kill();
        assert_eq!(a.send("q", "x").unwrap_err().kind(), ErrorKind::PeerGone);
        let mut q = bus.client("q");
        a.send("q", "new").unwrap();
        assert_eq!(q.recv_timeout(PATIENCE).unwrap().content(), "new");
    }
}

/// Puts messages into the books: those of each sender must come in order, without a gap.
fn book(next: &mut HashMap<String, u64>, messages: &[Message]) {
    for message in messages {
        let expected = next.entry(message.from().to_string()).or_default();
        assert_eq!(message.content(), expected, "from {}", message.from());
        *expected += 1;
    }
}

fn opened_by_both(context: &Context<'_>) {
    const EACH: u64 = 40;
    let bus = context.bus();
    let mut puppet = bus.idle_puppet();
    for round in 0..25 {
        let (mut mine, name) = (bus.client(&format!("mine-{round}")), format!("its-{round}"));
        let joined = puppet.must(&json!({"op": "connect", "name": name, "info": bus.info().to_string()}));
        let client = &joined["client"];
        for number in 0..EACH {
            puppet.post(&json!({"op": "send", "client": client, "to": mine.name().as_str(), "content": number}));
        }
        for number in 0..EACH {
            mine.send(&name, &number).unwrap();
        }
        let mut next = HashMap::new();
        for _ in 0..EACH {
            puppet.answer().unwrap();
            book(&mut next, &mine.get_messages().unwrap());
        }
        while next.get(&name) != Some(&EACH) {
            book(&mut next, &[mine.recv_timeout(PATIENCE).unwrap()]);
        }
        for number in 0..EACH {
            let answer = puppet.must(&json!({"op": "recv", "client": client, "timeout": 30, "max": 1}));
            assert_eq!(answer["messages"][0]["content"], number, "round {round}");
        }
        assert!(mine.take_damaged().is_empty());
        puppet.must(&json!({"op": "disconnect", "client": client}));
    }
}

fn closed_under_load(context: &Context<'_>) {
    const MESSAGES: u64 = 3_000;
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    let run = |client: &mut Client, other: &str, often: u64| {
        let mut next = HashMap::new();
        for number in 0..MESSAGES {
            client.send_timeout(other, &number, PATIENCE).unwrap();
            book(&mut next, &client.get_messages().unwrap());
            if number % often == 0 {
                client.disconnect_connection(other).unwrap();
            }
        }
        while next.get(other) != Some(&MESSAGES) {
            book(&mut next, &[client.recv_timeout(PATIENCE).unwrap()]);
        }
        assert!(client.take_damaged().is_empty());
    };
    thread::scope(|scope| {
        scope.spawn(|| run(&mut a, "b", 7));
        scope.spawn(|| run(&mut b, "a", 11));
    });
}

fn end_is_seen(context: &Context<'_>) {
    let bus = context.bus();
    let mut a = bus.client("a");
    for killed in [false, true] {
        let mut b = bus.puppet("b");
        b.send("a", "hello").unwrap();
        assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "hello");
        a.send("b", "hello yourself").unwrap();
        if killed {
            b.kill();
        } else {
            b.disconnect();
        }
        eventually("the end of the connection", || {
            assert!(!a.is_ready().unwrap());
            a.connections().unwrap().is_empty()
        });
        assert!(!a.is_pending().unwrap() && a.take_damaged().is_empty());
    }
    a.disconnect().unwrap();
}

fn killed_halfway(context: &Context<'_>) {
    // JSON, since nothing makes it smaller.
    let bus = context.bus_with("JSON");
    let (mut reader, mut sound) = (bus.client("reader"), bus.client("sound"));
    for round in 0..3 {
        let mut writer = bus.puppet("writer");
        writer.send("reader", "small").unwrap();
        assert_eq!(reader.recv_timeout(PATIENCE).unwrap().content(), "small");
        writer.post(&json!({"op": "send", "to": "reader", "content": "x".repeat(1 << 20)}));
        eventually("a part of the large message", || reader.is_pending().unwrap());
        sound.send("reader", &round).unwrap();
        writer.kill();
        sound.send("reader", &json!([round])).unwrap();
        let got = [reader.recv_timeout(PATIENCE).unwrap(), reader.recv_timeout(PATIENCE).unwrap()];
        assert!(contents(&got) == [json!(round), json!([round])], "something else came");
        eventually("the end of the half message", || {
            assert!(reader.get_messages().unwrap().is_empty());
            !reader.is_pending().unwrap()
        });
        let damaged = reader.take_damaged();
        assert_eq!(damaged.len(), 1, "{damaged:?}");
        assert_eq!(damaged[0].error().kind(), ErrorKind::Corrupt);
    }
    reader.disconnect().unwrap();
}

fn many_writers(context: &Context<'_>) {
    const WRITERS: usize = 64;
    const EACH: u64 = 50;
    let bus = context.bus();
    let mut reader = bus.client("reader");
    let mut writers: Vec<_> = (0..WRITERS).map(|number| bus.client(&format!("w{number}"))).collect();
    thread::scope(|scope| {
        for writer in &mut writers {
            scope.spawn(|| {
                for number in 0..EACH {
                    writer.send_timeout("reader", &number, PATIENCE).unwrap();
                }
            });
        }
        let mut next = HashMap::new();
        while next.values().sum::<u64>() < EACH * WRITERS as u64 {
            reader.wait(Some(PATIENCE)).unwrap();
            book(&mut next, &reader.get_messages().unwrap());
        }
        assert_eq!(next.len(), WRITERS);
    });
    assert!(reader.get_messages().unwrap().is_empty() && reader.take_damaged().is_empty());
}

fn origin(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    b.send("a", "by connecting").unwrap();
    let message = a.recv_timeout(PATIENCE).unwrap();
    assert_eq!(message.origin(), Origin::Confirmed { pid: b.pid() });
    let mut c = bus.puppet("c");
    a.send("c", "connect").unwrap();
    assert_eq!(c.recv_count(1)[0].content, "connect");
    c.send("a", "by being connected").unwrap();
    let message = a.recv_timeout(PATIENCE).unwrap();
    assert_eq!(message.origin(), Origin::Confirmed { pid: c.pid() });
}

fn none(context: &Context<'_>) {
    let bus = context.bus();
    let refused = quiet(context, &bus, "q").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused:?}");
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    a.send("b", "x").unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "x");
    assert!(a.connections().unwrap().is_empty() && !a.has_connection("b").unwrap());
    assert_eq!((a.last_activity("b").unwrap(), a.disconnect_connection("b").unwrap()), (None, false));
    assert_eq!(a.close_idle_connections(Duration::ZERO).unwrap(), 0);
    for refused in [a.listening_peers().unwrap_err(), a.peer_is_listener("b").unwrap_err()] {
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused:?}");
    }
}
