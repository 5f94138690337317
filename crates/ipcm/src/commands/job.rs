// SPDX-License-Identifier: MIT OR Apache-2.0
//! A command that is run for a message: the content on its standard input, its output kept or passed on.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use ipc_manager::{ConnectionString, Group, Message};

use crate::bus_choice;
use crate::exit_code;
use crate::failure::{Failure, Outcome};

/// The variable that holds the id of the message.
const ID_VARIABLE: &str = "IPCM_MSG_ID";
/// The variable that holds the sender of the message.
const FROM_VARIABLE: &str = "IPCM_MSG_FROM";
/// The variable that holds how often the message was handed out.
pub(crate) const ATTEMPTS_VARIABLE: &str = "IPCM_MSG_ATTEMPTS";
/// Longest output that is kept, in bytes. The library's own limit on a message is the same.
const OUTPUT_BYTES: u64 = 64 << 20;

/// Prepares the command for a message.
pub(crate) fn command(
    arguments: &[OsString],
    (bus, group): (&ConnectionString, Option<Group>),
    message: &Message,
) -> Outcome<Command> {
    let Some((program, arguments)) = arguments.split_first() else {
        return Err(Failure::usage("there is no command to run"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    bus_choice::tell(&mut command, bus, group);
    command.env(ID_VARIABLE, message.id().as_str()).env(FROM_VARIABLE, message.from().as_str());
    command.stdin(Stdio::piped());
    Ok(command)
}

/// What the command reads: JSON and a newline, or a string as it is.
pub(crate) fn input(json: &str, raw: bool) -> Vec<u8> {
    match serde_json::from_str::<String>(json) {
        Ok(text) if raw => text.into_bytes(),
        _ => format!("{json}\n").into_bytes(),
    }
}

/// Feeds a command that was started, and waits for its end. Its output is kept if it is piped; `None` if that is longer
/// than a message can be.
pub(crate) fn wait(mut child: Child, input: Vec<u8>) -> io::Result<(ExitStatus, Option<Vec<u8>>)> {
    let mut stdin = child.stdin.take();
    // Beside the output: a command may write before it has read all.
    let feeder = thread::spawn(move || {
        if let Some(stdin) = &mut stdin {
            // A command need not read what it is given.
            let _ = stdin.write_all(&input);
        }
    });
    let mut output = Vec::new();
    let read = match child.stdout.take() {
        Some(stdout) => {
            let read = stdout.take(OUTPUT_BYTES + 1).read_to_end(&mut output);
            // Whoever says too much is not listened to any longer, and may end of it.
            read.map(|_| ())
        }
        None => Ok(()),
    };
    let status = child.wait()?;
    // It ends with the command, which has let go of the pipe; unless that left somebody behind who did not.
    drop(feeder);
    read?;
    Ok((status, (output.len() as u64 <= OUTPUT_BYTES).then_some(output)))
}

/// The exit status that stands for how a command ended.
pub(crate) fn exit_of(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(exit_code::FAILURE),
        (None, Some(signal)) => exit_code::of_signal(signal),
        (None, None) => exit_code::FAILURE,
    }
}

/// How a command failed, in words.
pub(crate) fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("the command ended with status {code}"),
        (None, Some(signal)) => format!("the command was ended by signal {signal}"),
        (None, None) => "the command ended in an unknown way".into(),
    }
}
