// SPDX-License-Identifier: MIT OR Apache-2.0
//! Section C: wrong or surprising results.

use std::fs;

use ipc_manager::{ErrorKind, PeerName, PeerState, Signal, Spawn, Suspend};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test};
use serde_json::{Value, json};

use crate::file_bus::FileBus;

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        c1_every_content_is_taken_for_what_it_is,
        c2_a_string_is_a_content_also_where_a_send_may_not_block,
        c4_an_audit_works_while_some_have_stored_no_counters,
        c5_a_name_is_continued_without_stored_counters,
        c6_a_signal_given_at_spawn_is_kept,
        c12_names_that_others_could_not_see_are_refused,
        c13_half_written_sidecars_are_no_peers,
        c15_names_that_are_not_ascii_are_refused,
        c16_the_name_0_is_refused,
        c19_ready_is_false_once_everything_was_read,
        c20_a_message_in_memory_is_a_copy,
        c22_the_owners_own_client_is_left_out_of_the_books,
        c24_nothing_points_at_a_client_that_left,
    ]
}

fn c1_every_content_is_taken_for_what_it_is(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    for content in
        [json!("content"), json!("to"), json!({"to": "c", "content": "x"}), json!({"broadcast": 1}), json!(["b", "x"])]
    {
        a.send("b", &content).unwrap();
        let got = b.recv_timeout(PATIENCE).unwrap();
        assert_eq!(got.content(), &content);
        assert!(!got.is_broadcast() && got.to().unwrap() == "b");
    }
}

fn c2_a_string_is_a_content_also_where_a_send_may_not_block(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    a.try_send("b", "just a string").unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "just a string");
}

fn c4_an_audit_works_while_some_have_stored_no_counters(sandbox: &Sandbox) {
    let mut bus = FileBus::new(sandbox);
    let (_a, _b) = (bus.puppet("a"), bus.puppet("b"));
    assert!(bus.owner.audit().unwrap().is_balanced());
    fs::write(bus.at_name("c.stats"), "null").unwrap();
    assert!(bus.owner.audit().unwrap().is_balanced());
    assert!(bus.client("d").all_stats().is_ok());
}

fn c5_a_name_is_continued_without_stored_counters(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    a.send("b", "x").unwrap();
    for stored in [None, Some(""), Some("null"), Some("{\"read\":")] {
        b.suspend(Suspend::within(PATIENCE)).unwrap();
        match stored {
            None => fs::remove_file(bus.at_name("b.stats")).unwrap(),
            Some(text) => fs::write(bus.at_name("b.stats"), text).unwrap(),
        }
        b = bus.reconnect("b");
        assert!(b.stats().read.is_empty() && b.stats().sent.is_empty());
    }
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "x");
}

fn c6_a_signal_given_at_spawn_is_kept(sandbox: &Sandbox) {
    let route = sandbox.dir().join("bus");
    let builder = Spawn::builder().protocol("MessageFiles").route(route.to_str().unwrap()).guard(false);
    let mut bus = builder.signal(Signal::new("USR1").unwrap()).spawn().unwrap();
    assert_eq!(bus.signal().unwrap().to_string(), "USR1");
    bus.set_signal(None);
    assert!(bus.signal().is_none());
    bus.unspawn().unwrap();
}

fn c12_names_that_others_could_not_see_are_refused(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    for name in ["x.pid", "x.name", "x.resume", "x.stats", "x.suspend", "x.pend", "x.ready", ".hidden"] {
        assert_eq!(bus.try_client(name).unwrap_err().kind(), ErrorKind::InvalidName, "{name}");
    }
    assert!(bus.names().is_empty());
}

fn c13_half_written_sidecars_are_no_peers(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    for name in ["x.pid.pend", "x.name.pend", "x.suspend.pend", "x.stats.pend"] {
        fs::write(bus.at_name(name), "1").unwrap();
    }
    assert!(a.peers().unwrap().is_empty() && a.all_peers().unwrap().is_empty());
    assert!(a.broadcast("x").unwrap().is_empty());
}

fn c15_names_that_are_not_ascii_are_refused(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    for name in ["caf\u{e9}", "\u{4e2d}", "\u{1F511}", "a\u{7f}"] {
        assert_eq!(bus.try_client(name).unwrap_err().kind(), ErrorKind::InvalidName, "{name}");
    }
    assert!(PeerName::foreign("caf\u{e9}").is_ok(), "others may have given one");
}

fn c16_the_name_0_is_refused(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    assert_eq!(bus.try_client("0").unwrap_err().kind(), ErrorKind::InvalidName);
    drop(bus.client("00"));
}

fn c19_ready_is_false_once_everything_was_read(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    for number in 0..3 {
        b.send("a", &number).unwrap();
        assert!(a.is_ready().unwrap());
        a.recv_timeout(PATIENCE).unwrap();
        assert!(!a.is_ready().unwrap());
    }
}

fn c20_a_message_in_memory_is_a_copy(_: &Sandbox) {
    let bus = Spawn::builder().protocol("LocalMemory").spawn().unwrap();
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    let mut content = json!({"list": [1]});
    a.send("b", &content).unwrap();
    content["list"] = Value::Null;
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), &json!({"list": [1]}));
}

fn c22_the_owners_own_client_is_left_out_of_the_books(sandbox: &Sandbox) {
    let mut bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    bus.owner.terminate().unwrap();
    assert!(bus.owner.audit().unwrap().is_balanced(), "a request to end that was not read is no mismatch");
    a.recv_timeout(PATIENCE).unwrap();
    a.disconnect().unwrap();
    let audit = bus.owner.audit().unwrap();
    assert!(audit.is_balanced() && audit.sent() == 0 && audit.read() == 0, "{audit}");
}

fn c24_nothing_points_at_a_client_that_left(sandbox: &Sandbox) {
    let mut bus = FileBus::new(sandbox);
    let (mut a, mut long) = (bus.client("a"), bus.client(&"L".repeat(270)));
    bus.owner.terminate().unwrap();
    a.disconnect_with(|_| ()).unwrap();
    long.disconnect_with(|_| ()).unwrap();
    assert!(bus.names().iter().all(|name| !name.ends_with(".pid")), "{:?}", bus.names());
    let mut b = bus.client("b");
    assert!(b.peer("a").unwrap().is_none() && b.peer("spawn").unwrap().is_none());
    assert!(b.all_peers().unwrap().iter().all(|record| record.state != PeerState::Dead));
}
