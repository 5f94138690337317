// SPDX-License-Identifier: MIT OR Apache-2.0
//! One operation in a process of its own, of which every system call is counted, and at each of which in turn the
//! process is killed or the call fails.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use ipc_manager::{Client, ConnectionString, Delivery, Durability, Message, Registry, Result, Spawn, Stored, Suspend};
use serde_json::{Value, json};

use crate::trace::{self, Call, Step, Traced};
use crate::{PATIENCE, Subject, engine, watchdog};

/// What the role of such a process begins with; its protocol follows.
const ROLE: &str = "steps:";
/// Tells it what to do, as JSON.
const ORDERS: &str = "IPC_MANAGER_TESTKIT_STEPS";
/// Asks for every error at every call, and for every call also where that costs much.
const ALL: &str = "IPC_MANAGER_STEPS";

/// What is done to the process at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Injury {
    Killed,
    /// One of the errors that the call can have.
    Fails(usize),
}

/// An operation in a process of its own.
#[derive(Debug)]
pub(crate) struct Stepper {
    traced: Option<Traced>,
    input: Option<std::process::ChildStdin>,
    output: BufReader<std::process::ChildStdout>,
}

/// How an injured operation ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum End {
    /// The operation has only so many calls.
    Complete(usize),
    /// The process was killed at this call.
    Killed(Call),
    /// The call failed so; what the process says of it all.
    Failed(Call, i32, Value),
    /// It is a call that does not fail.
    LeftAlone,
}

