// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bus and a model of it: whatever peers do, they see what the model says.

use std::collections::BTreeMap;

use ipc_manager::Limits;
use ipc_manager_testkit::{Bus, Context, Failure, PATIENCE, Puppet, Sandbox, Subject, Test, eventually};
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
    target("bus").cases(6).texts(&scripts(), |script: Script| play(subject, &script));
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
    /// Whether messages can be acknowledged, and whether what has no room is held back.
    acknowledges: bool,
    queues: bool,
    puppets: [Option<Puppet>; 3],
    states: [State; 3],
    /// What waits for each, by sender.
    unread: [BTreeMap<Peer, Vec<Value>>; 3],
    /// How often a message was handed out and not acknowledged, by recipient and the message's number.
    attempts: BTreeMap<(Peer, u64), u64>,
    sent: usize,
}

impl<'a> World<'a> {
    fn new(subject: &Subject, bus: &'a Bus<'a>) -> Self {
        let capabilities = subject.capabilities();
        Self {
            bus,
            can_kill: capabilities.crosses_processes,
            keeps: capabilities.suspend,
            acknowledges: capabilities.acknowledges,
            queues: capabilities.queues,
            puppets: [None, None, None],
            states: [State::Free; 3],
            unread: Default::default(),
            attempts: BTreeMap::new(),
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
            Op::Acknowledge(peer) if self.is_live(peer) => self.acknowledge(peer),
            Op::PutBack(peer) if self.is_live(peer) => self.put_back(peer),
            Op::Requeue(peer) if self.is_live(peer) => self.requeue(peer),
            Op::Overfill(from, to) if self.is_live(from) && self.is_live(to) => self.overfill(from, to),
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
        self.attempts.retain(|(to, _), _| *to != peer);
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

    /// How many messages wait.
    fn count(&self, peer: Peer) -> usize {
        self.unread[peer].values().map(Vec::len).sum()
    }

    /// Receives one to be acknowledged, which must be the oldest of its sender; its handle, sender and number.
    fn hold(&mut self, peer: Peer) -> Option<(Value, Peer, u64)> {
        // Without a time it does not wait.
        let timeout = (self.count(peer) > 0).then_some(PATIENCE.as_secs());
        let held = self.puppet(peer).call(&match timeout {
            Some(timeout) => json!({"op": "receive", "timeout": timeout}),
            None => json!({"op": "receive"}),
        });
        if !self.acknowledges {
            assert_eq!(held.as_ref().map_err(Failure::code).unwrap_err(), "unsupported");
            return None;
        }
        let held = held.unwrap();
        if self.count(peer) == 0 {
            assert!(held["delivery"].is_null(), "{} got what was not sent to it: {held:?}", NAMES[peer]);
            return None;
        }
        let from = NAMES.iter().position(|name| held["message"]["from"] == *name).expect("it is of one of them");
        let expected = self.unread[peer].get(&from).and_then(|sent| sent.first()).cloned();
        assert_eq!(Some(&held["message"]["content"]), expected.as_ref(), "{} received it out of turn", NAMES[peer]);
        let number = held["message"]["content"][0].as_u64().expect("each has a number");
        let attempts = self.attempts.entry((peer, number)).or_insert(0);
        *attempts += 1;
        assert_eq!(held["attempts"], *attempts, "{} received message {number}", NAMES[peer]);
        Some((held["delivery"].clone(), from, number))
    }

    fn acknowledge(&mut self, peer: Peer) {
        if let Some((delivery, from, _)) = self.hold(peer) {
            self.puppet(peer).must(&json!({"op": "acknowledge", "delivery": delivery}));
            self.took(peer, from);
        }
    }

    /// The oldest message of a sender does not wait any more.
    fn took(&mut self, peer: Peer, from: Peer) {
        let sent = self.unread[peer].get_mut(&from).expect("something of it waits");
        sent.remove(0);
        if sent.is_empty() {
            self.unread[peer].remove(&from);
        }
    }

    fn put_back(&mut self, peer: Peer) {
        if let Some((delivery, from, number)) = self.hold(peer) {
            // Before it would be dead, somebody is done with it.
            let is_last = self.attempts[&(peer, number)] + 1 >= u64::from(Limits::DEFAULT.delivery_attempts);
            let op = if is_last { "acknowledge" } else { "put_back" };
            self.puppet(peer).must(&json!({"op": op, "delivery": delivery}));
            if is_last {
                self.took(peer, from);
            }
        }
    }

    fn requeue(&mut self, peer: Peer) {
        // What is put back by the reader of a mailbox in the kernel is in a file, and outlives it.
        if !self.keeps || self.count(peer) == 0 {
            return;
        }
        let taken = self.puppet(peer).must(&json!({"op": "recv", "timeout": PATIENCE.as_secs(), "max": 1}));
        let message = &taken["messages"][0];
        let from = NAMES.iter().position(|name| message["from"] == *name).expect("it is of one of them");
        assert_eq!(message["content"], self.unread[peer][&from][0], "{} took it out of turn", NAMES[peer]);
        let number = message["content"][0].as_u64().expect("each has a number");
        self.puppet(peer).must(&json!({"op": "requeue", "messages": taken["messages"]}));
        // It is as if it had never been received.
        self.attempts.remove(&(peer, number));
    }

    fn overfill(&mut self, from: Peer, to: Peer) {
        if !self.queues || from == to {
            return;
        }
        self.receive(to);
        let (mut sent, mut queued) = (Vec::new(), 0);
        // What takes more than these is as large as it likes, and then nothing is held back.
        while queued < 2 && sent.len() < 150 {
            self.sent += 1;
            let content = json!([self.sent, "x".repeat(9_000)]);
            let answer = self.puppet(from).must(&json!({"op": "try_send", "to": NAMES[to], "content": content}));
            queued += usize::from(answer["receipt"] == "queued");
            assert!(queued > 0 || answer["receipt"] == "delivered", "{answer:?}");
            sent.push(content);
        }
        assert_eq!(self.puppet(from).must(&json!({"op": "pending_sends"}))["pending"], queued);
        let mut got = Vec::new();
        eventually("what was held back", || {
            got.extend(self.puppet(to).recv_now().into_iter().map(|seen| seen.content));
            self.puppet(from).must(&json!({"op": "drain_pending"}));
            got.len() >= sent.len()
        });
        assert!(got == sent, "{} got {} of {} in another order", NAMES[to], got.len(), sent.len());
        assert_eq!(self.puppet(from).must(&json!({"op": "pending_sends"}))["pending"], 0);
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
