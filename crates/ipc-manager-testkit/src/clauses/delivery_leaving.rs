// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages in the hand of a reader that leaves.

use ipc_manager::{ErrorKind, Suspend};
use serde_json::{Value, json};

use super::delivery::{NEEDS, client_that_gives_up_after, finish, send_numbers};
use crate::context::contents;
use crate::{Clause, Context, Need, PATIENCE};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "delivery.leaves",
        text: "Who leaves for good is handed what is in hand and what is dead, as unread; late acknowledgements are refused.",
        source: &["B4"],
        needs: NEEDS,
        run: leaves,
    },
    Clause {
        id: "delivery.suspends",
        text: "Who suspends leaves what is in hand to its next life as unread, and what is dead as dead.",
        source: &["SUS-01"],
        needs: &[Need::Acknowledges, Need::Suspend],
        run: suspends,
    },
    Clause {
        id: "delivery.dropped_client",
        text: "A client that is dropped with messages in hand, by a panic too, leaves them to who continues the name.",
        source: &["T05"],
        needs: &[Need::Acknowledges, Need::Suspend],
        run: dropped_client,
    },
    Clause {
        id: "delivery.adds_up",
        text: "An audit takes a message for read once it was acknowledged, and only once.",
        source: &["T04"],
        needs: NEEDS,
        run: adds_up,
    },
];

fn leaves(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), client_that_gives_up_after(context, &bus, "b", 1));
    send_numbers(&mut a, "b", 0..3);
    drop(b.receive_timeout(PATIENCE).unwrap());
    let held = b.receive_timeout(PATIENCE).unwrap();
    assert_eq!((b.dead("b").unwrap().len(), held.message().content()), (1, &json!(1)));
    let mut unread = Vec::new();
    b.disconnect_with(|messages| unread.extend(messages)).unwrap();
    let mut unread = contents(&unread);
    unread.sort_by_key(Value::as_u64);
    assert_eq!(unread, [0, 1, 2]);
    assert_eq!(held.acknowledge(&mut b).unwrap_err().kind(), ErrorKind::Disconnected);
    let mut b = bus.client("b");
    assert_eq!((b.discarded(), b.try_receive().unwrap().is_none(), b.dead("b").unwrap().len()), (0, true, 0));
    a.send("b", &3).unwrap();
    let held = b.receive_timeout(PATIENCE).unwrap();
    let error = b.disconnect().unwrap_err();
    assert_eq!((error.kind(), contents(error.messages())), (ErrorKind::UnreadMessages, vec![json!(3)]));
    drop(held);
}

fn suspends(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), client_that_gives_up_after(context, &bus, "b", 1));
    send_numbers(&mut a, "b", 0..4);
    drop(b.receive_timeout(PATIENCE).unwrap());
    assert_eq!(finish(&mut b, 1), [1]);
    b.suspend(Suspend::open_ended()).unwrap();
    let mut b = bus.reconnect("b");
    let held = b.receive_timeout(PATIENCE).unwrap();
    assert_eq!((held.message().content(), held.attempts()), (&json!(2), 1));
    b.suspend(Suspend::open_ended()).unwrap();
    a.send("b", &4).unwrap();
    let mut b = bus.reconnect("b");
    drop(held);
    let again = b.receive_timeout(PATIENCE).unwrap();
    assert_eq!((again.message().content(), again.attempts()), (&json!(2), 2));
    again.acknowledge(&mut b).unwrap();
    assert_eq!(finish(&mut b, 2), [3, 4]);
    assert_eq!((a.dead("b").unwrap()[0].message.content(), a.revive_all("b").unwrap()), (&json!(0), 1));
    assert_eq!(finish(&mut b, 1), [0]);
    assert_eq!(b.stats().read.get("a"), Some(&5));
}

fn dropped_client(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    send_numbers(&mut a, "b", 0..2);
    let held = b.receive_timeout(PATIENCE).unwrap();
    drop((held, b));
    let mut b = bus.reconnect("b");
    assert_eq!(finish(&mut b, 2), [0, 1]);
    drop(b);
    assert_eq!(bus.try_reconnect("b").unwrap_err().kind(), ErrorKind::NoSuchPeer, "nothing was left");
}

fn adds_up(context: &Context<'_>) {
    let mut bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    send_numbers(&mut a, "b", 0..4);
    drop(b.receive_timeout(PATIENCE).unwrap());
    assert_eq!(finish(&mut b, 2), [0, 1]);
    b.recv_timeout(PATIENCE).unwrap();
    let held = b.receive_timeout(PATIENCE).unwrap();
    assert_eq!(bus.owner().audit().unwrap().delta()["a -> b"], 1, "what is in hand is unread");
    held.acknowledge(&mut b).unwrap();
    assert!(bus.owner().audit().unwrap().is_balanced());
    b.disconnect().unwrap();
    a.disconnect().unwrap();
    let audit = bus.owner().audit().unwrap();
    assert_eq!((audit.sent(), audit.read()), (4, 4));
}
