// SPDX-License-Identifier: MIT OR Apache-2.0
//! The captured streams, read by a client and written by one; entries and frames as another implementation sees them.

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};

use ipc_manager::{Client, ErrorKind, Limits, Message};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test};
use serde_json::{Value, json};

use super::{StreamBus, frame, message, read_json, read_payload, recv_count};
use crate::vectors;

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        captured_streams_are_read,
        soc_02_names_on_disk_depend_on_the_length_of_the_route,
        captured_frames_are_written_alike,
        captured_answers_are_read_and_written_alike,
        con_01_a_listener_is_a_socket,
        con_02_a_peer_that_does_not_listen_is_an_empty_file,
        the_first_frame_of_an_opener_is_its_hello,
        a_second_connection_does_not_overtake_the_first,
        both_sides_open_and_the_other_closes_one,
    ]
}

/// A captured stream: its bytes, the frames in it, what they must say, and who says hello first.
struct Capture {
    file: String,
    bytes: Vec<u8>,
    messages: Vec<Value>,
    hello: Option<String>,
}

fn captures() -> Vec<Capture> {
    let manifest = vectors::manifest("connectionunix");
    let one = |entry: &Value| {
        let file = entry["file"].as_str().unwrap().to_owned();
        let bytes = std::fs::read(vectors::folder("connectionunix").join(&file)).unwrap();
        assert_eq!(bytes.len() as u64, entry["bytes"].as_u64().unwrap(), "{file}");
        let messages = entry["messages"].as_array().unwrap().iter().map(vectors::with_blob).collect();
        Capture { file, bytes, messages, hello: entry["hello"]["hello"].as_str().map(str::to_owned) }
    };
    let captures: Vec<_> = manifest["captures"].as_array().unwrap().iter().map(one).collect();
    assert_eq!(captures.len(), 8, "the manifest is not what it was");
    captures
}

/// The frames of a stream, as the manifest counts them.
fn split(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = stream.split_first_chunk::<4>() {
        let (payload, rest) = rest.split_at(u32::from_be_bytes(*length).try_into().unwrap());
        frames.push(payload.to_vec());
        stream = rest;
    }
    assert!(stream.is_empty());
    frames
}

fn captured_streams_are_read(sandbox: &Sandbox) {
    let bus = StreamBus::new(sandbox);
    for capture in captures() {
        let file = &capture.file;
        let (from, to) = (&capture.messages[0]["from"], &capture.messages[0]["to"]);
        let mut client = bus.client(to.as_str().unwrap());
        let mut stream = match &capture.hello {
            Some(_) => bus.dial(to.as_str().unwrap()),
            None => bus.dial_as(from.as_str().unwrap(), to.as_str().unwrap()),
        };
        // In pieces, wherever these are cut; the large ones in larger pieces.
        for piece in capture.bytes.chunks(capture.bytes.len() / 100 + 1) {
            stream.write_all(piece).unwrap();
            client.is_ready().unwrap();
        }
        let got = recv_count(&mut client, capture.messages.len());
        for (message, expected) in got.iter().zip(&capture.messages) {
            vectors::assert_same(file, message, expected);
        }
        assert!(client.take_damaged().is_empty(), "{file}");
        let name = capture.hello.as_deref().or(from.as_str());
        assert_eq!(name, from.as_str(), "{file}");
    }
}

fn captured_frames_are_written_alike(sandbox: &Sandbox) {
    let bus = StreamBus::new(sandbox);
    for capture in captures().into_iter().filter(|capture| capture.file != "reply-on-accepted.bin") {
        let (file, frames) = (&capture.file, split(&capture.bytes));
        let (from, to) = (capture.messages[0]["from"].as_str().unwrap(), capture.messages[0]["to"].as_str().unwrap());
        let listener = bus.register_listener(to);
        let mut client = bus.client(from);
        let payloads = if capture.hello.is_some() { &frames[1..] } else { &frames[..] };
        for payload in payloads {
            let message = Message::from_json(payload, &Limits::DEFAULT).unwrap();
            client.send_message(message).unwrap();
        }
        let (mut stream, _) = listener.accept().unwrap();
        let hello = read_payload(&mut stream).unwrap();
        assert_eq!(hello, json!({"hello": from}).to_string().into_bytes(), "{file}");
        if capture.hello.is_some() {
            assert_eq!(hello, frames[0], "{file}");
        }
        for (payload, expected) in payloads.iter().zip(&capture.messages) {
            let written = read_payload(&mut stream).unwrap();
            assert!(written.is_ascii());
            vectors::assert_same(file, &Message::from_json(&written, &Limits::DEFAULT).unwrap(), expected);
            let (ours, theirs): (Value, Value) =
                (serde_json::from_slice(&written).unwrap(), serde_json::from_slice(payload).unwrap());
            for key in ["id", "from", "to", "stamp", "stamp_ord", "broadcast"] {
                assert_eq!(ours.get(key), theirs.get(key), "{file}: {key}");
            }
        }
        client.disconnect().unwrap();
        assert_eq!(read_payload(&mut stream), None, "{file}: the end is seen");
        for name in [to.to_owned(), format!("{to}.pid")] {
            std::fs::remove_file(bus.at(&name)).unwrap();
        }
    }
}

