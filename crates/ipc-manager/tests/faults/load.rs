// SPDX-License-Identifier: MIT OR Apache-2.0
//! Load without a fault: everything arrives once and in order.

use std::path::Path;
use std::sync::Mutex;
use std::thread;

use ipc_manager::{Wait, WaitFor};
use ipc_manager_testkit::{PATIENCE, Sandbox, Tally, Test};

use super::{book, book_seen, send_many};
use crate::file_bus::FileBus;

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        t01_four_senders_at_once,
        t01_four_senders_at_once_in_memory,
        t02_both_send_before_either_reads,
        t08_a_stopped_receiver_holds_nobody_up,
        t13_two_hundred_clients,
    ]
}

const SENDERS: u64 = 4;

fn t01_four_senders_at_once(sandbox: &Sandbox) {
    four_senders(sandbox, "T01 on disk");
}

fn t01_four_senders_at_once_in_memory(sandbox: &Sandbox) {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        four_senders(&Sandbox::within(memory), "T01 in memory");
    } else {
        println!("there is no /dev/shm here; {} was used again", sandbox.dir().display());
        four_senders(sandbox, "T01 again");
    }
}

fn four_senders(sandbox: &Sandbox, what: &str) {
    for (count, size) in [(500_u64, 64), (100, 6_000)] {
        let bus = FileBus::at(&sandbox.dir().join(format!("bus-{size}")));
        let mut hub = bus.client("hub");
        let mut senders: Vec<_> = (0..SENDERS).map(|number| bus.puppet(&format!("sender-{number}"))).collect();
        let tally = Mutex::new(Tally::default());
        thread::scope(|scope| {
            for sender in &mut senders {
                scope.spawn(|| send_many(sender, "hub", 0..count, size, &tally));
            }
            for _ in 0..count * SENDERS {
                let message = hub.recv_timeout(PATIENCE).unwrap();
                book(&mut tally.lock().unwrap(), &message, size);
            }
        });
        assert!(hub.get_messages().unwrap().is_empty() && hub.take_damaged().is_empty());
        let tally = tally.into_inner().unwrap();
        tally.assert_clean(&format!("{what}, {SENDERS} x {count} x {size} B"));
        assert_eq!(tally.acknowledged() as u64, count * SENDERS);
    }
}

fn t02_both_send_before_either_reads(sandbox: &Sandbox) {
    const COUNT: u64 = 2_000;
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.puppet("a"), bus.puppet("b"));
    let (to_a, to_b) = (Mutex::new(Tally::default()), Mutex::new(Tally::default()));
    thread::scope(|scope| {
        scope.spawn(|| send_many(&mut a, "b", 0..COUNT, 1_000, &to_b));
        scope.spawn(|| send_many(&mut b, "a", 0..COUNT, 1_000, &to_a));
    });
    for (puppet, tally) in [(&mut a, to_a), (&mut b, to_b)] {
        let mut tally = tally.into_inner().unwrap();
        loop {
            let seen = puppet.recv_now();
            if seen.is_empty() {
                break;
            }
            seen.iter().for_each(|seen| book_seen(&mut tally, seen, 1_000));
        }
        tally.assert_clean("T02, 2,000 x 1,000 B each way");
        assert_eq!(tally.acknowledged() as u64, COUNT);
    }
}

fn t08_a_stopped_receiver_holds_nobody_up(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut sender, mut receiver, mut watcher) = (bus.puppet("sender"), bus.puppet("receiver"), bus.client("watcher"));
    let tally = Mutex::new(Tally::default());
    receiver.stop();
    send_many(&mut sender, "receiver", 0..500, 1_000, &tally);
    assert!(watcher.reap().unwrap().is_empty(), "a stopped peer is alive");
    receiver.cont();
    let mut tally = tally.into_inner().unwrap();
    receiver.recv_count(500).iter().for_each(|seen| book_seen(&mut tally, seen, 1_000));
    tally.assert_clean("T08");
    receiver.kill_unreaped();
    let gone = WaitFor::message().or_gone("receiver").unwrap().within(PATIENCE);
    assert!(matches!(watcher.wait_for(&gone), Ok(Wait::PeerGone(_))));
}

fn t13_two_hundred_clients(sandbox: &Sandbox) {
    const CLIENTS: usize = 200;
    let bus = FileBus::new(sandbox);
    let mut hub = bus.client("hub");
    let mut clients: Vec<_> = (0..CLIENTS).map(|number| bus.client(&format!("client-{number:03}"))).collect();
    for client in &mut clients {
        client.send("hub", "here").unwrap();
    }
    let mut senders: Vec<String> =
        (0..CLIENTS).map(|_| hub.recv_timeout(PATIENCE).unwrap().from().to_string()).collect();
    senders.sort();
    senders.dedup();
    let reached = hub.broadcast("to all").unwrap().iter().filter(|(_, result)| result.is_ok()).count();
    let got: usize = clients.iter_mut().map(|client| client.get_messages().unwrap().len()).sum();
    println!("T13: {} of {CLIENTS} reach the hub, a broadcast reaches {reached}, {got} have it", senders.len());
    assert_eq!((senders.len(), reached, got), (CLIENTS, CLIENTS, CLIENTS));
}
