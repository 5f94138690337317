// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mailboxes that are in the kernel: they go with the process that reads them, and senders must learn of it.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ipc_manager::{Client, ErrorKind, Receipt, Stored};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};

use crate::context::Bus;
use crate::{Clause, Context, Failure, Need, PATIENCE, Puppet};

/// What every clause of this theme needs.
const KERNEL: &[Need] = &[Need::Processes, Need::GoesWithProcess];

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "kernel.peer_gone",
        text: "A message to a killed peer is refused as `peer_gone`, before and after it was reaped, and nothing is stored.",
        source: &["T07", "B1", "B2", "B8"],
        needs: KERNEL,
        run: peer_gone,
    },
    Clause {
        id: "kernel.swept",
        text: "Once a killed peer was swept, a message to it is refused as `no_such_peer`, like one that never was.",
        source: &["T07"],
        needs: KERNEL,
        run: swept,
    },
    Clause {
        id: "kernel.comes_back",
        text: "A peer that leaves, or dies, and comes back under its name between two sends gets the second one.",
        source: &["B3"],
        needs: KERNEL,
        run: comes_back,
    },
    Clause {
        id: "kernel.continued_empty",
        text: "Who continues the name of a killed peer starts with an empty mailbox, and with its counters if it left any.",
        source: &["T04", "C5"],
        needs: KERNEL,
        run: continued_empty,
    },
    Clause {
        id: "kernel.orderly_leave",
        text: "A peer that leaves while others send hands over every message that was acknowledged to them, also while \
               its program starts others.",
        source: &["T05", "C23"],
        needs: KERNEL,
        run: orderly_leave,
    },
    Clause {
        id: "kernel.stopped_reader",
        text: "A stopped reader makes senders wait until their deadline; once it goes on, each acknowledged message comes once.",
        source: &["T08", "B11"],
        needs: KERNEL,
        run: stopped_reader,
    },
    Clause {
        id: "kernel.waiting_sender_learns",
        text: "A sender that waits for room is told `peer_gone` when its recipient is killed.",
        source: &["T08", "B11"],
        needs: KERNEL,
        run: waiting_sender_learns,
    },
    Clause {
        id: "kernel.replaced_under_load",
        text: "A reader that is killed under load and replaced under its name costs no sender its life, and no message comes twice.",
        source: &["T05", "B3"],
        needs: KERNEL,
        run: replaced_under_load,
    },
    Clause {
        id: "kernel.many_peers",
        text: "A thousand peers are reached, and answer, though a process may have only 256 descriptors.",
        source: &["T13"],
        needs: KERNEL,
        run: many_peers,
    },
];

/// A message that says which one it is, large enough that a mailbox is full soon.
pub(super) fn numbered(number: usize) -> Value {
    json!({"n": number, "body": "x".repeat(1_000)})
}

/// Checks that so many came, each once and in order.
#[track_caller]
pub(super) fn assert_numbered(got: &[Value], count: usize) {
    let numbers: Vec<_> = got.iter().map(|content| content["n"].as_u64()).collect();
    let expected: Vec<_> = (0..count as u64).map(Some).collect();
    assert!(numbers == expected, "not 0 to {count}: {numbers:?}");
    assert!(got.iter().zip(0..).all(|(content, number)| *content == numbered(number)), "a content was damaged");
}

/// Sends until there is no room any more; returns how many a mailbox took. One more is held back.
#[track_caller]
pub(super) fn fill(sender: &mut Client, to: &str) -> usize {
    for number in 0..100_000 {
        match sender.try_send(to, &numbered(number)).unwrap() {
            Receipt::Delivered => {}
            Receipt::Queued => return number,
            receipt => panic!("{receipt} by a mailbox in the kernel"),
        }
    }
    panic!("a mailbox that nobody reads takes messages without end");
}

fn peer_gone(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b, mut c) = (bus.client("a"), bus.puppet("b"), bus.puppet("c"));
    for was_sent_to in [false, true] {
        if was_sent_to {
            // From here on the sender holds what belongs to the one that is killed.
            b = bus.puppet("b");
            a.send("b", "alive").unwrap();
        }
        b.kill_unreaped();
        for reaped in [false, true] {
            if reaped {
                b.reap();
            }
            for number in 0..10 {
                for error in [a.send("b", &number).unwrap_err(), a.try_send("b", &number).unwrap_err()] {
                    assert_eq!((error.kind(), error.stored()), (ErrorKind::PeerGone, Some(Stored::No)), "{error:?}");
                    assert_eq!(error.into_message().expect("it is handed back").content(), number);
                }
                assert_eq!(c.send("b", number).unwrap_err().code(), "peer_gone");
            }
        }
    }
    assert_eq!((a.stats().sent.get("b"), a.pending_sends()), (Some(&1), 0));
    a.send("c", "alive").unwrap();
    assert_eq!(c.recv_count(1)[0].content, "alive");
}

