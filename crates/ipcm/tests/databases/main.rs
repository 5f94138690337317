// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command on buses in databases: passwords that nobody sees, and demonstrations that leave nothing. Where a server
//! is missing, its tests are shown as ignored, with the reason.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends at the first surprise, and says what it passes over"
)]

mod demos;
mod passwords;

use std::process::ExitCode;

use ipc_manager_testkit::Suite;
use ipc_manager_testkit::servers::{Engine, can_start};

/// A condition of a test.
type Can = fn() -> Result<(), String>;

/// Each engine, its protocol, and whether it can be had.
const ENGINES: [(Engine, &str, Can); 3] = [
    (Engine::PostgreSQL, "PostgreSQL", || can_start(Engine::PostgreSQL)),
    (Engine::MariaDb, "MariaDB", || can_start(Engine::MariaDb)),
    (Engine::MySql, "MySQL", || can_start(Engine::MySql)),
];

fn main() -> ExitCode {
    Suite::default().tests(passwords::tests()).tests(demos::tests()).main()
}
