// SPDX-License-Identifier: MIT OR Apache-2.0
//! Leaving for good.

use std::time::{Duration, Instant};

use ipc_manager::{ErrorKind, Spawn, Wait};
use serde_json::json;

use crate::context::{contents, names};
use crate::{Clause, Context, PATIENCE, Puppet};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "leave.store_stays",
        text: "Leaving ends the client and nothing else: the store stays, and others can join.",
        source: &["BUS-13"],
        needs: &[],
        run: store_stays,
    },
    Clause { id: "leave.twice", text: "Leaving twice is leaving once.", source: &["BUS-14"], needs: &[], run: twice },
    Clause {
        id: "leave.unread_handed_over",
        text: "Who leaves gets the unread messages, in order.",
        source: &["BUS-16"],
        needs: &[],
        run: unread_handed_over,
    },
    Clause {
        id: "leave.unread_is_an_error",
        text: "Leaving unread messages without a word is the error `unread_messages` that holds them; none counts as read.",
        source: &["OWN-05"],
        needs: &[],
        run: unread_is_an_error,
    },
    Clause {
        id: "leave.terminate_is_no_message",
        text: "A request to end that was not read is not an unread message.",
        source: &["OWN-02"],
        needs: &[],
        run: terminate_is_no_message,
    },
    Clause {
        id: "leave.used_afterwards",
        text: "A client that left answers `disconnected` and changes nothing.",
        source: &["BUS-13"],
        needs: &[],
        run: used_afterwards,
    },
    Clause {
        id: "leave.dropped",
        text: "Dropping a client is leaving.",
        source: &["BUS-13"],
        needs: &[],
        run: dropped,
    },
    Clause {
        id: "leave.unreachable_at_once",
        text: "Sends to a peer that left are refused as `no_such_peer`, and the sender lives on.",
        source: &["T07", "C17", "B9"],
        needs: &[],
        run: unreachable_at_once,
    },
    Clause {
        id: "leave.bus_removed",
        text: "When the store is removed, its clients get errors, recreate nothing, and can leave.",
        source: &["T20", "STO-03"],
        needs: &[],
        run: bus_removed,
    },
];

fn store_stays(context: &Context<'_>) {
    let bus = context.bus();
    let mut a = bus.client("a");
    assert_eq!(a.name().as_str(), "a");
    assert_eq!(a.info(), bus.info());
    assert!(a.is_connected());
    a.disconnect().unwrap();
    assert!(!a.is_connected());
    let (mut b, mut c) = (bus.client("b"), bus.puppet("c"));
    b.send("c", "x").unwrap();
    assert_eq!(c.recv_count(1).len(), 1);
}

fn twice(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    a.disconnect().unwrap();
    a.disconnect().unwrap();
    let mut next = bus.client("a");
    a.disconnect().unwrap();
    drop(a);
    b.send("a", "x").unwrap();
    assert_eq!(next.recv_timeout(PATIENCE).unwrap().content(), "x", "an old client took the name from a new one");
}

fn unread_handed_over(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    for number in 1..=2 {
        b.send("a", number).unwrap();
    }
    assert!(matches!(a.wait(Some(PATIENCE)).unwrap(), Wait::Message));
    let mut unread = Vec::new();
    a.disconnect_with(|messages| unread = messages).unwrap();
    assert_eq!(contents(&unread), [json!(1), json!(2)]);
    let mut c = bus.puppet("c");
    b.send("c", 3).unwrap();
    b.send("c", 4).unwrap();
    let answer = c.must(&json!({"op": "disconnect", "unread": "return"}));
    assert_eq!((&answer["messages"][0]["content"], &answer["messages"][1]["content"]), (&json!(3), &json!(4)));
}

fn unread_is_an_error(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    b.send("a", "read").unwrap();
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "read");
    b.send("a", "unread").unwrap();
    let error = a.disconnect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnreadMessages);
    assert!(error.to_string().contains('a'));
    assert_eq!(contents(error.messages()), ["unread"]);
    assert!(!a.is_connected());
    let mut c = bus.client("c");
    assert!(c.peer("a").unwrap().is_none());
    assert_eq!(c.all_stats().unwrap()["a"].read["b"], 1, "an unread message counts as read");
    b.send("c", 1).unwrap();
    let mut d = bus.puppet("d");
    b.send("d", 1).unwrap();
    assert_eq!(d.call(&json!({"op": "disconnect"})).unwrap_err().code(), "unread_messages");
    assert!(c.peer("d").unwrap().is_none());
    assert_eq!(c.get_messages().unwrap().len(), 1);
}

