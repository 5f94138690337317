// SPDX-License-Identifier: MIT OR Apache-2.0
//! A peer of another implementation, made of files: what it sees of us, and what we make of what it leaves. It knows
//! directories, `.pid` files and renames, and none of our dot files.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use ipc_manager::{ErrorKind, PeerState, Receipt, Wait, WaitFor};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test, eventually};
use serde_json::{Value, json};

use crate::file_bus::{FileBus, contents, dead_pid, foreign_message, names_in};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        messages_go_both_ways,
        a_sleeping_reader_is_woken_by_a_rename,
        a_live_foreign_peer_keeps_its_name_and_everything,
        a_dead_foreign_peer_is_replaced_and_reaped,
        a_foreign_entry_without_a_pid_is_left_alone_while_young,
        a_suspended_foreign_peer_is_listed_and_continued,
        what_an_orderly_foreign_leave_leaves_is_in_nobodys_way,
        a_leaving_foreign_peer_is_unreachable,
        a_foreign_peer_takes_a_name_after_one_of_ours_died,
        foreign_names_are_shown_and_reached_as_they_are,
        pids_that_cannot_be_are_none,
        scalars_may_be_numbers_or_strings,
        damaged_foreign_statistics_are_passed_over,
    ]
}

fn messages_go_both_ways(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    bus.foreign_entry("perl", Some(std::process::id()));
    let mut a = bus.client("a");
    assert_eq!(a.peers().unwrap(), ["perl"]);
    let record = a.peer("perl").unwrap().unwrap();
    assert_eq!((record.pid, record.state), (Some(std::process::id()), PeerState::Active));
    assert_eq!(a.send("perl", &json!({"hello": "caf\u{e9}"})).unwrap(), Receipt::Delivered);
    let files = names_in(&bus.at_name("perl"));
    assert!(files.len() == 1 && files.iter().all(|name| name.ends_with(".ready")), "{files:?}");
    let bytes = fs::read(bus.at_name("perl").join(files.first().unwrap())).unwrap();
    assert!(bytes.is_ascii());
    let message: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((&message["from"], &message["content"]), (&json!("a"), &json!({"hello": "caf\u{e9}"})));
    assert_eq!(format!("{}.ready", message["id"].as_str().unwrap()), *files.first().unwrap());
    bus.drop_in("a", "4F9D92E8-E64A-11F1", foreign_message("perl", "a", "4F9D92E8-E64A-11F1", 5.25, &json!([1])));
    let got = a.recv_timeout(PATIENCE).unwrap();
    assert_eq!((got.from().as_str(), got.id().as_str(), got.content()), ("perl", "4F9D92E8-E64A-11F1", &json!([1])));
    assert_eq!((a.stats().read["perl"], a.stats().sent["perl"]), (1, 1));
    assert!(a.broadcast("to all").unwrap().iter().all(|(_, result)| result.is_ok()));
    assert_eq!(bus.waiting("perl"), 2);
}

fn a_sleeping_reader_is_woken_by_a_rename(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut puppet = bus.puppet("a");
    for number in 0..5 {
        puppet.post(&json!({"op": "recv", "timeout": PATIENCE.as_secs()}));
        puppet.wait_until_asleep();
        let id = format!("id-{number}");
        bus.drop_in("a", &id, foreign_message("perl", "a", &id, 5.0, &number.into()));
        assert_eq!(puppet.answer().unwrap()["messages"][0]["content"], number);
    }
}

fn a_live_foreign_peer_keeps_its_name_and_everything(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    bus.foreign_entry("perl", Some(std::process::id()));
    fs::write(bus.at_name("perl.stats"), "{\"read\":{},\"sent\":{}}").unwrap();
    bus.drop_in("perl", "id-1", foreign_message("b", "perl", "id-1", 5.0, &json!(1)));
    let before = bus.tree();
    assert_eq!(bus.try_client("perl").unwrap_err().kind(), ErrorKind::NameInUse);
    assert_eq!(bus.try_reconnect("perl").unwrap_err().kind(), ErrorKind::NameInUse);
    let ours = |path: &PathBuf| path.to_string_lossy().starts_with(".ipcm-");
    let after: Vec<_> = bus.tree().into_iter().filter(|path| !ours(path)).collect();
    assert_eq!(after, before.into_iter().filter(|path| !ours(path)).collect::<Vec<_>>());
    assert!(bus.client("a").reap().unwrap().is_empty());
    assert_eq!(bus.waiting("perl"), 1);
}

