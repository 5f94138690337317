// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm coproc`: the coprocess on standard input and output.

use std::io::{self, BufReader};

use crate::context::Context;
use crate::coproc::serve_until;
use crate::exit_code;
use crate::failure::{Failure, Outcome};
use crate::signals::{Input, Signals};

pub(crate) fn run(context: &mut Context) -> Outcome {
    let signals = Signals::catch()?;
    let input = BufReader::with_capacity(64 << 10, Input { signals: &signals });
    let asked_to_end = || signals.pending().is_some();
    match serve_until(context.registry.clone(), input, io::stdout().lock(), &asked_to_end) {
        Ok(()) => Ok(signals.pending().map_or(exit_code::DONE, exit_code::of_signal)),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::OutputClosed),
        Err(error) => Err(Failure::io("the coprocess cannot go on", &error)),
    }
}
