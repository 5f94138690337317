// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the processes of a run do: sending, reading, asking, serving, owning.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipc_manager::{Client, Handle, Message, Receipt, Reply, Service, Spawn, Stored, Suspend};
use serde_json::{Value, json};

use super::hand::Hand;
use super::journal::{Journal, now};
use super::worker::{CALL, DONE, LEAVING, NOT_JOINED, Order, Orders, UNUSABLE, Worker};

/// Numbers of one process begin so far behind those of the one before.
pub(super) const A_LIFE: u64 = 10_000_000;

/// Sizes of contents: small ones, some that come in pieces, few that are large.
const SIZES: [u64; 10] = [10, 10, 64, 64, 64, 64, 900, 900, 6_000, 40_000];

/// What a message carries: a number and a body that shows every cut.
fn content(number: u64, size: u64) -> Value {
    json!({"n": number, "size": size, "body": body(number, size)})
}

fn body(number: u64, size: u64) -> String {
    let part = format!("{number:08}:");
    let size = usize::try_from(size).unwrap_or(0);
    part.repeat(size / part.len() + 1)[..size].to_owned()
}

/// Whether a message carries what it was sent with.
pub(super) fn is_sound(message: &Message) -> bool {
    let (number, size) = (message.content()["n"].as_u64(), message.content()["size"].as_u64());
    matches!((number, size), (Some(number), Some(size)) if *message.content() == content(number, size))
}

/// Writes an arrival down.
fn note_arrival(journal: &Journal, message: &Message) {
    if message.is_terminate() {
        return;
    }
    let (number, is_sound) = (&message.content()["n"], is_sound(message));
    journal.note(&json!(["got", message.id().as_str(), message.from().as_str(), number, is_sound]));
}

pub(super) fn send(mut worker: Worker) -> ExitCode {
    let Ok(mut client) = worker.join() else { return ExitCode::from(NOT_JOINED) };
    let mut number = worker.number() * A_LIFE;
    loop {
        if let Some(order) = worker.orders.next(Duration::ZERO) {
            if matches!(order, Order::Finish) {
                flush(&mut worker, &mut client, CALL * 2);
            }
            let left = worker.leave(&mut client, |_, _| {});
            account(&mut worker, &mut client);
            return left;
        }
        let begun = Instant::now();
        number += 1;
        if !send_one(&mut worker, &mut client, number) {
            return ExitCode::from(UNUSABLE);
        }
        flush(&mut worker, &mut client, Duration::ZERO);
        // Not faster than somebody reads.
        let pause = Duration::from_micros(worker.dice.between(200, 2_000)) + begun.elapsed() * 2;
        std::thread::sleep(pause.min(Duration::from_millis(50))); // paces the load
    }
}

fn send_one(worker: &mut Worker, client: &mut Client, number: u64) -> bool {
    let to = worker.dice.pick(&["r0", "r1"]);
    let size = worker.dice.pick(&SIZES);
    let message = match client.message(to, &content(number, size)) {
        Ok(message) => message,
        Err(error) => return worker.bears("message", &error),
    };
    let id = message.id().to_string();
    worker.journal.note(&json!(["try", id, to, number, now()]));
    let waits = worker.dice.chance(75);
    let sent = worker.timed("send", CALL, || {
        if waits { client.send_message_timeout(message, CALL) } else { client.try_send_message(message) }
    });
    match sent {
        Ok(Receipt::Queued) => worker.journal.note(&json!(["queued", id])),
        Ok(_) => worker.journal.note(&json!(["ack", id])),
        Err(error) => {
            let what = if error.stored() == Some(Stored::No) { "refused" } else { "doubt" };
            worker.journal.note(&json!([what, id, error.code(), error.to_string()]));
            std::thread::sleep(Duration::from_millis(2)); // what is wrong may pass
            return true;
        }
    }
    worker.is_well();
    true
}

/// Sends what was held back, as far as there is room within so long.
fn flush(worker: &mut Worker, client: &mut Client, patience: Duration) {
    let deadline = Instant::now() + patience;
    while client.has_pending_sends() {
        if let Err(error) = client.drain_pending() {
            worker.journal.failed("drain_pending", &error);
        }
        if Instant::now() >= deadline {
            break;
        }
        std::thread::sleep(Duration::from_millis(2)); // until a reader made room
    }
    account(worker, client);
}

