// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is particular to UnixSocket: the datagrams, against captured ones and against hostile ones; names and places.

mod captured;
mod hostile;
mod places;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use ipc_manager::{Client, Message, Spawn};
use ipc_manager_testkit::{Puppet, Sandbox, Subject, Test};
use serde_json::{Value, json};

pub fn tests() -> Vec<Test> {
    [captured::tests(), hostile::tests(), places::tests()].concat()
}

/// A bus of sockets whose directory is looked into.
pub struct SocketBus {
    pub owner: Spawn,
    route: PathBuf,
}

impl SocketBus {
    pub fn new(sandbox: &Sandbox) -> Self {
        let route = sandbox.dir().join("bus");
        let builder = Spawn::builder().protocol("UnixSocket").serializer("JSON").guard(false);
        Self { owner: builder.route(route.to_str().unwrap()).spawn().unwrap(), route }
    }

    pub fn client(&self, name: &str) -> Client {
        ipc_manager::connect(name, self.owner.info()).unwrap()
    }

    pub fn puppet(&self, name: &str) -> Puppet {
        let subject = Subject::new("UnixSocket");
        let mut puppet = Puppet::start(&subject, &self.owner.to_string(), self.route.parent().unwrap());
        puppet.try_connect(name).unwrap();
        puppet
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.route.join(name)
    }

    /// A socket that sends to a peer as another implementation does.
    pub fn sender_to(&self, name: &str) -> UnixDatagram {
        let socket = UnixDatagram::unbound().unwrap();
        socket.connect(self.at(name)).unwrap();
        socket
    }

    /// Makes the entry of a peer of another implementation, which this process plays.
    pub fn foreign(&self, name: &str) -> UnixDatagram {
        let socket = UnixDatagram::bind(self.at(name)).unwrap();
        socket.set_nonblocking(true).unwrap();
        fs::write(self.at(&format!("{name}.pid")), std::process::id().to_string()).unwrap();
        socket
    }
}

/// A datagram with a message to `b`.
pub fn sound(number: u32) -> Vec<u8> {
    json!({"from": "x", "to": "b", "content": number}).to_string().into_bytes()
}

pub fn contents(messages: &[Message]) -> Vec<Value> {
    messages.iter().map(|message| message.content().clone()).collect()
}