fn swept(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    a.send("b", "alive").unwrap();
    b.kill();
    assert_eq!(a.send("b", "x").unwrap_err().kind(), ErrorKind::PeerGone);
    a.reap().unwrap();
    for name in ["b", "never"] {
        for error in [a.send(name, "x").unwrap_err(), a.try_send(name, "x").unwrap_err()] {
            assert_eq!((error.kind(), error.stored()), (ErrorKind::NoSuchPeer, Some(Stored::No)), "{name}: {error:?}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}

fn comes_back(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    for round in 0..6 {
        a.send("b", &round).unwrap();
        assert_eq!(b.recv_count(1)[0].content, round);
        match round % 3 {
            0 => {
                b.disconnect();
                b.try_connect("b").unwrap();
            }
            1 => {
                b.kill();
                b = bus.puppet("b");
            }
            _ => {
                b.kill();
                b = bus.idle_puppet();
                b.try_reconnect("b").unwrap();
            }
        }
        for receipt in a.send_all((0..3).map(|number| a.message("b", &number).unwrap()).collect::<Vec<_>>()).unwrap() {
            assert_eq!(receipt, Receipt::Delivered);
        }
        let got: Vec<_> = b.recv_count(3).into_iter().map(|seen| seen.content).collect();
        assert_eq!(got, [0, 1, 2], "round {round}");
    }
}

fn continued_empty(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    a.send("b", "read").unwrap();
    assert_eq!(b.recv_count(1).len(), 1);
    b.must(&json!({"op": "write_stats"}));
    a.send("b", "unread").unwrap();
    b.kill();
    let mut b = bus.idle_puppet();
    b.try_reconnect("b").unwrap();
    assert!(b.recv_now().is_empty(), "the mailbox outlived its process");
    assert_eq!(b.stats()["read"]["a"], 1);
    a.send("b", "new").unwrap();
    assert_eq!(b.recv_count(1)[0].content, "new");
    // Without counters it works just as well.
    b.kill();
    let mut c = bus.puppet("c");
    c.kill();
    let mut c = bus.reconnect("c");
    a.send("c", "new").unwrap();
    assert_eq!(c.recv_timeout(PATIENCE).unwrap().content(), "new");
}

/// Sends until refused for good; returns the ids of what was acknowledged.
fn send_until_gone(sender: &mut Puppet, to: &str) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    for number in 0.. {
        match sender.send(to, number) {
            Ok(sent) => acknowledged.insert(sent.id),
            Err(Failure::Refused { code, error }) => {
                assert!(matches!(&*code, "no_such_peer" | "peer_gone"), "{error}");
                assert_ne!(error["stored"], "maybe", "{error}");
                return acknowledged;
            }
            Err(Failure::Gone) => panic!("a sender died with its recipient"),
        };
    }
    acknowledged
}

fn orderly_leave(context: &Context<'_>) {
    let bus = context.bus();
    let mut senders = [bus.puppet("a"), bus.puppet("b")];
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // A child has copies of all descriptors until it becomes another program: nearly always there is one.
        let starting = scope.spawn(|| {
            let mut program = std::process::Command::new("true");
            // SAFETY: sleeping is safe between fork and exec.
            unsafe { std::os::unix::process::CommandExt::pre_exec(&mut program, linger) };
            while !is_over.load(Ordering::Relaxed) {
                program.status().unwrap();
            }
        });
        let left = std::panic::catch_unwind(AssertUnwindSafe(|| leave_while_others_send(&bus, &mut senders)));
        is_over.store(true, Ordering::Relaxed);
        starting.join().unwrap();
        left.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Keeps a child what it was forked as for so long that those who send find its copies.
fn linger() -> std::io::Result<()> {
    let most = libc::timespec { tv_sec: 0, tv_nsec: 15_000_000 };
    // SAFETY: a valid time, and nowhere for what is left of it.
    unsafe { libc::nanosleep(&raw const most, std::ptr::null_mut()) };
    Ok(())
}

fn leave_while_others_send(bus: &Bus<'_>, senders: &mut [Puppet; 2]) {
    for _ in 0..5 {
        let mut reader = bus.client("reader");
        let (acknowledged, arrived) = std::thread::scope(|scope| {
            let sending: Vec<_> =
                senders.iter_mut().map(|sender| scope.spawn(move || send_until_gone(sender, "reader"))).collect();
            let mut arrived = BTreeSet::new();
            let mut book = |id: String| assert!(arrived.insert(id), "a message came twice");
            for _ in 0..100 {
                book(reader.recv_timeout(PATIENCE).unwrap().id().to_string());
            }
            reader.disconnect_with(|unread| unread.iter().for_each(|one| book(one.id().to_string()))).unwrap();
            let acknowledged: BTreeSet<_> = sending.into_iter().flat_map(|one| one.join().unwrap()).collect();
            (acknowledged, arrived)
        });
        let lost = acknowledged.difference(&arrived).count();
        assert_eq!(lost, 0, "of {} acknowledged messages", acknowledged.len());
    }
}

fn stopped_reader(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    b.stop();
    let mut acknowledged = 0;
    let last = loop {
        match a.send_timeout("b", &numbered(acknowledged), Duration::from_millis(100)) {
            Ok(receipt) => assert_eq!(receipt, Receipt::Delivered),
            Err(error) => break error,
        }
        acknowledged += 1;
        assert!(acknowledged < 100_000, "a stopped reader takes messages without end");
    };
    assert_eq!(last.kind(), ErrorKind::Timeout, "{last:?}");
    // What is partly out goes on; what is not must never arrive.
    let count = if last.stored() == Some(Stored::Maybe) { acknowledged + 1 } else { acknowledged };
    b.cont();
    let got = std::thread::scope(|scope| {
        let reader = scope.spawn(|| b.recv_count(count + 1));
        a.send_timeout("b", &numbered(count), PATIENCE).unwrap();
        reader.join().unwrap()
    });
    assert_numbered(&got.into_iter().map(|seen| seen.content).collect::<Vec<_>>(), count + 1);
    b.kill();
    assert_eq!(a.send("b", "x").unwrap_err().kind(), ErrorKind::PeerGone);
}

fn waiting_sender_learns(context: &Context<'_>) {
    let bus = context.bus();
    let (mut a, mut b) = (bus.puppet("a"), bus.puppet("b"));
    let mut number = 0;
    while a.must(&json!({"op": "try_send", "to": "b", "content": numbered(number)}))["receipt"] != "queued" {
        number += 1;
    }
    a.post(&json!({"op": "send", "to": "b", "content": "waits"}));
    a.wait_until_asleep();
    b.kill();
    let failure = a.answer().unwrap_err();
    assert!(matches!(failure.code(), "peer_gone" | "no_such_peer"), "{failure:?}");
    let mut c = bus.puppet("c");
    a.send("c", "alive").unwrap();
    assert_eq!(c.recv_count(1)[0].content, "alive");
}

fn replaced_under_load(context: &Context<'_>) {
    let bus = context.bus();
    let mut senders = [bus.puppet("a"), bus.puppet("c")];
    let mut arrived = BTreeSet::new();
    for _ in 0..8 {
        let mut b = bus.puppet("b");
        for sender in &mut senders {
            for number in 0..50 {
                sender.post(&json!({"op": "send", "to": "b", "content": number}));
            }
        }
        for seen in b.recv(PATIENCE).unwrap() {
            assert!(arrived.insert(seen.id), "a message came twice");
        }
        b.kill();
        for sender in &mut senders {
            for _ in 0..50 {
                match sender.answer() {
                    Ok(_) => {}
                    Err(Failure::Refused { code, error }) => assert_eq!(code, "peer_gone", "{error}"),
                    Err(Failure::Gone) => panic!("a sender died with its recipient"),
                }
            }
        }
    }
    let mut b = bus.puppet("b");
    for sender in &mut senders {
        sender.send("b", "alive").unwrap();
    }
    assert_eq!(b.recv_count(2).len(), 2);
}

fn many_peers(context: &Context<'_>) {
    const HOSTS: usize = 8;
    const EACH: usize = 125;
    let bus = context.bus();
    let mut hosts: Vec<_> = (0..HOSTS).map(|_| bus.idle_puppet()).collect();
    let mut peers = Vec::new();
    for number in 0..EACH {
        for (host, puppet) in hosts.iter_mut().enumerate() {
            let name = format!("p{host}-{number}");
            let joined = puppet.must(&json!({"op": "connect", "name": name, "info": bus.info().to_string()}));
            peers.push((host, joined["client"].clone()));
        }
    }
    let mut hub = bus.idle_puppet();
    let pid = Pid::from_raw(hub.pid().try_into().unwrap());
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(256), maximum: Some(256) }).unwrap();
    hub.try_connect("hub").unwrap();
    for round in 0..2 {
        let results = hub.must(&json!({"op": "broadcast", "content": round}))["results"].clone();
        let results = results.as_object().unwrap();
        assert_eq!(results.len(), HOSTS * EACH);
        assert!(results.values().all(|result| result["sent"] == true), "{results:?}");
        for (host, client) in &peers {
            let recv = json!({"op": "recv", "client": client, "timeout": PATIENCE.as_secs()});
            assert_eq!(hosts[*host].must(&recv)["messages"][0]["content"], round);
        }
    }
    for some in peers.chunks(8) {
        for (host, client) in some {
            hosts[*host].must(&json!({"op": "send", "client": client, "to": "hub", "content": client}));
        }
        assert_eq!(hub.recv_count(some.len()).len(), some.len());
    }
}
