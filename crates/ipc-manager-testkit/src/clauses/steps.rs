// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes that are killed at every system call of an operation in turn, and operations of which every system call in
//! turn fails: whatever is left, the next process can use it, and what failed can be done again.

use ipc_manager::{Client, ErrorKind, Spawn, Suspend};
use serde_json::{Value, json};

use crate::context::{Bus, contents};
use crate::steps::{End, Injury, Points, Stepper, errors_each};
use crate::{Clause, Context, Need, PATIENCE, trace};

const ANY: &[Need] = &[Need::Processes];
const SUSPEND: &[Need] = &[Need::Processes, Need::Suspend];
/// Calls of the driver of a server do not fail one by one: a session is lost or it is not, which the clauses of servers
/// and the torture suite see to. A killed owner's session goes on at a server for a moment, so what a half-made bus leaves
/// there is not settled at once.
const ANY_HERE: &[Need] = &[Need::Processes, Need::NoCredentials];
const ACKNOWLEDGES: &[Need] = &[Need::Processes, Need::Acknowledges, Need::OutlivesProcesses];
const ACKNOWLEDGES_HERE: &[Need] = &[Need::Processes, Need::Acknowledges, Need::OutlivesProcesses, Need::NoCredentials];
const SUSPEND_HERE: &[Need] = &[Need::Processes, Need::Suspend, Need::NoCredentials];

macro_rules! clauses {
    ($($operation:literal, $needs:expr, $needs_of_failing:expr;)*) => {
        pub(super) const CLAUSES: &[Clause] = &[$(
            Clause {
                id: concat!("steps.killed_", $operation),
                text: concat!("Who is killed at any system call of a ", $operation,
                    " leaves a bus that others can use, and takes nothing along but what was in hand."),
                source: &["T03", "T06"],
                needs: $needs,
                run: |context| killed(context, $operation),
            },
            Clause {
                id: concat!("steps.failing_", $operation),
                text: concat!("Where any system call of a ", $operation,
                    " fails, the same can be done again at once, with nothing lost or doubled."),
                source: &["T12", "B10"],
                needs: $needs_of_failing,
                run: |context| failing(context, $operation),
            },
        )*];
    };
}

clauses! {
    "spawn", ANY_HERE, ANY_HERE;
    "connect", ANY, ANY_HERE;
    "takeover", ANY, ANY_HERE;
    "reconnect", ANY, ANY_HERE;
    "send", ANY, ANY_HERE;
    "receive", ANY, ANY_HERE;
    "requeue", ANY, ANY_HERE;
    "hold", ACKNOWLEDGES, ACKNOWLEDGES_HERE;
    "acknowledge", ACKNOWLEDGES, ACKNOWLEDGES_HERE;
    "put_back", ACKNOWLEDGES, ACKNOWLEDGES_HERE;
    "suspend", SUSPEND, SUSPEND_HERE;
    "disconnect", ANY, ANY_HERE;
    "reap", ANY, ANY_HERE;
    "unspawn", ANY_HERE, ANY_HERE;
}

/// A bus with a survivor, and the name of the one that is injured.
struct Scene<'a> {
    context: &'a Context<'a>,
    bus: Bus<'a>,
    b: Client,
    operation: &'static str,
    /// Another one each time.
    name: String,
    /// Messages outlive who is to read them.
    keeps: bool,
}

impl<'a> Scene<'a> {
    fn new(context: &'a Context<'a>, operation: &'static str) -> Self {
        let bus = context.bus();
        let b = bus.client("b");
        Self { context, bus, b, operation, name: String::new(), keeps: context.capabilities().suspend }
    }

    /// What is in its mailbox when the operation begins.
    fn unread(&self) -> Vec<Value> {
        let is_empty = match self.operation {
            "connect" | "takeover" => true,
            "reconnect" => !self.keeps,
            _ => false,
        };
        if is_empty { Vec::new() } else { vec![1.into(), 2.into(), 3.into()] }
    }

    /// Starts the process that is to be injured, ready for its operation.
    fn start(&mut self, number: usize) -> Stepper {
        self.name = format!("a-{number}");
        let is_dead = self.operation == "takeover" || self.operation == "reconnect" && !self.keeps;
        let waits = self.keeps && !self.unread().is_empty();
        if is_dead {
            self.bus.puppet(&self.name).kill();
        }
        if self.operation == "reap" {
            self.bus.puppet("dead").kill();
        }
        if waits {
            let mut before = self.bus.client(&self.name);
            self.post();
            before.suspend(Suspend::open_ended()).unwrap();
        }
        let orders = json!({
            "operation": if self.operation == "takeover" { "connect" } else { self.operation },
            "name": self.name,
            "info": self.bus.info().to_string(),
            "back": if waits { "reconnect" } else { "connect" },
            "expected": self.unread().len(),
        });
        let stepper = Stepper::start(self.context.subject(), &orders);
        if !waits {
            self.post();
        }
        stepper
    }

