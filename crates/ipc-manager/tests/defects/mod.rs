// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each known misbehaviour of the reference implementation that concerns the core, MessageFiles or LocalMemory: a test
//! named after what holds here. The letter and number are those of the list of defects.

mod hangs;
mod losses;
mod results;
mod security;

pub fn tests() -> Vec<ipc_manager_testkit::Test> {
    [losses::tests(), hangs::tests(), results::tests(), security::tests()].concat()
}
