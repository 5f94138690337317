// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sizes, names, and junk.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use ipc_manager::{ErrorKind, Limits, Message};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test};
use serde_json::json;

use crate::file_bus::{FileBus, contents, foreign_message};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        t09_every_size_up_to_the_limit,
        t10_names_of_every_kind,
        t11_junk_costs_itself_only,
        t11_junk_in_a_backlog,
    ]
}

/// A message whose JSON has exactly so many bytes.
fn of_size(bytes: usize) -> Message {
    let build = |text: &str| {
        let message = Message::builder("a").to("b").content(text).unwrap();
        message.id("0198C0DE-0000-7000-8000-0123456789AB").stamp(1_700_000_000.25).build().unwrap()
    };
    let empty = build("").to_json(&Limits::DEFAULT).unwrap().len();
    let pattern = "0123456789abcdef".repeat((bytes - empty) / 16 + 1);
    build(&pattern[..bytes - empty])
}

fn t09_every_size_up_to_the_limit(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    let limit = Limits::DEFAULT.encoded_bytes;
    for size in [200, 4 << 10, 64 << 10, 100_000, 1 << 20, 10 << 20, limit, limit + 1] {
        let unlimited = Limits { decoded_bytes: usize::MAX, ..Limits::DEFAULT };
        let message = of_size(size);
        assert_eq!(message.to_json(&unlimited).unwrap().len(), size);
        if size <= limit {
            a.send_message(message.clone()).unwrap();
            assert!(b.recv_timeout(PATIENCE).unwrap() == message, "{size} bytes did not arrive as they were sent");
        } else {
            assert_eq!(a.send_message(message).unwrap_err().kind(), ErrorKind::TooLarge);
            assert!(b.get_messages().unwrap().is_empty());
        }
        a.send("b", "small").unwrap();
        assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "small");
        println!("T09: {size} B {}", if size <= limit { "arrived whole" } else { "refused as too large" });
    }
    assert!(b.take_damaged().is_empty());
}

fn t10_names_of_every_kind(sandbox: &Sandbox) {
    let canary = sandbox.dir().join("canary");
    fs::create_dir(sandbox.dir().join("b")).unwrap();
    fs::write(&canary, "sings").unwrap();
    let bus = FileBus::new(sandbox);
    let (mut a, mut bystander) = (bus.client("a"), bus.client("x"));
    let long = "n".repeat(300);
    let names = [
        "",
        ".",
        "..",
        "a/b",
        "../b",
        "../canary",
        "/etc",
        &long,
        "\u{1F511}",
        ".x",
        "_x",
        "_a",
        "a\nb",
        "a\0b",
        "h-x",
        "x.stats",
        "x.pid",
        "a.pend",
        ".live-x",
        ".ipcm-lock",
        "a b",
        "*",
        "$(x)",
        "-rf",
    ];
    let (mut passed, mut refused) = (0, 0);
    for name in names {
        bystander.send("a", "before").unwrap();
        match bus.try_client(name) {
            Ok(mut client) => {
                client.send("a", "it works").unwrap();
                a.send(name, "both ways").unwrap();
                assert_eq!(client.recv_timeout(PATIENCE).unwrap().content(), "both ways", "{name:?}");
                passed += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidName, "{name:?}");
                assert!(!error.to_string().contains(['\n', '\0']), "shown escaped");
                let error = a.send(name, "x").unwrap_err().kind();
                assert!(matches!(error, ErrorKind::InvalidName | ErrorKind::NoSuchPeer), "{name:?}: {error}");
                refused += 1;
            }
        }
        assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "before", "{name:?}");
        let _ = a.get_messages().unwrap();
        assert_eq!(fs::read_to_string(&canary).unwrap(), "sings", "{name:?}");
        assert_eq!(fs::read_dir(sandbox.dir()).unwrap().count(), 3, "{name:?} made something beside the bus");
    }
    println!("T10: {passed} names work, {refused} are refused");
    assert!(passed >= 8 && passed + refused == names.len());
}

