// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is particular to buses in one file: what others put there, writers that die, readers that sleep.

use std::fs;
use std::time::Duration;

use ipc_manager::{ConnectionString, ErrorKind, PeerState, Spawn};
use ipc_manager_testkit::{Puppet, Sandbox, Subject, Test};
use serde_json::{Value, json};

use crate::file_bus::{contents, dead_pid};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        junk_rows_cost_themselves,
        junk_in_a_state_costs_itself,
        a4_what_a_dead_writer_began_is_finished,
        a4_a_state_that_was_destroyed_is_put_back,
        peers_without_a_bell_are_looked_for,
        a8_what_a_dead_foreign_peer_sent_stays,
        an_idle_reader_sleeps_for_ten_seconds,
        sixteen_processes_share_a_database,
        a_database_of_somebody_elses_keeps_all_but_the_bus,
        an_id_that_would_lose_its_spelling_is_refused,
        nothing_is_put_beside_what_is_no_bus,
    ]
}

fn bus(protocol: &str, sandbox: &Sandbox) -> Spawn {
    let route = sandbox.dir().join("bus");
    let builder = Spawn::builder().protocol(protocol).serializer("JSON").guard(false);
    builder.route(route.to_str().unwrap()).spawn().unwrap()
}

fn raw(bus: &Spawn) -> rusqlite::Connection {
    let raw = rusqlite::Connection::open(bus.route().as_str()).unwrap();
    raw.pragma_update(None, "foreign_keys", false).unwrap();
    raw
}

fn junk_rows_cost_themselves(sandbox: &Sandbox) {
    let bus = bus("SQLite", sandbox);
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    let raw = raw(&bus);
    let junk: [(&str, &str, &[u8]); 7] = [
        ("null", "a", b"null"),
        ("cut", "a", b"{\"x\":"),
        ("empty", "a", b""),
        ("bytes", "a", &[0xff, 0, 1]),
        ("nobody", "", b"1"),
        ("trailing", "a", b"1,\"from\":\"c\""),
        ("deep", "a", &[b'['; 100_000]),
    ];
    for (number, (id, from, content)) in junk.iter().enumerate() {
        a.send("b", &number).unwrap();
        raw.execute("INSERT INTO ipcm_messages VALUES (?1, 'b', ?2, 1.5, ?3, 0, NULL)", (id, from, content)).unwrap();
    }
    a.send("b", "last").unwrap();
    let mut got = Vec::new();
    while let Some(message) = b.try_recv().unwrap() {
        got.push(message.content().clone());
    }
    // A row that is no message is passed over together with what is sound; none keeps another.
    while b.is_ready().unwrap() {
        got.extend(contents(&b.get_messages().unwrap()));
    }
    let expected: Vec<Value> = (0..junk.len()).map(Value::from).chain([json!("last")]).collect();
    assert_eq!(got, expected);
    let damaged = b.take_damaged();
    let mut ids: Vec<&str> = damaged.iter().map(|damaged| damaged.error().place().message_id().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["bytes", "cut", "deep", "empty", "nobody", "null", "trailing"]);
    assert!(damaged.iter().all(|damaged| damaged.error().place().table() == Some("ipcm_messages")));
    let kept: i64 = raw.query_row("SELECT COUNT(*) FROM ipcm_damaged", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 7);
    assert!(b.get_messages().unwrap().is_empty() && b.take_damaged().is_empty(), "reported once");
}

fn junk_in_a_state_costs_itself(sandbox: &Sandbox) {
    let bus = bus("JSONFile", sandbox);
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    a.send("b", "first").unwrap();
    let mut state: Value = serde_json::from_slice(&fs::read(bus.route()).unwrap()).unwrap();
    let mailbox = state["messages"]["b"].as_array_mut().unwrap();
    for junk in
        [json!(1), json!([]), json!({"from": "a", "to": "b", "content": null}), json!({"to": "b", "content": 1})]
    {
        mailbox.push(junk);
    }
    mailbox.push(json!({"from": "a", "to": "b", "content": "last", "id": "x", "stamp": 1_900_000_000}));
    fs::write(bus.route(), serde_json::to_vec(&state).unwrap()).unwrap();
    assert_eq!(contents(&b.get_messages().unwrap()), ["first", "last"]);
    assert_eq!(b.take_damaged().len(), 4);
    assert!(b.get_messages().unwrap().is_empty() && b.take_damaged().is_empty());
}

