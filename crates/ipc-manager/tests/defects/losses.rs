// SPDX-License-Identifier: MIT OR Apache-2.0
//! Section A: data loss and destruction.

use std::fs;

use ipc_manager::{Client, ErrorKind, Message, Spawn, Suspend};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test};
use serde_json::{Value, json};

use crate::file_bus::{FileBus, contents, foreign_message};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        a1_a_refused_connect_changes_nothing_of_the_holder,
        a2_a_refused_reconnect_changes_nothing_of_the_holder,
        a3_names_that_mean_directories_are_refused_and_remove_nothing,
        a5_a_suspended_client_survives_the_end_of_its_process,
        a5_a_suspended_client_in_memory_survives_reaping,
        a7_a_put_back_message_is_unchanged_in_memory,
        a10_unread_messages_of_a_crashed_client_are_there_after_reconnect,
        a19_a_message_that_is_none_costs_itself_only,
        a20_a_message_that_is_none_does_not_wedge_the_client,
        a21_an_id_is_no_path,
        a22_a_burst_keeps_its_order_and_every_stamp_differs,
        a23_a_new_message_does_not_overtake_earlier_ones,
    ]
}

/// Tries to take the name of a live peer, and checks that nothing of it changed.
fn refused_without_a_trace(sandbox: &Sandbox, attempt: fn(&FileBus) -> ipc_manager::Result<Client>) {
    let bus = FileBus::new(sandbox);
    let (mut holder, mut other) = (bus.client("holder"), bus.client("other"));
    other.send("holder", "x").unwrap();
    assert_eq!(holder.recv_timeout(PATIENCE).unwrap().content(), "x");
    holder.write_stats().unwrap();
    other.send("holder", "unread").unwrap();
    let snapshot = |bus: &FileBus| -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let content = |path: std::path::PathBuf| (path.clone(), fs::read(bus.route().join(path)).unwrap_or_default());
        bus.tree().into_iter().map(content).collect()
    };
    let before = snapshot(&bus);
    assert_eq!(attempt(&bus).unwrap_err().kind(), ErrorKind::NameInUse);
    let after = snapshot(&bus);
    let paths = |all: &[(std::path::PathBuf, Vec<u8>)]| all.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    assert_eq!(paths(&before), paths(&after));
    assert!(before == after, "a file was rewritten");
    assert_eq!(holder.recv_timeout(PATIENCE).unwrap().content(), "unread");
    other.send("holder", "reachable").unwrap();
    assert_eq!(holder.recv_timeout(PATIENCE).unwrap().content(), "reachable");
}

fn a1_a_refused_connect_changes_nothing_of_the_holder(sandbox: &Sandbox) {
    refused_without_a_trace(sandbox, |bus| bus.try_client("holder"));
}

fn a2_a_refused_reconnect_changes_nothing_of_the_holder(sandbox: &Sandbox) {
    refused_without_a_trace(sandbox, |bus| bus.try_reconnect("holder"));
}

fn a3_names_that_mean_directories_are_refused_and_remove_nothing(sandbox: &Sandbox) {
    fs::create_dir(sandbox.dir().join("beside")).unwrap();
    fs::write(sandbox.dir().join("beside/canary"), "sings").unwrap();
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    let before = sandbox.listing();
    for name in [".", "..", "../beside", "beside/.."] {
        if let Ok(mut client) = bus.try_client(name) {
            // Taken as a name like any other: under a hash, within the route.
            client.disconnect().unwrap();
        }
        drop(bus.try_reconnect(name));
        drop(a.send(name, "x"));
    }
    let after = sandbox.listing();
    assert!(before.is_subset(&after), "something was removed");
    assert!(after.difference(&before).all(|path| path.starts_with("bus")), "something was made beside the route");
}

fn a5_a_suspended_client_survives_the_end_of_its_process(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut sleeper) = (bus.client("a"), bus.puppet("sleeper"));
    a.send("sleeper", "waits").unwrap();
    sleeper.suspend().unwrap();
    sleeper.kill();
    assert!(a.reap().unwrap().is_empty());
    assert_eq!(a.peers().unwrap(), ["sleeper"]);
    assert_eq!(bus.reconnect("sleeper").recv_timeout(PATIENCE).unwrap().content(), "waits");
}

