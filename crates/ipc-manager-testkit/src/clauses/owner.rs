// SPDX-License-Identifier: MIT OR Apache-2.0
//! The owner of a bus: ending it, waiting for its peers, and the books.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use ipc_manager::{ErrorKind, Signal, Spawn};
use serde_json::json;

use crate::context::names;
use crate::{Clause, Context, Need, PATIENCE, Puppet};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "owner.books_balance",
        text: "When all that was sent was read and everybody left, the audit finds nothing.",
        source: &["OWN-02"],
        needs: &[],
        run: books_balance,
    },
    Clause {
        id: "owner.books_tell",
        text: "An unread message is one entry of the audit, from whom to whom.",
        source: &["OWN-03", "C22"],
        needs: &[],
        run: books_tell,
    },
    Clause {
        id: "owner.audit_at_any_time",
        text: "An audit can be asked for at any time, also before anybody stored counters.",
        source: &["C4"],
        needs: &[],
        run: audit_at_any_time,
    },
    Clause {
        id: "owner.terminate",
        text: "Terminating sends every peer one request to end, from `spawn`, as a broadcast.",
        source: &["OWN-04"],
        needs: &[],
        run: terminate,
    },
    Clause {
        id: "owner.waits",
        text: "Waiting for the peers ends when the last has left, or at the deadline with the names of those still there.",
        source: &["OWN-04"],
        needs: &[],
        run: waits,
    },
    Clause {
        id: "owner.shutdown",
        text: "A shutdown asks all to end, waits for them, checks the books, and removes the store.",
        source: &["OWN-04", "B10"],
        needs: &[],
        run: shutdown,
    },
    Clause {
        id: "owner.shutdown_ends",
        text: "A shutdown ends although a peer does not, and names it.",
        source: &["OWN-04", "B1"],
        needs: &[],
        run: shutdown_ends,
    },
    Clause {
        id: "owner.shutdown_with_own_clients",
        text: "A shutdown does not wait for clients of the calling thread, which could never leave meanwhile.",
        source: &["OWN-04"],
        needs: &[],
        run: shutdown_with_own_clients,
    },
    Clause {
        id: "owner.guard",
        text: "Dropping a guarded owner removes the store, and dropping an unguarded one leaves it.",
        source: &["OWN-05"],
        needs: &[],
        run: guard,
    },
    Clause {
        id: "owner.adopted",
        text: "Whoever has the connection string can take charge of a bus, and end it.",
        source: &["OWN-04"],
        needs: &[],
        run: adopted,
    },
    Clause {
        id: "owner.signal",
        text: "An owner with a signal sends it to every peer's process when it ends the bus.",
        source: &["C6"],
        needs: &[Need::Processes],
        run: signal,
    },
    Clause {
        id: "owner.killed_peers_do_not_hold_it_up",
        text: "A shutdown does not wait for peers that were killed, also before anybody reaped them.",
        source: &["B1", "B8"],
        needs: &[Need::Processes],
        run: killed_peers_do_not_hold_it_up,
    },
    Clause {
        id: "owner.death",
        text: "A bus whose owner was killed stays usable for its peers, and can be ended by another.",
        source: &["T16"],
        needs: &[Need::Processes],
        run: death,
    },
    Clause {
        id: "owner.signal_of_a_service",
        text: "A service with a callback for the owner's signal hears it before it ends with the bus.",
        source: &["OWN-06"],
        needs: &[Need::Processes],
        run: signal_of_a_service,
    },
];

/// What a well-behaved peer does: reads until it is asked to end, then leaves.
fn obey(puppet: &mut Puppet) {
    loop {
        let messages = puppet.recv(PATIENCE).expect("a request to end comes");
        if messages.iter().any(|seen| seen.content["terminate"] == 1) {
            return puppet.disconnect();
        }
    }
}

fn books_balance(context: &Context<'_>) {
    let mut bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    a.send("b", &1).unwrap();
    b.recv_count(1);
    b.must(&json!({"op": "broadcast", "content": 2}));
    a.recv_timeout(PATIENCE).unwrap();
    a.disconnect().unwrap();
    b.disconnect();
    let audit = bus.owner().audit().unwrap();
    assert!(audit.is_balanced(), "{audit}");
    assert!(audit.delta().is_empty() && audit.remaining().is_empty());
    assert_eq!((audit.sent(), audit.read()), (2, 2));
}