fn a4_what_a_dead_writer_began_is_finished(sandbox: &Sandbox) {
    let bus = bus("JSONFile", sandbox);
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    let beside = sandbox.dir().join("bus.ipcm");
    for number in 0..5 {
        a.send("b", &number).unwrap();
    }
    let old = fs::read(bus.route()).unwrap();
    a.send("b", &"long".repeat(2_000)).unwrap();
    let new = fs::read(bus.route()).unwrap();
    let copy = |mark: char, generation: u64, state: &[u8]| {
        let head = format!("{mark}{generation:020} {:020}\n", state.len());
        [head.as_bytes(), state, format!("\n{generation:020}\n").as_bytes()].concat()
    };
    // As a writer leaves it that is killed half-way: so much of the new over the old.
    for (round, written) in [0, 1, 100, old.len() - 1, old.len(), old.len() + 5_000, new.len()].into_iter().enumerate()
    {
        let generation = 1_000 + 10 * round as u64;
        fs::write(beside.join(".ipcm-copy-0"), copy('d', generation, &old)).unwrap();
        fs::write(beside.join(".ipcm-copy-1"), copy('w', generation + 1, &new)).unwrap();
        let mut torn = new[..written].to_vec();
        torn.extend(old.get(written..).unwrap_or_default());
        fs::write(bus.route(), torn).unwrap();
        assert_eq!(a.peers().unwrap().len(), 1, "after {written} bytes");
        let now = fs::read(bus.route()).unwrap();
        assert!(now == new || now == old, "after {written} bytes it is neither the old nor the new");
        let is_begun = |name: &str| fs::read(beside.join(name)).unwrap().starts_with(b"w");
        assert!(!is_begun(".ipcm-copy-0") && !is_begun(".ipcm-copy-1"), "after {written} bytes a copy is unfinished");
    }
    let got = b.get_messages().unwrap();
    assert!(got.len() >= 5 && contents(&got)[..5] == [json!(0), json!(1), json!(2), json!(3), json!(4)]);
}

fn a4_a_state_that_was_destroyed_is_put_back(sandbox: &Sandbox) {
    let bus = bus("JSONFile", sandbox);
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    a.send("b", "kept").unwrap();
    // A writer that cuts the file first was killed then.
    fs::write(bus.route(), b"").unwrap();
    a.send("b", "also").unwrap();
    assert_eq!(contents(&b.get_messages().unwrap()), ["kept", "also"]);
    let other = sandbox.dir().join("other");
    fs::write(&other, "no bus").unwrap();
    let refused = Spawn::builder().protocol("JSONFile").route(other.to_str().unwrap()).spawn().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NameInUse, "{refused:?}");
    assert_eq!(fs::read_to_string(&other).unwrap(), "no bus");
}

fn peers_without_a_bell_are_looked_for(sandbox: &Sandbox) {
    let bus = bus("SQLite", sandbox);
    let mut a = bus.connect("a").unwrap();
    let raw = raw(&bus);
    let foreign = "INSERT INTO ipcm_peers (id, pid, active) VALUES (?1, ?2, 1795334342.5)";
    raw.execute(foreign, ("theirs", std::process::id())).unwrap();
    raw.execute(foreign, ("dead", dead_pid())).unwrap();
    let states: Vec<_> = a.all_peers().unwrap().into_iter().map(|peer| (peer.name.to_string(), peer.state)).collect();
    assert_eq!(states, [("dead".to_owned(), PeerState::Dead), ("theirs".to_owned(), PeerState::Active)]);
    assert!(a.wake().unwrap().look_every <= Duration::from_millis(200), "it does not ring");
    raw.execute("INSERT INTO ipcm_messages (id, `to`, `from`, stamp, content, broadcast) VALUES ('x', 'a', 'theirs', 1.5, '7', 0)", [])
        .unwrap();
    assert_eq!(a.recv_timeout(ipc_manager_testkit::PATIENCE).unwrap().content(), 7);
    assert_eq!(bus.connect("theirs").unwrap_err().kind(), ErrorKind::NameInUse);
}

