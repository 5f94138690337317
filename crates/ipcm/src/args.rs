// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line: the one definition that parsing, help, completions and man pages come from.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, ColorChoice, Parser, Subcommand};

use crate::bench_args::BenchArgs;
use crate::recv_args::{DeadCommand, RecvArgs};
use crate::service_args::{DescribeArgs, ExecArgs, PingArgs, ReadyArgs, RequestArgs, ServeArgs, WaitArgs};
use crate::upkeep_args::{CompletionsArgs, GcArgs, ManArgs};

/// A message bus between the processes of one machine, without a broker.
#[derive(Debug, Parser)]
#[command(name = "ipcm", version, before_help = EXAMPLES, after_help = AFTER, max_term_width = 100)]
#[command(propagate_version = true, subcommand_required = true)]
pub(crate) struct Cli {
    /// Write documents for programs: one JSON document, or one a line for streams; errors too, on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// When to use colour [NO_COLOR in the environment turns it off too]
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,

    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ipcm demo README.md                          see a bus at work
  export IPCM_BUS=\"$(ipcm spawn --keep)\"       make a bus, for this shell and what it starts
  ipcm recv --name b --follow                  in one terminal: print what comes for b
  ipcm send b '{\"hello\":\"world\"}'              in another: send something
  ipcm stop                                    end it, with an audit of sent against read
  ipcm run -- sh -c 'worker & ipcm send ...'   a bus for as long as one command runs";

const AFTER: &str = "\
The bus is chosen by --bus, --bus-file, or IPCM_BUS in the environment, in this order. It is the JSON array that
`ipcm spawn` prints, or a short form such as messagefiles:/tmp/bus. Who has it can join, so prefer the environment or
a file to an argument, which every user of the machine can see.

A bus is for one user, unless --group, or IPCM_GROUP in the environment, names a group when it is made; then whoever joins
names it, too.

Durations: 500ms, 2s, 1m, 1h; a bare number is seconds; 0 means do not wait.

Exit status: 0 done, 1 other failure, 2 usage, 3 nothing there, 4 timed out, 5 no such peer, 6 peer gone, 7 error from
a service, 8 refused (full, too large, would block), 9 bus not reachable, 10 permission, 11 audit mismatch,
12 protocol not viable, 128+n ended by signal n.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the bus at work: count a file's lines and words with several processes
    Demo(DemoArgs),
    /// Run a command on a fresh bus, and remove the bus afterwards
    Run(RunArgs),
    /// Make a bus and print its connection string
    Spawn(SpawnArgs),
    /// Tell what a connection string says, and whether the bus is there
    Info(OnlyBus),
    /// List every protocol: whether it works here, and what it promises
    Protocols,
    /// List who is on the bus
    Peers(PeersArgs),
    /// Send messages to a peer
    Send(SendArgs),
    /// Send a message to every peer
    Broadcast(BroadcastArgs),
    /// Receive messages and print them, one JSON object a line
    Recv(RecvArgs),
    /// Look at messages that were set aside since nobody acknowledged them, or have them received again
    #[command(subcommand)]
    Dead(DeadCommand),
    /// Ask a service and print what it answers
    Request(RequestArgs),
    /// Be a service: answer each request with what a command makes of it
    Serve(ServeArgs),
    /// Tell how long a service takes to answer
    Ping(PingArgs),
    /// Wait until a name is there
    Ready(ReadyArgs),
    /// Ask a service what it does
    Describe(DescribeArgs),
    /// Run a command for each message
    Exec(ExecArgs),
    /// Wait for a message, for a peer to come or go, or for mailboxes to be read
    Wait(WaitArgs),
    /// Print the counters that clients have stored
    Stats(OnlyBus),
    /// Compare what was sent with what was read
    Audit(OnlyBus),
    /// Leave a name with its mailbox behind, with no process that holds it
    Suspend(SuspendArgs),
    /// End a bus: terminate all, wait, audit, remove
    Stop(StopArgs),
    /// Measure what protocols do on this machine: messages a second, and how long a round trip takes
    Bench(BenchArgs),
    /// Remove what dead owners and dead peers left
    Gc(GcArgs),
    /// Tell what on this machine will bite, with the remedies
    Doctor,
    /// Speak line-delimited JSON on standard input and output, for languages without a binding
    #[command(after_help = COPROC)]
    Coproc,
    /// Print the completions for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man(ManArgs),
    /// A worker of `ipcm demo`
    #[command(hide = true)]
    DemoWorker,
    /// A worker of `ipcm bench`
    #[command(hide = true)]
    BenchWorker,
}