fn books_tell(context: &Context<'_>) {
    let mut bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    a.send("b", &1).unwrap();
    a.send("b", &2).unwrap();
    assert_eq!(b.recv_count(2).len(), 2);
    a.send("b", "unread").unwrap();
    a.write_stats().unwrap();
    b.must(&json!({"op": "write_stats"}));
    let audit = bus.owner().audit().unwrap();
    assert!(!audit.is_balanced());
    assert_eq!(audit.delta().iter().map(|(pair, count)| (pair.as_str(), *count)).collect::<Vec<_>>(), [("a -> b", 1)]);
    assert!(audit.to_string().contains("a -> b"));
}

fn audit_at_any_time(context: &Context<'_>) {
    let mut bus = context.bus();
    assert!(bus.owner().audit().unwrap().is_balanced());
    let (_a, _b) = (bus.client("a"), bus.puppet("b"));
    assert!(bus.owner().audit().unwrap().is_balanced());
}

fn terminate(context: &Context<'_>) {
    let mut bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    bus.owner().terminate().unwrap();
    let message = a.recv_timeout(PATIENCE).unwrap();
    assert!(message.is_terminate() && message.is_broadcast());
    assert_eq!((message.from().as_str(), message.content()), ("spawn", &json!({"terminate": 1})));
    let seen = b.recv_count(1).remove(0);
    assert_eq!((seen.from.as_str(), seen.broadcast, seen.content), ("spawn", true, json!({"terminate": 1})));
    assert!(a.get_messages().unwrap().is_empty());
    assert!(a.is_connected(), "a request to end is a message, and the peer decides");
}

fn waits(context: &Context<'_>) {
    let mut bus = context.bus();
    assert!(bus.owner().wait(Some(PATIENCE)).unwrap().is_empty());
    let mut b = bus.puppet("b");
    assert_eq!(names(&bus.owner().wait(Some(Duration::from_millis(50))).unwrap()), ["b"]);
    assert_eq!(names(&bus.owner().wait(Some(Duration::ZERO)).unwrap()), ["b"]);
    b.post(&json!({"op": "disconnect", "unread": "discard"}));
    assert!(bus.owner().wait(Some(PATIENCE)).unwrap().is_empty());
    b.answer().unwrap();
}

fn shutdown(context: &Context<'_>) {
    let mut bus = context.bus();
    let (mut b, mut c) = (bus.puppet("b"), bus.puppet("c"));
    b.send("c", "x").unwrap();
    let mut owner = bus.take_owner();
    let audit = std::thread::scope(|scope| {
        scope.spawn(|| obey(&mut b));
        scope.spawn(|| obey(&mut c));
        owner.shutdown().unwrap()
    });
    assert!(audit.is_balanced(), "{audit}");
    assert!(audit.remaining().is_empty());
    assert_eq!((audit.sent(), audit.read()), (1, 1));
    assert_eq!(bus.try_client("late").unwrap_err().kind(), ErrorKind::NoSuchBus);
    if let Some(route) = context.subject().route_in(context.sandbox().dir()) {
        assert!(!std::path::Path::new(&route).exists(), "the store is still there");
    }
}

fn shutdown_ends(context: &Context<'_>) {
    let owner = context.owner().peer_timeout(Duration::from_millis(100)).spawn().unwrap();
    let mut bus = context.bus_of(owner);
    let deaf = bus.puppet("deaf");
    let mut owner = bus.take_owner();
    let audit = owner.shutdown().unwrap();
    assert_eq!(names(audit.remaining()), ["deaf"]);
    assert_eq!(bus.try_client("late").unwrap_err().kind(), ErrorKind::NoSuchBus);
    drop(deaf);
}

fn shutdown_with_own_clients(context: &Context<'_>) {
    // An hour: the watchdog tells if it is waited for.
    let owner = context.owner().peer_timeout(Duration::from_secs(3_600)).spawn().unwrap();
    let mut bus = context.bus_of(owner);
    let (a, mut b) = (bus.client("a"), bus.client("b"));
    b.send("a", "unread").unwrap();
    let mut owner = bus.take_owner();
    owner.shutdown().unwrap();
    assert_eq!(bus.try_client("late").unwrap_err().kind(), ErrorKind::NoSuchBus);
    drop((a, b));
}

