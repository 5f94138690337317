// SPDX-License-Identifier: MIT OR Apache-2.0
//! How large a message may be.

use ipc_manager::{Client, ErrorKind, Limits, Stored};
use serde_json::Value;

use crate::{Clause, Context, Need, PATIENCE};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "size.whole",
        text: "Messages of every size up to the limit arrive whole, and so does a small one after each.",
        source: &["T09"],
        needs: &[],
        run: whole,
    },
    Clause {
        id: "size.too_large",
        text: "A message past the limit of the bus is refused as `too_large` before a byte is stored.",
        source: &["T09"],
        needs: &[],
        run: too_large,
    },
    Clause {
        id: "size.too_large_for_the_protocol",
        text: "A message past the protocol's own limit is refused as `too_large` before a byte is stored.",
        source: &["T09", "A15", "A16"],
        needs: &[Need::BoundedPayload],
        run: too_large_for_the_protocol,
    },
    Clause {
        id: "size.too_deep",
        text: "A message nested deeper than the limit is refused before it is stored, and one at the limit arrives.",
        source: &["T09"],
        needs: &[],
        run: too_deep,
    },
];

/// A text whose every part differs from the others, so that a cut or a swap shows.
fn text(size: usize) -> String {
    let mut text = String::with_capacity(size + 9);
    for number in 0_usize.. {
        if text.len() >= size {
            break;
        }
        text.push_str(&format!("{number:08}:"));
    }
    text.truncate(size);
    text
}

fn whole(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    // Room for the other fields of the message.
    let most = context.capabilities().largest_payload.map_or(usize::MAX, |most| most.saturating_sub(1_000));
    for size in [1, 4_096, 64 << 10, 100_000, 1 << 20, 10 << 20] {
        let content = text(size.min(most));
        // At the same time: what is in the kernel may have room only for a part.
        let got = std::thread::scope(|scope| {
            let reader = scope.spawn(|| b.recv_timeout(PATIENCE).unwrap());
            a.send_timeout("b", &content, PATIENCE).unwrap();
            reader.join().unwrap()
        });
        assert!(got.content().as_str() == Some(&content), "{size} bytes did not arrive as they were sent");
        a.send("b", "small").unwrap();
        assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "small");
    }
    assert!(b.take_damaged().is_empty());
}

fn refused(a: &mut Client, b: &mut Client, content: &Value) {
    for error in [a.send("b", content).unwrap_err(), a.try_send("b", content).unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error:?}");
        assert_ne!(error.stored(), Some(Stored::Maybe));
    }
    a.send("b", "small").unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "small");
    assert!(b.get_messages().unwrap().is_empty() && b.take_damaged().is_empty());
    assert_eq!(a.stats().sent.get("b"), Some(&1), "a refused message was counted");
}

fn too_large(context: &Context<'_>) {
    // JSON, since the size of its payload is known beforehand.
    let bus = context.bus_with("JSON");
    let limits = Limits { encoded_bytes: 20_000, ..Limits::DEFAULT };
    let limited = |name: &str| {
        let builder = Client::builder(name, bus.info()).registry(context.subject().registry());
        builder.limits(limits.clone()).connect().unwrap()
    };
    let (mut a, mut b) = (limited("a"), limited("b"));
    refused(&mut a, &mut b, &Value::from(text(20_001)));
    a.send("b", &text(19_500)).unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content().as_str(), Some(&*text(19_500)));
    let mut generous = bus.client("generous");
    let error = generous.send("b", &"x".repeat(64 << 20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

fn too_large_for_the_protocol(context: &Context<'_>) {
    let bus = context.bus_with("JSON");
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    let most = context.capabilities().largest_payload.expect("the clause needs one");
    refused(&mut a, &mut b, &Value::from(text(most + 1)));
}

fn too_deep(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    let nested = |depth: usize| (0..depth).fold(Value::from(1), |inner, _| Value::Array(vec![inner]));
    // The message itself is one level.
    let at_limit = nested(Limits::DEFAULT.json_depth - 1);
    a.send("b", &at_limit).unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), &at_limit);
    for too_deep in [Limits::DEFAULT.json_depth + 1, 5_000] {
        let error = a.send("b", &nested(too_deep)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TooLarge | ErrorKind::Serialize), "{error:?}");
    }
    assert!(b.get_messages().unwrap().is_empty() && b.take_damaged().is_empty());
}
