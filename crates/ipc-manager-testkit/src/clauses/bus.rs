// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages from one to another, and to all.

use ipc_manager::{ConnectionString, ErrorKind, Message, Receipt, Stored};
use serde_json::{Value, json};

use crate::context::{contents, names};
use crate::{Clause, Context, PATIENCE};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "bus.shown_as_connection_string",
        text: "An owner shown as text is the connection string: protocol, serializer, route.",
        source: &["BUS-01"],
        needs: &[],
        run: shown_as_connection_string,
    },
    Clause {
        id: "bus.empty_at_first",
        text: "Whoever joins a fresh bus finds no message and no peer but those that joined.",
        source: &["BUS-02"],
        needs: &[],
        run: empty_at_first,
    },
    Clause {
        id: "bus.both_ways",
        text: "A message arrives once, with its id, stamp, sender, recipient and content, in both directions.",
        source: &["BUS-03"],
        needs: &[],
        run: both_ways,
    },
    Clause {
        id: "bus.any_content",
        text: "Every JSON value but null arrives as it was sent.",
        source: &["BUS-04"],
        needs: &[],
        run: any_content,
    },
    Clause {
        id: "bus.null_is_refused",
        text: "A null content is refused before anything is stored.",
        source: &["A19"],
        needs: &[],
        run: null_is_refused,
    },
    Clause {
        id: "bus.broadcast",
        text: "A broadcast reaches every other peer once, addressed to it, and never its sender.",
        source: &["BUS-05", "BUS-06"],
        needs: &[],
        run: broadcast,
    },
    Clause {
        id: "bus.each_its_own",
        text: "Each peer gets what was sent to it and nothing else.",
        source: &["BUS-09"],
        needs: &[],
        run: each_its_own,
    },
    Clause {
        id: "bus.unknown_recipient",
        text: "Sending to a name that nobody has is refused as `no_such_peer`, names it, and hands the message back.",
        source: &["BUS-10", "BUS-12", "T07"],
        needs: &[],
        run: unknown_recipient,
    },
    Clause {
        id: "bus.try_send",
        text: "A send that may not block is done when there is room, and leaves nothing pending.",
        source: &["BUS-11", "CLI-11"],
        needs: &[],
        run: try_send,
    },
    Clause {
        id: "bus.own_name",
        text: "A message is sent in the sender's own name, whatever it says; id, stamp and further fields are kept.",
        source: &["MSG-06"],
        needs: &[],
        run: own_name,
    },
    Clause {
        id: "bus.every_serializer",
        text: "Every serializer carries the same conversation.",
        source: &["SER-01", "SER-02"],
        needs: &[],
        run: every_serializer,
    },
    Clause {
        id: "bus.local_clients",
        text: "The live clients of this process on a route are listed, and those that left are not.",
        source: &["CLI-04"],
        needs: &[],
        run: local_clients,
    },
];

fn shown_as_connection_string(context: &Context<'_>) {
    let mut bus = context.bus();
    let shown = bus.owner().to_string();
    let parsed = ConnectionString::parse(&shown).unwrap();
    assert_eq!(&parsed, bus.owner().info());
    assert_eq!(parsed.protocol(), &context.subject().protocol_name());
    assert_eq!(parsed.serializer(), bus.owner().serializer());
    assert_eq!(parsed.route(), bus.owner().route());
    assert!(shown.is_ascii() && !shown.contains('\n'));
}

fn empty_at_first(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    assert!(a.get_messages().unwrap().is_empty());
    assert!(a.try_recv().unwrap().is_none());
    assert!(b.recv_now().is_empty());
    assert_eq!((names(&a.peers().unwrap()), b.peers()), (vec!["b".to_owned()], vec!["a".to_owned()]));
}

