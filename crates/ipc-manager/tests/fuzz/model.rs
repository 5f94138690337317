// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bus and a model of it: whatever peers do, they see what the model says.

use std::collections::BTreeMap;

use ipc_manager_testkit::{Bus, Context, Failure, Puppet, Sandbox, Subject, Test};
use serde_json::{Value, json};

use super::script::{NAMES, Op, Peer, Script, scripts};
use super::target;

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        a_bus_of_files,
        a_bus_of_pipes,
        a_bus_of_datagrams,
        a_bus_of_streams,
        a_bus_in_a_database,
        a_bus_in_one_file,
        a_bus_in_memory,
    ]
}

fn a_bus_of_files(_: &Sandbox) {
    check(&Subject::new("MessageFiles").with_route(|dir| dir.join("bus")));
}

fn a_bus_of_pipes(_: &Sandbox) {
    check(&Subject::new("AtomicPipe").with_route(|dir| dir.join("bus")));
}

fn a_bus_of_datagrams(_: &Sandbox) {
    check(&Subject::new("UnixSocket").with_route(|dir| dir.join("bus")));
}

fn a_bus_of_streams(_: &Sandbox) {
    check(&Subject::new("ConnectionUnix").with_route(|dir| dir.join("bus")));
}

fn a_bus_in_a_database(_: &Sandbox) {
    check(&Subject::new("SQLite").with_route(|dir| dir.join("bus.sqlite")));
}

fn a_bus_in_one_file(_: &Sandbox) {
    check(&Subject::new("JSONFile").with_route(|dir| dir.join("bus.json")));
}

fn a_bus_in_memory(_: &Sandbox) {
    check(&Subject::new("LocalMemory"));
}

fn check(subject: &Subject) {
    target("bus").cases(8).texts(&scripts(), |script: Script| play(subject, &script));
}

/// Most unread messages of one peer: fewer than any protocol refuses.
const MOST_UNREAD: usize = 8;

fn play(subject: &Subject, script: &Script) {
    let context = Context::new(subject);
    let mut bus = context.bus();
    {
        let mut world = World::new(subject, &bus);
        for op in &script.0 {
            world.act(*op);
        }
        for peer in 0..NAMES.len() {
            world.act(Op::Receive(peer));
            world.act(Op::Disconnect(peer));
        }
    }
    let mut owner = bus.take_owner();
    owner.unspawn().unwrap();
    let left = context.sandbox().listing();
    assert!(left.is_empty(), "{left:?} is left");
}

/// What a name is, as far as the model knows.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Free,
    Live,
    Suspended,
    Dead,
}

struct World<'a> {
    bus: &'a Bus<'a>,
    /// Whether peers can be killed, and whether a mailbox outlives its reader.
    can_kill: bool,
    keeps: bool,
    puppets: [Option<Puppet>; 3],
    states: [State; 3],
    /// What waits for each, by sender.
    unread: [BTreeMap<Peer, Vec<Value>>; 3],
    sent: usize,
}

impl<'a> World<'a> {
    fn new(subject: &Subject, bus: &'a Bus<'a>) -> Self {
        let capabilities = subject.capabilities();
        Self {
            bus,
            can_kill: capabilities.crosses_processes,
            keeps: capabilities.suspend,
            puppets: [None, None, None],
            states: [State::Free; 3],
            unread: Default::default(),
            sent: 0,
        }
    }

    fn puppet(&mut self, peer: Peer) -> &mut Puppet {
        self.puppets[peer].get_or_insert_with(|| self.bus.idle_puppet())
    }

    fn is_live(&self, peer: Peer) -> bool {
        self.states[peer] == State::Live
    }

    fn act(&mut self, op: Op) {
        match op {
            Op::Connect(peer) => self.connect(peer),
            Op::Reconnect(peer) => self.reconnect(peer),
            Op::Send(from, to, size) if self.is_live(from) => self.send(from, to, size),
            Op::Broadcast(from) if self.is_live(from) => self.broadcast(from),
            Op::Receive(peer) if self.is_live(peer) => self.receive(peer),
            Op::Suspend(peer) if self.is_live(peer) => self.suspend(peer),
            Op::Disconnect(peer) if self.is_live(peer) => {
                self.puppet(peer).disconnect();
                self.free(peer);
            }
            Op::Kill(peer) => self.kill(peer),
            Op::Reap(peer) if self.is_live(peer) => self.reap(peer),
            Op::Peers(peer) if self.is_live(peer) => self.peers(peer),
            // Nobody is there to do it.
            _ => {}
        }
    }

    fn free(&mut self, peer: Peer) {
        self.states[peer] = State::Free;
        self.unread[peer].clear();
    }

    fn connect(&mut self, peer: Peer) {
        let expected = match self.states[peer] {
            State::Free | State::Dead => Ok(()),
            State::Live | State::Suspended => Err("name_in_use"),
        };
        let connected = self.puppet(peer).try_connect(NAMES[peer]);
        assert_eq!(code(&connected), expected, "{} connects", NAMES[peer]);
        if connected.is_ok() {
            self.free(peer);
            self.states[peer] = State::Live;
        }
    }