    fn post(&mut self) {
        for content in self.unread() {
            self.b.send(&self.name, &content).unwrap();
        }
    }

    fn all_of_b(&mut self) -> Vec<Value> {
        let mut got = contents(&self.b.get_messages().unwrap());
        assert!(self.b.take_damaged().is_empty(), "something in a mailbox was damaged");
        got.extend(contents(&self.b.get_messages().unwrap()));
        got
    }

    /// What waits for the name; nothing where nobody can continue it.
    fn received(&self) -> Option<Vec<Value>> {
        let mut again = match self.bus.try_reconnect(&self.name) {
            Err(error) if error.kind() == ErrorKind::NoSuchPeer => return None,
            again => again.unwrap_or_else(|error| panic!("{} cannot be continued: {error:?}", self.name)),
        };
        let mut got = Vec::new();
        loop {
            match contents(&again.get_messages().unwrap()) {
                batch if batch.is_empty() => break,
                batch => got.extend(batch),
            }
        }
        assert!(again.take_damaged().is_empty(), "something in a mailbox was damaged");
        again.disconnect().unwrap();
        Some(got)
    }

    /// The name can be taken, and works.
    fn assert_free(&mut self) {
        let mut next = self.bus.client(&self.name);
        self.b.send(&self.name, "new").unwrap();
        assert_eq!(next.recv_timeout(PATIENCE).unwrap().content(), "new");
        next.send("b", "new").unwrap();
        assert_eq!(self.b.recv_timeout(PATIENCE).unwrap().content(), "new");
        next.disconnect().unwrap();
    }

    /// Nothing is left but the survivor.
    fn assert_clean(&mut self) {
        self.b.reap().unwrap();
        assert!(self.b.reap().unwrap().is_empty(), "the second sweep found something");
        let left = self.b.all_peers().unwrap();
        assert!(left.is_empty(), "after a sweep there are still {left:?}");
    }

    /// Cleans up behind a process that nothing is asked of.
    fn forget(&mut self) {
        self.b.reap().unwrap();
        self.received();
        self.all_of_b();
        self.assert_clean();
    }

    fn check_killed(&mut self) {
        let unread = self.unread();
        if self.keeps && !unread.is_empty() {
            let got = self.received();
            let is_right = match self.operation {
                // Killed with the first in hand, or before, or behind it.
                "receive" | "requeue" | "acknowledge" => {
                    got.as_ref().is_some_and(|got| *got == unread || *got == unread[1..])
                }
                // All of them were in hand, or some.
                "disconnect" => got.as_ref().is_none_or(|got| unread.ends_with(got)),
                _ => got.as_ref() == Some(&unread),
            };
            assert!(is_right, "{got:?}");
        }
        match self.operation {
            "send" => {
                let got = self.all_of_b();
                assert!(got.is_empty() || got == ["sent"], "{got:?}");
            }
            "reap" => {
                self.b.reap().unwrap();
                assert!(self.b.peer("dead").unwrap().is_none(), "a sweep left the dead");
            }
            _ => {}
        }
        self.assert_free();
        self.assert_clean();
    }

    fn check_failed(&mut self, errno: i32, said: &Value) {
        // A door without a mailbox behind it is nothing to continue; where it was replaced half-way, there is none.
        let is_no_door = self.operation == "reconnect" && !self.keeps && {
            said["again"].as_str().is_some_and(|again| again.contains("NoSuchPeer"))
        };
        assert!(said["again"] == "ok" || is_no_door, "it cannot be done again: {}", said["again"]);
        match self.operation {
            "suspend" => assert_eq!(self.received(), Some(self.unread())),
            "reap" => {
                // Of whom it could not be told is not reaped, and is found by the next.
                self.b.reap().unwrap();
                assert!(self.b.peer("dead").unwrap().is_none(), "a sweep left the dead");
            }
            "send" => {
                let got = self.all_of_b();
                let most = if said["stored"] == "maybe" { 2 } else { 1 };
                assert!((1..=most).contains(&got.len()) && got.iter().all(|one| one == "sent"), "{got:?}");
            }
            _ => {}
        }
        if self.operation != "suspend" {
            let mut got = said["got"].as_array().cloned().unwrap_or_default();
            if said["set aside"].as_u64().is_some_and(|count| count > 0) {
                // What could not be read when its turn came is behind the others.
                got.sort_by_key(Value::as_u64);
            }
            // A stream that cannot be read is at its end, and what is in the kernel goes with it.
            let is_cut = !self.keeps && errno == libc::EIO && self.unread().starts_with(&got);
            assert!(got == self.unread() || is_cut || is_no_door, "lost, doubled or out of order: {got:?}");
        }
        if said.get("left").is_some() {
            assert_eq!(said["left"], "ok", "it cannot leave");
        }
        self.assert_free();
        self.assert_clean();
    }
}

