// SPDX-License-Identifier: MIT OR Apache-2.0
//! The layout of a MessageFiles store, file by file, as another implementation relies on it.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::time::{Duration, SystemTime};

use ipc_manager::{ErrorKind, Limits, PeerState, Spawn, Suspend};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test};
use serde_json::{Value, json};

use crate::file_bus::{FileBus, contents, names_in};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        fs_01_a_client_is_a_directory_and_a_pid,
        fs_02_a_pid_is_cleared_and_written_again,
        fs_03_statistics_are_in_the_serializer_of_the_bus,
        fs_04_put_back_messages_are_read_from_resume_files,
        fs_05_a_name_that_is_continued_has_the_same_directory,
        fs_06_an_orderly_leave_takes_the_entry_away,
        fs_07_a_store_is_made_and_removed,
        fs_08_long_and_odd_names_are_hashed,
        fs_09_a_name_is_required,
        fs_10_a_long_name_is_known_by_its_real_name_everywhere,
        fs_11_ready_says_what_is_in_the_directory,
        fs_12_a_leaving_client_is_under_another_name_at_once,
        a_message_is_one_ready_file_of_payload,
        a_half_written_message_is_pending_and_not_ready,
        sus_06_a_deadline_is_a_decimal_number,
        a_store_that_is_not_ours_is_removed_only_where_it_is_a_bus,
        a_route_that_cannot_be_trusted_is_refused,
        a_hundred_thousand_waiting_messages_are_drained_in_bounded_batches,
    ]
}

fn fs_01_a_client_is_a_directory_and_a_pid(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let puppet = bus.puppet("x");
    assert!(bus.at_name("x").is_dir());
    assert_eq!(bus.read("x.pid"), puppet.pid().to_string());
    assert_eq!(bus.names().into_iter().collect::<Vec<_>>(), ["x", "x.pid"]);
    assert!(names_in(&bus.at_name("x")).is_empty());
}

fn fs_03_statistics_are_in_the_serializer_of_the_bus(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    a.send("b", "x").unwrap();
    b.recv_timeout(PATIENCE).unwrap();
    a.write_stats().unwrap();
    b.write_stats().unwrap();
    let read = |name: &str| serde_json::from_str::<Value>(&bus.read(name)).unwrap();
    assert_eq!(read("a.stats"), json!({"read": {}, "sent": {"b": 1}}));
    assert_eq!(read("b.stats"), json!({"read": {"a": 1}, "sent": {}}));
    assert_eq!(a.read_stats().unwrap(), a.stats());
}

fn fs_04_put_back_messages_are_read_from_resume_files(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    b.send("a", &json!({"n": 1})).unwrap();
    let taken = a.get_messages().unwrap();
    // As another implementation puts messages back: records of a big-endian length and a payload.
    let mut records = Vec::new();
    for message in &taken {
        let payload = message.to_json(&Limits::DEFAULT).unwrap();
        records.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
        records.extend(payload.as_bytes());
    }
    // While the name is suspended, since only its holder writes there.
    a.suspend(Suspend::open_ended()).unwrap();
    fs::write(bus.at_name("a.resume"), &records).unwrap();
    let mut a = bus.reconnect("a");
    assert!(a.is_ready().unwrap());
    assert_eq!(a.get_messages().unwrap(), taken);
    assert!(!bus.at_name("a.resume").exists());
    assert!(!a.is_ready().unwrap());
    assert_eq!(a.stats().read["b"], 1);
    // One with a cut record: the whole ones arrive, the rest is reported.
    records.extend(7_u32.to_be_bytes());
    records.extend(b"cut");
    a.suspend(Suspend::open_ended()).unwrap();
    fs::write(bus.at_name("a.resume"), &records).unwrap();
    let mut a = bus.reconnect("a");
    assert_eq!(a.get_messages().unwrap(), taken);
    assert_eq!(a.take_damaged().len(), 1);
    assert!(a.take_damaged().is_empty() && a.get_messages().unwrap().is_empty());
}

fn fs_05_a_name_that_is_continued_has_the_same_directory(sandbox: &Sandbox) {
    use std::os::unix::fs::MetadataExt;
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    let before = fs::metadata(bus.at_name("a")).unwrap().ino();
    a.suspend(Suspend::open_ended()).unwrap();
    let _a = bus.reconnect("a");
    assert_eq!(fs::metadata(bus.at_name("a")).unwrap().ino(), before);
}

fn fs_06_an_orderly_leave_takes_the_entry_away(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    bus.client("a").disconnect().unwrap();
    assert_eq!(bus.names().into_iter().collect::<Vec<_>>(), ["a.stats"], "C24: no pid of one who left");
    assert_eq!(serde_json::from_str::<Value>(&bus.read("a.stats")).unwrap(), json!({"read": {}, "sent": {}}));
}

