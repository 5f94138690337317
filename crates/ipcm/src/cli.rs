// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program: parses the command line, runs the command, and turns what came of it into an exit status.

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind as ClapKind;
use ipc_manager::Registry;

use crate::args::Cli;
use crate::commands;
use crate::context::Context;
use crate::exit_code;
use crate::failure::Failure;
use crate::output::Output;
use crate::warnings;

/// Runs the program on the arguments and streams of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(refused(&error)),
    };
    let out = Output::new(cli.json, cli.color);
    warnings::show(out);
    let mut context = Context::new(out, Registry::standard());
    let outcome = commands::run(&mut context, cli.command).map_err(|failure| failure.on_bus(context.bus()));
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
