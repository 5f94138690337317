// SPDX-License-Identifier: MIT OR Apache-2.0
//! Captured bytes are read, and what is written has their form.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};

use ipc_manager::{ErrorKind, Limits, Message, Receipt};
use ipc_manager_testkit::{Sandbox, Test};
use serde_json::{Value, json};

use super::{PipeBus, frames, own_pid};
use crate::vectors::{assert_same, blob, folder, manifest};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        an_entry_is_a_fifo_for_its_user_alone,
        pip_02_what_was_captured_decodes_to_what_the_manifest_says,
        what_is_written_has_the_captured_frames,
        a_captured_resume_file_is_read_from_a_fifo_bus,
    ]
}

fn an_entry_is_a_fifo_for_its_user_alone(sandbox: &Sandbox) {
    let bus = PipeBus::new(sandbox);
    let mut a = bus.client("a");
    let entry = fs::metadata(bus.at("a")).unwrap();
    assert!(entry.file_type().is_fifo());
    assert_eq!(entry.permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(bus.at("a.pid")).unwrap(), std::process::id().to_string());
    // PIP-01: a directory is no peer here.
    fs::DirBuilder::new().mode(0o700).create(bus.at("dir")).unwrap();
    assert!(a.peers().unwrap().is_empty());
    assert_eq!(a.send("dir", "x").unwrap_err().kind(), ErrorKind::NoSuchPeer);
    a.disconnect().unwrap();
    assert!(!bus.at("a").exists());
}

/// What a capture holds, and its messages with their contents spelled out.
fn captures() -> Vec<(String, Vec<u8>, Vec<Value>, Value)> {
    let manifest = manifest("atomicpipe");
    let captures = manifest["captures"].as_array().unwrap();
    assert!(captures.len() > 25, "the manifest is not what it was");
    let one = |capture: &Value| {
        let file = capture["file"].as_str().unwrap().to_owned();
        let bytes = fs::read(folder("atomicpipe").join(&file)).unwrap();
        let mut messages = capture["messages"].as_array().unwrap().clone();
        for message in &mut messages {
            if let Some(spec) = message.as_object_mut().unwrap().remove("content_spec") {
                let length = usize::try_from(spec["blob_pattern_length"].as_u64().unwrap()).unwrap();
                message["content"] = json!({"blob": blob(length)});
            }
            // Which process sent it is a note.
            message.as_object_mut().unwrap().remove("pid");
        }
        (file, bytes, messages, capture.clone())
    };
    captures.iter().map(one).collect()
}

fn pip_02_what_was_captured_decodes_to_what_the_manifest_says(sandbox: &Sandbox) {
    let bus = PipeBus::new(sandbox);
    let mut receiver = bus.client("receiver");
    for (file, bytes, expected, capture) in captures() {
        if let Some(described) = capture.get("frames").and_then(Value::as_array) {
            let described = described
                .iter()
                .map(|frame| (frame["part"].as_u64().unwrap() as u32, frame["payload_bytes"].as_u64().unwrap() as u32));
            assert_eq!(frames(&bytes), described.collect::<Vec<_>>(), "{file}");
        }
        assert!(!receiver.is_ready().unwrap(), "{file}");
        bus.write("receiver", &bytes);
        assert!(receiver.is_ready().unwrap(), "{file}");
        let got = receiver.get_messages().unwrap();
        assert_eq!(got.len(), expected.len(), "{file}");
        for message in &expected {
            let id = message.get("id").and_then(Value::as_str);
            let same = got.iter().find(|got| id.is_none_or(|id| got.id().as_str() == id));
            assert_same(&file, same.unwrap_or_else(|| panic!("{file}: {id:?} is missing")), message);
        }
    }
    assert!(receiver.take_damaged().is_empty());
}

fn what_is_written_has_the_captured_frames(sandbox: &Sandbox) {
    let bus = PipeBus::new(sandbox);
    let mut a = bus.client("a");
    let mut fifo = bus.foreign("other");
    // With a payload as long as a captured one, the frames are as long, too.
    for (length, expected) in [
        (4080, vec![(0, 4080)]),
        (4081, vec![(1, 4080), (0, 1)]),
        (8160, vec![(1, 4080), (0, 4080)]),
        (8161, vec![(2, 4080), (1, 4080), (0, 1)]),
    ] {
        let empty = a.message("other", "").unwrap();
        let overhead = empty.to_json(&Limits::DEFAULT).unwrap().len();
        let id = empty.id().as_str();
        let message = Message::builder("a").to("other").content(&"x".repeat(length - overhead)).unwrap();
        let message = message.id(id).stamp(empty.stamp().as_seconds()).build().unwrap();
        assert_eq!(a.send_message(message.clone()).unwrap(), Receipt::Delivered);
        let mut bytes = vec![0; 3 * 4096];
        let count = fifo.read(&mut bytes).unwrap();
        bytes.truncate(count);
        assert_eq!(frames(&bytes), expected, "{length}");
        assert_eq!(i32::from_ne_bytes(bytes[..4].try_into().unwrap()), own_pid());
        let payload: Vec<u8> = bytes.chunks(4096).flat_map(|frame| frame[16..].to_vec()).collect();
        assert_eq!(Message::from_json(&payload, &Limits::DEFAULT).unwrap(), message);
    }
    // Many small ones come in frames of their own, too.
    let messages: Vec<Message> = (0..50).map(|number| a.message("other", &number).unwrap()).collect();
    a.send_all(messages).unwrap();
    let mut bytes = vec![0; 64 << 10];
    let count = fifo.read(&mut bytes).unwrap();
    let sizes = frames(&bytes[..count]);
    assert!(sizes.len() == 50 && sizes.iter().all(|(part, _)| *part == 0), "{sizes:?}");
}

fn a_captured_resume_file_is_read_from_a_fifo_bus(sandbox: &Sandbox) {
    let bus = PipeBus::new(sandbox);
    let mut receiver = bus.client("receiver");
    fs::copy(folder("atomicpipe").join("receiver.resume"), bus.at("receiver.resume")).unwrap();
    let expected = &manifest("atomicpipe")["resume"]["messages"][0];
    receiver.requeue(&[receiver.message("receiver", "mine").unwrap()]).unwrap();
    let got = receiver.get_messages().unwrap();
    assert_eq!(got.len(), 2);
    assert_same("receiver.resume", &got[0], expected);
    assert!(receiver.stats().read.is_empty(), "reading back counts nothing");
}
