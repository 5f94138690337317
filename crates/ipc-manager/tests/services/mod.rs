// SPDX-License-Identifier: MIT OR Apache-2.0
//! Services, as far as they are no clauses: what is forked, what outlives whom, single parts, and captured envelopes.

mod envelopes;
mod forked;
mod lives;
mod parts;
mod together;
mod turns;

use std::process::ExitCode;

use ipc_manager::{Service, ServiceBuilder, Spawn};
use ipc_manager_testkit::{Suite, Test};

pub fn tests() -> Vec<Test> {
    [envelopes::tests(), forked::tests(), lives::tests(), parts::tests(), together::tests(), turns::tests()].concat()
}

pub fn add_to(suite: Suite) -> Suite {
    turns::add_to(lives::add_to(forked::add_to(suite)))
}

/// Plays a service that the tests start, if that is what this program was started as.
pub fn play() -> Option<ExitCode> {
    lives::play()
}

/// A bus that works between processes and between threads.
fn bus() -> Spawn {
    Spawn::builder().protocol("MessageFiles").serializer("JSON").spawn().unwrap()
}

/// A service that doubles.
fn double(name: &str) -> ServiceBuilder {
    Service::builder(name).on_typed_request(|_, number: i64| Ok(number * 2))
}

/// What a process is called where processes are listed.
fn title_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end_matches('\n').to_owned()
}
