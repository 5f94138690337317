// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bytes that are no frames, writers and readers that die, FIFOs that come and go.

use std::fs::{self, OpenOptions};

use ipc_manager::{Client, ErrorKind, Limits, Receipt};
use ipc_manager_testkit::{Sandbox, Test, eventually};
use serde_json::{Value, json};

use super::{PipeBus, contents, dead_pid, frame, own_pid, sound};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        a11_two_clients_of_one_process_do_not_mix_their_parts,
        a12_half_a_message_is_dropped_when_its_writer_starts_anew,
        pip_03_half_a_message_of_a_dead_process_is_swept_and_that_of_a_live_one_stays,
        a13_bytes_that_are_no_frame_cost_themselves,
        a_writer_that_is_killed_within_a_message_costs_that_message,
        a_message_over_the_limit_is_refused_by_its_first_part,
        too_many_unfinished_messages_are_refused,
        a26_a_missing_fifo_is_never_made_by_a_sender,
        b1_a_fifo_without_a_reader_is_told_at_once,
        a_fifo_that_was_replaced_is_opened_anew,
        a_sender_that_gives_up_within_a_message_finishes_it_later,
    ]
}

fn a11_two_clients_of_one_process_do_not_mix_their_parts(sandbox: &Sandbox) {
    let bus = PipeBus::new(sandbox);
    let mut b = bus.puppet("b");
    let mut senders = [bus.client("a1"), bus.client("a2")];
    b.stop();
    // Both fill the FIFO while nobody reads, so that their parts interleave.
    for round in 0..30 {
        for client in &mut senders {
            client.set_blocking(false);
            client.send("b", &format!("{round}{}", "x".repeat(50_000))).unwrap();
        }
    }
    assert!(senders.iter().all(Client::has_pending_sends), "the FIFO took all of it");
    b.cont();
    let mut left = 60;
    eventually("all are out", || {
        for client in &mut senders {
            client.drain_pending().unwrap();
        }
        left -= b.recv_now().len();
        senders.iter().all(|client| !client.has_pending_sends())
    });
    assert_eq!(b.recv_count(left).len(), left);
    assert!(senders.iter_mut().all(|client| client.take_unsent().is_empty()));
}

fn a12_half_a_message_is_dropped_when_its_writer_starts_anew(sandbox: &Sandbox) {
    let bus = PipeBus::new(sandbox);
    let mut b = bus.client("b");
    // With one part left to come, nothing but its content tells a new message from the rest of the old one.
    for part in [1, 2, 9] {
        bus.write("b", &frame(own_pid(), 1, part, &[b'x'; 4080]));
        assert!(b.get_messages().unwrap().is_empty());
        assert!(b.is_pending().unwrap());
        bus.write("b", &sound(7));
        assert_eq!(contents(&b.get_messages().unwrap()), [7]);
        let damaged = b.take_damaged();
        assert_eq!(damaged.len(), 1, "{damaged:?}");
        assert!(!b.is_pending().unwrap());
    }
}

fn pip_03_half_a_message_of_a_dead_process_is_swept_and_that_of_a_live_one_stays(sandbox: &Sandbox) {
    let bus = PipeBus::new(sandbox);
    let mut b = bus.client("b");
    assert!(b.reap().unwrap().is_empty(), "PIP-04: nothing is unfinished");
    let whole = json!({"from": "x", "to": "b", "content": "y".repeat(5000)}).to_string();
    let (first, second) = whole.as_bytes().split_at(4080);
    bus.write("b", &frame(dead_pid(), 3, 1, &[b'x'; 4080]));
    bus.write("b", &frame(own_pid(), 3, 1, first));
    assert!(b.get_messages().unwrap().is_empty());
    b.reap().unwrap();
    b.get_messages().unwrap();
    let damaged = b.take_damaged();
    assert_eq!(damaged.len(), 1, "{damaged:?}");
    assert!(b.is_pending().unwrap());
    bus.write("b", &frame(own_pid(), 3, 0, second));
    assert_eq!(b.get_messages().unwrap().len(), 1);
    assert!(b.take_damaged().is_empty());
}