    fn reconnect(&mut self, peer: Peer) {
        let expected = match self.states[peer] {
            State::Suspended | State::Dead => Ok(()),
            State::Live => Err("name_in_use"),
            State::Free => Err("no_such_peer"),
        };
        let continued = self.puppet(peer).try_reconnect(NAMES[peer]);
        assert_eq!(code(&continued), expected, "{} reconnects", NAMES[peer]);
        if continued.is_ok() {
            self.states[peer] = State::Live;
        }
    }

    /// What becomes of a message to a peer.
    fn fate(&self, to: Peer) -> Result<&'static str, &'static str> {
        match self.states[to] {
            State::Live => Ok("delivered"),
            State::Suspended => Ok("stored"),
            State::Dead if self.keeps => Ok("stored"),
            State::Dead => Err("peer_gone"),
            State::Free => Err("no_such_peer"),
        }
    }

    fn has_room(&self, to: Peer) -> bool {
        self.unread[to].values().map(Vec::len).sum::<usize>() < MOST_UNREAD
    }

    fn send(&mut self, from: Peer, to: Peer, size: usize) {
        if !self.has_room(to) {
            return;
        }
        self.sent += 1;
        let content = json!([self.sent, "x".repeat(size)]);
        let sent = self.puppet(from).send(NAMES[to], content.clone());
        let receipt = sent.as_ref().map(|sent| sent.receipt.as_str()).map_err(Failure::code);
        assert_eq!(receipt, self.fate(to), "{} sends to {}", NAMES[from], NAMES[to]);
        if receipt.is_ok() {
            self.unread[to].entry(from).or_default().push(content);
        }
    }

    fn broadcast(&mut self, from: Peer) {
        let there = |peer: &Peer| *peer != from && matches!(self.states[*peer], State::Live | State::Suspended);
        let to: Vec<Peer> = (0..NAMES.len()).filter(there).collect();
        if !to.iter().all(|peer| self.has_room(*peer)) {
            return;
        }
        self.sent += 1;
        let content = json!([self.sent, "to all"]);
        self.puppet(from).must(&json!({"op": "broadcast", "content": content}));
        for peer in to {
            self.unread[peer].entry(from).or_default().push(content.clone());
        }
    }

    fn receive(&mut self, peer: Peer) {
        let expected = std::mem::take(&mut self.unread[peer]);
        let count = expected.values().map(Vec::len).sum();
        let mut got = BTreeMap::<Peer, Vec<Value>>::new();
        for seen in self.puppet(peer).recv_count(count) {
            let from = NAMES.iter().position(|name| *name == seen.from).expect("it is of one of them");
            assert_eq!(seen.to, NAMES[peer]);
            got.entry(from).or_default().push(seen.content);
        }
        assert!(got == expected, "{} got {} instead of {}", NAMES[peer], numbers(&got), numbers(&expected));
        let more = self.puppet(peer).recv_now();
        assert!(more.is_empty(), "{} got more than was sent to it: {more:?}", NAMES[peer]);
    }

    fn suspend(&mut self, peer: Peer) {
        let expected = if self.keeps { Ok(()) } else { Err("unsupported") };
        assert_eq!(code(&self.puppet(peer).suspend()), expected, "{} suspends", NAMES[peer]);
        if self.keeps {
            self.states[peer] = State::Suspended;
        }
    }

    fn kill(&mut self, peer: Peer) {
        let Some(mut puppet) = self.puppets[peer].take_if(|_| self.can_kill) else { return };
        puppet.kill();
        if self.is_live(peer) {
            self.states[peer] = State::Dead;
            if !self.keeps {
                self.unread[peer].clear();
            }
        }
    }

    fn reap(&mut self, peer: Peer) {
        let dead: Vec<Peer> = (0..NAMES.len()).filter(|peer| self.states[*peer] == State::Dead).collect();
        let reaped = self.puppet(peer).must(&json!({"op": "reap"}));
        assert_eq!(reaped["removed"], dead.len(), "{} reaps", NAMES[peer]);
        dead.into_iter().for_each(|peer| self.free(peer));
    }

    fn peers(&mut self, peer: Peer) {
        let there = |other: &Peer| *other != peer && matches!(self.states[*other], State::Live | State::Suspended);
        let expected: Vec<&str> = (0..NAMES.len()).filter(there).map(|other| NAMES[other]).collect();
        assert_eq!(self.puppet(peer).peers(), expected, "{} sees", NAMES[peer]);
    }
}

fn code(outcome: &Result<(), Failure>) -> Result<(), &str> {
    outcome.as_ref().copied().map_err(Failure::code)
}

/// The numbers of messages, without what they carry.
fn numbers(messages: &BTreeMap<Peer, Vec<Value>>) -> String {
    let of = |(from, sent): (&Peer, &Vec<Value>)| {
        let sent: Vec<String> = sent.iter().map(|content| content[0].to_string()).collect();
        format!("{} of {}", sent.join(" "), NAMES[*from])
    };
    messages.iter().map(of).collect::<Vec<_>>().join(", ")
}
