// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arguments of the commands that receive.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::args::{BusArgs, NameArgs, duration};

/// `ipcm recv`
#[derive(Debug, Clone, Args)]
#[command(before_help = "Examples:\n  ipcm recv --name b\n  ipcm recv --name b --follow --content\n  \
                         ipcm recv --name b --drain --timeout 2s\n  \
                         ipcm recv --name b --ack-by-exit -- ./work")]
pub(crate) struct RecvArgs {
    /// End after so many messages [default: 1, without --follow and --drain]
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Print whatever comes, until a terminate message
    #[arg(long, conflicts_with = "drain")]
    pub(crate) follow: bool,
    /// Print all that is there, then end
    #[arg(long)]
    pub(crate) drain: bool,
    /// How long to wait; with --drain for the first message [default: for ever; with --drain not at all]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Print only the content
    #[arg(long)]
    pub(crate) content: bool,
    /// Print only the content, a string as its bytes and nothing after it
    #[arg(long)]
    pub(crate) raw: bool,
    /// End each message with a NUL rather than a newline
    #[arg(long)]
    pub(crate) null: bool,
    /// Hand each message to a command instead of printing it: it leaves the mailbox when the command exits 0, and is put
    /// back when that fails, or when this program or the machine does not live to see it
    #[arg(long, requires = "command", conflicts_with_all = ["content", "null"])]
    pub(crate) ack_by_exit: bool,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    #[command(flatten)]
    pub(crate) name: NameArgs,
    /// The command for --ack-by-exit and its arguments: the content on standard input. It finds IPCM_BUS, IPCM_MSG_ID,
    /// IPCM_MSG_FROM and IPCM_MSG_ATTEMPTS
    #[arg(last = true, requires = "ack_by_exit", value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// `ipcm dead`
#[derive(Debug, Subcommand)]
#[command(before_help = "Examples:\n  ipcm dead list b\n  ipcm dead revive b 0199-...\n  ipcm dead revive b --all")]
pub(crate) enum DeadCommand {
    /// Print the messages of a peer that were set aside, one JSON object a line
    List(DeadListArgs),
    /// Put messages that were set aside back into the mailbox
    Revive(DeadReviveArgs),
}

/// `ipcm dead list`
#[derive(Debug, Args)]
pub(crate) struct DeadListArgs {
    /// Whose
    pub(crate) peer: String,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
}

/// `ipcm dead revive`
#[derive(Debug, Args)]
pub(crate) struct DeadReviveArgs {
    /// Whose
    pub(crate) peer: String,
    /// The ids of the messages
    #[arg(required_unless_present = "all")]
    pub(crate) ids: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "ids")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
}