fn fs_07_a_store_is_made_and_removed(sandbox: &Sandbox) {
    let mut bus = FileBus::new(sandbox);
    let canary = sandbox.dir().join("canary");
    fs::write(&canary, "sings").unwrap();
    assert!(bus.route().is_dir());
    let _client = bus.client("a");
    bus.owner.unspawn().unwrap();
    assert!(!bus.route().exists());
    assert!(canary.exists());
    bus.owner.unspawn().unwrap();
}

fn fs_08_long_and_odd_names_are_hashed(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (at_limit, past_it) = ("a".repeat(200), "a".repeat(201));
    let cases = [
        (at_limit.as_str(), at_limit.as_str()),
        (&past_it, "h-a92efd82109373e58f9a2056dee01e807e216ce6"),
        ("with/slash", "h-bdd3e041c458db22157cd6aef2470391d8bc9eb9"),
        ("h-prefixed", "h-9aa1fc86bb48403e7c928941d53db5ff45101e28"),
    ];
    for (name, disk) in cases {
        for _ in 0..2 {
            let _client = bus.client(name);
            assert!(bus.at_name(disk).is_dir(), "{name} is not at {disk}");
        }
    }
}

fn fs_09_a_name_is_required(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    let before = bus.names();
    let errors = [
        bus.try_client("").unwrap_err(),
        bus.try_reconnect("").unwrap_err(),
        a.peer("").unwrap_err(),
        a.send("", "x").unwrap_err(),
        a.wait_for_peer("", Some(PATIENCE)).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidName);
        assert!(error.to_string().contains("it is empty"), "{error}");
    }
    assert_eq!(bus.names(), before);
}

fn fs_10_a_long_name_is_known_by_its_real_name_everywhere(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let name = "L".repeat(270);
    let (mut a, mut long) = (bus.client("a"), bus.puppet(&name));
    assert_eq!(a.peers().unwrap(), [name.as_str()]);
    assert_eq!(a.peer(&name).unwrap().unwrap().pid, Some(long.pid()));
    a.send(&name, "there").unwrap();
    assert_eq!(long.recv_count(1)[0].to, name);
    long.send("a", "back").unwrap();
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().from().as_str(), name);
    long.disconnect();
    assert!(a.all_stats().unwrap().contains_key(name.as_str()), "statistics of one who left, by its real name");
}

fn fs_11_ready_says_what_is_in_the_directory(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    assert!(!a.is_ready().unwrap());
    b.send("a", "x").unwrap();
    assert!(a.is_ready().unwrap());
    a.get_messages().unwrap();
    assert!(!a.is_ready().unwrap());
}

fn fs_12_a_leaving_client_is_under_another_name_at_once(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    b.send("a", "unread").unwrap();
    a.disconnect_with(|unread| {
        assert_eq!(contents(&unread), ["unread"]);
        assert!(!bus.at_name("a").exists(), "it can still be sent to");
        assert_eq!(b.send("a", "late").unwrap_err().kind(), ErrorKind::NoSuchPeer);
    })
    .unwrap();
    assert!(!bus.at_name("_a").exists());
}

fn a_message_is_one_ready_file_of_payload(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, _b) = (bus.client("a"), bus.client("b"));
    let message = a.message("b", &json!({"hello": "world"})).unwrap();
    a.send_message(message.clone()).unwrap();
    let file = format!("{}.ready", message.id());
    assert_eq!(names_in(&bus.at_name("b")).into_iter().collect::<Vec<_>>(), [file.as_str()]);
    let payload: Value = serde_json::from_slice(&fs::read(bus.at_name("b").join(&file)).unwrap()).unwrap();
    assert_eq!((&payload["from"], &payload["to"]), (&json!("a"), &json!("b")));
    assert_eq!((&payload["content"], &payload["stamp_ord"]), (&json!({"hello": "world"}), &json!(0)));
    assert!(payload["id"] == message.id().as_str() && payload["stamp"].is_f64());
    assert!(payload.get("broadcast").is_none(), "absent unless the sender set it");
}

fn a_half_written_message_is_pending_and_not_ready(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    fs::write(bus.at_name("a").join("1234.pend"), "{\"half").unwrap();
    assert!(a.is_pending().unwrap());
    assert!(!a.is_ready().unwrap());
    assert!(a.get_messages().unwrap().is_empty());
    assert!(a.take_damaged().is_empty(), "what is being written is not damaged");
}

