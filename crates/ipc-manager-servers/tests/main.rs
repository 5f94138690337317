// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real servers, started and ended in every way. Where a program is missing, the tests of its engine are shown as
//! ignored, with the reason.

// Tests: an assertion that panics is how they speak.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod ends;
mod owners;
mod sharing;
mod starts;

use std::process::ExitCode;

use ipc_manager_servers::Engine;
use ipc_manager_testkit::{Sandbox, Suite, Test, servers};

fn main() -> ExitCode {
    let tests = [starts::TESTS, ends::TESTS, owners::TESTS, sharing::TESTS].into_iter().flatten();
    let tests = tests.flat_map(|(name, run)| Engine::ALL.map(|engine| test(name, *run, engine))).collect();
    owners::add_to(Suite::default()).tests(tests).tests(starts::tests()).main()
}

/// A name, and a test of an engine by its place in the list of all.
type Case = (&'static str, [fn(&Sandbox); 3]);

/// The same test over each engine.
macro_rules! over_engines {
    ($module:literal: $($run:ident),* $(,)?) => {
        pub const TESTS: &[crate::Case] = &[$((
            concat!($module, "::", stringify!($run)),
            [
                |sandbox| $run(ipc_manager_servers::Engine::PostgreSQL, sandbox),
                |sandbox| $run(ipc_manager_servers::Engine::MariaDb, sandbox),
                |sandbox| $run(ipc_manager_servers::Engine::MySql, sandbox),
            ],
        )),*];
    };
}
pub(crate) use over_engines;

fn test(name: &str, run: [fn(&Sandbox); 3], engine: Engine) -> Test {
    let (run, can): (_, fn() -> Result<(), String>) = match engine {
        Engine::PostgreSQL => (run[0], || servers::can_start(Engine::PostgreSQL)),
        Engine::MariaDb => (run[1], || servers::can_start(Engine::MariaDb)),
        Engine::MySql => (run[2], || servers::can_start(Engine::MySql)),
    };
    Test::new(&format!("{}::{name}", engine.name().to_lowercase()), run).only_if(can)
}
