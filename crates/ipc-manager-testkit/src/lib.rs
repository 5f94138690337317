// SPDX-License-Identifier: MIT OR Apache-2.0
//! The conformance suite of ipc-manager, as a library: what every protocol must hold, run over any protocol.
//!
//! A [`Clause`] is one sentence and the code that proves it. A [`Subject`] is a protocol and how to make a fresh bus for
//! it. A [`Suite`] runs each clause over each subject as a test of its own, such as `message_files::order::per_sender`,
//! under a harness that both `cargo test` and `cargo nextest` understand. What a protocol does not promise is no
//! test: the [contract] says so with the reason, and nothing passes without having run.
//!
//! Peers are real processes: a [`Puppet`] is a child of the test program that runs the engine of `ipcm coproc` and does
//! what it is told. For protocols that stay within one process the same puppet is a thread.
//!
//! A protocol outside the crate runs the same suite with a test target of four lines (`harness = false`):
//!
//! ```no_run
//! use ipc_manager_testkit::{Subject, Suite};
//!
//! fn main() -> std::process::ExitCode {
//!     Suite::new(vec![Subject::new("MessageFiles").with_route(|dir| dir.join("bus"))]).main()
//! }
//! ```

// The suite is made of tests: an assertion that panics is how it speaks, and its report goes to the terminal.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod actor;
mod clause;
mod clauses;
mod context;
mod contract;
mod engine;
mod eventually;
pub mod fuzz;
mod line;
mod puppet;
pub mod relay;
mod removal;
mod rows;
mod sandbox;
mod seen;
pub mod servers;
mod steps;
mod subject;
mod suite;
mod tally;
mod torture;
pub mod trace;
mod user;
mod watchdog;

pub use clause::{Clause, Need};
pub use clauses::all as clauses;
pub use context::{Bus, Context};
pub use contract::contract;
pub(crate) use eventually::clock;
pub use eventually::{PATIENCE, eventually, eventually_some};
pub use puppet::Puppet;
pub use sandbox::Sandbox;
pub use seen::{Failure, PeerSeen, Seen, Sent};
pub use subject::Subject;
pub use suite::{Suite, Test, main};
pub use tally::Tally;
pub use user::User;
