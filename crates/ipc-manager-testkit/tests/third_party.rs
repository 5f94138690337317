// SPDX-License-Identifier: MIT OR Apache-2.0
//! The conformance suite over a protocol that lives outside the crate: the one of the example.

// What faults were noticed goes to the terminal, beside the panics that are meant.
#![allow(clippy::print_stdout)]

#[path = "../../ipc-manager/examples/custom_protocol.rs"]
mod custom_protocol;
mod faulty;

use std::process::ExitCode;

use ipc_manager_testkit::{Sandbox, Subject, Suite, Test};

fn main() -> ExitCode {
    // It is made to be read: it counts on a system whose calls do not fail, and has no mark that mailboxes grow to.
    let mailbox = Subject::new("+Example::Mailbox")
        .with_registry(custom_protocol::registry)
        .with_route(|dir| dir.join("bus"))
        .but_for(&["steps.", "full.high_water_mark"]);
    Suite::new(vec![mailbox])
        .tests(vec![Test::new("example::runs_to_its_end", the_example_runs)])
        .tests(faulty::tests())
        .main()
}

fn the_example_runs(_: &Sandbox) {
    custom_protocol::main().expect("the example runs");
}
