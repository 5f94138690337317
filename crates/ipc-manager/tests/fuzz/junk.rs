// SPDX-License-Identifier: MIT OR Apache-2.0
//! Any bytes in a mailbox, between sound messages: these arrive, once and in order, and the client goes on.

use std::io::Write;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};

use ipc_manager::{Client, Message, Spawn};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test};
use serde_json::json;

use super::target;

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![files, put_back, counters, fifos, datagrams, streams, rows]
}

/// A message of somebody else.
fn sound() -> String {
    json!({"id": "7", "from": "x", "to": "b", "stamp": 1.5, "content": {"k": [1, null]}}).to_string()
}

/// A bus with JSON payloads, its place, a sender and a reader.
struct Mailbox {
    owner: Spawn,
    place: PathBuf,
    sender: Client,
    reader: Client,
    _sandbox: Sandbox,
}

impl Mailbox {
    fn new(protocol: &str) -> Self {
        let sandbox = Sandbox::new();
        let place = sandbox.dir().join("bus");
        let builder = Spawn::builder().protocol(protocol).serializer("JSON").guard(false);
        let owner = builder.route(place.to_str().unwrap()).spawn().unwrap();
        let (sender, reader) = (owner.connect("a").unwrap(), owner.connect("b").unwrap());
        Self { owner, place, sender, reader, _sandbox: sandbox }
    }

    fn send(&mut self) -> Message {
        let message = self.sender.message("b", &json!({"sound": true})).unwrap();
        self.sender.send_message(message.clone()).unwrap();
        message
    }

    /// Takes messages until all of these came, in this order; others may be among them.
    fn expect(&mut self, messages: &[Message]) {
        let mut expected = messages.iter().map(Message::id).peekable();
        while let Some(id) = expected.peek() {
            let got = self.reader.recv_timeout(PATIENCE).unwrap();
            if got.from().as_str() == "a" && messages.iter().any(|message| message.id() == got.id()) {
                assert_eq!(got.id(), *id, "a message came twice or out of order");
                expected.next();
            }
        }
        while let Some(more) = self.reader.try_recv().unwrap() {
            assert!(!messages.iter().any(|message| message.id() == more.id()), "a message came twice");
        }
        drop(self.reader.take_damaged());
    }

    fn end(mut self) {
        let _ = self.reader.disconnect();
        let _ = self.sender.disconnect();
        self.owner.unspawn().unwrap();
    }
}

/// Checks that what is put between two messages costs neither, and no later one.
fn between(name: &str, protocol: &str, put: impl Fn(&mut Mailbox, &Path, &[u8])) {
    target(name).cases(24).memory(16 << 20, 1 << 10).seed(sound()).seed([0xff; 40]).bytes(|junk| {
        let mut mailbox = Mailbox::new(protocol);
        let entry = mailbox.place.join("b");
        let before = mailbox.send();
        put(&mut mailbox, &entry, junk);
        let after = mailbox.send();
        mailbox.expect(&[before, after]);
        let last = mailbox.send();
        mailbox.expect(&[last]);
        mailbox.end();
    });
}

fn files(_: &Sandbox) {
    between("junk-file", "MessageFiles", |_, entry, junk| std::fs::write(entry.join("JUNK.ready"), junk).unwrap());
}

fn put_back(_: &Sandbox) {
    let record =
        |payload: &str| [&u32::try_from(payload.len()).unwrap().to_be_bytes()[..], payload.as_bytes()].concat();
    let records = [record(&sound()), record("[]"), vec![0, 0, 1]].concat();
    target("junk-resume").cases(24).memory(16 << 20, 1 << 10).seed(records).bytes(|junk| {
        let mut mailbox = Mailbox::new("UnixSocket");
        let before = mailbox.send();
        let got = mailbox.reader.recv_timeout(PATIENCE).unwrap();
        std::fs::write(mailbox.place.join("b.resume"), junk).unwrap();
        mailbox.reader.requeue(&[got]).unwrap();
        mailbox.expect(&[before]);
        let after = mailbox.send();
        mailbox.expect(&[after]);
        mailbox.end();
    });
}

fn counters(_: &Sandbox) {
    let seed = r#"{"read":{"a":1,"b":"-2"},"sent":{"c":3}}"#;
    target("junk-counters").cases(24).memory(16 << 20, 1 << 10).seed(seed).bytes(|junk| {
        let mut mailbox = Mailbox::new("MessageFiles");
        let message = mailbox.send();
        mailbox.reader.suspend(ipc_manager::Suspend::open_ended()).unwrap();
        for beside in ["b.stats", "b.suspend"] {
            std::fs::write(mailbox.place.join(beside), junk).unwrap();
        }
        mailbox.sender.all_peers().unwrap();
        mailbox.owner.audit().unwrap();
        mailbox.reader = mailbox.owner.reconnect("b").unwrap();
        mailbox.expect(&[message]);
        mailbox.end();
    });
}

fn fifos(_: &Sandbox) {
    let frame = |part: u32, payload: &str| {
        let header = [std::process::id(), 7, part, u32::try_from(payload.len()).unwrap()];
        [header.map(u32::to_ne_bytes).concat(), payload.as_bytes().to_vec()].concat()
    };
    let frames = [frame(0, &sound()), frame(1, "{\"from\""), frame(0, ":1}")].concat();
    target("junk-fifo").cases(24).memory(16 << 20, 1 << 10).seed(frames).seed([0xff; 40]).bytes(|junk| {
        let mut mailbox = Mailbox::new("AtomicPipe");
        let before = mailbox.send();
        let mut fifo = std::fs::OpenOptions::new().write(true).open(mailbox.place.join("b")).unwrap();
        // What claims to be a frame may take with it what follows at once, as the format has no marks.
        fifo.write_all(&junk[..junk.len().min(32 << 10)]).unwrap();
        mailbox.expect(&[before]);
        let after = [mailbox.send(), mailbox.send()];
        mailbox.expect(&after);
        mailbox.end();
    });
}

fn datagrams(_: &Sandbox) {
    between("junk-datagram", "UnixSocket", |_, entry, junk| {
        // One that the kernel does not take is none.
        let _ = UnixDatagram::unbound().unwrap().send_to(junk, entry);
    });
}

fn streams(_: &Sandbox) {
    between("junk-stream", "ConnectionUnix", |_, entry, junk| {
        let mut stream = UnixStream::connect(entry).unwrap();
        stream.set_nonblocking(true).unwrap();
        let _ = stream.write_all(&[b"\0\0\0\x0d{\"hello\":\"x\"}", junk].concat());
        let mut nameless = UnixStream::connect(entry).unwrap();
        nameless.set_nonblocking(true).unwrap();
        let _ = nameless.write_all(junk);
    });
}

fn rows(_: &Sandbox) {
    between("junk-row", "SQLite", |mailbox, _, junk| {
        let replaced = mailbox.send();
        let database = rusqlite::Connection::open(&mailbox.place).unwrap();
        let sql = "UPDATE ipcm_messages SET content = ?1, stamp = ?2, ipcm_more = ?3 WHERE id = ?4";
        let text = String::from_utf8_lossy(junk);
        let changed = database.execute(sql, rusqlite::params![junk, &text, &text, replaced.id().as_str()]).unwrap();
        assert_eq!(changed, 1);
    });
}
