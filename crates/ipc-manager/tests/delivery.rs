// SPDX-License-Identifier: MIT OR Apache-2.0
//! What messages that are to be acknowledged look like in a store, to whoever knows nothing of that.

use std::fs;

use ipc_manager::{Client, ConnectionString, ErrorKind, Limits, Message, Observer, Receipt, Spawn};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test};
use serde_json::{Value, json};

use crate::file_bus::{FileBus, foreign_message, names_in};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        a_file_in_hand_is_a_message_to_others,
        a_dead_file_is_no_message_to_others,
        what_is_sent_again_while_it_is_in_hand_is_there_once,
        what_another_reader_took_is_acknowledged_all_the_same,
        a_message_whose_name_has_no_room_is_handed_out_uncounted,
        a_mailbox_that_is_gone_acknowledges_nothing,
        a_state_tells_of_deliveries_in_keys_of_ours,
        two_messages_of_one_id_in_a_state_are_two,
        a_row_in_hand_is_a_message_to_others,
        a_content_of_another_type_stays_and_dies,
    ]
}

fn a_content_of_another_type_stays_and_dies(_: &Sandbox) {
    let bus = Spawn::builder().protocol("MessageFiles").spawn().unwrap();
    let (mut boss, mut worker) = (bus.connect("boss").unwrap(), gives_up_after(2, "worker", bus.info()));
    boss.send("worker", "not a number").unwrap();
    boss.typed::<u32>().send("worker", &7).unwrap();
    for _ in 0..2 {
        let error = worker.typed::<u32>().receive_timeout(PATIENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deserialize);
    }
    let (delivery, number) = worker.typed::<u32>().receive().unwrap();
    assert_eq!((number, delivery.attempts()), (7, 1));
    delivery.acknowledge(&mut worker).unwrap();
    assert!(worker.typed::<u32>().try_receive().unwrap().is_none());
    assert_eq!(boss.dead("worker").unwrap()[0].message.content(), "not a number");
}

/// Joins with other limits on how often a message is received.
fn gives_up_after(delivery_attempts: u32, name: &str, info: &ConnectionString) -> Client {
    let limits = Limits { delivery_attempts, ..Limits::default() };
    Client::builder(name, info).limits(limits).connect().unwrap()
}

fn unread(bus: &FileBus, name: &str) -> Option<u64> {
    Observer::new(bus.info()).unwrap().peer(name).unwrap().unwrap().unread
}

/// What a reader of the reference implementation takes out of a directory.
fn foreign_read(bus: &FileBus, name: &str) -> Vec<Value> {
    let dir = bus.at_name(name);
    let ready = names_in(&dir).into_iter().filter(|file| file.ends_with(".ready"));
    let read = |file: String| {
        let content = fs::read(dir.join(&file)).unwrap();
        fs::remove_file(dir.join(file)).unwrap();
        serde_json::from_slice::<Value>(&content).unwrap()["content"].clone()
    };
    ready.map(read).collect()
}

fn a_file_in_hand_is_a_message_to_others(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    a.send("b", &1).unwrap();
    let before = names_in(&bus.at_name("b"));
    let id = before.first().unwrap().strip_suffix(".ready").unwrap().to_owned();
    let content = fs::read(bus.at_name("b").join(before.first().unwrap())).unwrap();
    for attempt in 1..=2 {
        let answer = b.must(&json!({"op": "receive"}));
        let file = format!("try-{attempt}.{id}.ready");
        assert_eq!(names_in(&bus.at_name("b")).into_iter().collect::<Vec<_>>(), [file.as_str()]);
        assert_eq!(fs::read(bus.at_name("b").join(file)).unwrap(), content, "nothing but the name changes");
        assert_eq!(unread(&bus, "b"), Some(1));
        b.must(&json!({"op": "put_back", "delivery": answer["delivery"]}));
    }
    b.must(&json!({"op": "receive"}));
    b.kill();
    assert_eq!(foreign_read(&bus, "b"), [1]);
    assert!(bus.reconnect("b").try_receive().unwrap().is_none());
}

