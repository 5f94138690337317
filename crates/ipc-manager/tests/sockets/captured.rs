// SPDX-License-Identifier: MIT OR Apache-2.0
//! Captured datagrams are read, and what is sent has their form.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use ipc_manager::{Limits, Message, Receipt};
use ipc_manager_testkit::{Sandbox, Test};
use serde_json::{Value, json};

use super::{SocketBus, contents};
use crate::vectors::{assert_same, blob, folder, manifest};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        soc_01_an_entry_is_a_socket_for_its_user_alone,
        what_was_captured_decodes_to_what_the_manifest_says,
        what_is_sent_is_the_payload_and_nothing_else,
        a_newline_at_the_end_is_tolerated,
        a_captured_resume_file_is_read_from_a_socket_bus,
        soc_02_a_long_name_has_the_captured_short_form,
        the_same_steps_leave_the_captured_names,
    ]
}

fn soc_01_an_entry_is_a_socket_for_its_user_alone(sandbox: &Sandbox) {
    let bus = SocketBus::new(sandbox);
    let mut a = bus.client("a");
    let entry = fs::metadata(bus.at("a")).unwrap();
    assert!(entry.file_type().is_socket());
    assert_eq!(entry.permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(bus.at("a.pid")).unwrap(), std::process::id().to_string());
    assert!(!a.wake().unwrap().descriptors.is_empty());
    a.disconnect().unwrap();
    assert!(!bus.at("a").exists() && !bus.at("a.pid").exists());
}

/// What a capture holds, and its message with its content spelled out.
fn captures() -> Vec<(String, Vec<u8>, Value)> {
    let manifest = manifest("unixsocket");
    let captures = manifest["captures"].as_array().unwrap();
    assert!(captures.len() > 25, "the manifest is not what it was");
    let one = |capture: &Value| {
        let file = capture["file"].as_str().unwrap().to_owned();
        let bytes = fs::read(folder("unixsocket").join(&file)).unwrap();
        assert_eq!(bytes.len() as u64, capture["bytes"].as_u64().unwrap(), "{file}");
        let mut message = capture["message"].clone();
        if let Some(spec) = message.as_object_mut().unwrap().remove("content_spec") {
            let length = usize::try_from(spec["blob_pattern_length"].as_u64().unwrap()).unwrap();
            message["content"] = json!({"blob": blob(length)});
        }
        (file, bytes, message)
    };
    captures.iter().map(one).collect()
}

fn what_was_captured_decodes_to_what_the_manifest_says(sandbox: &Sandbox) {
    let bus = SocketBus::new(sandbox);
    let mut receiver = bus.client("receiver");
    let sender = bus.sender_to("receiver");
    for (file, bytes, expected) in captures() {
        assert!(!receiver.is_ready().unwrap(), "{file}");
        sender.send(&bytes).unwrap();
        assert!(receiver.is_ready().unwrap(), "{file}");
        let got = receiver.get_messages().unwrap();
        assert_eq!(got.len(), 1, "{file}: {:?}", receiver.take_damaged());
        assert_same(&file, &got[0], &expected);
        // Encoded anew, a reader of plain JSON sees the same.
        let text = got[0].to_json(&Limits::DEFAULT).unwrap();
        let written: Value = serde_json::from_str(&text).unwrap();
        let captured: Value = serde_json::from_slice(&bytes).unwrap();
        for key in ["from", "to", "id", "stamp", "stamp_ord", "broadcast"] {
            assert_eq!(written.get(key), captured.get(key), "{file}: {key}");
        }
        let again = Message::from_json(text.as_bytes(), &Limits::DEFAULT).unwrap();
        assert_same(&file, &again, &expected);
    }
    assert!(receiver.take_damaged().is_empty());
}

fn what_is_sent_is_the_payload_and_nothing_else(sandbox: &Sandbox) {
    let bus = SocketBus::new(sandbox);
    let mut a = bus.client("a");
    let other = bus.foreign("other");
    let mut bytes = vec![0; 1 << 20];
    for size in [0, 100, 60_000] {
        let message = a.message("other", &"x".repeat(size)).unwrap();
        assert_eq!(a.send_message(message.clone()).unwrap(), Receipt::Delivered);
        let count = other.recv(&mut bytes).unwrap();
        assert_eq!(bytes[..count], *message.to_json(&Limits::DEFAULT).unwrap().as_bytes());
    }
    // Many in one call are a datagram each, too.
    let messages: Vec<Message> = (0..5).map(|number| a.message("other", &number).unwrap()).collect();
    a.send_all(messages.clone()).unwrap();
    for message in messages {
        let count = other.recv(&mut bytes).unwrap();
        assert_eq!(bytes[..count], *message.to_json(&Limits::DEFAULT).unwrap().as_bytes());
    }
}