fn guard(context: &Context<'_>) {
    let guarded = context.owner().guard(true).peer_timeout(Duration::from_millis(100)).spawn().unwrap();
    assert!(guarded.is_guarded());
    assert_eq!(guarded.pid(), std::process::id());
    let mut bus = context.bus_of(guarded);
    drop(bus.client("a"));
    drop(bus.take_owner());
    assert_eq!(bus.try_client("a").unwrap_err().kind(), ErrorKind::NoSuchBus);
    let unguarded = context.owner().guard(false).spawn().unwrap();
    assert!(!unguarded.is_guarded());
    let mut bus = context.bus_of(unguarded);
    drop(bus.take_owner());
    drop(bus.client("a"));
    Spawn::adopt_with(bus.info(), context.subject().registry()).unwrap().unspawn().unwrap();
}

fn adopted(context: &Context<'_>) {
    let mut bus = context.bus();
    let mut b = bus.puppet("b");
    drop(bus.take_owner());
    let mut owner = Spawn::adopt_with(bus.info(), context.subject().registry()).unwrap();
    assert!(!owner.is_guarded());
    assert_eq!(owner.info(), bus.info());
    let audit = std::thread::scope(|scope| {
        scope.spawn(|| obey(&mut b));
        owner.shutdown().unwrap()
    });
    assert!(audit.is_balanced() && audit.remaining().is_empty());
    assert_eq!(bus.try_client("late").unwrap_err().kind(), ErrorKind::NoSuchBus);
}

fn signal(context: &Context<'_>) {
    // A puppet does nothing about this signal, so it ends.
    let usr1 = Signal::new("USR1").unwrap();
    let owner = context.owner().signal(usr1).peer_timeout(PATIENCE).spawn().unwrap();
    assert_eq!(owner.signal().map(|signal| signal.number()), Some(rustix::process::Signal::USR1.as_raw()));
    let mut bus = context.bus_of(owner);
    let mut b = bus.puppet("b");
    let mut owner = bus.take_owner();
    let audit = owner.shutdown().unwrap();
    assert!(audit.remaining().is_empty());
    assert_eq!(b.reap().signal(), Some(rustix::process::Signal::USR1.as_raw()));
}

fn killed_peers_do_not_hold_it_up(context: &Context<'_>) {
    // An hour: the watchdog tells if they are waited for.
    let owner = context.owner().peer_timeout(Duration::from_secs(3_600)).spawn().unwrap();
    let mut bus = context.bus_of(owner);
    let (mut b, mut c) = (bus.puppet("b"), bus.puppet("c"));
    b.kill_unreaped();
    c.kill();
    let mut owner = bus.take_owner();
    assert!(owner.shutdown().unwrap().remaining().is_empty());
}

fn death(context: &Context<'_>) {
    let bus = context.bus();
    let mut owner = bus.idle_puppet();
    let mut spawn = json!({"op": "spawn", "protocol": context.subject().protocol(), "guard": true});
    if let Some(route) = context.route_in(&context.sandbox().dir().join("sub")) {
        std::fs::create_dir(context.sandbox().dir().join("sub")).unwrap();
        spawn["route"] = route.into();
    }
    let info: ipc_manager::ConnectionString = owner.must(&spawn)["info"].as_str().unwrap().parse().unwrap();
    let mut b = bus.idle_puppet();
    b.must(&json!({"op": "connect", "name": "b", "info": info.to_string()}));
    owner.kill();
    let registry = context.subject().registry();
    let mut a = ipc_manager::Client::builder("a", &info).registry(registry.clone()).connect().unwrap();
    a.send("b", "x").unwrap();
    assert_eq!(b.recv_count(1)[0].content, "x");
    b.must(&json!({"op": "disconnect"}));
    a.disconnect().unwrap();
    let mut heir = Spawn::adopt_with(&info, registry.clone()).unwrap();
    assert!(heir.shutdown().unwrap().is_balanced());
    let late = ipc_manager::Client::builder("late", &info).registry(registry).connect();
    assert_eq!(late.unwrap_err().kind(), ErrorKind::NoSuchBus);
}

fn signal_of_a_service(context: &Context<'_>) {
    let owner = context.owner().signal(Signal::USR1).peer_timeout(PATIENCE).spawn().unwrap();
    let mut bus = context.bus_of(owner);
    let mut actor = bus.actor("actor", &json!({"watch": ["signal", "cleanup"]}));
    assert_eq!(actor.request("actor", &json!({"value": 1})).unwrap(), 1);
    // The handle has a place on the bus, too; its process, this one, is not to hear the signal.
    drop(actor);
    bus.take_owner().shutdown().unwrap();
    let noted = std::fs::read_to_string(context.sandbox().dir().join("cleaned-actor")).expect("it cleaned up");
    assert_eq!(noted, json!([["signal", "USR1"]]).to_string(), "what it had noted when it ended");
}
