// SPDX-License-Identifier: MIT OR Apache-2.0
//! Section D: security and resources.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use ipc_manager::{Client, Durability, ErrorKind, Limits, Message, Spawn};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test};
use serde_json::json;

use crate::file_bus::{FileBus, contents, foreign_message};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        d1_a_small_file_cannot_grow_past_the_limit,
        d1_a_declared_size_is_only_a_claim,
        d5_a_client_sends_in_its_own_name_only,
        d6_stores_are_for_their_user_only,
        d11_a_message_can_be_made_to_outlive_a_power_cut,
        links_in_a_store_are_not_followed,
        removal_does_not_leave_the_store,
    ]
}

/// A bus with compressed payloads.
fn compressed(sandbox: &Sandbox) -> (Spawn, std::path::PathBuf) {
    let route = sandbox.dir().join("bus");
    let builder = Spawn::builder().protocol("MessageFiles").serializer("JSON::Zstd").guard(false);
    (builder.route(route.to_str().unwrap()).spawn().unwrap(), route)
}

fn d1_a_small_file_cannot_grow_past_the_limit(sandbox: &Sandbox) {
    let (bus, route) = compressed(sandbox);
    let limits = Limits { decoded_bytes: 1 << 20, ..Limits::DEFAULT };
    let mut a = Client::builder("a", bus.info()).limits(limits).connect().unwrap();
    let mut b = bus.connect("b").unwrap();
    // A few hundred bytes on disk, three million when unpacked.
    b.send("a", &"x".repeat(3 << 20)).unwrap();
    let file = fs::read_dir(route.join("a")).unwrap().next().unwrap().unwrap();
    assert!(file.metadata().unwrap().len() < 10_000);
    b.send("a", "small").unwrap();
    assert_eq!(contents(&a.get_messages().unwrap()), ["small"]);
    let damaged = a.take_damaged();
    assert_eq!(damaged.len(), 1);
    assert!(matches!(damaged[0].error().kind(), ErrorKind::TooLarge | ErrorKind::Corrupt), "{damaged:?}");
}

fn d1_a_declared_size_is_only_a_claim(sandbox: &Sandbox) {
    let (bus, route) = compressed(sandbox);
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    // A frame of eight bytes whose header says that it unpacks to 2^62 bytes (RFC 8878, 3.1.1.1.4), and cut frames.
    let mut lies = vec![0x28, 0xB5, 0x2F, 0xFD, 0b1100_0000, 0x00];
    lies.extend((1_u64 << 62).to_le_bytes());
    let frames: [&[u8]; 4] = [&lies, &[0x28, 0xB5, 0x2F, 0xFD], &[], b"{\"from\":\"b\",\"to\":\"a\",\"content\":1}"];
    for (number, frame) in frames.iter().enumerate() {
        fs::write(route.join(format!("a/bad-{number}.ready")), frame).unwrap();
    }
    b.send("a", "good").unwrap();
    assert_eq!(contents(&a.get_messages().unwrap()), ["good"]);
    assert_eq!(a.take_damaged().len(), frames.len());
}

fn d5_a_client_sends_in_its_own_name_only(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut mallory, mut b) = (bus.client("mallory"), bus.client("b"));
    let forged = Message::builder("boss").to("b").content("pay").unwrap().build().unwrap();
    mallory.send_message(forged.clone()).unwrap();
    mallory.try_send_message(forged.clone_to("b").unwrap()).unwrap();
    mallory.send_all([forged.clone_to("b").unwrap()]).unwrap();
    for _ in 0..3 {
        assert_eq!(b.recv_timeout(PATIENCE).unwrap().from().as_str(), "mallory");
    }
}

fn d6_stores_are_for_their_user_only(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let _a = bus.client("a");
    for path in [bus.route().to_owned(), bus.at_name("a")] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
    }
}

fn d11_a_message_can_be_made_to_outlive_a_power_cut(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = Client::builder("a", bus.info()).durability(Durability::Power).connect().unwrap();
    let mut b = bus.client("b");
    a.send("b", "lasting").unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "lasting");
    let memory = Spawn::builder().protocol("LocalMemory").spawn().unwrap();
    let refused = Client::builder("a", memory.info()).durability(Durability::Power).connect();
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported, "not promised, so not claimed");
}

fn links_in_a_store_are_not_followed(sandbox: &Sandbox) {
    let target = sandbox.dir().join("target");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("1.ready"), foreign_message("b", "evil", "1", 5.0, &json!("x"))).unwrap();
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    symlink(&target, bus.at_name("evil")).unwrap();
    assert!(a.send("evil", "x").is_err());
    assert!(a.peers().unwrap().is_empty());
    assert!(bus.try_client("evil").is_err() && bus.try_reconnect("evil").is_err());
    symlink(target.join("note"), bus.at_name("a.stats")).unwrap();
    let _ = a.write_stats();
    assert!(!target.join("note").exists(), "a file outside was written");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
}

fn removal_does_not_leave_the_store(sandbox: &Sandbox) {
    let outside = sandbox.dir().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("canary"), "sings").unwrap();
    let mut bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    for name in ["dead", "dead2"] {
        bus.foreign_entry(name, Some(crate::file_bus::dead_pid()));
        symlink(&outside, bus.at_name(name).join("link")).unwrap();
        symlink(outside.join("canary"), bus.at_name(name).join("file.ready")).unwrap();
    }
    symlink(&outside, bus.at_name("a").join("link")).unwrap();
    assert_eq!(a.reap().unwrap(), ["dead", "dead2"]);
    a.disconnect_with(|_| ()).unwrap();
    bus.owner.unspawn().unwrap();
    assert_eq!(fs::read_to_string(outside.join("canary")).unwrap(), "sings");
}