/// Notes what became of what was held back.
fn account(worker: &mut Worker, client: &mut Client) {
    for unsent in client.take_unsent() {
        let what = if unsent.stored() == Some(Stored::Maybe) { "doubt" } else { "refused" };
        for message in unsent.messages() {
            worker.journal.note(&json!([what, message.id().as_str(), unsent.code(), unsent.to_string()]));
        }
    }
    if !client.has_pending_sends() {
        worker.journal.note(&json!(["flushed"]));
    }
}

pub(super) fn read(mut worker: Worker) -> ExitCode {
    let Ok(mut client) = worker.join() else { return ExitCode::from(NOT_JOINED) };
    let protocol = worker.registry.find(worker.info().protocol()).expect("a protocol that is known");
    let mut hand = protocol.capabilities().acknowledges.then(Hand::default);
    loop {
        match worker.orders.next(Duration::ZERO) {
            None => {}
            Some(Order::Deaf(time)) => std::thread::sleep(Duration::from_millis(time)), // it is to be deaf
            Some(Order::Suspend) => match worker.timed("suspend", LEAVING, || client.suspend(Suspend::open_ended())) {
                Ok(()) => {
                    worker.journal.note(&json!(["suspended", now()]));
                    return ExitCode::from(DONE);
                }
                Err(error) => {
                    worker.journal.failed("suspend", &error);
                    return leave(&mut worker, &mut client, hand);
                }
            },
            Some(Order::Leave) => return leave(&mut worker, &mut client, hand),
            Some(Order::Finish) => {
                while read_some(&mut worker, &mut client, Duration::from_millis(300)) == Some(true) {}
                if let Some(hand) = &mut hand {
                    hand.finish(&mut worker, &mut client);
                }
                return leave(&mut worker, &mut client, hand);
            }
        }
        let patience = Duration::from_millis(50);
        let came = match &mut hand {
            Some(hand) if worker.dice.chance(50) => hand.work(&mut worker, &mut client, patience),
            _ => read_some(&mut worker, &mut client, patience),
        };
        if came.is_none() {
            return ExitCode::from(UNUSABLE);
        }
    }
}

fn leave(worker: &mut Worker, client: &mut Client, hand: Option<Hand>) -> ExitCode {
    if let Some(mut hand) = hand {
        hand.let_go(worker);
    }
    worker.leave(client, note_arrival)
}

/// Reads one message, or a batch. Returns whether something came, and nothing if the client is of no use any more.
fn read_some(worker: &mut Worker, client: &mut Client, patience: Duration) -> Option<bool> {
    let dice = worker.dice.below(100);
    let most = if dice < 70 { 1 } else { 8 };
    worker.journal.note(&json!(["batch", most]));
    let batch = worker.timed("receive", CALL, || match most {
        1 => client.recv_timeout(patience).map(|message| vec![message]),
        most => client.get_at_most(most),
    });
    for damaged in client.take_damaged() {
        worker.journal.note(&json!(["damaged", format!("{damaged:?}")]));
    }
    let batch = match batch {
        Ok(batch) => batch,
        Err(error) if error.kind() == ipc_manager::ErrorKind::Timeout => return Some(false),
        Err(error) => return worker.bears("receive", &error).then_some(true),
    };
    worker.is_well();
    if dice >= 90 && !batch.is_empty() {
        batch.iter().for_each(|message| worker.journal.note(&json!(["requeue", message.id().as_str()])));
        match worker.timed("requeue", CALL, || client.requeue(&batch)) {
            Ok(()) => return Some(true),
            Err(error) => worker.journal.failed("requeue", &error),
        }
    }
    batch.iter().for_each(|message| note_arrival(&worker.journal, message));
    // A batch may be empty although more comes.
    Some(!batch.is_empty() || most != 1)
}