fn both_ways(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    let there = a.message("b", &json!({"hello": "b"})).unwrap();
    assert_eq!(a.send_message(there.clone()).unwrap(), Receipt::Delivered);
    let seen = b.recv_count(1).remove(0);
    assert_eq!((seen.from.as_str(), seen.to.as_str(), seen.broadcast), ("a", "b", false));
    assert!(seen.id.eq_ignore_ascii_case(there.id().as_str()));
    assert!((seen.stamp - there.stamp().as_seconds()).abs() < 2e-5);
    assert_eq!(seen.content, json!({"hello": "b"}));
    let back = b.send("a", json!({"hello": "a"})).unwrap();
    assert_eq!(back.receipt, "delivered");
    let message = a.recv_timeout(PATIENCE).unwrap();
    assert!(message.id().as_str().eq_ignore_ascii_case(&back.id));
    assert_eq!((message.from().as_str(), message.to().unwrap().as_str()), ("b", "a"));
    assert!(!message.is_broadcast() && message.stamp() > there.stamp());
    assert_eq!(message.content(), &json!({"hello": "a"}));
    assert!(a.get_messages().unwrap().is_empty() && b.recv_now().is_empty());
}

fn any_content(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    let all_control: String = (0..=0x1f_u8).map(char::from).chain(['\u{7f}', '"', '\\', '/']).collect();
    let values = [
        json!("string message!"),
        json!(""),
        json!("0"),
        json!("content"),
        json!(0),
        json!(-7),
        json!(42),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(9_007_199_254_740_993_u64),
        json!(3.25),
        json!(1e-6),
        json!(true),
        json!(false),
        json!([]),
        json!({}),
        json!([1, "two", null, true, {"x": []}]),
        json!({"a": null, "b": [null]}),
        json!({"s": "caf\u{e9} \u{263a} \u{2028} \u{1F600}", "k\u{1F511}": 1}),
        json!(all_control),
        json!({"id": "x", "from": "y", "to": "z", "stamp": 1, "broadcast": 1, "content": null}),
    ];
    for value in &values {
        a.send("b", value).unwrap();
        assert_eq!(&b.recv_count(1)[0].content, value);
        b.send("a", value.clone()).unwrap();
        assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), value);
    }
}

fn null_is_refused(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    assert_eq!(a.send("b", &Value::Null).unwrap_err().kind(), ErrorKind::Serialize);
    assert_eq!(a.try_send("b", &()).unwrap_err().kind(), ErrorKind::Serialize);
    assert!(b.recv_now().is_empty());
    assert!(a.stats().sent.is_empty());
}

fn broadcast(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b, mut c) = (bus.client("a"), bus.puppet("b"), bus.puppet("c"));
    let results = c.must(&json!({"op": "broadcast", "content": {"to": "all"}}))["results"].clone();
    assert_eq!(results, json!({"a": {"sent": true}, "b": {"sent": true}}));
    let message = a.recv_timeout(PATIENCE).unwrap();
    assert!(message.is_broadcast());
    assert_eq!((message.from().as_str(), message.to().unwrap().as_str()), ("c", "a"));
    assert_eq!(message.content(), &json!({"to": "all"}));
    let seen = b.recv_count(1).remove(0);
    assert_eq!((seen.from.as_str(), seen.to.as_str(), seen.broadcast), ("c", "b", true));
    assert!(!seen.id.eq_ignore_ascii_case(message.id().as_str()), "each copy has an id of its own");
    for number in 1..=2 {
        let results = a.broadcast(&number).unwrap();
        assert!(results.iter().all(|(_, result)| result.is_ok()), "{results:?}");
        assert_eq!(names(results.iter().map(|(name, _)| name)), ["b", "c"]);
    }
    for puppet in [&mut b, &mut c] {
        let contents: Vec<Value> = puppet.recv_count(2).into_iter().map(|seen| seen.content).collect();
        assert_eq!(contents, [json!(1), json!(2)]);
    }
    assert!(a.get_messages().unwrap().is_empty(), "a sender got its own broadcast");
    assert!(c.recv_now().is_empty(), "a sender got its own broadcast");
}

