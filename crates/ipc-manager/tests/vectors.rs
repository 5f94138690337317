// SPDX-License-Identifier: MIT OR Apache-2.0
//! The golden vectors of MessageFiles, names and ordering: read through a real client, written by one, compared.

use std::fs;
use std::path::{Path, PathBuf};

use ipc_manager::{Limits, Message, Stats, Suspend};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test};
use serde_json::{Value, json};

use crate::file_bus::{FileBus, names_in};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        message_files_decode_to_what_the_manifest_says,
        messages_encode_to_what_another_reader_decodes,
        a_mailbox_of_captured_files_is_read_whole,
        a_captured_resume_file_is_read,
        a_written_name_is_one_line_of_raw_bytes,
        captured_statistics_are_read_and_written_alike,
        captured_pids_and_deadlines_are_read_and_written_alike,
        names_on_disk_are_those_of_the_vectors,
        a_batch_is_in_the_captured_order,
    ]
}

pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors").join(name)
}

pub fn manifest(name: &str) -> Value {
    let text = fs::read_to_string(folder(name).join("manifest.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The text behind a `content_spec`: the first so many characters of numbered parts.
pub fn blob(length: usize) -> String {
    let text: String = (0..length / 9 + 1).map(|number| format!("{number:08}:")).collect();
    text[..length].to_owned()
}

/// A manifest's description of a message, with the content that it only describes.
pub fn with_blob(described: &Value) -> Value {
    let mut message = described.clone();
    if let Some(spec) = message.as_object_mut().unwrap().remove("content_spec") {
        let length = usize::try_from(spec["blob_pattern_length"].as_u64().unwrap()).unwrap();
        message["content"] = json!({"blob": blob(length)});
    }
    message
}

/// Every captured message file, with what it must say.
fn captured() -> Vec<(String, Vec<u8>, Value)> {
    let manifest = manifest("messagefiles");
    let messages = manifest["messages"].as_array().unwrap();
    assert!(messages.len() > 25, "the manifest is not what it was");
    let one = |entry: &Value| {
        let file = entry["file"].as_str().unwrap().to_owned();
        let bytes = fs::read(folder("messagefiles").join(&file)).unwrap();
        assert_eq!(bytes.len() as u64, entry["bytes"].as_u64().unwrap(), "{file}");
        (file, bytes, with_blob(&entry["message"]))
    };
    messages.iter().map(one).collect()
}

/// Compares a decoded message with a manifest's description of it.
pub fn assert_same(file: &str, message: &Message, expected: &Value) {
    assert_eq!(message.from().as_str(), expected["from"], "{file}");
    assert_eq!(message.to().unwrap().as_str(), expected["to"], "{file}");
    assert_same_content(file, message.content(), &expected["content"]);
    if expected.get("note").is_none() && expected.get("id").is_some() {
        assert_eq!(message.id().as_str(), expected["id"], "{file}");
        assert_eq!(message.stamp().as_seconds(), expected["stamp"].as_f64().unwrap(), "{file}");
        assert_eq!(message.stamp_ord(), expected["stamp_ord"].as_u64().unwrap(), "{file}");
    }
    assert_eq!(message.is_broadcast(), expected.get("broadcast").is_some_and(|flag| flag == 1), "{file}");
    let own = ["from", "to", "content", "id", "stamp", "stamp_ord", "broadcast", "note"];
    for (key, value) in expected.as_object().unwrap().iter().filter(|(key, _)| !own.contains(&key.as_str())) {
        assert_eq!(message.extra().get(key), Some(value), "{file}");
    }
}

/// Numbers compare by value: 3.0 may be written as 3.
fn assert_same_content(file: &str, got: &Value, expected: &Value) {
    match (got.as_f64(), expected.as_f64()) {
        (Some(got), Some(expected)) => assert!((got - expected).abs() < f64::EPSILON, "{file}: {got} != {expected}"),
        // Not shown: some are very long.
        _ => assert!(got == expected, "{file}: another content"),
    }
}

fn message_files_decode_to_what_the_manifest_says(_: &Sandbox) {
    for (file, bytes, expected) in captured() {
        let message = Message::from_json(&bytes, &Limits::DEFAULT).unwrap_or_else(|error| panic!("{file}: {error:?}"));
        assert_same(&file, &message, &expected);
        assert_eq!(message.is_terminate(), file.starts_with("terminate-"), "{file}");
    }
}

fn messages_encode_to_what_another_reader_decodes(_: &Sandbox) {
    for (file, bytes, expected) in captured() {
        let message = Message::from_json(&bytes, &Limits::DEFAULT).unwrap();
        let written = message.to_json(&Limits::DEFAULT).unwrap();
        assert!(written.is_ascii(), "{file}: the other reader takes bytes past 0x7F for Latin-1");
        // Key order is free, so the decoded values are compared, as a reader of plain JSON sees them.
        let (ours, theirs): (Value, Value) =
            (serde_json::from_str(&written).unwrap(), serde_json::from_slice(&bytes).unwrap());
        assert_same_content(&file, &ours["content"], &theirs["content"]);
        for key in ["from", "to", "id", "stamp", "stamp_ord", "broadcast", "trace"] {
            assert_eq!(ours.get(key), theirs.get(key), "{file}: {key}");
        }
        assert_same(&file, &Message::from_json(written.as_bytes(), &Limits::DEFAULT).unwrap(), &expected);
    }
}

fn a_mailbox_of_captured_files_is_read_whole(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut receiver = bus.client("receiver");
    let mine: Vec<_> = captured().into_iter().filter(|(_, _, message)| message["to"] == "receiver").collect();
    for (file, bytes, _) in &mine {
        let id = Message::from_json(bytes, &Limits::DEFAULT).unwrap().id().to_string();
        bus.drop_in("receiver", &id, bytes);
        assert!(receiver.is_ready().unwrap(), "{file}");
    }
    let got = receiver.get_messages().unwrap();
    assert!(receiver.take_damaged().is_empty());
    assert_eq!(got.len(), mine.len());
    // The capture numbers its files in the order in which they were sent, and stamps say the same.
    for (message, (file, _, expected)) in got.iter().zip(&mine) {
        assert_same(file, message, expected);
    }
    assert_eq!(receiver.stats().read["spawn"], 1, "a request to end counts as read from spawn");
    assert!(names_in(&bus.at_name("receiver")).is_empty());
}

fn a_captured_resume_file_is_read(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut receiver = bus.client("receiver");
    let expected = &manifest("messagefiles")["resume"];
    fs::copy(folder("messagefiles").join("receiver.resume"), bus.at_name("receiver.resume")).unwrap();
    assert!(receiver.is_ready().unwrap());
    for message in expected["messages"].as_array().unwrap() {
        assert_same("receiver.resume", &receiver.recv_timeout(PATIENCE).unwrap(), message);
    }
    assert!(receiver.get_messages().unwrap().is_empty());
    assert!(!bus.at_name("receiver.resume").exists(), "it is gone once it was read");
    assert!(receiver.stats().read.is_empty(), "reading back counts nothing");
}

fn a_written_name_is_one_line_of_raw_bytes(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let manifest = manifest("messagefiles");
    for (key, file) in [("name_sidecar", "long.name"), ("name_sidecar2", "slash.name")] {
        let (peer, disk) = (manifest[key]["peer"].as_str().unwrap(), manifest[key]["on_disk"].as_str().unwrap());
        let _client = bus.client(peer);
        assert_eq!(fs::read(folder("messagefiles").join(file)).unwrap(), bus.read(&format!("{disk}.name")).as_bytes());
        assert!(bus.at_name(disk).is_dir());
    }
}

fn captured_statistics_are_read_and_written_alike(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    for entry in manifest("messagefiles")["stats"].as_array().unwrap() {
        let (client, file) = (entry["client"].as_str().unwrap(), entry["file"].as_str().unwrap());
        let text = fs::read_to_string(folder("messagefiles").join(file)).unwrap();
        fs::write(bus.at_name(file), &text).unwrap();
        let stats: Stats = a.all_stats().unwrap().remove(client).unwrap();
        assert_eq!(serde_json::to_value(&stats).unwrap(), entry["value"]);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), entry["value"]);
    }
    let _b = bus.client("b");
    a.send("b", "x").unwrap();
    a.write_stats().unwrap();
    let written: Value = serde_json::from_str(&bus.read("a.stats")).unwrap();
    assert_eq!(written, json!({"read": {}, "sent": {"b": 1}}));
}

fn captured_pids_and_deadlines_are_read_and_written_alike(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let manifest = manifest("messagefiles");
    let mut a = bus.client("a");
    assert_eq!(bus.read("a.pid"), std::process::id().to_string(), "digits, and no newline");
    fs::create_dir(bus.at_name("sender")).unwrap();
    fs::copy(folder("messagefiles").join("sender.pid"), bus.at_name("sender.pid")).unwrap();
    let record = a.peer("sender").unwrap().unwrap();
    assert_eq!(record.pid.map(u64::from), manifest["pidfile"]["value"].as_u64());
    fs::create_dir(bus.at_name("third")).unwrap();
    fs::copy(folder("messagefiles").join("third.suspend"), bus.at_name("third.suspend")).unwrap();
    let deadline = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_900_000_000_250);
    let suspended = ipc_manager::PeerState::Suspended { until: Some(deadline) };
    assert_eq!(a.peer("third").unwrap().unwrap().state, suspended);
    let mut b = bus.client("b");
    b.suspend(Suspend::until(deadline)).unwrap();
    assert_eq!(bus.read("b.suspend"), fs::read_to_string(folder("messagefiles").join("third.suspend")).unwrap());
}

