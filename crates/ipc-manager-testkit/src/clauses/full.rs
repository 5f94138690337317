// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mailboxes that are full, and ones that hold very many.

use std::time::Duration;

use ipc_manager::{Client, ErrorKind, Limits, Stored};
use serde_json::{Value, json};

use crate::context::contents;
use crate::{Clause, Context, Need, PATIENCE, eventually};

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "full.would_block",
        text: "A send that may not block is refused by a full mailbox as `would_block`, and hands its message back.",
        source: &["T02", "OUT-01"],
        needs: &[Need::BoundedMailbox],
        run: would_block,
    },
    Clause {
        id: "full.deadline",
        text: "A send to a full mailbox ends by its deadline, and nothing of it is stored.",
        source: &["T02", "B11"],
        needs: &[Need::BoundedMailbox],
        run: deadline,
    },
    Clause {
        id: "full.room_again",
        text: "A send that waits for room is done when there is room, and nothing that was acknowledged is lost.",
        source: &["T02", "OUT-02"],
        needs: &[Need::BoundedMailbox],
        run: room_again,
    },
    Clause {
        id: "full.only_one",
        text: "A full mailbox of one peer is no obstacle for messages to another.",
        source: &["OUT-03"],
        needs: &[Need::BoundedMailbox],
        run: only_one,
    },
    Clause {
        id: "full.high_water_mark",
        text: "A sender with a high-water mark is refused as `would_block` at it, goes on when there is room, and its mark \
               is nobody else's.",
        source: &["OUT-01"],
        needs: &[Need::UnboundedMailbox],
        run: high_water_mark,
    },
    Clause {
        id: "full.both_ways",
        text: "Two peers that send to each other before they read end within their deadlines, and nothing is lost.",
        source: &["T02"],
        needs: &[],
        run: both_ways,
    },
    Clause {
        id: "full.thousands",
        text: "Thousands of waiting messages are handed out in bounded batches, each once and in order.",
        source: &["B15"],
        needs: &[Need::UnboundedMailbox],
        run: thousands,
    },
];

/// Fills b's mailbox; returns how many it took.
fn fill(context: &Context<'_>, a: &mut ipc_manager::Client) -> usize {
    let most = context.capabilities().most_unread.expect("the clause needs a limit");
    for number in 0..=most {
        if let Err(error) = a.try_send("b", &number) {
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error:?}");
            assert_eq!(error.stored(), Some(Stored::No));
            assert_eq!(error.into_message().expect("it is handed back").content(), number);
            assert_eq!(number, most, "it is full before its limit");
            return number;
        }
    }
    panic!("a mailbox with a limit of {most} took one more");
}

/// Takes everything that waits, batch by batch.
fn drain(client: &mut ipc_manager::Client) -> Vec<Value> {
    let mut got = Vec::new();
    loop {
        match contents(&client.get_messages().unwrap()) {
            batch if batch.is_empty() => return got,
            batch => got.extend(batch),
        }
    }
}

fn would_block(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    let count = fill(context, &mut a);
    assert_eq!(a.stats().sent.get("b"), Some(&i64::try_from(count).unwrap()));
    assert_eq!(a.pending_sends(), 0);
    let got = drain(&mut b);
    assert!(got == (0..count).map(Value::from).collect::<Vec<_>>(), "{} of {count} came, or others", got.len());
    a.try_send("b", "room again").unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "room again");
}

fn deadline(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    let count = fill(context, &mut a);
    let error = a.send_timeout("b", "late", Duration::from_millis(100)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::WouldBlock), "{error:?}");
    assert_eq!(error.stored(), Some(Stored::No));
    assert_eq!(drain(&mut b).len(), count);
}

fn room_again(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b, mut puppet) = (bus.client("a"), bus.client("b"), bus.puppet("puppet"));
    let count = fill(context, &mut a);
    puppet.post(&json!({"op": "send", "to": "b", "content": "waited"}));
    puppet.wait_until_asleep();
    let mut got = contents(&[b.recv_timeout(PATIENCE).unwrap()]);
    assert_eq!(puppet.answer().unwrap()["receipt"], "delivered");
    eventually("the rest", || {
        got.extend(contents(&b.get_messages().unwrap()));
        got.len() > count
    });
    assert_eq!(got.len(), count + 1);
    assert_eq!(got.last(), Some(&json!("waited")));
}