fn a_dead_foreign_peer_is_replaced_and_reaped(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    for name in ["replaced", "reaped"] {
        bus.foreign_entry(name, Some(dead_pid()));
        for suffix in ["name", "stats", "resume", "suspend", "pid.pend", "stats.pend"] {
            fs::write(bus.at_name(&format!("{name}.{suffix}")), "").unwrap();
        }
        fs::remove_file(bus.at_name(&format!("{name}.name"))).unwrap();
        bus.drop_in(name, "id-1", foreign_message("a", name, "id-1", 5.0, &json!(1)));
        assert_eq!(a.peer(name).unwrap().unwrap().state, PeerState::Dead);
    }
    assert!(a.peers().unwrap().is_empty());
    let client = bus.client("replaced");
    assert_eq!(client.discarded(), 1);
    assert_eq!(a.reap().unwrap(), ["reaped"]);
    assert!(bus.names().iter().all(|name| !name.starts_with("reaped")), "{:?}", bus.names());
    assert_eq!(a.peers().unwrap(), ["replaced"]);
}

fn a_foreign_entry_without_a_pid_is_left_alone_while_young(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    bus.foreign_entry("new", None);
    assert_eq!(a.peers().unwrap(), ["new"], "between its directory and its pid a peer is there");
    assert_eq!(a.peer("new").unwrap().unwrap().state, PeerState::Starting);
    assert_eq!(bus.try_client("new").unwrap_err().kind(), ErrorKind::NameInUse);
    assert!(a.reap().unwrap().is_empty());
    a.send("new", "x").unwrap();
    fs::write(bus.at_name("new.pid"), std::process::id().to_string()).unwrap();
    assert_eq!(a.peer("new").unwrap().unwrap().state, PeerState::Active);
    assert_eq!(bus.waiting("new"), 1);
}

fn a_suspended_foreign_peer_is_listed_and_continued(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    bus.foreign_entry("perl", None);
    fs::write(bus.at_name("perl.stats"), "{\"read\":{\"a\":3},\"sent\":{}}").unwrap();
    fs::write(bus.at_name("perl.suspend"), "1900000000.25").unwrap();
    let until = std::time::UNIX_EPOCH + Duration::from_millis(1_900_000_000_250);
    assert_eq!(a.peer("perl").unwrap().unwrap().state, PeerState::Suspended { until: Some(until) });
    assert_eq!(a.peers().unwrap(), ["perl"]);
    assert!(a.reap().unwrap().is_empty());
    assert_eq!(a.send("perl", "x").unwrap(), Receipt::Stored);
    assert_eq!(bus.try_client("perl").unwrap_err().kind(), ErrorKind::NameInUse);
    let mut perl = bus.reconnect("perl");
    assert_eq!(perl.recv_timeout(PATIENCE).unwrap().content(), "x");
    assert_eq!(perl.stats().read["a"], 4, "counters go on");
    assert!(!bus.at_name("perl.suspend").exists());
}

fn what_an_orderly_foreign_leave_leaves_is_in_nobodys_way(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    let disk = "h-bdd3e041c458db22157cd6aef2470391d8bc9eb9";
    for (file, content) in [("pid", std::process::id().to_string()), ("name", "with/slash".into())] {
        fs::write(bus.at_name(&format!("{disk}.{file}")), content).unwrap();
    }
    fs::write(bus.at_name(&format!("{disk}.stats")), "{\"read\":{},\"sent\":{\"a\":7}}").unwrap();
    assert!(a.peers().unwrap().is_empty() && a.peer("with/slash").unwrap().is_none());
    assert_eq!(a.send("with/slash", "x").unwrap_err().kind(), ErrorKind::NoSuchPeer);
    assert_eq!(a.all_stats().unwrap()["with/slash"].sent["a"], 7);
    assert!(a.reap().unwrap().is_empty(), "statistics of one who left are not swept");
    let mut back = bus.client("with/slash");
    a.send("with/slash", "x").unwrap();
    assert_eq!(back.recv_timeout(PATIENCE).unwrap().content(), "x");
}

fn a_leaving_foreign_peer_is_unreachable(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    bus.foreign_entry("perl", Some(std::process::id()));
    fs::rename(bus.at_name("perl"), bus.at_name("_perl")).unwrap();
    assert_eq!(a.send("perl", "x").unwrap_err().kind(), ErrorKind::NoSuchPeer);
    assert!(a.peers().unwrap().is_empty());
    assert!(a.reap().unwrap().is_empty());
    assert!(bus.at_name("_perl").is_dir());
}

fn a_foreign_peer_takes_a_name_after_one_of_ours_died(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    let mut ours = bus.puppet("contested");
    ours.kill();
    // It sweeps what it knows of, and leaves our lock file where it is.
    fs::remove_dir_all(bus.at_name("contested")).unwrap();
    fs::remove_file(bus.at_name("contested.pid")).unwrap();
    bus.foreign_entry("contested", Some(std::process::id()));
    let record = a.peer("contested").unwrap().unwrap();
    assert_eq!((record.state, record.pid), (PeerState::Active, Some(std::process::id())));
    assert!(a.reap().unwrap().is_empty());
    assert_eq!(a.send("contested", "x").unwrap(), Receipt::Delivered);
    assert_eq!(bus.try_client("contested").unwrap_err().kind(), ErrorKind::NameInUse);
    fs::write(bus.at_name("contested.pid"), dead_pid().to_string()).unwrap();
    let gone = WaitFor::message().or_gone("contested").unwrap().within(PATIENCE);
    assert!(matches!(a.wait_for(&gone).unwrap(), Wait::PeerGone(name) if name == "contested"));
}