fn names_on_disk_are_those_of_the_vectors(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    let mut seen = 0;
    for entry in manifest("names")["fs_200"].as_array().unwrap() {
        let (name, disk) = (entry["name"].as_str().unwrap(), entry["on_disk"].as_str().unwrap());
        match bus.try_client(name) {
            Ok(client) => {
                assert!(bus.at_name(disk).is_dir(), "{name:?} is not at {disk:?}");
                assert_eq!(bus.at_name(&format!("{disk}.name")).exists(), name != disk);
                drop(client);
            }
            // Names that we do not take ourselves can be others': they are reached where others put them.
            Err(error) => {
                assert_eq!(error.kind(), ipc_manager::ErrorKind::InvalidName, "{name:?}");
                bus.foreign_entry(disk, Some(std::process::id()));
                if name != disk {
                    fs::write(bus.at_name(&format!("{disk}.name")), name).unwrap();
                }
                a.send(name, "x").unwrap_or_else(|error| panic!("{name:?}: {error:?}"));
                assert_eq!(bus.waiting(disk), 1, "{name:?}");
                fs::remove_dir_all(bus.at_name(disk)).unwrap();
            }
        }
        seen += 1;
    }
    assert!(seen > 15, "the manifest is not what it was");
}

fn a_batch_is_in_the_captured_order(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    let vector = manifest("ordering");
    for arrival in vector["arrival"].as_array().unwrap() {
        let mut message = json!({"from": "sender", "to": "a", "content": arrival["label"], "stamp": arrival["stamp"]});
        if let Some(ordinal) = arrival.get("stamp_ord") {
            message["stamp_ord"] = ordinal.clone();
        }
        let id = format!("id-{}", arrival["label"].as_str().unwrap());
        message["id"] = id.clone().into();
        bus.drop_in("a", &id, message.to_string());
    }
    let got: Vec<Value> = a.get_messages().unwrap().iter().map(|message| message.content().clone()).collect();
    // A directory does not tell in which order its files came, so among equal keys every order is right.
    let key = |label: &Value| {
        let arrival = vector["arrival"].as_array().unwrap().iter().find(|arrival| &arrival["label"] == label).unwrap();
        (arrival["stamp"].as_f64().unwrap(), arrival.get("stamp_ord").and_then(Value::as_u64).unwrap_or(0))
    };
    let keys: Vec<_> = got.iter().map(key).collect();
    let expected: Vec<_> = vector["sorted"].as_array().unwrap().iter().map(key).collect();
    assert_eq!(keys, expected, "{got:?}");
}