fn a_newline_at_the_end_is_tolerated(sandbox: &Sandbox) {
    let bus = SocketBus::new(sandbox);
    let mut b = bus.client("b");
    let mut datagram = super::sound(1);
    datagram.push(b'\n');
    bus.sender_to("b").send(&datagram).unwrap();
    assert_eq!(contents(&b.get_messages().unwrap()), [1]);
    assert!(b.take_damaged().is_empty());
}

fn a_captured_resume_file_is_read_from_a_socket_bus(sandbox: &Sandbox) {
    let bus = SocketBus::new(sandbox);
    let mut requeuer = bus.client("requeuer");
    fs::copy(folder("unixsocket").join("requeuer.resume"), bus.at("requeuer.resume")).unwrap();
    requeuer.requeue(&[requeuer.message("requeuer", "mine").unwrap()]).unwrap();
    let got = requeuer.get_messages().unwrap();
    assert_eq!(got.len(), 2);
    assert_same("requeuer.resume", &got[0], &manifest("unixsocket")["resume"]["messages"][0]);
    assert!(requeuer.stats().read.is_empty(), "reading back counts nothing");
    assert!(!bus.at("requeuer.resume").exists());
}

fn soc_02_a_long_name_has_the_captured_short_form(sandbox: &Sandbox) {
    let bus = SocketBus::new(sandbox);
    let captured = &manifest("unixsocket")["name_sidecar"];
    let (peer, disk) = (captured["peer"].as_str().unwrap(), captured["on_disk"].as_str().unwrap());
    let (mut long, mut a) = (bus.client(peer), bus.client("a"));
    assert!(fs::metadata(bus.at(disk)).unwrap().file_type().is_socket());
    assert_eq!(
        fs::read(bus.at(&format!("{disk}.name"))).unwrap(),
        fs::read(folder("unixsocket").join("long.name")).unwrap()
    );
    assert_eq!(a.peers().unwrap()[0].as_str(), peer);
    a.send(peer, "x").unwrap();
    let got = long.get_messages().unwrap();
    assert_eq!(got[0].to().unwrap().as_str(), peer);
    long.send("a", "y").unwrap();
    assert_eq!(a.get_messages().unwrap()[0].from().as_str(), peer);
}

/// Names in the route that others see.
fn names(bus: &SocketBus) -> BTreeSet<String> {
    let listed = fs::read_dir(bus.at("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    listed.filter(|name| !name.starts_with('.')).collect()
}

fn the_same_steps_leave_the_captured_names(sandbox: &Sandbox) {
    let manifest = manifest("unixsocket");
    let captured = |stage: usize| -> BTreeSet<String> {
        let tree = manifest["stages"][stage]["tree"].as_array().unwrap();
        tree.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
    };
    let mut bus = SocketBus::new(sandbox);
    let mut sender = bus.client("sender");
    let _receiver = bus.foreign("receiver");
    assert_eq!(names(&bus), captured(0));
    let mut requeuer = bus.client("requeuer");
    bus.owner.terminate().unwrap();
    sender.send("requeuer", &json!({"n": 1})).unwrap();
    let taken = requeuer.get_messages().unwrap();
    requeuer.requeue(&taken).unwrap();
    // What we do not leave: the pid of one who left.
    assert_eq!(names(&bus), captured(1).into_iter().filter(|name| name != "spawn.pid").collect());
    requeuer.disconnect_with(drop).unwrap();
    let long = manifest["name_sidecar"]["peer"].as_str().unwrap();
    let mut long = bus.client(long);
    let gone = ["spawn.pid", "requeuer.pid"];
    assert_eq!(names(&bus), captured(2).into_iter().filter(|name| !gone.contains(&&**name)).collect());
    sender.disconnect_with(drop).unwrap();
    long.disconnect_with(drop).unwrap();
    let left = |name: &String| name.starts_with("receiver") || name.ends_with(".stats");
    let own: BTreeSet<String> = names(&bus).into_iter().filter(left).collect();
    assert_eq!(own, captured(3).into_iter().filter(left).collect());
}