fn captured_answers_are_read_and_written_alike(sandbox: &Sandbox) {
    let bus = StreamBus::new(sandbox);
    let capture = captures().into_iter().find(|capture| capture.file == "reply-on-accepted.bin").unwrap();
    let expected = Message::from_json(&split(&capture.bytes)[0], &Limits::DEFAULT).unwrap();
    // The listener writes it, without a hello.
    let mut sender = bus.client("sender");
    bus.register_quiet("raw");
    let mut stream = bus.dial("sender");
    let handmade = vectors::folder("connectionunix").join("handmade-initiator-input.bin");
    stream.write_all(&std::fs::read(handmade).unwrap()).unwrap();
    assert_eq!(sender.recv_timeout(PATIENCE).unwrap().content(), "ping");
    sender.send_message(expected.clone()).unwrap();
    assert_eq!(Message::from_json(&read_payload(&mut stream).unwrap(), &Limits::DEFAULT).unwrap(), expected);
    drop((sender, stream));
    std::fs::remove_file(bus.at("raw")).unwrap();
    std::fs::remove_file(bus.at("raw.pid")).unwrap();
    // The opener reads it.
    let listener = bus.register_listener("sender");
    let mut raw = bus.client("raw");
    raw.send("sender", "ping").unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    assert_eq!(read_json(&mut stream), json!({"hello": "raw"}));
    assert_eq!(read_json(&mut stream)["content"], "ping");
    stream.write_all(&capture.bytes).unwrap();
    assert_eq!(raw.recv_timeout(PATIENCE).unwrap(), expected);
}

fn con_01_a_listener_is_a_socket(sandbox: &Sandbox) {
    let bus = StreamBus::new(sandbox);
    let mut a = bus.client("a");
    let entry = std::fs::symlink_metadata(bus.at("a")).unwrap();
    assert!(entry.file_type().is_socket());
    assert_eq!(entry.permissions().mode() & 0o777, 0o600);
    a.disconnect().unwrap();
    assert!(!bus.at("a").exists());
}

fn con_02_a_peer_that_does_not_listen_is_an_empty_file(sandbox: &Sandbox) {
    let bus = StreamBus::new(sandbox);
    let mut a = Client::builder("a", bus.info()).listen(false).connect().unwrap();
    let entry = std::fs::symlink_metadata(bus.at("a")).unwrap();
    assert!(entry.is_file() && entry.len() == 0);
    assert_eq!(entry.permissions().mode() & 0o777, 0o600);
    let mut b = bus.client("b");
    bus.register_quiet("foreign");
    let error = b.send("foreign", "x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotListening, "{error:?}");
    a.disconnect().unwrap();
    assert!(!bus.at("a").exists());
    // What only looks like an entry is none.
    std::fs::write(bus.at("notes"), "not empty").unwrap();
    std::fs::write(bus.at("foreign.stats.pend"), "").unwrap();
    assert_eq!(b.peers().unwrap().iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["foreign"]);
}

fn the_first_frame_of_an_opener_is_its_hello(sandbox: &Sandbox) {
    let bus = StreamBus::new(sandbox);
    let listener = bus.register_listener("perl");
    let mut a = bus.client("a");
    a.send_all((0..3).map(|number| a.message("perl", &number).unwrap()).collect::<Vec<_>>()).unwrap();
    a.send("perl", "last").unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    assert_eq!(read_json(&mut stream), json!({"hello": "a"}));
    for expected in [json!(0), json!(1), json!(2), json!("last")] {
        assert_eq!(read_json(&mut stream)["content"], expected);
    }
    stream.write_all(&message("perl", "a", &json!("answer"))).unwrap();
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "answer");
}