fn a_dead_file_is_no_message_to_others(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), gives_up_after(1, "b", bus.info()));
    a.send("b", &1).unwrap();
    let message = b.recv_timeout(PATIENCE).unwrap();
    b.requeue(std::slice::from_ref(&message)).unwrap();
    drop(b.receive_timeout(PATIENCE).unwrap());
    assert!(b.try_receive().unwrap().is_none());
    let id = message.id();
    assert_eq!(names_in(&bus.at_name("b")).into_iter().collect::<Vec<_>>(), [format!("put-back.try-1.{id}.dead")]);
    assert!(foreign_read(&bus, "b").is_empty());
    assert_eq!(unread(&bus, "b"), Some(0));
    assert!(a.revive("b", id.as_str()).unwrap());
    assert_eq!(names_in(&bus.at_name("b")).into_iter().collect::<Vec<_>>(), [format!("put-back.{id}.ready")]);
    // Two of one name: one was sent again while the other was dead.
    drop(b.receive_timeout(PATIENCE).unwrap());
    assert!(b.try_receive().unwrap().is_none());
    bus.drop_in("b", &format!("put-back.{id}"), foreign_message("a", "b", id.as_str(), 5.0, &json!(2)));
    assert_eq!(a.revive_all("b").unwrap(), 1);
    let mut read = foreign_read(&bus, "b");
    read.sort_by_key(Value::as_u64);
    assert_eq!(read, [1, 2]);
}

fn what_is_sent_again_while_it_is_in_hand_is_there_once(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    let message = a.message("b", &1).unwrap();
    a.send_message(message.clone()).unwrap();
    for attempt in 1..=3 {
        let held = b.receive_timeout(PATIENCE).unwrap();
        assert_eq!(held.attempts(), attempt);
        assert_eq!(a.send_message(message.clone()).unwrap(), Receipt::AlreadyStored);
        let other = Message::builder("a").to("b").id(message.id().as_str()).content("other").unwrap().build().unwrap();
        assert_eq!(a.send_message(other).unwrap_err().kind(), ErrorKind::Store);
        assert!(b.try_receive().unwrap().is_none());
        assert_eq!(names_in(&bus.at_name("b")).len(), 1, "nothing half-written is left");
    }
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), 1);
    assert_eq!(a.stats().sent["b"], 1);
}

fn what_another_reader_took_is_acknowledged_all_the_same(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    a.send("b", &1).unwrap();
    a.send("b", &2).unwrap();
    let (first, second) = (b.receive_timeout(PATIENCE).unwrap(), b.receive_timeout(PATIENCE).unwrap());
    assert_eq!(foreign_read(&bus, "b").len(), 2);
    first.acknowledge(&mut b).unwrap();
    second.put_back();
    assert!(b.try_receive().unwrap().is_none() && b.try_recv().unwrap().is_none());
    b.disconnect().unwrap();
}

fn a_message_whose_name_has_no_room_is_handed_out_uncounted(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut b = bus.client("b");
    let id = "x".repeat(255 - ".ready".len());
    bus.drop_in("b", "short", foreign_message("a", "b", "short", 5.0, &json!(1)));
    fs::write(bus.at_name("b").join(format!("{id}.ready")), foreign_message("a", "b", &id, 6.0, &json!(2))).unwrap();
    for _ in 0..9 {
        let held = [b.receive_timeout(PATIENCE).unwrap(), b.receive_timeout(PATIENCE).unwrap()];
        assert_eq!((held[1].message().content(), held[1].attempts()), (&json!(2), 1));
        if held[0].attempts() == 5 {
            let [first, second] = held;
            first.acknowledge(&mut b).unwrap();
            second.acknowledge(&mut b).unwrap();
            break;
        }
    }
    assert!(names_in(&bus.at_name("b")).is_empty());
}

fn a_mailbox_that_is_gone_acknowledges_nothing(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    a.send("b", &1).unwrap();
    let held = b.receive_timeout(PATIENCE).unwrap();
    fs::remove_dir_all(bus.route()).unwrap();
    let error = held.acknowledge(&mut b).unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::NoSuchBus, "acknowledge"), "{error:?}");
    assert_eq!(b.stats().read.get("a"), None, "nobody knows whether it was done");
    assert_eq!(b.try_receive().unwrap_err().kind(), ErrorKind::NoSuchBus);
}

