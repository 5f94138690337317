// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line of what has to do with the machine and with the command itself, not with messages.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

use crate::args::BusArgs;

/// `ipcm gc`
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  ipcm gc --dry-run\n  ipcm gc\n  ipcm gc --bus messagefiles:/srv/bus")]
#[command(after_help = AFTER)]
pub(crate) struct GcArgs {
    /// Only tell what would be removed
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Look in these directories instead of the usual ones: TMPDIR, XDG_RUNTIME_DIR, /tmp and /var/tmp
    #[arg(value_name = "PLACE")]
    pub(crate) places: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) bus: BusArgs,
}

const AFTER: &str = "\
Removed are guarded buses whose owner was killed, once no peer is alive on them, and private servers whose owner and keeper
were killed. If a bus is given, by --bus, --bus-file or IPCM_BUS, also that one, wherever it is; and if it is alive, what dead
peers left on it: their names, and the messages that they had not read. Nothing alive, of another user, or unknown is touched; what must stay is listed with the
reason, and the exit status is then 1.";

/// `ipcm completions`
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  eval \"$(ipcm completions bash)\"\n  ipcm completions fish | source")]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

/// `ipcm man`
#[derive(Debug, Args)]
#[command(before_help = "Examples:\n  ipcm man | man -l -\n  ipcm man recv | man -l -")]
pub(crate) struct ManArgs {
    /// The command whose page is wanted [default: the page of the whole]
    pub(crate) command: Option<String>,
}