fn a13_bytes_that_are_no_frame_cost_themselves(sandbox: &Sandbox) {
    let bus = PipeBus::new(sandbox);
    let mut b = bus.client("b");
    let huge = [1_i32.to_ne_bytes(), [0; 4], [0; 4], [0xff; 4]].concat();
    let empty = frame(own_pid(), 1, 0, b"");
    let nobody = frame(-1, 1, 0, b"x");
    let cut = frame(own_pid(), 1, 0, &[b'x'; 4000])[..500].to_vec();
    let text = b"{\"from\":\"x\",\"to\":\"b\",\"content\":1}\n".to_vec();
    let random: Vec<u8> = (0..3000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let no_json = frame(own_pid(), 1, 0, b"not JSON");
    let kinds =
        [("huge", huge), ("empty", empty), ("nobody", nobody), ("text", text), ("random", random), ("json", no_json)];
    for (kind, junk) in kinds {
        bus.write("b", &sound(1));
        bus.write("b", &junk);
        bus.write("b", &sound(2));
        bus.write("b", &sound(3));
        assert_eq!(contents(&b.get_messages().unwrap()), [1, 2, 3], "{kind}");
        let damaged = b.take_damaged();
        assert_eq!(damaged.len(), 1, "{kind}: {damaged:?}");
        assert_eq!(damaged[0].error().place().path(), Some(bus.at("b").as_path()), "{kind}");
    }
    // At the end of all there is, where what follows comes later.
    bus.write("b", &cut);
    assert!(b.get_messages().unwrap().is_empty());
    bus.write("b", &sound(4));
    assert_eq!(contents(&b.get_messages().unwrap()), [4]);
    assert_eq!(b.take_damaged().len(), 1);
    assert_eq!(b.stats().read["x"], 19);
}

fn a_writer_that_is_killed_within_a_message_costs_that_message(sandbox: &Sandbox) {
    let bus = PipeBus::new(sandbox);
    let mut b = bus.client("b");
    let mut writer = bus.puppet("writer");
    writer.send("b", "before").unwrap();
    // Larger than any pipe, so it cannot be out before somebody reads.
    writer.post(&json!({"op": "send", "to": "b", "content": "x".repeat(3 << 20)}));
    let fifo = OpenOptions::new().read(true).write(true).open(bus.at("b")).unwrap();
    eventually("its writer waits for room", || rustix::io::ioctl_fionread(&fifo).unwrap() > 60_000);
    writer.wait_until_asleep();
    writer.kill();
    let mut other = bus.puppet("other");
    other.post(&json!({"op": "send", "to": "b", "content": "after"}));
    let mut got = Vec::new();
    eventually("both sound ones are there", || {
        got.extend(b.get_messages().unwrap());
        got.len() == 2
    });
    other.answer().unwrap();
    assert_eq!(contents(&got), ["before", "after"]);
    b.reap().unwrap();
    b.get_messages().unwrap();
    assert_eq!(b.take_damaged().len(), 1);
    b.disconnect().unwrap();
}

fn a_message_over_the_limit_is_refused_by_its_first_part(sandbox: &Sandbox) {
    let bus = PipeBus::new(sandbox);
    let limits = Limits { encoded_bytes: 20_000, ..Limits::DEFAULT };
    let mut b = Client::builder("b", bus.owner.info()).limits(limits).connect().unwrap();
    for part in (0..=10).rev() {
        bus.write("b", &frame(own_pid(), 1, part, &[b'x'; 4080]));
    }
    bus.write("b", &sound(1));
    bus.write("b", &frame(own_pid(), 2, u32::MAX, b"x"));
    bus.write("b", &sound(2));
    assert_eq!(contents(&b.get_messages().unwrap()), [1, 2]);
    let damaged = b.take_damaged();
    assert_eq!(damaged.len(), 2, "{damaged:?}");
    assert!(damaged.iter().all(|damaged| damaged.error().kind() == ErrorKind::TooLarge));
}

fn too_many_unfinished_messages_are_refused(sandbox: &Sandbox) {
    let bus = PipeBus::new(sandbox);
    let mut b = bus.client("b");
    for tid in 0..1_100 {
        bus.write("b", &frame(own_pid(), tid, 1, b"x"));
        if tid % 100 == 0 {
            b.get_messages().unwrap();
        }
    }
    bus.write("b", &sound(1));
    assert_eq!(contents(&b.get_messages().unwrap()), [1]);
    let too_large = b.take_damaged().iter().filter(|damaged| damaged.error().kind() == ErrorKind::TooLarge).count();
    assert!(too_large > 0);
}

fn a26_a_missing_fifo_is_never_made_by_a_sender(sandbox: &Sandbox) {
    let bus = PipeBus::new(sandbox);
    let mut a = bus.client("a");
    let b = bus.client("b");
    a.send("b", 1_i32.to_string().as_str()).unwrap();
    fs::remove_file(bus.at("b")).unwrap();
    // What was opened before is seen to be gone, at the latest after a moment.
    eventually("the name is gone", || a.send("b", "x").is_err_and(|error| error.kind() == ErrorKind::NoSuchPeer));
    assert!(!bus.at("b").exists());
    fs::write(bus.at("b"), "a file of somebody's").unwrap();
    assert_eq!(a.send("b", "x").unwrap_err().kind(), ErrorKind::NoSuchPeer);
    assert_eq!(fs::read_to_string(bus.at("b")).unwrap(), "a file of somebody's");
    drop(b);
    assert_eq!(fs::read_to_string(bus.at("b")).unwrap(), "a file of somebody's", "it is not the one that b made");
}

fn b1_a_fifo_without_a_reader_is_told_at_once(sandbox: &Sandbox) {
    let bus = PipeBus::new(sandbox);
    let mut a = bus.client("a");
    drop(bus.foreign("b"));
    let error = a.send("b", "x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PeerGone, "{error}");
    assert_eq!(error.stored(), Some(ipc_manager::Stored::No));
    assert_eq!(error.into_message().unwrap().content(), "x");
}

fn a_fifo_that_was_replaced_is_opened_anew(sandbox: &Sandbox) {
    let bus = PipeBus::new(sandbox);
    let mut a = bus.client("a");
    // An old reader that lives on, as one does whose descriptors a forked child inherited.
    let old = bus.foreign("b");
    a.send("b", "old").unwrap();
    fs::remove_file(bus.at("b")).unwrap();
    fs::remove_file(bus.at("b.pid")).unwrap();
    let mut b = bus.client("b");
    let mut number = 0;
    eventually("the new reader gets something", || {
        number += 1;
        a.send("b", &number).unwrap();
        b.is_ready().unwrap()
    });
    drop(old);
}

fn a_sender_that_gives_up_within_a_message_finishes_it_later(sandbox: &Sandbox) {
    let bus = PipeBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    let large = "x".repeat(3 << 20);
    let error = a.send_timeout("b", &large, std::time::Duration::from_millis(50)).unwrap_err();
    assert_eq!((error.kind(), error.stored()), (ErrorKind::Timeout, Some(ipc_manager::Stored::Maybe)));
    assert_eq!(a.pending_sends_to("b").unwrap(), 1);
    assert!(!a.can_send_to("b").unwrap());
    assert!(a.stats().sent.is_empty(), "not before the kernel has all of it");
    a.set_blocking(false);
    assert_eq!(a.send("b", "behind it").unwrap(), Receipt::Queued);
    let mut got = Vec::new();
    eventually("both arrive", || {
        a.drain_pending().unwrap();
        got.extend(b.get_messages().unwrap());
        got.len() == 2
    });
    assert_eq!(got[0].content(), &Value::from(large));
    assert_eq!(got[1].content(), "behind it");
    assert_eq!(a.stats().sent["b"], 2);
}
