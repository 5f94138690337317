// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many messages of many senders at once. `IPC_MANAGER_LOAD` says how many messages each sender sends; a hundredth of
//! what it takes to be sure is the default, so that every run of the tests can afford it.

use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use ipc_manager::{Client, Message};
use serde_json::{Value, json};

use crate::context::Bus;
use crate::{Clause, Context, Failure, Need, PATIENCE, Puppet, Seen, Tally};

/// Processes that all do everything, and how many messages each sends before it reads.
const PROCESSES: usize = 16;
const ROUND: usize = 5;
/// Senders at once.
const SENDERS: usize = 4;
/// Pause between two signals to each process of the storm: 500 a second.
const BETWEEN_SIGNALS: Duration = Duration::from_millis(2);

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "load.four_senders",
        text: "Of all that four senders send at once, small and large, each message arrives once, whole, and in order.",
        source: &["T01"],
        needs: &[Need::Processes],
        run: four_senders,
    },
    Clause {
        id: "load.four_senders_that_never_wait",
        text: "The same holds for senders that never wait, where what has no room is held back.",
        source: &["T01", "A23"],
        needs: &[Need::Processes, Need::Queues],
        run: four_senders_that_never_wait,
    },
    Clause {
        id: "load.sixteen_processes",
        text: "Sixteen processes that all send and read at once are in nobody's way for longer than a call may take: none is refused, and each message arrives once.",
        source: &["T13"],
        needs: &[Need::Processes],
        run: sixteen_processes,
    },
    Clause {
        id: "load.signals",
        text: "The same holds while signals interrupt every process hundreds of times a second.",
        source: &["T17"],
        needs: &[Need::Processes],
        run: signals,
    },
];

/// How many messages each sender sends.
fn count() -> u64 {
    asked_for().unwrap_or(500)
}

/// How many messages each sender is to send, if somebody says so.
pub(super) fn asked_for() -> Option<u64> {
    std::env::var("IPC_MANAGER_LOAD").ok()?.parse().ok()
}

/// Most are small, some come in several pieces where a protocol cuts.
fn size_of(number: u64) -> usize {
    if number % 5 == 4 { 6_000 } else { 64 }
}

fn content(number: u64) -> Value {
    json!({"n": number, "body": body(number)})
}

fn body(number: u64) -> String {
    let part = format!("{number:08}:");
    part.repeat(size_of(number) / part.len() + 1)[..size_of(number)].to_owned()
}

fn four_senders(context: &Context<'_>) {
    let bus = context.bus();
    let mut puppets = senders(&bus);
    run(&bus, &mut puppets, "four senders");
}

fn four_senders_that_never_wait(context: &Context<'_>) {
    let bus = context.bus();
    let mut puppets = senders(&bus);
    for puppet in &mut puppets {
        puppet.must(&json!({"op": "set_blocking", "value": false}));
    }
    run(&bus, &mut puppets, "four senders that never wait");
}

/// Each sends to its neighbour, many at a time and one by one, and reads what its other neighbour sends.
fn sixteen_processes(context: &Context<'_>) {
    let bus = context.bus();
    let name = |number: usize| format!("p{}", number % PROCESSES);
    let mut puppets: Vec<_> = (0..PROCESSES).map(|number| bus.puppet(&name(number))).collect();
    let rounds = asked_for().unwrap_or(5);
    let burst = context.at_most_unread(ROUND) as u64;
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for (number, puppet) in puppets.iter_mut().enumerate() {
            let (to, tally) = (name(number + 1), &tally);
            scope.spawn(move || {
                let mut seen = 0;
                for round in 0..rounds {
                    for message in 0..burst {
                        puppet.post(&json!({"op": "send", "to": to, "content": content(round * burst + message)}));
                    }
                    for _ in 0..burst {
                        let sent = puppet.answer().unwrap_or_else(|failure| panic!("a send was refused: {failure:?}"));
                        tally.lock().unwrap().acked(sent["id"].as_str().unwrap());
                    }
                    while seen < (round + 1) * burst {
                        let messages = puppet.recv(PATIENCE).unwrap_or_else(|failure| panic!("{failure:?}"));
                        seen += messages.len() as u64;
                        let mut tally = tally.lock().unwrap();
                        messages.iter().for_each(|message| book_seen(&mut tally, message));
                    }
                }
            });
        }
    });
    tally.into_inner().expect("nobody panicked with it").assert_clean("sixteen processes");
}