fn a_second_connection_does_not_overtake_the_first(sandbox: &Sandbox) {
    let bus = StreamBus::new(sandbox);
    let mut a = bus.client("a");
    bus.register_quiet("perl");
    for round in 0..20 {
        let mut first = bus.dial_as("perl", "a");
        if round % 2 == 0 {
            assert!(!a.is_ready().unwrap());
        }
        for number in 0..50 {
            first.write_all(&message("perl", "a", &json!(number))).unwrap();
        }
        let mut second = bus.dial_as("perl", "a");
        second.write_all(&message("perl", "a", &json!(50))).unwrap();
        if round % 3 == 0 {
            drop(first);
        }
        for number in 0..=50 {
            assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), number, "round {round}");
        }
    }
}

/// What the reference does when both open at once: it reads on what it opened what is there, closes it, and keeps what
/// it accepted.
fn both_sides_open_and_the_other_closes_one(sandbox: &Sandbox) {
    let bus = StreamBus::new(sandbox);
    let listener = bus.register_listener("perl");
    let mut a = bus.client("a");
    let mut theirs = bus.dial_as("perl", "a");
    theirs.write_all(&message("perl", "a", &json!("first"))).unwrap();
    a.send("perl", "from a").unwrap();
    let (mut ours, _) = listener.accept().unwrap();
    assert_eq!(read_json(&mut ours), json!({"hello": "a"}));
    assert_eq!(read_json(&mut ours)["content"], "from a");
    drop(theirs);
    ours.write_all(&message("perl", "a", &json!("second"))).unwrap();
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "first");
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "second");
    a.send("perl", "still there").unwrap();
    assert_eq!(read_json(&mut ours)["content"], "still there");
    // Both are closed, as it goes there: the next message opens another one, and is sent whole.
    drop(ours);
    a.send("perl", "anew").unwrap();
    let (mut anew, _) = listener.accept().unwrap();
    assert_eq!(read_json(&mut anew), json!({"hello": "a"}));
    assert_eq!(read_json(&mut anew)["content"], "anew");
    anew.write_all(&frame(json!({"hello": "perl"}).to_string())).unwrap();
    anew.write_all(&message("perl", "a", &json!("third"))).unwrap();
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "third");
    assert!(a.take_damaged().is_empty(), "a later hello is ignored");
}

/// A route in the sandbox of exactly that length.
fn route_of_length(sandbox: &Sandbox, length: usize) -> std::path::PathBuf {
    let parent = sandbox.dir().to_str().unwrap();
    std::path::PathBuf::from(format!("{parent}/{}", "r".repeat(length - parent.len() - 1)))
}

fn soc_02_names_on_disk_depend_on_the_length_of_the_route(sandbox: &Sandbox) {
    let routes = &vectors::manifest("names")["socket_by_route_length"];
    let mut seen = 0;
    for (length, names) in routes.as_object().unwrap() {
        let length = length.parse().unwrap();
        if length < sandbox.dir().to_str().unwrap().len() + 2 {
            continue;
        }
        let route = route_of_length(sandbox, length);
        let builder = ipc_manager::Spawn::builder().protocol("ConnectionUnix").guard(false);
        let owner = builder.route(route.to_str().unwrap()).spawn().unwrap();
        for entry in names["names"].as_array().unwrap() {
            let name = "n".repeat(entry["name_length"].as_u64().unwrap().try_into().unwrap());
            match (ipc_manager::connect(&name, owner.info()), entry["on_disk"].as_str()) {
                (Ok(mut client), Some(disk)) => {
                    let entry = std::fs::symlink_metadata(route.join(disk));
                    assert!(entry.is_ok_and(|entry| entry.file_type().is_socket()), "{disk} on a route of {length}");
                    client.send(&name, "to myself").unwrap();
                    assert_eq!(client.recv_timeout(PATIENCE).unwrap().content(), "to myself");
                }
                (Err(error), None) => assert_eq!(error.kind(), ErrorKind::InvalidName, "{error:?}"),
                (connected, expected) => panic!("{name} on a route of {length}: {connected:?}, not {expected:?}"),
            }
            seen += 1;
        }
    }
    assert!(seen > 30, "the manifest is not what it was: {seen}");
}
