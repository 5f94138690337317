// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command as a user meets it: real processes, an empty environment, a temporary directory of its own for each
//! test, and output with everything that differs from run to run replaced.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod bench;
mod commands;
mod coproc;
mod delivery;
mod demo;
mod errors;
mod groups;
mod guard;
mod listed;
mod measured;
mod readme;
mod recv;
mod services;
mod upkeep;
