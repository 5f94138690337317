// SPDX-License-Identifier: MIT OR Apache-2.0
//! Peers that are killed under load.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ipc_manager::ErrorKind;
use ipc_manager_testkit::{PATIENCE, Sandbox, Tally, Test};

use super::{Dice, book, book_seen, kill, numbered, send_many};
use crate::file_bus::FileBus;

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        t03_senders_killed_at_random,
        t04_a_killed_receivers_mailbox_is_kept_or_counted,
        t05_a_receiver_killed_under_load_and_replaced,
        t06_what_a_killed_sender_had_sent_arrives,
        t07_sends_to_the_killed_the_left_and_the_unknown,
    ]
}

fn t03_senders_killed_at_random(sandbox: &Sandbox) {
    let mut dice = Dice::new("T03");
    for size in [6_000, 60_000] {
        let bus = FileBus::at(&sandbox.dir().join(format!("bus-{size}")));
        let (mut hub, tally) = (bus.client("hub"), Mutex::new(Tally::default()));
        let mut survivor = bus.puppet("survivor");
        for round in 0..10_u64 {
            let mut senders: Vec<_> = (0..4).map(|number| bus.puppet(&format!("sender-{number}"))).collect();
            let pids: Vec<u32> = senders.iter().map(ipc_manager_testkit::Puppet::pid).collect();
            thread::scope(|scope| {
                for sender in &mut senders {
                    // Counted on from round to round: the names are the same.
                    scope.spawn(|| send_many(sender, "hub", round * 10_000..u64::MAX, size, &tally));
                }
                scope.spawn(|| send_many(&mut survivor, "hub", round * 20..round * 20 + 20, size, &tally));
                for pid in pids {
                    for _ in 0..=dice.below(12) {
                        let message = hub.recv_timeout(PATIENCE).unwrap();
                        book(&mut tally.lock().unwrap(), &message, size);
                    }
                    kill(pid);
                }
            });
            while let Some(message) = hub.try_recv().unwrap() {
                book(&mut tally.lock().unwrap(), &message, size);
            }
            // A half-written file of a dead writer is none of the reader's business.
            assert!(hub.take_damaged().is_empty());
        }
        drop(bus.puppet("sender-0"));
        assert_eq!(hub.stats().read["survivor"], 200, "the survivor's messages");
        tally.into_inner().unwrap().assert_clean(&format!("T03, {size} B"));
        hub.disconnect().unwrap();
    }
}

fn t04_a_killed_receivers_mailbox_is_kept_or_counted(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut sender = bus.client("sender");
    for fresh in [false, true] {
        let mut receiver = bus.puppet("receiver");
        let mut tally = Tally::default();
        for number in 0..100 {
            let message = sender.message("receiver", &numbered(number, 64)).unwrap();
            tally.acked(message.id().as_str());
            sender.send_message(message).unwrap();
        }
        receiver.kill();
        if fresh {
            let next = bus.client("receiver");
            println!("T04: connect says that it discarded {} of 100", next.discarded());
            assert_eq!(next.discarded(), 100);
        } else {
            let mut next = bus.reconnect("receiver");
            next.get_messages().unwrap().iter().for_each(|message| book(&mut tally, message, 64));
            tally.assert_clean("T04, reconnect");
        }
    }
}

fn t05_a_receiver_killed_under_load_and_replaced(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut dice = Dice::new("T05");
    let (tally, stop) = (Mutex::new(Tally::default()), AtomicBool::new(false));
    let mut senders = [bus.puppet("sender-0"), bus.puppet("sender-1")];
    let mut discarded = 0;
    thread::scope(|scope| {
        for sender in &mut senders {
            scope.spawn(|| {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    send_many(sender, "receiver", number..number + 1, 500, &tally);
                }
            });
        }
        for _ in 0..8 {
            let mut receiver = bus.puppet("receiver");
            for _ in 0..=dice.below(6) {
                let seen = receiver.recv(PATIENCE).unwrap();
                let mut tally = tally.lock().unwrap();
                seen.iter().for_each(|seen| book_seen(&mut tally, seen, 500));
            }
            receiver.kill();
            let mut next = bus.client("receiver");
            discarded += next.discarded();
            let message = next.recv_timeout(PATIENCE).unwrap();
            book(&mut tally.lock().unwrap(), &message, 500);
            next.disconnect_with(|unread| {
                let mut tally = tally.lock().unwrap();
                unread.iter().for_each(|message| book(&mut tally, message, 500));
            })
            .unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    for sender in &mut senders {
        assert!(!sender.stats()["sent"].is_null(), "a sender died");
    }
    let tally = tally.into_inner().unwrap();
    println!("T05: connect says that it discarded {discarded}");
    tally.assert_sound("T05");
    assert!(tally.lost() <= discarded, "{} were lost, and {discarded} reported as discarded", tally.lost());
}

fn t06_what_a_killed_sender_had_sent_arrives(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut receiver, mut third, mut sender) = (bus.client("receiver"), bus.client("third"), bus.puppet("sender"));
    let tally = Mutex::new(Tally::default());
    send_many(&mut sender, "receiver", 0..20, 6_000, &tally);
    sender.kill();
    assert_eq!(third.reap().unwrap(), ["sender"]);
    let mut tally = tally.into_inner().unwrap();
    receiver.get_messages().unwrap().iter().for_each(|message| book(&mut tally, message, 6_000));
    tally.assert_clean("T06");
    assert_eq!(tally.acknowledged(), 20);
}

fn t07_sends_to_the_killed_the_left_and_the_unknown(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut sender, mut killed, mut left) = (bus.client("sender"), bus.puppet("killed"), bus.puppet("left"));
    killed.kill();
    left.disconnect();
    let (mut stored, mut refused) = (0, 0);
    for number in 0..20 {
        stored += usize::from(sender.send("killed", &number).unwrap() == ipc_manager::Receipt::Stored);
        for nobody in ["left", "never was"] {
            let error = sender.send(nobody, &number).unwrap_err();
            refused += usize::from(error.kind() == ErrorKind::NoSuchPeer);
        }
    }
    println!("T07: stored {stored} of 20 for the killed, refused {refused} of 40 for the left and the unknown");
    assert_eq!((stored, refused), (20, 40));
    assert_eq!(bus.reconnect("killed").get_messages().unwrap().len(), 20);
    assert!(matches!(sender.recv_timeout(Duration::ZERO).unwrap_err().kind(), ErrorKind::Timeout));
}