fn signals(context: &Context<'_>) {
    let bus = context.bus();
    let mut puppets = senders(&bus);
    let mut pids: Vec<u32> = puppets.iter().map(Puppet::pid).collect();
    pids.push(std::process::id());
    crate::engine::hear_signals();
    let (done, is_done) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while is_done.recv_timeout(BETWEEN_SIGNALS) == Err(RecvTimeoutError::Timeout) {
                for pid in pids.iter().filter_map(|pid| rustix::process::Pid::from_raw(i32::try_from(*pid).ok()?)) {
                    let _ = rustix::process::kill_process(pid, crate::engine::HARMLESS);
                }
            }
        });
        run(&bus, &mut puppets, "four senders under signals");
        drop(done);
    });
}

fn senders(bus: &Bus<'_>) -> Vec<Puppet> {
    (0..SENDERS).map(|number| bus.puppet(&format!("s{number}"))).collect()
}

fn run(bus: &Bus<'_>, puppets: &mut [Puppet], what: &str) {
    let mut reader = bus.client("reader");
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        let senders: Vec<_> = puppets.iter_mut().map(|puppet| scope.spawn(|| send(puppet, &tally))).collect();
        read(&mut reader, &tally);
        senders.into_iter().for_each(|sender| sender.join().expect("a sender's thread ends well"));
    });
    tally.into_inner().expect("nobody panicked with it").assert_clean(what);
    assert!(reader.try_recv().unwrap().is_none(), "{what}: more than was sent");
    assert!(reader.take_damaged().is_empty(), "{what}: something was damaged");
    for puppet in puppets {
        assert_eq!(puppet.stats()["sent"]["reader"], count(), "{what}: counted otherwise");
    }
}

fn send(puppet: &mut Puppet, tally: &Mutex<Tally>) {
    for number in 0..count() {
        loop {
            match puppet.send("reader", content(number)) {
                Ok(sent) => break tally.lock().unwrap().acked(&sent.id),
                // The outbox is full; there is room again once some of it went out.
                Err(Failure::Refused { code, .. }) if code == "would_block" => {
                    puppet.must(&json!({"op": "recv", "timeout": 0.01}));
                }
                Err(failure) => panic!("a send was refused: {failure:?}"),
            }
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while puppet.must(&json!({"op": "pending_sends"}))["pending"] != 0 {
        assert!(Instant::now() < deadline, "what was held back stays");
        puppet.must(&json!({"op": "drain_pending"}));
        puppet.must(&json!({"op": "recv", "timeout": 0.01}));
    }
}

fn read(reader: &mut Client, tally: &Mutex<Tally>) {
    let expected = SENDERS as u64 * count();
    let mut seen = 0;
    while seen < expected {
        let message = reader.recv_timeout(PATIENCE).unwrap();
        book(&mut tally.lock().unwrap(), &message);
        seen += 1;
    }
}

fn book(tally: &mut Tally, message: &Message) {
    let number = message.content()["n"].as_u64();
    let is_sound = number.is_some_and(|number| message.content()["body"] == body(number));
    tally.arrived(message.id().as_str(), message.from().as_str(), number.unwrap_or(0), is_sound);
}

fn book_seen(tally: &mut Tally, message: &Seen) {
    let number = message.content["n"].as_u64();
    let is_sound = number.is_some_and(|number| message.content["body"] == body(number));
    tally.arrived(&message.id, &message.from, number.unwrap_or(0), is_sound);
}
