// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command `ipcm`: the message bus of [`ipc_manager`] from a shell.
//!
//! The program is in [`cli`]. Two parts are of use to other programs: [`coproc`], the line-delimited JSON coprocess
//! for languages without a binding, and [`exit_code`], which says what the exit status of the command means.

mod args;
mod bench_args;
mod bus_choice;
pub mod cli;
mod commands;
mod context;
pub mod coproc;
mod doctor;
mod escape;
pub mod exit_code;
mod failure;
mod message_document;
mod output;
mod recv_args;
mod service_args;
mod signals;
mod upkeep_args;
mod warnings;