/// A bus in memory, and two clients.
fn in_memory() -> (Spawn, Client, Client) {
    let bus = Spawn::builder().protocol("LocalMemory").spawn().unwrap();
    let (a, b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    (bus, a, b)
}

fn a5_a_suspended_client_in_memory_survives_reaping(_: &Sandbox) {
    let (bus, mut a, mut b) = in_memory();
    b.suspend(Suspend::open_ended()).unwrap();
    a.send("b", "waits").unwrap();
    assert!(a.reap().unwrap().is_empty());
    assert_eq!(bus.reconnect("b").unwrap().recv_timeout(PATIENCE).unwrap().content(), "waits");
}

fn a7_a_put_back_message_is_unchanged_in_memory(_: &Sandbox) {
    let (_bus, mut a, mut b) = in_memory();
    for number in 0..3 {
        b.send("a", &number).unwrap();
    }
    let taken = a.get_messages().unwrap();
    a.requeue(&taken).unwrap();
    assert_eq!(a.get_messages().unwrap(), taken);
    a.requeue(&taken[..1]).unwrap();
    assert_eq!(a.get_messages().unwrap(), taken[..1]);
}

fn a10_unread_messages_of_a_crashed_client_are_there_after_reconnect(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    a.send("b", "unread").unwrap();
    b.kill();
    assert_eq!(contents(&bus.reconnect("b").get_messages().unwrap()), ["unread"]);
}

fn a19_a_message_that_is_none_costs_itself_only(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    let good = |number: u32| foreign_message("b", "a", &format!("good-{number}"), f64::from(number), &number.into());
    let broken = [
        json!({"from": "b", "to": "a", "content": null, "id": "broken-0", "stamp": 1.5}),
        json!({"to": "a", "content": 1, "id": "broken-1", "stamp": 2.5}),
        json!({"from": "b", "content": 1, "id": "broken-2", "stamp": 3.5}),
        json!(["not", "an", "object"]),
    ];
    for (number, broken) in (1..).zip(&broken) {
        bus.drop_in("a", &format!("good-{number}"), good(number));
        bus.drop_in("a", &format!("broken-{number}"), broken.to_string());
    }
    bus.drop_in("a", "good-5", good(5));
    let got = contents(&a.get_messages().unwrap());
    assert_eq!(got, (1..=5).map(Value::from).collect::<Vec<_>>());
    assert_eq!(a.take_damaged().len(), broken.len());
    assert_eq!(a.stats().read["b"], 5, "what is no message is not counted");
}

fn a20_a_message_that_is_none_does_not_wedge_the_client(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    for number in 0..3 {
        bus.drop_in("a", &format!("broken-{number}"), "{");
        assert!(a.get_messages().unwrap().is_empty());
        assert_eq!(a.take_damaged().len(), 1);
        assert!(!a.is_ready().unwrap());
        b.send("a", &number).unwrap();
        assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), number);
    }
    a.disconnect().unwrap();
}

fn a21_an_id_is_no_path(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, _b) = (bus.client("a"), bus.client("b"));
    let before = sandbox.listing();
    for id in ["../x", "/tmp/x", ".", "..", "", "a\0b", "a/b", ".hidden", &"i".repeat(241), "a b", "\u{e9}"] {
        let built = Message::builder("a").to("b").content("x").unwrap().id(id).build();
        assert_eq!(built.unwrap_err().kind(), ErrorKind::InvalidName, "{id:?}");
    }
    // One that came from elsewhere is read under its name, and not sent on under it.
    bus.drop_in("a", "odd", foreign_message("b", "a", "../../odd", 5.0, &json!("x")));
    let foreign = a.recv_timeout(PATIENCE).unwrap();
    assert_eq!(foreign.id().as_str(), "../../odd");
    assert!(a.send_message(foreign.clone_to("b").unwrap()).is_ok(), "a copy has an id of its own");
    assert_eq!(a.send_message(foreign).unwrap_err().kind(), ErrorKind::InvalidName);
    let outside = |path: &&std::path::PathBuf| !path.starts_with("bus/b");
    assert_eq!(sandbox.listing().iter().filter(outside).count(), before.iter().filter(outside).count());
}

fn a22_a_burst_keeps_its_order_and_every_stamp_differs(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    let burst: Vec<Message> = (0..200).map(|number| a.message("b", &number).unwrap()).collect();
    let wire: Vec<Value> = burst
        .iter()
        .map(|message| serde_json::from_str(&message.to_json(&Default::default()).unwrap()).unwrap())
        .collect();
    let keys: Vec<f64> = wire.iter().map(|message| message["stamp"].as_f64().unwrap()).collect();
    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "stamps on the wire do not increase");
    a.send_all(burst).unwrap();
    assert_eq!(contents(&b.get_messages().unwrap()), (0..200).map(Value::from).collect::<Vec<_>>());
}

fn a23_a_new_message_does_not_overtake_earlier_ones(_: &Sandbox) {
    let (_bus, mut a, mut b) = in_memory();
    let mut sent = 0;
    while a.try_send("b", &sent).is_ok() {
        sent += 1;
    }
    let mut got = contents(&b.get_at_most(3).unwrap());
    for number in sent..sent + 3 {
        a.try_send("b", &number).unwrap();
    }
    loop {
        let batch = b.get_messages().unwrap();
        if batch.is_empty() {
            break;
        }
        got.extend(contents(&batch));
    }
    assert!(got == (0..sent + 3).map(Value::from).collect::<Vec<_>>(), "out of order, or not all");
}