/// Which bus.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Bus")]
pub(crate) struct BusArgs {
    /// The bus: its connection string, or short as in messagefiles:PATH [environment: IPCM_BUS]
    #[arg(long, value_name = "STRING", conflicts_with = "bus_file")]
    pub(crate) bus: Option<String>,

    /// A file that holds the connection string
    #[arg(long, value_name = "FILE")]
    pub(crate) bus_file: Option<PathBuf>,

    /// The serializer of a bus given in short form
    #[arg(long, short = 's', value_name = "SER")]
    pub(crate) serializer: Option<String>,

    /// The group of users that shares the bus: no other bus is joined then [environment: IPCM_GROUP]
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
}

/// As whom.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct NameArgs {
    /// The name to join under [environment: IPCM_NAME] [default: ipcm-PID]
    #[arg(long, value_name = "NAME", help_heading = "Bus")]
    pub(crate) name: Option<String>,
}

/// For commands that take nothing but the bus.
#[derive(Debug, Args)]
pub(crate) struct OnlyBus {
    #[command(flatten)]
    pub(crate) bus: BusArgs,
}

/// How to make a bus.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct MakeArgs {
    /// The protocol, or several: the first that works here is taken [default: the first of all that works]
    #[arg(long, short, value_name = "PROTO[,PROTO...]", value_delimiter = ',')]
    pub(crate) protocol: Vec<String>,

    /// The serializer: JSON or JSON::Zstd
    #[arg(long, short, value_name = "SER")]
    pub(crate) serializer: Option<String>,
}

/// `ipcm demo`
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  ipcm demo\n  ipcm demo /etc/services\n  ipcm --json demo README.md")]
pub(crate) struct DemoArgs {
    /// The text to count; - reads standard input [default: a text that comes with the program]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) make: MakeArgs,
    /// How long to wait for the next word of any worker [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
}

/// `ipcm run`
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  ipcm run -- make check\n  ipcm run -p messagefiles -- sh -c 'ipcm peers'")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) make: MakeArgs,
    /// Share the bus with a group of users, by name or number, that this one is in [environment: IPCM_GROUP]
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// A signal for every process that is still on the bus when the command has ended, beside the terminate message
    #[arg(long, value_name = "SIG")]
    pub(crate) signal: Option<String>,
    /// How long to wait for those processes [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// The command and its arguments; it finds the bus in IPCM_BUS
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// `ipcm spawn`
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  export IPCM_BUS=\"$(ipcm spawn --keep)\"\n  ipcm spawn -p messagefiles > bus &")]
pub(crate) struct SpawnArgs {
    #[command(flatten)]
    pub(crate) make: MakeArgs,
    /// Where to make it [default: a fresh private place]
    #[arg(long, value_name = "ROUTE")]
    pub(crate) route: Option<String>,
    /// Share it with a group of users, by name or number, that this one is in: they can read, forge and remove all that is
    /// on it, and join with the same option [environment: IPCM_GROUP]
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// End at once and leave the bus; `ipcm stop` ends it. Otherwise stay as its guard until INT or TERM
    #[arg(long)]
    pub(crate) keep: bool,
    /// A signal for every process that is still on the bus at its end, beside the terminate message
    #[arg(long, value_name = "SIG")]
    pub(crate) signal: Option<String>,
    /// How long to wait for those processes at the end [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
}

/// `ipcm peers`
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  ipcm peers\n  ipcm --json peers --watch")]
pub(crate) struct PeersArgs {
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// Print again whenever somebody comes or goes
    #[arg(long)]
    pub(crate) watch: bool,
    /// How long to watch [default: for ever]
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "watch")]
    pub(crate) timeout: Option<Duration>,
    /// Print only names that messages can be sent to, one a line: what completions ask for
    #[arg(long, conflicts_with = "watch")]
    pub(crate) names: bool,
}

/// What to send.
#[derive(Debug, Args)]
pub(crate) struct BodyArgs {
    /// The content: JSON, or a string with --text; - or none reads standard input
    #[arg(allow_hyphen_values = true)]
    pub(crate) body: Option<String>,
    /// The content is a string, as it is
    #[arg(long)]
    pub(crate) text: bool,
}