impl Stepper {
    /// Starts the process, and waits until it is ready for its operation.
    pub(crate) fn start(subject: &Subject, orders: &Value) -> Self {
        let mut command: Command = engine::program(&format!("{ROLE}{}", subject.protocol()));
        command.env(ORDERS, orders.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child: Child = command.spawn().expect("this program can be started again");
        let input = child.stdin.take().expect("it is piped");
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        watchdog::puppet_started(child.id());
        let mut line = String::new();
        output.read_line(&mut line).expect("it says that it is ready");
        assert_eq!(line, "ready\n", "{orders} failed before it began");
        let traced = Traced::of_child(child);
        Self { traced: Some(traced), input: Some(input), output }
    }

    /// Lets it do its operation up to a call, counted from one, and injures it there.
    pub(crate) fn injure(mut self, at: usize, injury: Injury) -> End {
        drop(self.input.take().map(|mut input| input.write_all(b"go\n")));
        let mut traced = self.traced.take().expect("it is traced until here");
        traced.has_begun().expect("it begins");
        let mut call = Call::OTHER;
        for calls in 0..at {
            match traced.step() {
                Step::Call(next) => call = next,
                Step::Over => {
                    let _ = self.released(traced);
                    return End::Complete(calls);
                }
                other => panic!("an operation did not come to its end: {other:?}"),
            }
        }
        let Injury::Fails(which) = injury else {
            let pid = traced.pid();
            drop(traced);
            watchdog::puppet_reaped(pid);
            return End::Killed(call);
        };
        let errors = traced.errors(call);
        if errors.is_empty() || call.works_on_descriptor() && traced.first_argument().is_some_and(|first| first <= 2) {
            let pid = traced.pid();
            drop(traced);
            watchdog::puppet_reaped(pid);
            return End::LeftAlone;
        }
        let errno = errors[which % errors.len()];
        traced.fail(errno).expect("a call can be made to fail");
        let said = self.released(traced);
        End::Failed(call, errno, said)
    }

    /// Lets it do its operation, and looks at it as it is about to make each call, and at the end.
    pub(crate) fn watch(mut self, mut look: impl FnMut(Call, &Traced)) -> Value {
        drop(self.input.take().map(|mut input| input.write_all(b"go\n")));
        let mut traced = self.traced.take().expect("it is traced until here");
        traced.has_begun().expect("it begins");
        while let Step::Call(call) = traced.step() {
            look(call, &traced);
        }
        look(Call::OTHER, &traced);
        self.released(traced)
    }

    /// Lets it go on by itself; returns what it says in the end.
    fn released(&mut self, traced: Traced) -> Value {
        let pid = traced.pid();
        let mut child = traced.release();
        // It stops once more where its operation is over.
        let said = loop {
            watchdog::kill(pid, rustix::process::Signal::CONT);
            let mut line = String::new();
            let mut fds = [rustix::event::PollFd::new(self.output.get_ref(), rustix::event::PollFlags::IN)];
            let soon = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            if !matches!(rustix::event::poll(&mut fds, Some(&soon)), Ok(1..)) {
                continue;
            }
            let size = self.output.read_line(&mut line).unwrap_or(0);
            break if size == 0 { json!("nothing") } else { serde_json::from_str(&line).unwrap_or(json!(line)) };
        };
        let status = child.wait().expect("a child can be waited for");
        watchdog::puppet_reaped(pid);
        assert!(status.success(), "after a call had failed it ended with {status}, and said {said}");
        said
    }
}

/// Which calls are injured, counted from one: all of them, in an order that leaves no part of an operation for last, as
/// far as the time goes.
pub(crate) struct Points {
    calls: Vec<usize>,
    begun: Instant,
    /// How many were handed out.
    pub(crate) done: usize,
}

/// How long the calls of one operation may take, and how many are tried, unless all of them are asked for: the same few
/// on a fast machine and on a slow one.
const BUDGET: Duration = Duration::from_secs(3);
const MOST: usize = 24;

impl Points {
    /// Those of an operation of so many calls.
    pub(crate) fn of(count: usize) -> Self {
        // A step that has no divisor in common with the count comes to each of them once.
        let step = (count * 5 / 8..).find(|step| *step > 0 && gcd(*step, count) == 1).unwrap_or(1);
        let calls = (0..count).map(|number| (number * step) % count + 1).collect();
        Self { calls, begun: Instant::now(), done: 0 }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.calls.len()
    }
}

impl Iterator for Points {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let is_enough = self.done >= MOST || self.begun.elapsed() > BUDGET;
        if is_enough && std::env::var_os(ALL).is_none() {
            return None;
        }
        let call = self.calls.get(self.done).copied();
        self.done += usize::from(call.is_some());
        call
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// How many errors are tried at each call.
pub(crate) fn errors_each() -> usize {
    if std::env::var_os(ALL).is_some() { 5 } else { 1 }
}

/// Plays such a process, if this is one.
pub(crate) fn play(subjects: &[Subject], role: &str) -> Option<ExitCode> {
    let protocol = role.strip_prefix(ROLE)?;
    let subject = subjects.iter().find(|subject| subject.protocol() == protocol).expect("a subject of that protocol");
    let orders = std::env::var(ORDERS).expect("it is told what to do");
    let orders: Value = serde_json::from_str(&orders).expect("orders are JSON");
    let said = Act { orders, registry: subject.registry(), protocol: protocol.to_owned() }.play();
    println!("{said}");
    // What it holds goes with it: nothing is cleaned up that the parent wants to see.
    std::process::exit(0)
}

struct Act {
    orders: Value,
    registry: Registry,
    protocol: String,
}

/// An operation that may be tried again.
type Operation<'a, T> = dyn FnMut() -> Result<T> + 'a;

/// Does it once under injury, and again without where it failed. What it says of both.
fn tried<T>(operation: &mut Operation<'_, T>) -> (Option<T>, Value) {
    wait_for_word();
    injured(operation)
}

fn injured<T>(operation: &mut Operation<'_, T>) -> (Option<T>, Value) {
    trace::begin().expect("this process can be traced");
    let first = operation();
    trace::end();
    match first {
        Ok(done) => (Some(done), json!({"first": "ok", "again": "ok"})),
        Err(error) => {
            let stored = error.stored().map(|stored| if stored == Stored::No { "no" } else { "maybe" });
            let said = json!({"first": error.code(), "stored": stored, "why": format!("{error:?}")});
            let (done, again) = match operation() {
                Ok(done) => (Some(done), "ok".to_owned()),
                Err(error) => (None, format!("{error:?}")),
            };
            let mut said = said;
            said["again"] = again.into();
            (done, said)
        }
    }
}

/// Says that it is ready, and waits until it may begin.
fn wait_for_word() {
    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("somebody says when to begin");
}

impl Act {
    fn text(&self, key: &str) -> &str {
        self.orders[key].as_str().unwrap_or_default()
    }

    fn info(&self) -> ConnectionString {
        self.text("info").parse().expect("a sound connection string")
    }

    fn client(&self, mode: &str) -> Result<Client> {
        let mut builder = Client::builder(self.text("name"), &self.info()).registry(self.registry.clone());
        if self.orders["lasting"] == true {
            builder = builder.durability(Durability::Power);
        }
        if mode == "reconnect" { builder.reconnect() } else { builder.connect() }
    }

