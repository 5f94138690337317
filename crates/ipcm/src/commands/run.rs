// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm run`: a bus for as long as one command runs.

use std::ffi::OsStr;
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};

use ipc_manager::{Group, Spawn};
use rustix::process::{Pid, Signal as ProcessSignal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT};

use crate::args::RunArgs;
use crate::bus_choice;
use crate::commands::make::{AuditDocument, Making, audit_text, make};
use crate::context::Context;
use crate::exit_code;
use crate::failure::{Failure, Outcome};
use crate::signals::{Signals, Woken};

pub(crate) fn run(context: &mut Context, args: &RunArgs) -> Outcome {
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(Failure::usage("there is no command to run"));
    };
    let signals = Signals::catch_with_children()?;
    context.share(args.group.as_deref())?;
    let making = Making { route: None, guard: true, signal: args.signal.as_deref(), timeout: args.timeout };
    let mut bus = make(context, &args.make, &making)?;
    let status = start(&bus, context.group(), program, arguments).and_then(|child| wait(child, &signals));
    let audit = bus.shutdown();
    let exit = exit_of(status?);
    let audit = audit?;
    let noteworthy = !audit.is_balanced() || !audit.remaining().is_empty();
    if noteworthy || context.out.json {
        context.out.note_either(&AuditDocument::new(&audit), || audit_text(&audit));
    }
    Ok(if exit == exit_code::DONE && !audit.is_balanced() { exit_code::AUDIT } else { exit })
}

/// Starts the command. It finds the bus in its environment.
fn start(bus: &Spawn, group: Option<Group>, program: &OsStr, arguments: &[std::ffi::OsString]) -> Outcome<Child> {
    let mut command = Command::new(program);
    command.args(arguments);
    bus_choice::tell(&mut command, bus.info(), group);
    command
        .spawn()
        .map_err(|error| Failure::io(format!("the command {} cannot be run", program.to_string_lossy()), &error))
}

/// Waits for the command to end, and passes on the signals that ask this process to.
fn wait(mut child: Child, signals: &Signals) -> Outcome<ExitStatus> {
    let mut passed = false;
    loop {
        let ended = child.try_wait().map_err(|error| Failure::io("the command cannot be waited for", &error))?;
        if let Some(status) = ended {
            return Ok(status);
        }
        match signals.pending() {
            Some(signal) if !passed => {
                pass_on(&child, signal);
                passed = true;
            }
            // Passed on already, so only the end of the command matters.
            Some(_) => {
                return child.wait().map_err(|error| Failure::io("the command cannot be waited for", &error));
            }
            None => match signals.wait(&[], false, None)? {
                Woken::Look | Woken::Deadline | Woken::Signal(_) | Woken::OutputClosed => {}
            },
        }
    }
}

/// Passes a signal on. What a terminal sends goes to the command too, and it should not come twice.
fn pass_on(child: &Child, signal: i32) {
    let from_terminal = matches!(signal, SIGINT | SIGHUP) && io::stdin().is_terminal();
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let (false, Some(pid), Some(signal)) = (from_terminal, pid, ProcessSignal::from_named_raw(signal)) {
        // The child was not waited for, so the number is still its own; that it has just ended is fine.
        let _ = kill_process(pid, signal);
    }
}

/// The exit status that stands for how the command ended.
fn exit_of(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(exit_code::FAILURE),
        (None, Some(signal)) => exit_code::of_signal(signal),
        (None, None) => exit_code::FAILURE,
    }
}