fn foreign_names_are_shown_and_reached_as_they_are(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    let hashed = "h-58fb6729e555d21b53bde4cc31a1bfcafa8f7fdf";
    bus.foreign_entry(hashed, Some(std::process::id()));
    fs::write(bus.at_name(&format!("{hashed}.name")), "new\nline").unwrap();
    bus.foreign_entry("7", Some(std::process::id()));
    // A byte past 0x7F in a name on disk is one Latin-1 character of it.
    let latin1 = OsStr::from_bytes(b"caf\xe9");
    fs::create_dir(bus.route().join(latin1)).unwrap();
    fs::write(bus.route().join(OsStr::from_bytes(b"caf\xe9.pid")), std::process::id().to_string()).unwrap();
    for hidden in [".hidden", "_leaving", "x.pid.d"] {
        fs::create_dir(bus.at_name(hidden)).unwrap();
    }
    fs::write(bus.at_name("plain file"), "").unwrap();
    let peers: Vec<String> = a.peers().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(peers, ["7", "caf\u{e9}", "new\nline", "x.pid.d"]);
    for (name, disk) in [("new\nline", hashed), ("7", "7")] {
        a.send(name, "x").unwrap();
        assert_eq!(bus.waiting(disk), 1, "{name:?}");
    }
    a.send("caf\u{e9}", "x").unwrap();
    assert_eq!(names_in(&bus.route().join(latin1)).len(), 1);
    bus.drop_in("a", "id-1", foreign_message("new\nline", "a", "id-1", 5.0, &json!(1)));
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().from().as_str(), "new\nline");
}

fn pids_that_cannot_be_are_none(sandbox: &Sandbox) {
    let mut bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    for (number, pid) in ["-1", "0", "", "abc", "99999999999999999999", "12 34", "0x10", "+5"].iter().enumerate() {
        let name = format!("odd-{number}");
        bus.foreign_entry(&name, None);
        fs::write(bus.at_name(&format!("{name}.pid")), pid).unwrap();
        let record = a.peer(&name).unwrap().unwrap();
        assert_eq!(record.pid, None, "{pid:?}");
        assert!(matches!(record.state, PeerState::Starting | PeerState::Suspended { .. }), "{pid:?}: {record:?}");
    }
    bus.foreign_entry("first", Some(1));
    // Nobody is signalled on such a number, nor is the first process of the machine: this process lives on.
    bus.owner.set_signal(Some(ipc_manager::Signal::new("TERM").unwrap()));
    bus.owner.terminate().unwrap();
    assert!(a.recv_timeout(PATIENCE).unwrap().is_terminate());
}

fn scalars_may_be_numbers_or_strings(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    let message = json!({"from": 42, "to": "a", "id": 17, "stamp": "1700000000.5", "stamp_ord": "3", "content": 0});
    bus.drop_in("a", "17", message.to_string());
    let sparse = json!({"from": "perl", "to": "a", "content": {"n": 1}, "stamp": null, "id": null});
    bus.drop_in("a", "18", sparse.to_string());
    let got = a.get_messages().unwrap();
    assert!(a.take_damaged().is_empty());
    assert_eq!(contents(&got), [json!(0), json!({"n": 1})]);
    assert_eq!((got[0].from().as_str(), got[0].id().as_str(), got[0].stamp_ord()), ("42", "17", 3));
    assert_eq!(got[0].stamp().as_seconds(), 1_700_000_000.5);
    assert!(got[1].stamp() > got[0].stamp() && !got[1].id().as_str().is_empty());
    let name = foreign_message("perl", "a", "19", 6.0, &json!("x"));
    bus.drop_in("a", "19", format!("  {name}\n"));
    assert_eq!(contents(&a.get_messages().unwrap()), ["x"]);
    // Bytes past 0x7F are taken for Latin-1, as the other implementation takes them.
    bus.drop_in("a", "20", b"{\"from\":\"perl\",\"to\":\"a\",\"content\":\"caf\xc3\xa9\"}");
    let (got, damaged) = (a.get_messages().unwrap(), a.take_damaged());
    assert!(damaged.is_empty(), "{damaged:?}");
    assert_eq!(contents(&got), ["caf\u{c3}\u{a9}"]);
}

fn damaged_foreign_statistics_are_passed_over(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    for (name, text) in
        [("nil", "null"), ("empty", ""), ("cut", "{\"read\":{"), ("list", "[]"), ("ok", "{\"read\":{\"a\":\"5\"}}")]
    {
        fs::write(bus.at_name(&format!("{name}.stats")), text).unwrap();
    }
    let all = a.all_stats().unwrap();
    assert_eq!(all["ok"].read["a"], 5);
    assert!(!all.contains_key("cut") && !all.contains_key("list"));
    bus.foreign_entry("nil", None);
    eventually("the entry to be continued", || bus.try_reconnect("nil").is_ok());
}
