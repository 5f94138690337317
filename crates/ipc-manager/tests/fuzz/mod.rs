// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzzing a whole bus: any sequence of what peers do, and any bytes among messages.

mod junk;
mod model;
mod script;

use std::path::Path;

use ipc_manager_testkit::Test;
use ipc_manager_testkit::fuzz::{Counting, Fuzz};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

pub fn tests() -> Vec<Test> {
    [model::tests(), junk::tests()].concat()
}

/// A target with its corpus.
fn target(name: &str) -> Fuzz {
    Fuzz::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus"), name)
}