/// `ipcm send`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("split").args(["lines", "null"]))]
#[command(before_help = "Examples:\n  ipcm send b '{\"hello\":\"world\"}'\n  ipcm send b --text hello\n  \
                         tail -f log | ipcm send b --text --lines")]
pub(crate) struct SendArgs {
    /// The peer to send to
    pub(crate) to: String,
    #[command(flatten)]
    pub(crate) body: BodyArgs,
    /// Read standard input and send each line as a message of its own, as it comes
    #[arg(long)]
    pub(crate) lines: bool,
    /// Read standard input and send each part that ends in a NUL as a message of its own
    #[arg(long)]
    pub(crate) null: bool,
    /// How long to wait for the peer to come, and for room in its mailbox [default: not for the peer]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    #[command(flatten)]
    pub(crate) name: NameArgs,
}

/// `ipcm broadcast`
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  ipcm broadcast '{\"reload\":true}'\n  ipcm broadcast --text hello")]
pub(crate) struct BroadcastArgs {
    #[command(flatten)]
    pub(crate) body: BodyArgs,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    #[command(flatten)]
    pub(crate) name: NameArgs,
}

/// `ipcm suspend`
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  ipcm suspend b\n  ipcm suspend b --for 1h")]
pub(crate) struct SuspendArgs {
    /// The name
    pub(crate) peer: String,
    /// After how long others should no longer wait for it [default: never]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(crate) expires: Option<Duration>,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
}

/// `ipcm stop`
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  ipcm stop\n  ipcm stop --drain --timeout 10s --signal TERM")]
pub(crate) struct StopArgs {
    #[command(flatten)]
    pub(crate) bus: BusArgs,
    /// First wait until every live peer has read its mailbox
    #[arg(long)]
    pub(crate) drain: bool,
    /// A signal for every process that is on the bus, beside the terminate message
    #[arg(long, value_name = "SIG")]
    pub(crate) signal: Option<String>,
    /// How long to wait for mailboxes with --drain, and then for the peers to leave [default: 5s each]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
}

const COPROC: &str = "\
Each line on standard input is a request, an object with \"op\" and perhaps \"rid\"; each is answered by one line, in
order: {\"ok\":true,...} or {\"ok\":false,\"error\":{\"code\":...,\"message\":...}}. The end of input disconnects every client
and shuts down every guarded bus.

  {\"op\":\"spawn\"}
  {\"op\":\"connect\",\"name\":\"a\"}
  {\"op\":\"send\",\"client\":\"c1\",\"to\":\"b\",\"content\":{\"hello\":\"world\"}}
  {\"op\":\"recv\",\"client\":\"c1\",\"timeout\":2}
  {\"op\":\"shutdown\"}

Operations: version, spawn, connect, reconnect, send, try_send, broadcast, recv, requeue, ready, pending, peers, peer,
receive, acknowledge, put_back, extend, dead, revive, reap, stats, write_stats, read_stats, all_stats, drain_pending,
pending_sends, set_blocking, suspend, disconnect, terminate, wait, audit, shutdown, unspawn, request, fds. `recv` and
`receive` without a timeout do not wait.";

/// Parses a duration: a number with `ms`, `s`, `m` or `h` behind it, or alone for seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..) {
        Some("us") => 1e-6,
        Some("ms") => 1e-3,
        Some("" | "s") => 1.0,
        Some("m") => 60.0,
        Some("h") => 3600.0,
        _ => return Err("the unit must be us, ms, s, m or h".into()),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit() || c == b'.');
    let number: f64 = if plain { digits.parse().ok() } else { None }
        .ok_or_else(|| "a duration is a number with a unit, such as 500ms, 2s or 1m".to_owned())?;
    Duration::try_from_secs_f64(number * unit).map_err(|_| "the duration is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn durations() {
        let cases =
            [("500ms", 500), ("2s", 2000), ("1m", 60_000), ("1.5", 1500), ("0", 0), ("0s", 0), ("1h", 3_600_000)];
        for (text, milliseconds) in cases {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in ["", "s", "-1", "1 s", "1d", "1e3", "inf", "nan", "0x1", "1.2.3", "99999999999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