fn each_its_own(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b, mut c) = (bus.client("a"), bus.puppet("b"), bus.puppet("c"));
    a.send("b", "a to b").unwrap();
    a.send("c", "a to c").unwrap();
    b.send("a", "b to a").unwrap();
    assert_eq!(b.recv_count(1)[0].content, "a to b");
    assert_eq!(c.recv_count(1)[0].content, "a to c");
    assert_eq!(contents(&[a.recv_timeout(PATIENCE).unwrap()]), ["b to a"]);
    assert!(a.get_messages().unwrap().is_empty() && b.recv_now().is_empty() && c.recv_now().is_empty());
}

fn unknown_recipient(context: &Context<'_>) {
    let bus = context.bus();
    let mut a = bus.client("a");
    let refusals = [a.send("nobody", "x").unwrap_err(), a.try_send("nobody", "x").unwrap_err()];
    for error in refusals {
        assert_eq!(error.kind(), ErrorKind::NoSuchPeer);
        assert_eq!(error.place().peer(), Some("nobody"));
        assert_eq!(error.stored(), Some(Stored::No));
        assert!(error.to_string().contains("nobody"));
        assert_eq!(error.into_message().unwrap().content(), "x");
    }
    for name in ["", ".", "..", "_a", "a\0b"] {
        let error = a.send(name, "x").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidName | ErrorKind::NoSuchPeer), "{name:?}: {error:?}");
    }
    assert!(a.stats().sent.is_empty(), "a refused message was counted");
    // Whoever comes later under that name does not get what was refused.
    let mut late = bus.puppet("nobody");
    assert!(late.recv_now().is_empty());
    let failure = late.send("still nobody", 1).unwrap_err();
    assert_eq!(failure.code(), "no_such_peer");
}

fn try_send(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    assert!(a.is_blocking());
    for number in 1..=2 {
        assert_eq!(a.try_send("b", &number).unwrap(), Receipt::Delivered);
    }
    assert_eq!((a.pending_sends(), a.drain_pending().unwrap()), (0, 0));
    assert!(!a.is_pending().unwrap());
    let contents: Vec<Value> = b.recv_count(2).into_iter().map(|seen| seen.content).collect();
    assert_eq!(contents, [json!(1), json!(2)]);
    let answer = b.must(&json!({"op": "try_send", "to": "a", "content": 3}));
    assert_eq!(answer["receipt"], "delivered");
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), 3);
}

fn own_name(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    assert_eq!(a.message("b", "x").unwrap().from().as_str(), "a");
    let id = "0198C0DE-0000-7000-8000-0123456789AB";
    let forged = Message::builder("mallory").to("b").content("x").unwrap().id(id).stamp(1_700_000_000.25);
    a.send_message(forged.extra("trace", "t-1").build().unwrap()).unwrap();
    let message = b.recv_timeout(PATIENCE).unwrap();
    assert_eq!(message.from().as_str(), "a");
    assert!(message.id().as_str().eq_ignore_ascii_case(id));
    assert!((message.stamp().as_seconds() - 1_700_000_000.25).abs() < 2e-5);
    assert_eq!(message.extra().get("trace"), Some(&json!("t-1")));
}

fn every_serializer(context: &Context<'_>) {
    for serializer in context.subject().registry().serializers().names() {
        let bus = context.bus_with(&serializer);
        let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
        let content = json!({"text": "z".repeat(10_000), "list": [1, 2, 3]});
        a.send("b", &content).unwrap();
        assert_eq!(b.recv_count(1)[0].content, content, "{serializer}");
        b.send("a", content.clone()).unwrap();
        assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), &content, "{serializer}");
    }
}

fn local_clients(context: &Context<'_>) {
    let mut bus = context.bus();
    let route = bus.owner().route().clone();
    let (mut a, b) = (bus.client("a"), bus.client("b"));
    assert_eq!(names(&ipc_manager::local_clients(&route)), ["a", "b"]);
    a.disconnect().unwrap();
    assert_eq!(names(&ipc_manager::local_clients(&route)), ["b"]);
    drop(b);
    assert!(ipc_manager::local_clients(&route).is_empty());
}