/// How many calls an operation has: it is done once, and nothing is injured.
fn calls_of(stepper: Stepper) -> usize {
    match stepper.injure(usize::MAX, Injury::Killed) {
        End::Complete(calls) => calls,
        other => panic!("{other:?}"),
    }
}

/// For who reads the output.
fn say(operation: &str, what: &str, points: &Points) {
    println!("{operation}: {what} at {} of {} system calls", points.done, points.count());
    assert!(points.count() > 0, "no system call was seen");
}

fn killed(context: &Context<'_>, operation: &'static str) {
    trace::can().unwrap();
    if matches!(operation, "spawn" | "unspawn") {
        return of_the_bus(context, operation, true);
    }
    let mut scene = Scene::new(context, operation);
    let calls = calls_of(scene.start(0));
    scene.forget();
    let mut points = Points::of(calls);
    for at in points.by_ref() {
        match scene.start(at).injure(at, Injury::Killed) {
            // Now and then it has one less.
            End::Complete(_) => scene.forget(),
            End::Killed(call) => {
                println!("{operation}, killed at call {at}, {call}");
                scene.check_killed();
            }
            other => panic!("{other:?}"),
        }
    }
    say(operation, "killed", &points);
}

fn failing(context: &Context<'_>, operation: &'static str) {
    trace::can().unwrap();
    if matches!(operation, "spawn" | "unspawn") {
        return of_the_bus(context, operation, false);
    }
    let (mut scene, mut number) = (Scene::new(context, operation), 0);
    let calls = calls_of(scene.start(0));
    scene.forget();
    let mut points = Points::of(calls);
    for at in points.by_ref() {
        for which in 0..errors_each() {
            number += 1;
            match scene.start(number).injure(at, Injury::Fails(at + which)) {
                End::Failed(call, errno, said) => {
                    let error = std::io::Error::from_raw_os_error(errno);
                    println!("{operation}, call {at}, {call}, failed: {error}: {said}");
                    scene.check_failed(errno, &said);
                }
                _ => scene.forget(),
            }
        }
    }
    say(operation, "failed", &points);
}

/// Making and removing a bus, each time at a route of its own where routes are cheap.
fn of_the_bus(context: &Context<'_>, operation: &str, kills: bool) {
    let on_server = context.subject().server().is_some();
    let shared = if on_server { context.route_in(context.sandbox().dir()) } else { None };
    let prepare = |at: usize| {
        let dir = context.sandbox().dir().join(format!("{operation}-{at}"));
        std::fs::create_dir(&dir).unwrap();
        let route = shared.clone().or_else(|| context.route_in(&dir))?;
        let owner = context.owner().route(&route);
        let info = if operation == "unspawn" { owner.spawn().unwrap().info().to_string() } else { String::new() };
        let orders = json!({"operation": operation, "route": route, "info": info});
        Some((dir, owner, info, Stepper::start(context.subject(), &orders)))
    };
    // A protocol that makes its own routes has no place where somebody could look for what was left.
    let Some((_, owner, _, stepper)) = prepare(0) else { return };
    let mut points = Points::of(calls_of(stepper));
    owner.spawn().unwrap().unspawn().unwrap();
    for at in points.by_ref() {
        let (dir, owner, info, stepper) = prepare(at).unwrap();
        match stepper.injure(at, if kills { Injury::Killed } else { Injury::Fails(at) }) {
            End::Complete(_) | End::LeftAlone => {}
            End::Killed(call) => println!("{operation}, killed at call {at}, {call}"),
            End::Failed(call, errno, said) => {
                let error = std::io::Error::from_raw_os_error(errno);
                println!("{operation}, call {at}, {call}, failed: {error}: {said}");
                assert_eq!(said["again"], "ok", "it cannot be done again");
                if operation == "unspawn" {
                    let late = Client::builder("late", &info.parse().unwrap()).registry(context.subject().registry());
                    assert_eq!(late.connect().unwrap_err().kind(), ErrorKind::NoSuchBus);
                }
            }
        }
        // Whatever is there by now: a bus can be made of it, works, and is removed without a trace.
        let before = crate::removal::listing(&dir);
        let mut bus = owner.spawn().unwrap_or_else(|error| panic!("no bus can be made there: {error:?}"));
        exchange(&bus);
        bus.unspawn().unwrap();
        // Nobody is a member of what was removed.
        let late = Client::builder("late", bus.info()).registry(context.subject().registry()).connect();
        assert_eq!(late.unwrap_err().kind(), ErrorKind::NoSuchBus);
        let left = if on_server { Default::default() } else { crate::removal::listing(&dir) };
        // A file that was there before may be somebody's database, which is more than the bus in it.
        let is_the_file = left.len() == 1 && before.is_superset(&left);
        assert!(left.is_empty() || is_the_file, "{left:?} is left in {}", dir.display());
    }
    say(operation, if kills { "killed" } else { "failed" }, &points);
}

fn exchange(bus: &Spawn) {
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    a.send("b", "x").unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "x");
    a.disconnect().unwrap();
    b.disconnect().unwrap();
}