fn only_one(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, b, mut c) = (bus.client("a"), bus.client("b"), bus.client("c"));
    fill(context, &mut a);
    a.try_send("c", "free").unwrap();
    assert_eq!(c.recv_timeout(PATIENCE).unwrap().content(), "free");
    let results = a.broadcast("to all").unwrap();
    let done: Vec<bool> = results.iter().map(|(_, result)| result.is_ok()).collect();
    assert_eq!(done, [false, true], "{results:?}");
    assert_eq!(c.recv_timeout(PATIENCE).unwrap().content(), "to all");
    drop(b);
}

fn high_water_mark(context: &Context<'_>) {
    const MOST: usize = 40;
    let bus = context.bus();
    let limits = Limits { unread_messages: Some(MOST), ..Limits::DEFAULT };
    let (mut b, mut free) = (bus.client("b"), bus.client("free"));
    let registry = context.subject().registry();
    let mut a = Client::builder("a", bus.info()).registry(registry).limits(limits).connect().unwrap();
    let batch: Vec<_> = (0..MOST - 1).map(|number| a.message("b", &number).unwrap()).collect();
    assert_eq!(a.send_all(batch).unwrap().len(), MOST - 1);
    a.try_send("b", &(MOST - 1)).unwrap();
    let error = a.try_send("b", "too many").unwrap_err();
    assert_eq!((error.kind(), error.stored()), (ErrorKind::WouldBlock, Some(Stored::No)), "{error:?}");
    assert_eq!(error.into_message().unwrap().content(), "too many");
    let error = a.send_timeout("b", "too many", Duration::from_millis(20)).unwrap_err();
    assert_eq!((error.kind(), error.stored()), (ErrorKind::Timeout, Some(Stored::No)), "{error:?}");
    a.send("free", "another mailbox").unwrap();
    assert_eq!(b.get_at_most(2).unwrap().len(), 2);
    // Of more than there is room for, as many as there is, in order.
    let batch: Vec<_> = (MOST..MOST + 3).map(|number| a.message("b", &number).unwrap()).collect();
    a.set_blocking(false);
    let error = a.send_all(batch).unwrap_err();
    a.set_blocking(true);
    assert_eq!((error.kind(), error.messages().len()), (ErrorKind::WouldBlock, 1), "{error:?}");
    free.send("b", "the mark is its own").unwrap();
    let got = drain(&mut b);
    assert_eq!(got[..MOST], (2..MOST + 2).map(Value::from).collect::<Vec<_>>());
    assert_eq!(got[MOST..], ["the mark is its own"]);
    a.send_timeout("b", "there is room", PATIENCE).unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "there is room");
}

fn both_ways(context: &Context<'_>) {
    let bus = context.bus();
    let mut pair = [bus.client("a"), bus.client("b")];
    let content = "k".repeat(1_000);
    let mut sent = [0, 0];
    for _ in 0..context.load(2_000) {
        for (number, to) in [(0, "b"), (1, "a")] {
            match pair[number].try_send(to, &content) {
                Ok(_) => sent[number] += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error:?}"),
            }
        }
    }
    let mut got = [0, 0];
    eventually("all that was accepted", || {
        for (number, client) in pair.iter_mut().enumerate() {
            got[number] += drain(client).len();
            client.drain_pending().unwrap();
        }
        got[0] >= sent[1] && got[1] >= sent[0]
    });
    assert_eq!(got, [sent[1], sent[0]]);
    assert!(pair.iter_mut().all(|client| drain(client).is_empty() && client.take_unsent().is_empty()));
}

fn thousands(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    let count = 5_000_usize;
    for start in (0..count).step_by(500) {
        let batch: Vec<_> = (start..start + 500).map(|number| a.message("b", &number).unwrap()).collect();
        assert_eq!(a.send_all(batch).unwrap().len(), 500);
    }
    let mut next = 0;
    loop {
        let batch = b.get_messages().unwrap();
        assert!(batch.len() <= ipc_manager::Limits::DEFAULT.batch_messages, "a batch has {}", batch.len());
        if batch.is_empty() {
            break;
        }
        for content in contents(&batch) {
            assert_eq!(content, next);
            next += 1;
        }
    }
    assert_eq!(next, count);
}
