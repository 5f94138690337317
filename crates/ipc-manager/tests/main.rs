// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one integration binary: every conformance clause over every protocol, and what is particular to MessageFiles.

// Tests: an assertion that panics is how they speak, and their counts go to the terminal.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod acts;
mod connection_unix;
mod databases;
mod defects;
mod delivery;
mod doubt;
mod faults;
mod file_bus;
mod file_stores;
mod foreign;
mod fuzz;
mod groups;
mod half_made;
mod mended;
mod message_files;
mod pipes;
mod restarts;
mod selection;
mod services;
mod sockets;
mod stages;
mod store_vectors;
mod stored_rows;
mod tls;
mod upkeep;
mod vectors;
mod warnings;

use std::path::Path;
use std::process::ExitCode;

use ipc_manager::Registry;
use ipc_manager_testkit::servers::Engine;
use ipc_manager_testkit::{Sandbox, Subject, Suite};

/// Each protocol, and where a fresh bus of it is made.
fn subjects() -> Vec<Subject> {
    vec![
        Subject::new("AtomicPipe").with_route(|dir| dir.join("bus")),
        Subject::new("UnixSocket").with_route(|dir| dir.join("bus")),
        Subject::new("ConnectionUnix").with_route(|dir| dir.join("bus")),
        Subject::new("SQLite").with_route(|dir| dir.join("bus.sqlite")),
        Subject::new("PostgreSQL").on_server(Engine::PostgreSQL),
        Subject::new("MariaDB").on_server(Engine::MariaDb),
        Subject::new("MySQL").on_server(Engine::MySql),
        Subject::new("MessageFiles").with_route(|dir| dir.join("bus")),
        Subject::new("JSONFile").with_route(|dir| dir.join("bus.json")).rewriting(),
        Subject::new("LocalMemory"),
    ]
}

fn main() -> ExitCode {
    if let Some(code) = services::play() {
        return code;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    warnings::listen();
    let suite = Suite::new(subjects())
        .covering(Registry::standard())
        .contract(root.join("../../docs/contract.md"))
        .tests(ipc_manager_testkit::tests![no_file_of_tests_was_forgotten])
        .tests(vectors::tests())
        .tests(selection::tests())
        .tests(services::tests())
        .tests(stages::tests())
        .tests(store_vectors::tests())
        .tests(databases::tests())
        .tests(restarts::tests())
        .tests(groups::tests())
        .tests(half_made::tests())
        .tests(file_stores::tests())
        .tests(stored_rows::tests())
        .tests(tls::tests())
        .tests(pipes::tests())
        .tests(sockets::tests())
        .tests(message_files::tests())
        .tests(connection_unix::tests())
        .tests(foreign::tests())
        .tests(delivery::tests())
        .tests(doubt::tests())
        .tests(fuzz::tests())
        .tests(warnings::tests())
        .tests(acts::tests())
        .tests(upkeep::tests())
        .tests(faults::tests())
        .tests(defects::tests())
        .tests(mended::tests());
    services::add_to(mended::add_to(acts::add_to(upkeep::add_to(suite)))).main()
}

/// A file beside this one that no `mod` line names would never run.
fn no_file_of_tests_was_forgotten(_: &Sandbox) {
    for dir in ["", "connection_unix", "defects", "faults", "fuzz", "mended", "pipes", "sockets", "services", "upkeep"]
    {
        let parent = if dir.is_empty() { "main.rs".into() } else { format!("{dir}/mod.rs") };
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let parent = std::fs::read_to_string(tests.join(parent)).unwrap();
        for entry in std::fs::read_dir(tests.join(dir)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let module = name.strip_suffix(".rs").unwrap_or(&name);
            let named = parent.lines().any(|line| line == format!("mod {module};"));
            assert!(named || matches!(module, "main" | "mod"), "{name} is in no `mod` line");
        }
    }
}