fn terminate_is_no_message(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    b.send("a", &json!({"terminate": 1})).unwrap();
    a.disconnect().unwrap();
    let mut c = bus.client("c");
    b.send("c", &json!({"terminate": 0})).unwrap();
    assert_eq!(c.disconnect().unwrap_err().kind(), ErrorKind::UnreadMessages);
}

fn used_afterwards(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    a.disconnect().unwrap();
    let kinds = [
        a.send("b", "x").unwrap_err().kind(),
        a.try_send("b", "x").unwrap_err().kind(),
        a.broadcast("x").unwrap_err().kind(),
        a.get_messages().unwrap_err().kind(),
        a.recv_timeout(PATIENCE).unwrap_err().kind(),
        a.wait(None).unwrap_err().kind(),
        a.peers().unwrap_err().kind(),
        a.reap().unwrap_err().kind(),
        a.write_stats().unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::Disconnected; 9]);
    assert!(b.recv_now().is_empty() && b.peers().is_empty());
}

fn dropped(context: &Context<'_>) {
    let bus = context.bus();
    let (a, mut b) = (bus.client("a"), bus.puppet("b"));
    b.send("a", "unread").unwrap();
    drop(a);
    assert!(b.peers().is_empty());
    assert!(!b.peer("a").exists);
    let mut next = bus.client("a");
    assert!(next.get_messages().unwrap().is_empty());
    drop(b);
    assert!(names(&next.peers().unwrap()).is_empty() || context.capabilities().crosses_processes);
}

fn unreachable_at_once(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b, mut c) = (bus.client("a"), bus.puppet("b"), bus.puppet("c"));
    a.send("b", &1).unwrap();
    b.disconnect();
    for number in 0..20 {
        let error = a.send("b", &number).unwrap_err();
        assert_eq!((error.kind(), error.stored()), (ErrorKind::NoSuchPeer, Some(ipc_manager::Stored::No)));
        assert_eq!(c.send("b", number).unwrap_err().code(), "no_such_peer");
    }
    b.try_connect("b").unwrap();
    a.send("b", "again").unwrap();
    assert_eq!(b.recv_count(1)[0].content, "again", "what was refused arrived");
}

fn bus_removed(context: &Context<'_>) {
    let mut bus = context.bus();
    let before = context.sandbox().listing();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    // Where the kernel keeps the mailbox, a sleeper finds out when it looks by itself.
    let mut asleep = (!context.capabilities().queues).then(|| bus.puppet("asleep"));
    if let Some(asleep) = &mut asleep {
        // Shorter than the time after which it would look by itself.
        asleep.post(&json!({"op": "recv", "timeout": 14}));
        asleep.wait_until_asleep();
    }
    let mut owner: Spawn = bus.take_owner();
    owner.unspawn().unwrap();
    let removed = Instant::now();
    let told = asleep.as_mut().map(Puppet::answer);
    // It also finds out when its time is up, which is later.
    let is_told = told.is_none_or(|told| told.is_err() && removed.elapsed() < Duration::from_secs(10));
    assert!(is_told, "whoever sleeps is not told");
    owner.unspawn().unwrap();
    assert!(bus.try_client("c").is_err_and(|error| error.kind() == ErrorKind::NoSuchBus));
    assert!(a.send("b", "x").is_err());
    assert!(a.get_messages().is_err());
    assert!(matches!(a.wait(Some(PATIENCE)), Ok(Wait::BusClosed) | Err(_)));
    assert!(b.send("a", "x").is_err());
    // Leaving may say that the store is gone; it may not hang, and it may not make anything.
    let _ = a.disconnect();
    let _ = b.call(&json!({"op": "disconnect", "unread": "discard"}));
    assert!(!a.is_connected());
    drop((a, b));
    let after = context.sandbox().listing();
    assert!(after.is_subset(&before), "something was made anew: {after:?}");
}
