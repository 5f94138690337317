// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command lines of what has to do with services, and with waiting.

use std::ffi::OsString;
use std::time::Duration;

use clap::{ArgGroup, Args};

use crate::args::{BodyArgs, BusArgs, NameArgs, duration};

/// `ipcm serve`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("work").args(["echo", "command"]).required(true))]
#[command(before_help = "Examples:\n  ipcm serve up -- tr a-z A-Z\n  ipcm serve sum -j 4 -- jq add\n  \
                         ipcm serve echo --echo")]
pub(crate) struct ServeArgs {
    /// The name of the service
    pub(crate) service: String,
    /// Answer each request with `echo: ` and the request
    #[arg(long)]
    pub(crate) echo: bool,
    /// How many commands run at a time; other requests wait in order
    #[arg(short = 'j', long, value_name = "N", default_value = "1", conflicts_with = "echo")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: u16,
    /// Hand the command a string as its bytes, and answer with its output as a string
    #[arg(long, conflicts_with = "echo")]
    pub(crate) raw: bool,
    /// What the service is for, for `ipcm describe`
    #[arg(long, value_name = "TEXT")]
    pub(crate) about: Option<String>,
    /// End after so long [default: never]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// The command and its arguments, run for each request: the request on standard input, the response on standard
    /// output; another status than 0 is an error response. It finds IPCM_BUS, IPCM_MSG_ID, IPCM_MSG_FROM and, where the protocol keeps messages, IPCM_MSG_ATTEMPTS
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// `ipcm request`
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  ipcm request up '\"abc\"'\n  ipcm request sum '[1,2]' --timeout 1m\n  \
                         ipcm request up --text abc --raw")]
pub(crate) struct RequestArgs {
    /// The service to ask
    pub(crate) service: String,
    #[command(flatten)]
    pub(crate) body: BodyArgs,
    /// How long to wait for the response
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub(crate) timeout: Duration,
    /// How long of it to wait for a service that is not there yet
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "2s")]
    pub(crate) wait: Duration,
    /// Take several responses, and print each as it comes
    #[arg(long)]
    pub(crate) stream: bool,
    /// Print a string as its bytes and nothing after it
    #[arg(long)]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    #[command(flatten)]
    pub(crate) name: NameArgs,
}

/// `ipcm ping`
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  ipcm ping up\n  ipcm ping up -n 100 --timeout 1s")]
pub(crate) struct PingArgs {
    /// The service to ask
    pub(crate) service: String,
    /// How often
    #[arg(short = 'n', long, value_name = "COUNT", default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,
    /// How long to wait for each answer
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    #[command(flatten)]
    pub(crate) name: NameArgs,
}

/// `ipcm ready`
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  ipcm ready up\n  ipcm ready up --timeout 5s")]
pub(crate) struct ReadyArgs {
    /// The name to wait for
    pub(crate) peer: String,
    /// How long to wait [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
}

/// `ipcm describe`
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  ipcm describe up\n  ipcm --json describe up")]
pub(crate) struct DescribeArgs {
    /// The service to ask
    pub(crate) service: String,
    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    #[command(flatten)]
    pub(crate) name: NameArgs,
}

/// `ipcm exec`
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  ipcm exec --name jobs -- sh -c 'jq .file | xargs convert'\n  \
                         ipcm exec --name jobs -j 4 --drain -- ./work")]
pub(crate) struct ExecArgs {
    /// How many commands run at a time
    #[arg(short = 'j', long, value_name = "N", default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: u16,
    /// End after so many messages [default: at a terminate message]
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Work on all that is there, then end
    #[arg(long)]
    pub(crate) drain: bool,
    /// Go on after a command that failed; its message is put back at the end
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Hand the command a string as its bytes
    #[arg(long)]
    pub(crate) raw: bool,
    /// How long to wait for a message [default: for ever; with --drain not at all]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    #[command(flatten)]
    pub(crate) name: NameArgs,
    /// The command and its arguments, run for each message: the content on standard input. It finds IPCM_BUS,
    /// IPCM_MSG_ID and IPCM_MSG_FROM
    #[arg(required = true, last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// `ipcm wait`
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  ipcm wait --for message --name b --timeout 5s\n  \
                         ipcm wait --for peer=up --timeout 5s\n  ipcm wait --for gone=up\n  ipcm wait --for empty")]
pub(crate) struct WaitArgs {
    /// What to wait for: `message` for --name, `peer=NAME` to be there, `gone=NAME` to be there no more, or `empty`
    /// for every live peer to have read its mailbox. Given several times: any of them
    #[arg(long = "for", value_name = "WHAT", required = true, value_parser = Reason::parse)]
    pub(crate) reasons: Vec<Reason>,
    /// How long to wait [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    #[command(flatten)]
    pub(crate) name: NameArgs,
}

/// What `ipcm wait` waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A message in the own mailbox.
    Message,
    /// A peer that is there.
    Peer(String),
    /// A peer that is not there.
    Gone(String),
    /// Mailboxes that were read.
    Empty,
}

impl Reason {
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "message" => Ok(Self::Message),
            None if text == "empty" => Ok(Self::Empty),
            Some(("peer", name)) if !name.is_empty() => Ok(Self::Peer(name.to_owned())),
            Some(("gone", name)) if !name.is_empty() => Ok(Self::Gone(name.to_owned())),
            _ => Err("it must be message, peer=NAME, gone=NAME or empty".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons() {
        assert_eq!(Reason::parse("message"), Ok(Reason::Message));
        assert_eq!(Reason::parse("peer=a=b"), Ok(Reason::Peer("a=b".into())));
        for wrong in ["", "peer", "peer=", "gone", "empty=a", "message=", "x=y"] {
            assert!(Reason::parse(wrong).is_err(), "{wrong}");
        }
    }
}