fn a8_what_a_dead_foreign_peer_sent_stays(sandbox: &Sandbox) {
    let bus = bus("SQLite", sandbox);
    let mut a = bus.connect("a").unwrap();
    let raw = raw(&bus);
    raw.execute("INSERT INTO ipcm_peers (id, pid, active) VALUES ('dead', ?1, 1.5)", [dead_pid()]).unwrap();
    for (id, to) in [("x", "a"), ("y", "dead")] {
        raw.execute("INSERT INTO ipcm_messages (id, `to`, `from`, stamp, content, broadcast) VALUES (?1, ?2, 'dead', 1.5, '1', 0)", (id, to))
            .unwrap();
    }
    assert_eq!(a.reap().unwrap().len(), 1);
    assert!(a.reap().unwrap().is_empty() && a.peer("dead").unwrap().is_none());
    assert_eq!(a.get_messages().unwrap().len(), 1);
    let left: i64 = raw.query_row("SELECT COUNT(*) FROM ipcm_messages", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
}

fn an_idle_reader_sleeps_for_ten_seconds(sandbox: &Sandbox) {
    for protocol in ["SQLite", "JSONFile"] {
        let dir = sandbox.dir().join(protocol);
        fs::create_dir(&dir).unwrap();
        let route = dir.join("bus");
        let bus = Spawn::builder().protocol(protocol).route(route.to_str().unwrap()).guard(false).spawn().unwrap();
        let (mut a, _b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
        assert!(a.get_messages().unwrap().is_empty());
        let wake = a.wake().unwrap();
        assert!(wake.look_every >= Duration::from_secs(10) && !wake.descriptors.is_empty(), "{protocol}: {wake:?}");
    }
}

fn sixteen_processes_share_a_database(sandbox: &Sandbox) {
    let bus = bus("SQLite", sandbox);
    let mut hub = bus.connect("hub").unwrap();
    let (count, subject) = (60, Subject::new("SQLite"));
    let mut puppets: Vec<Puppet> = (0..16)
        .map(|number| {
            let mut puppet = Puppet::start(&subject, &bus.to_string(), sandbox.dir());
            puppet.try_connect(&format!("p{number}")).unwrap();
            puppet
        })
        .collect();
    for number in 0..count {
        for puppet in &mut puppets {
            puppet.post(&json!({"op": "send", "to": "hub", "content": number}));
        }
    }
    for _ in 0..count * puppets.len() {
        hub.recv_timeout(ipc_manager_testkit::PATIENCE).unwrap();
    }
    for puppet in &mut puppets {
        (0..count).for_each(|_| assert_eq!(puppet.answer().unwrap()["receipt"], "delivered"));
    }
}

fn a_database_of_somebody_elses_keeps_all_but_the_bus(sandbox: &Sandbox) {
    let at = sandbox.dir().join("theirs.sqlite");
    let raw = rusqlite::Connection::open(&at).unwrap();
    raw.execute_batch("CREATE TABLE theirs (x INTEGER); INSERT INTO theirs VALUES (7)").unwrap();
    let mode = |raw: &rusqlite::Connection| -> String {
        raw.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap()
    };
    let before = mode(&raw);
    let mut bus = Spawn::builder().protocol("SQLite").route(at.to_str().unwrap()).guard(false).spawn().unwrap();
    let info: ConnectionString = bus.info().clone();
    drop(bus.connect("a").unwrap());
    assert_eq!(mode(&raw), before, "the journal is theirs to choose");
    bus.unspawn().unwrap();
    let tables: Vec<String> = raw
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table'")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(tables, ["theirs"]);
    assert_eq!(ipc_manager::connect("a", &info).unwrap_err().kind(), ErrorKind::NoSuchBus);
    assert!(!sandbox.dir().join("theirs.sqlite.ipcm").exists());
}

fn an_id_that_would_lose_its_spelling_is_refused(sandbox: &Sandbox) {
    let bus = bus("SQLite", sandbox);
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    let message = |id: &str| {
        let builder = ipc_manager::Message::builder("a").to("b").content("x").unwrap();
        builder.id(id).build().unwrap()
    };
    for id in ["007", "1e3", "0x10_", "order-17", "17"] {
        match a.send_message(message(id)) {
            Ok(_) => assert_eq!(b.try_recv().unwrap().unwrap().id().as_str(), id),
            Err(error) => {
                assert_eq!((error.kind(), id.starts_with('0') || id == "1e3"), (ErrorKind::InvalidName, true))
            }
        }
    }
}

fn nothing_is_put_beside_what_is_no_bus(sandbox: &Sandbox) {
    let at = sandbox.dir().join("theirs");
    let theirs = rusqlite::Connection::open(sandbox.dir().join("database")).unwrap();
    theirs.execute_batch("CREATE TABLE theirs (x INTEGER)").unwrap();
    drop(theirs);
    let database = fs::read(sandbox.dir().join("database")).unwrap();
    fs::remove_file(sandbox.dir().join("database")).unwrap();
    for protocol in ["SQLite", "JSONFile"] {
        for content in [&b"no bus"[..], b"[1, 2]", &database] {
            fs::write(&at, content).unwrap();
            let info = json!([protocol, "JSON", at.to_str().unwrap()]).to_string();
            let info = ConnectionString::parse(&info).unwrap();
            let refused = ipc_manager::connect("a", &info).unwrap_err();
            assert!(matches!(refused.kind(), ErrorKind::NoSuchBus | ErrorKind::Corrupt), "{protocol}: {refused:?}");
            let there: Vec<_> = fs::read_dir(sandbox.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(there, ["theirs"], "{protocol}: {refused:?}");
            assert_eq!(fs::read(&at).unwrap(), content, "{protocol}");
        }
    }
}