fn sus_06_a_deadline_is_a_decimal_number(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    a.suspend(Suspend::until(SystemTime::UNIX_EPOCH + Duration::from_millis(1_900_000_000_250))).unwrap();
    assert_eq!(bus.read("a.suspend"), "1900000000.25");
    let mut b = bus.client("b");
    b.suspend(Suspend::open_ended()).unwrap();
    assert!(!bus.at_name("b.suspend").exists(), "without a deadline there is none to read");
}

fn fs_02_a_pid_is_cleared_and_written_again(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    a.suspend(Suspend::within(PATIENCE)).unwrap();
    assert_eq!(bus.names().into_iter().collect::<Vec<_>>(), ["a", "a.stats", "a.suspend"]);
    let mut a = bus.reconnect("a");
    assert_eq!(bus.names().into_iter().collect::<Vec<_>>(), ["a", "a.pid", "a.stats"]);
    assert_eq!(bus.read("a.pid"), std::process::id().to_string());
    assert_eq!(a.peer("a").unwrap().unwrap().state, PeerState::Active);
}

fn a_store_that_is_not_ours_is_removed_only_where_it_is_a_bus(sandbox: &Sandbox) {
    let route = sandbox.dir().join("somebody's");
    let fill = || {
        fs::create_dir_all(route.join("photos")).unwrap();
        fs::write(route.join("photos/cat"), "meow").unwrap();
        fs::write(route.join("letter"), "dear").unwrap();
        std::os::unix::fs::symlink("/etc", route.join("link")).unwrap();
    };
    fill();
    // A directory with other things in it is not made a bus.
    let before = sandbox.listing();
    let builder = Spawn::builder().protocol("MessageFiles").guard(false).route(route.to_str().unwrap());
    assert!(matches!(builder.spawn().unwrap_err().kind(), ErrorKind::NameInUse | ErrorKind::Permission));
    assert_eq!(sandbox.listing(), before);
    // An empty one is; what somebody puts into it later stays.
    fs::remove_dir_all(&route).unwrap();
    fs::DirBuilder::new().mode(0o700).create(&route).unwrap();
    let mut bus = FileBus::at(&route);
    fill();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    a.send("b", "x").unwrap();
    b.recv_timeout(PATIENCE).unwrap();
    a.disconnect().unwrap();
    b.disconnect().unwrap();
    bus.owner.unspawn().unwrap();
    assert_eq!(names_in(&route).into_iter().collect::<Vec<_>>(), ["letter", "link", "photos"]);
    assert_eq!(fs::read_to_string(route.join("photos/cat")).unwrap(), "meow");
}

fn a_route_that_cannot_be_trusted_is_refused(sandbox: &Sandbox) {
    use std::os::unix::fs::PermissionsExt;
    let bus = FileBus::new(sandbox);
    let join = |route: &std::path::Path| {
        let info = bus.info().to_string().replace(bus.route().to_str().unwrap(), route.to_str().unwrap());
        ipc_manager::connect("a", &info.parse().unwrap()).unwrap_err().kind()
    };
    let link = sandbox.dir().join("link");
    std::os::unix::fs::symlink(bus.route(), &link).unwrap();
    assert!(matches!(join(&link), ErrorKind::NoSuchBus | ErrorKind::Permission));
    let file = sandbox.dir().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(join(&file), ErrorKind::NoSuchBus);
    assert_eq!(join(&sandbox.dir().join("nothing")), ErrorKind::NoSuchBus);
    fs::set_permissions(bus.route(), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(join(bus.route()), ErrorKind::Permission);
    fs::set_permissions(bus.route(), fs::Permissions::from_mode(0o700)).unwrap();
    drop(bus.client("a"));
}

fn a_hundred_thousand_waiting_messages_are_drained_in_bounded_batches(sandbox: &Sandbox) {
    const COUNT: usize = 100_000;
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    // Made as another implementation makes them; only the files count here.
    let entry = bus.at_name("a");
    for number in 0..COUNT {
        let stamp = 1_700_000_000.0 + f64::from(u32::try_from(number).unwrap()) / 1e3;
        let text = crate::file_bus::foreign_message("b", "a", &format!("id-{number}"), stamp, &number.into());
        fs::write(entry.join(format!("id-{number}.ready")), text).unwrap();
    }
    let (mut next, mut batches, mut largest) = (0, 0, 0);
    loop {
        let batch = a.get_messages().unwrap();
        if batch.is_empty() {
            break;
        }
        batches += 1;
        largest = largest.max(batch.len());
        for message in batch {
            assert_eq!(message.content(), next, "lost, doubled or out of order");
            next += 1;
        }
    }
    println!("{next} of {COUNT} handed out once, in {batches} batches of at most {largest}");
    assert_eq!(next, COUNT);
    assert!(largest <= Limits::DEFAULT.batch_messages);
    assert!(names_in(&entry).is_empty());
}