pub(super) fn ask(mut worker: Worker) -> ExitCode {
    let registry = worker.registry.clone();
    let handle = Handle::with_registry("v0", worker.info(), registry).expect("a name that somebody can have");
    let mut handle = handle.named(&worker.name).timeout(CALL);
    let deadline = Instant::now() + Duration::from_secs(20);
    worker.journal.note(&json!(["joining", "connect", now()]));
    while let Err(error) = handle.client().map(drop) {
        worker.journal.failed("join", &error);
        if Instant::now() > deadline {
            return ExitCode::from(NOT_JOINED);
        }
        std::thread::sleep(Duration::from_millis(10)); // what is wrong may pass
    }
    worker.journal.note(&json!(["joined", 0, now()]));
    for number in worker.number() * A_LIFE.. {
        if worker.orders.next(Duration::ZERO).is_some() {
            break;
        }
        let question = content(number, worker.dice.pick(&SIZES));
        worker.journal.note(&json!(["asked", number]));
        match worker.timed("request", CALL, || handle.request("v0", &question)) {
            Ok(answer) => worker.journal.note(&json!([if answer == question { "answered" } else { "wrong" }, number])),
            Err(error) => {
                worker.journal.note(&json!(["unanswered", number, error.code(), error.to_string()]));
                std::thread::sleep(Duration::from_millis(5)); // what is wrong may pass
            }
        }
        let _ = (handle.take_unexpected(), handle.messages());
        std::thread::sleep(Duration::from_micros(worker.dice.between(500, 5_000))); // paces the load
    }
    match handle.client() {
        Ok(client) => worker.leave(client, |_, _| {}),
        Err(_) => ExitCode::from(UNUSABLE),
    }
}

pub(super) fn serve(mut worker: Worker) -> ExitCode {
    let mut deadline = Instant::now() + Duration::from_secs(20);
    let orders = Arc::new(Mutex::new((std::mem::take(&mut worker.orders), false)));
    loop {
        worker.journal.note(&json!(["joining", "connect", now()]));
        let (next, begun) = (Arc::clone(&orders), Instant::now());
        let builder = Service::builder(&worker.name).bus(worker.info()).registry(worker.registry.clone());
        let ended = builder
            .intercept_errors(true)
            .cycle(Duration::from_millis(20))
            .on_request(|_, request| Ok(Reply::new(request.value())?))
            .should_end(move |_| Ok(is_ordered(&next)))
            .run();
        match ended {
            Ok(_) => {
                worker.journal.note(&json!(["left", now()]));
                return ExitCode::from(DONE);
            }
            Err(error) => {
                worker.journal.failed("serve", &error);
                if begun.elapsed() > Duration::from_secs(1) {
                    // It had its name, and may take it again.
                    deadline = Instant::now() + Duration::from_secs(20);
                }
                if Instant::now() > deadline {
                    return ExitCode::from(NOT_JOINED);
                }
                if is_ordered(&orders) {
                    return ExitCode::from(DONE);
                }
                std::thread::sleep(Duration::from_millis(10)); // what is wrong may pass
            }
        }
    }
}

/// Whether it was told to end, now or before.
fn is_ordered(orders: &Mutex<(Orders, bool)>) -> bool {
    let mut orders = orders.lock().unwrap_or_else(PoisonError::into_inner);
    orders.1 = orders.1 || orders.0.next(Duration::ZERO).is_some();
    orders.1
}

pub(super) fn own(mut worker: Worker, protocol: &str) -> ExitCode {
    let mut builder = Spawn::builder().protocol(protocol).registry(worker.registry.clone()).guard(true);
    builder = builder.peer_timeout(CALL);
    if let Some(route) = worker.told["route"].as_str() {
        builder = builder.route(route);
    }
    let mut bus = match builder.spawn() {
        Ok(bus) => bus,
        Err(error) => {
            worker.journal.failed("spawn", &error);
            return ExitCode::from(NOT_JOINED);
        }
    };
    println!("{}", bus.info());
    while worker.orders.next(Duration::from_secs(600)).is_none() {}
    match worker.timed("shutdown", LEAVING, || bus.shutdown()) {
        Ok(audit) => worker.journal.note(&json!(["shut down", audit.remaining().len(), audit.to_string()])),
        Err(error) => {
            worker.journal.failed("shutdown", &error);
            return ExitCode::from(UNUSABLE);
        }
    }
    ExitCode::from(DONE)
}