/// Puts one piece of junk of each kind into a mailbox; returns how many.
fn put_junk(bus: &FileBus, sandbox: &Sandbox) -> usize {
    let entry = bus.at_name("a");
    let message = |fields: serde_json::Value| fields.to_string().into_bytes();
    let good = foreign_message("b", "a", "id", 5.0, &json!("x"));
    let deep = format!("{{\"from\":\"b\",\"to\":\"a\",\"content\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let junk: Vec<Vec<u8>> = vec![
        vec![0x00, 0xFF, 0xFE, 0x80, 0x28, 0xB5, 0x2F, 0xFD],
        Vec::new(),
        good.as_bytes()[..good.len() - 3].to_vec(),
        b"[1,2,3]".to_vec(),
        b"42".to_vec(),
        b"null".to_vec(),
        message(json!({"to": "a", "content": 1})),
        message(json!({"from": "", "to": "a", "content": 1})),
        message(json!({"from": ["b"], "to": "a", "content": 1})),
        message(json!({"from": "b", "to": "a", "content": null})),
        message(json!({"from": "b", "to": "a"})),
        message(json!({"from": "b", "content": 1})),
        message(json!({"from": "b", "to": "somebody else", "content": 1})),
        message(json!({"from": "b", "to": "a", "content": 1, "stamp": "soon"})),
        b"{\"from\":\"b\",\"to\":\"a\",\"content\":1,\"content\":2}".to_vec(),
        b"{\"from\":\"b\",\"to\":\"a\",\"content\":NaN}".to_vec(),
        b"{\"from\":\"b\",\"to\":\"a\",\"content\":\"\\ud800\"}".to_vec(),
        b"{\"from\":\"b\",\"to\":\"a\",\"content\":\"\xC3\x28\"}".to_vec(),
        b"{\"from\":\"b\",\"to\":\"a\",\"content\":1e999,\"stamp\":1e999}".to_vec(),
        deep.into_bytes(),
        format!("{good}{good}").into_bytes(),
    ];
    for (number, bytes) in junk.iter().enumerate() {
        fs::write(entry.join(format!("junk-{number}.ready")), bytes).unwrap();
    }
    fs::create_dir_all(entry.join("directory.ready/inner")).unwrap();
    symlink(sandbox.dir().join("canary"), entry.join("link.ready")).unwrap();
    symlink("/nowhere", entry.join("broken-link.ready")).unwrap();
    let huge = fs::File::create(entry.join("huge.ready")).unwrap();
    huge.set_len(Limits::DEFAULT.encoded_bytes as u64 + 1).unwrap();
    drop(UnixListener::bind(entry.join("socket.ready")).unwrap());
    let fifo = std::process::Command::new("mkfifo").arg(entry.join("fifo.ready")).status().unwrap();
    assert!(fifo.success());
    junk.len() + 6
}

fn t11_junk_costs_itself_only(sandbox: &Sandbox) {
    fs::write(sandbox.dir().join("canary"), foreign_message("b", "a", "id", 5.0, &json!("stolen"))).unwrap();
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    b.send("a", &0).unwrap();
    let junk = put_junk(&bus, sandbox);
    b.send("a", &1).unwrap();
    let got = a.get_messages().unwrap();
    let damaged = a.take_damaged();
    println!("T11: {} good of 2, {} of {junk} pieces of junk reported", got.len(), damaged.len());
    assert_eq!(contents(&got), [json!(0), json!(1)]);
    for damage in &damaged {
        assert!(matches!(damage.error().kind(), ErrorKind::Corrupt | ErrorKind::TooLarge), "{damage:?}");
        assert!(damage.error().place().path().is_some(), "{damage:?} does not say where");
    }
    assert_eq!(damaged.len(), junk, "{damaged:#?}");
    assert!(a.get_messages().unwrap().is_empty() && a.take_damaged().is_empty(), "reported once");
    assert!(!a.is_ready().unwrap());
    b.send("a", &2).unwrap();
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), 2);
    a.send("b", &3).unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), 3);
    a.disconnect().unwrap();
    assert!(!bus.at_name("a").exists() && !bus.at_name("_a").exists());
    assert!(fs::read_to_string(sandbox.dir().join("canary")).unwrap().contains("stolen"));
}

fn t11_junk_in_a_backlog(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    for number in 0..200 {
        b.send("a", &number).unwrap();
        if number == 100 {
            fs::write(bus.at_name("a").join("0000.ready"), "{\"from\":").unwrap();
        }
    }
    let mut got = Vec::new();
    loop {
        let batch = a.get_at_most(33).unwrap();
        if batch.is_empty() {
            break;
        }
        got.extend(contents(&batch));
    }
    println!("T11: {} good of 200 with one broken among them", got.len());
    assert_eq!(got, (0..200).map(serde_json::Value::from).collect::<Vec<_>>());
    assert_eq!(a.take_damaged().len(), 1);
    assert_eq!(a.stats().read["b"], 200);
}
