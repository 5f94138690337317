// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults with real processes over MessageFiles: each is injured as its row in the table of faults says, and the counts
//! are printed. A row's number is in the name of its test.

mod content;
mod kills;
mod lives;
mod load;

use std::sync::Mutex;

use ipc_manager::Message;
use ipc_manager_testkit::{Failure, Puppet, Seen, Tally, Test};
use serde_json::{Value, json};

pub fn tests() -> Vec<Test> {
    [load::tests(), kills::tests(), content::tests(), lives::tests()].concat()
}

/// Numbers that look random and are the same in every run with this seed.
struct Dice(u64);

impl Dice {
    /// The seed is printed, and can be given: `IPC_MANAGER_SEED`.
    fn new(what: &str) -> Self {
        let seed = std::env::var("IPC_MANAGER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5EED);
        println!("{what}: seed {seed}");
        Self(seed)
    }

    /// The next one below a bound. Marsaglia's xorshift.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

/// What each message of a fault test carries: the sender's count and a body that shows every cut.
fn numbered(number: u64, size: usize) -> Value {
    json!({"n": number, "body": body(number, size)})
}

fn body(number: u64, size: usize) -> String {
    let part = format!("{number:08}:");
    part.repeat(size / part.len() + 1)[..size].to_owned()
}

/// Puts a message that arrived here into the books.
fn book(tally: &mut Tally, message: &Message, size: usize) {
    let number = message.content()["n"].as_u64();
    let sound = number.is_some_and(|number| message.content()["body"] == body(number, size));
    tally.arrived(message.id().as_str(), message.from().as_str(), number.unwrap_or(0), sound);
}

/// Puts a message that a puppet saw into the books.
fn book_seen(tally: &mut Tally, seen: &Seen, size: usize) {
    let number = seen.content["n"].as_u64();
    let sound = number.is_some_and(|number| seen.content["body"] == body(number, size));
    tally.arrived(&seen.id, &seen.from, number.unwrap_or(0), sound);
}

/// Sends so many messages through a puppet and notes which were acknowledged; ends early if the puppet dies.
fn send_many(puppet: &mut Puppet, to: &str, numbers: std::ops::Range<u64>, size: usize, tally: &Mutex<Tally>) {
    for number in numbers {
        match puppet.send(to, numbered(number, size)) {
            Ok(sent) => tally.lock().unwrap().acked(&sent.id),
            Err(Failure::Gone) => return,
            Err(Failure::Refused { .. }) => tally.lock().unwrap().refused(),
        }
    }
}

/// Kills a child that was not reaped yet.
fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