    fn play(&self) -> Value {
        let operation = self.text("operation");
        match operation {
            "spawn" => {
                let builder = Spawn::builder().protocol(&self.protocol).registry(self.registry.clone()).guard(false);
                tried(&mut || builder.clone().route(self.text("route")).spawn()).1
            }
            "unspawn" => {
                let mut bus = Spawn::adopt_with(&self.info(), self.registry.clone()).expect("there is a bus");
                tried(&mut || match bus.unspawn() {
                    Err(error) if error.kind() == ipc_manager::ErrorKind::NoSuchBus => Ok(()),
                    done => done,
                })
                .1
            }
            "connect" | "reconnect" => {
                let (client, mut said) = tried(&mut || self.client(operation));
                if let Some(mut client) = client {
                    said["got"] = drained(&mut client, self.expected()).into();
                    said["left"] = outcome(client.disconnect());
                }
                said
            }
            _ => self.as_client(operation),
        }
    }

    /// How many messages are in its mailbox when it begins.
    fn expected(&self) -> usize {
        self.orders["expected"].as_u64().and_then(|count| count.try_into().ok()).unwrap_or(0)
    }

    fn as_client(&self, operation: &str) -> Value {
        let mut client = self.client(self.text("back")).expect("it can join");
        let mut got = Vec::new();
        let mut said = match operation {
            "send" => tried(&mut || client.send("b", "sent")).1,
            "reap" => tried(&mut || client.reap()).1,
            "suspend" => {
                let said = tried(&mut || client.suspend(Suspend::within(PATIENCE))).1;
                return said;
            }
            "disconnect" => {
                let said = tried(&mut || client.disconnect_with(|batch| got.extend(contents(&batch)))).1;
                return with(said, "got", got.into());
            }
            "receive" => {
                let (batch, said) = tried(&mut || client.get_at_most(1));
                got.extend(contents(&batch.unwrap_or_default()));
                said
            }
            "requeue" => {
                // The word to begin comes when there is something to take.
                wait_for_word();
                let taken = [client.recv_timeout(PATIENCE).expect("there is a message")];
                let said = injured(&mut || client.requeue(&taken)).1;
                if said["again"] != "ok" {
                    got.extend(contents(&taken));
                }
                said
            }
            "hold" => {
                let (held, said) = tried(&mut || client.try_receive());
                drop(held);
                said
            }
            "acknowledge" => {
                let mut held = Some(first_of(&mut client));
                got.push(held.as_ref().map_or(Value::Null, |held| held.message().content().clone()));
                injured(&mut || acknowledged(&mut client, &mut held)).1
            }
            "put_back" => {
                let mut held = Some(first_of(&mut client));
                let (again, said) = injured(&mut || {
                    drop(held.take());
                    client.try_receive()
                });
                drop(again);
                said
            }
            unknown => panic!("{unknown}"),
        };
        // What could not be read is reported, is there, and comes later: at the latest when it leaves.
        let mut set_aside = client.take_damaged().len();
        got.extend(drained(&mut client, self.expected().saturating_sub(got.len() + set_aside)));
        set_aside += client.take_damaged().len();
        said["set aside"] = set_aside.into();
        if let Err(error) = client.disconnect_with(|batch| got.extend(contents(&batch))) {
            said["left"] = format!("{error:?}").into();
        }
        said["got"] = got.into();
        said
    }
}

/// Has the first message in hand. The word to begin comes when there is one.
fn first_of(client: &mut Client) -> Delivery {
    wait_for_word();
    client.receive_timeout(PATIENCE).expect("there is a message")
}

/// Acknowledges what is in hand; where that failed before, what is there of it still.
fn acknowledged(client: &mut Client, held: &mut Option<Delivery>) -> Result<()> {
    if let Some(first) = held.take() {
        return first.acknowledge(client);
    }
    match client.try_receive()? {
        Some(again) if again.message().content() == 1 => again.acknowledge(client),
        // It was removed all the same, and this is the next.
        _ => Ok(()),
    }
}

fn with(mut said: Value, key: &str, value: Value) -> Value {
    said[key] = value;
    said
}

fn outcome(done: Result<()>) -> Value {
    done.map_or_else(|error| format!("{error:?}").into(), |()| "ok".into())
}

fn contents(messages: &[Message]) -> Vec<Value> {
    messages.iter().map(|message| message.content().clone()).collect()
}

/// So many messages, and whatever else is there.
fn drained(client: &mut Client, count: usize) -> Vec<Value> {
    let mut got = Vec::new();
    while got.len() < count {
        match client.recv_timeout(Duration::from_secs(5)) {
            Ok(message) => got.push(message.content().clone()),
            Err(error) => {
                got.push(format!("{error:?}").into());
                break;
            }
        }
    }
    got.extend(contents(&client.get_messages().unwrap_or_default()));
    got
}