fn state_of(path: &std::path::Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn a_state_tells_of_deliveries_in_keys_of_ours(sandbox: &Sandbox) {
    let path = sandbox.dir().join("bus.json");
    let builder = Spawn::builder().protocol("JSONFile").guard(false).route(path.to_str().unwrap());
    let mut bus = builder.spawn().unwrap();
    let (mut a, mut b) = (bus.connect("a").unwrap(), gives_up_after(2, "b", bus.info()));
    a.send("b", &json!({"n": 1})).unwrap();
    let before = state_of(&path)["messages"]["b"][0].clone();
    let held = b.receive_timeout(PATIENCE).unwrap();
    let mut expected = before.clone();
    expected["ipcm_attempts"] = json!(1);
    assert_eq!(state_of(&path)["messages"]["b"], json!([expected]));
    // Another writer passes on what it does not know.
    fs::write(&path, serde_json::to_vec_pretty(&state_of(&path)).unwrap()).unwrap();
    held.put_back();
    drop(b.receive_timeout(PATIENCE).unwrap());
    assert!(b.try_receive().unwrap().is_none());
    let state = state_of(&path);
    expected["ipcm_attempts"] = json!(2);
    assert_eq!((&state["messages"]["b"], &state["ipcm_dead"]), (&json!([]), &json!({"b": [expected]})));
    fs::write(&path, serde_json::to_vec_pretty(&state).unwrap()).unwrap();
    assert_eq!(a.revive_all("b").unwrap(), 1);
    let state = state_of(&path);
    assert_eq!((&state["messages"]["b"], state.get("ipcm_dead")), (&json!([before]), None));
    b.receive_timeout(PATIENCE).unwrap().acknowledge(&mut b).unwrap();
    assert_eq!(state_of(&path)["messages"]["b"], json!([]));
    drop((a, b));
    bus.unspawn().unwrap();
}

fn two_messages_of_one_id_in_a_state_are_two(sandbox: &Sandbox) {
    let path = sandbox.dir().join("bus.json");
    let builder = Spawn::builder().protocol("JSONFile").guard(false).route(path.to_str().unwrap());
    let mut bus = builder.spawn().unwrap();
    let mut b = bus.connect("b").unwrap();
    let mut state = state_of(&path);
    let foreign = |n: u32| json!({"id": "1", "from": "a", "to": "b", "stamp": 5.5, "content": n});
    state["messages"]["b"] = json!([foreign(1), foreign(2), {"no": "message"}, foreign(3)]);
    fs::write(&path, serde_json::to_vec(&state).unwrap()).unwrap();
    let held: Vec<_> = (0..3).map(|_| b.receive_timeout(PATIENCE).unwrap()).collect();
    let contents: Vec<_> = held.iter().map(|held| held.message().content().clone()).collect();
    assert_eq!(contents, [1, 2, 3]);
    assert!(b.try_receive().unwrap().is_none() && !b.is_ready().unwrap());
    assert_eq!(b.take_damaged().len(), 1);
    for one in held {
        one.acknowledge(&mut b).unwrap();
    }
    assert_eq!(state_of(&path)["messages"]["b"], json!([]));
    drop(b);
    bus.unspawn().unwrap();
}

fn a_row_in_hand_is_a_message_to_others(sandbox: &Sandbox) {
    let path = sandbox.dir().join("bus.sqlite");
    let builder = Spawn::builder().protocol("SQLite").guard(false).route(path.to_str().unwrap());
    let mut bus = builder.spawn().unwrap();
    let (mut a, mut b) = (bus.connect("a").unwrap(), gives_up_after(1, "b", bus.info()));
    let foreign = rusqlite::Connection::open(&path).unwrap();
    let rows = |table: &str| -> Vec<(String, f64, Vec<u8>, Option<String>)> {
        let text = format!("SELECT id, stamp, content, ipcm_more FROM {table} WHERE `to` = 'b'");
        let mut statement = foreign.prepare(&text).unwrap();
        let read = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
        read.map(|row| row.unwrap()).collect()
    };
    a.send("b", &1).unwrap();
    let before = rows("ipcm_messages");
    let held = b.receive_timeout(PATIENCE).unwrap();
    let (id, stamp, content, _) = before[0].clone();
    let marked = vec![(id.clone(), stamp, content.clone(), Some("{\"attempts\":1}".to_owned()))];
    assert_eq!(rows("ipcm_messages"), marked);
    drop(held);
    assert!(b.try_receive().unwrap().is_none());
    assert_eq!((rows("ipcm_messages"), rows("ipcm_dead")), (vec![], marked));
    // Sent again while it is dead: what is there is not put over it.
    let message = b.dead("b").unwrap()[0].message.clone();
    a.send_message(message).unwrap();
    assert_eq!(a.revive_all("b").unwrap(), 1);
    assert_eq!((rows("ipcm_messages"), rows("ipcm_dead")), (before, vec![]));
    let held = b.receive_timeout(PATIENCE).unwrap();
    assert_eq!(foreign.execute("DELETE FROM ipcm_messages WHERE `to` = 'b'", []).unwrap(), 1);
    held.acknowledge(&mut b).unwrap();
    assert!(b.try_receive().unwrap().is_none());
    drop((a, b, foreign));
    bus.unspawn().unwrap();
}
