// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is particular to AtomicPipe: the bytes in the FIFO, against captured ones and against hostile ones.

mod captured;
mod hostile;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ipc_manager::{Client, Message, Spawn};
use ipc_manager_testkit::{Puppet, Sandbox, Subject, Test};
use serde_json::{Value, json};

pub fn tests() -> Vec<Test> {
    [captured::tests(), hostile::tests()].concat()
}

/// A bus of FIFOs whose directory is looked into.
pub struct PipeBus {
    pub owner: Spawn,
    route: PathBuf,
}

impl PipeBus {
    pub fn new(sandbox: &Sandbox) -> Self {
        let route = sandbox.dir().join("bus");
        let builder = Spawn::builder().protocol("AtomicPipe").serializer("JSON").guard(false);
        Self { owner: builder.route(route.to_str().unwrap()).spawn().unwrap(), route }
    }

    pub fn client(&self, name: &str) -> Client {
        ipc_manager::connect(name, self.owner.info()).unwrap()
    }

    pub fn puppet(&self, name: &str) -> Puppet {
        let subject = Subject::new("AtomicPipe");
        let mut puppet = Puppet::start(&subject, &self.owner.to_string(), self.route.parent().unwrap());
        puppet.try_connect(name).unwrap();
        puppet
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.route.join(name)
    }

    /// Writes into a FIFO as another implementation does: at most 4,096 bytes at a time.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        let mut fifo = OpenOptions::new().write(true).open(self.at(name)).unwrap();
        for frame in bytes.chunks(4096) {
            fifo.write_all(frame).unwrap();
        }
    }

    /// Makes the entry of a peer of another implementation, which this process plays, and opens it for reading.
    pub fn foreign(&self, name: &str) -> File {
        assert!(Command::new("mkfifo").arg(self.at(name)).status().unwrap().success());
        fs::write(self.at(&format!("{name}.pid")), std::process::id().to_string()).unwrap();
        let nonblocking = i32::try_from(rustix_nonblock()).unwrap();
        OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(self.at(name)).unwrap()
    }
}

/// `O_NONBLOCK` on Linux.
const fn rustix_nonblock() -> u32 {
    0o4000
}

/// A frame by its fields.
pub fn frame(pid: i32, tid: i32, part: u32, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap();
    let mut frame = [pid.to_ne_bytes(), tid.to_ne_bytes(), part.to_ne_bytes(), size.to_ne_bytes()].concat();
    frame.extend_from_slice(payload);
    frame
}

pub fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

/// A message to `b` in one frame.
pub fn sound(number: u32) -> Vec<u8> {
    frame(own_pid(), 1, 0, json!({"from": "x", "to": "b", "content": number}).to_string().as_bytes())
}

/// The frames in captured bytes: part id and size.
pub fn frames(mut bytes: &[u8]) -> Vec<(u32, u32)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let field = |index: usize| u32::from_ne_bytes(bytes[index * 4..index * 4 + 4].try_into().unwrap());
        frames.push((field(2), field(3)));
        bytes = &bytes[16 + field(3) as usize..];
    }
    frames
}

pub fn contents(messages: &[Message]) -> Vec<Value> {
    messages.iter().map(|message| message.content().clone()).collect()
}

/// A process that has ended and was reaped.
pub fn dead_pid() -> i32 {
    let mut child = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
    child.wait().unwrap();
    i32::try_from(child.id()).unwrap()
}
