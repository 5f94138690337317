// SPDX-License-Identifier: MIT OR Apache-2.0
//! ConnectionUnix byte by byte: the other side is a plain stream socket, as another implementation has it.

mod hostile;
mod strangers;
mod wire;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use ipc_manager::{Client, ConnectionString, Message, Spawn};
use ipc_manager_testkit::{PATIENCE, Puppet, Sandbox, Subject, Test, eventually};
use serde_json::{Value, json};

pub fn tests() -> Vec<Test> {
    [wire::tests(), hostile::tests(), strangers::tests()].concat()
}

/// A bus with JSON payloads, whose sockets are reached by path.
struct StreamBus {
    owner: Spawn,
    route: PathBuf,
}

impl StreamBus {
    fn new(sandbox: &Sandbox) -> Self {
        let route = sandbox.dir().join("bus");
        let builder = Spawn::builder().protocol("ConnectionUnix").serializer("JSON").guard(false);
        Self { owner: builder.route(route.to_str().unwrap()).spawn().unwrap(), route }
    }

    fn info(&self) -> &ConnectionString {
        self.owner.info()
    }

    #[track_caller]
    fn client(&self, name: &str) -> Client {
        ipc_manager::connect(name, self.info()).unwrap()
    }

    #[track_caller]
    fn puppet(&self, name: &str) -> Puppet {
        let subject = Subject::new("ConnectionUnix");
        let mut puppet = Puppet::start(&subject, &self.info().to_string(), self.route.parent().unwrap());
        puppet.try_connect(name).unwrap();
        puppet
    }

    fn at(&self, name: &str) -> PathBuf {
        self.route.join(name)
    }

    /// Registers a peer as another implementation does: an empty file, then the pid of this process.
    fn register_quiet(&self, name: &str) {
        std::fs::write(self.at(name), "").unwrap();
        self.write_pid(name);
    }

    /// Registers a peer that listens as another implementation does.
    fn register_listener(&self, name: &str) -> UnixListener {
        let listener = UnixListener::bind(self.at(name)).unwrap();
        self.write_pid(name);
        listener
    }

    fn write_pid(&self, name: &str) {
        let (pending, file) = (self.at(&format!("{name}.pid.pend")), self.at(&format!("{name}.pid")));
        std::fs::write(&pending, std::process::id().to_string()).unwrap();
        std::fs::rename(pending, file).unwrap();
    }

    /// Connects to a peer without saying anything.
    fn dial(&self, name: &str) -> UnixStream {
        dial(&self.at(name))
    }

    /// Connects to a peer and says hello.
    fn dial_as(&self, own: &str, name: &str) -> UnixStream {
        let mut stream = self.dial(name);
        stream.write_all(&frame(json!({"hello": own}).to_string())).unwrap();
        stream
    }
}

fn dial(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A payload as it is on a stream.
fn frame(payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(payload);
    frame
}

/// A message as another implementation writes it.
fn message(from: &str, to: &str, content: &Value) -> Vec<u8> {
    let stamp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    frame(json!({"from": from, "to": to, "id": "x", "stamp": stamp, "stamp_ord": 0, "content": content}).to_string())
}

/// The next payload on a stream; `None` at its end.
#[track_caller]
fn read_payload(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut header = [0; 4];
    match stream.read(&mut header).unwrap() {
        0 => return None,
        some => stream.read_exact(&mut header[some..]).unwrap(),
    }
    let mut payload = vec![0; usize::try_from(u32::from_be_bytes(header)).unwrap()];
    stream.read_exact(&mut payload).unwrap();
    Some(payload)
}

/// The next payload on a stream as JSON.
#[track_caller]
fn read_json(stream: &mut UnixStream) -> Value {
    serde_json::from_slice(&read_payload(stream).expect("a frame, not the end")).unwrap()
}

/// Waits until the other side has closed a stream, whatever it said before.
#[track_caller]
fn read_to_end(stream: &mut UnixStream, client: &mut Client) {
    stream.set_nonblocking(true).unwrap();
    eventually("the end of the connection", || {
        client.is_ready().unwrap();
        match stream.read(&mut [0; 4096]) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    });
}

/// Takes messages until so many have come.
#[track_caller]
fn recv_count(client: &mut Client, count: usize) -> Vec<Message> {
    let mut got = Vec::new();
    while got.len() < count {
        got.push(client.recv_timeout(PATIENCE).unwrap());
    }
    got
}

/// Looks until so many reports of damage have come, and gives their texts.
#[track_caller]
fn reports(client: &mut Client, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    eventually("reports", || {
        assert!(client.get_messages().unwrap().is_empty());
        texts.extend(client.take_damaged().iter().map(|damaged| damaged.error().to_string()));
        texts.len() >= count
    });
    assert_eq!(texts.len(), count, "{texts:?}");
    texts
}
