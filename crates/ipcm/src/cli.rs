// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program: parses the command line, runs the command, and turns what came of it into an exit status.

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind as ClapKind;
use ipc_manager::{ConnectionString, Registry};

use crate::args::{BusArgs, Cli};
use crate::bus_choice;
use crate::commands;
use crate::exit_code;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::warnings;

/// What every command works with.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where and how to write.
    pub(crate) out: Output,
    /// The protocols and serializers there are.
    pub(crate) registry: Registry,
    /// The bus that was chosen, for the report of a failure.
    bus: Option<String>,
}

impl Context {
    /// Chooses the bus and remembers it, so that a failure can say which one it was.
    pub(crate) fn choose_bus(&mut self, args: &BusArgs) -> Outcome<ConnectionString> {
        let info = bus_choice::bus(args, &self.registry)?;
        self.bus = Some(info.to_string());
        Ok(info)
    }
}

/// Runs the program on the arguments and streams of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(refused(&error)),
    };
    let out = Output::new(cli.json, cli.color);
    warnings::show(out);
    let mut context = Context { out, registry: Registry::standard(), bus: None };
    let outcome = commands::run(&mut context, cli.command).map_err(|failure| failure.on_bus(context.bus.as_deref()));
    ExitCode::from(match outcome {
        Ok(exit) => exit,
        Err(Failure::OutputClosed) => exit_code::DONE,
        Err(Failure::Told(report)) => {
            out.report(&report);
            report.exit_status()
        }
    })
}

/// Tells of a command line that cannot be parsed, or shows the help that it asked for.
fn refused(error: &clap::Error) -> u8 {
    let asked = matches!(error.kind(), ClapKind::DisplayHelp | ClapKind::DisplayVersion);
    // Arguments behind `--` belong to another command.
    let json = std::env::args_os().take_while(|argument| argument != "--").any(|argument| argument == "--json");
    if json && !asked {
        let text = error.render().to_string();
        let message = text.trim_start_matches("error: ").lines().map(str::trim).take_while(|line| !line.is_empty());
        let failure = Failure::usage(message.collect::<Vec<_>>().join(" "));
        if let Failure::Told(report) = failure {
            Output::new(true, clap::ColorChoice::Never).report(&report);
        }
        return exit_code::USAGE;
    }
    // A closed stream is no reason to complain on it.
    let _ = error.print();
    if asked { exit_code::DONE } else { exit_code::USAGE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_parse() {
        assert!(Cli::try_parse_from(["ipcm", "send", "b", "{}"]).is_ok());
        assert!(matches!(
            Cli::try_parse_from(["ipcm", "protocols"]),
            Ok(Cli { command: crate::args::Command::Protocols, .. })
        ));
    }
}
