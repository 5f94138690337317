// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm recv`: prints messages as they come. One is taken at a time, so that at most one is in hand when nobody wants
//! it any more; and that one goes back.

use std::time::{Duration, Instant};

use ipc_manager::{Damaged, Message};
use serde_json::json;

use crate::bus_choice;
use crate::commands::exec;
use crate::commands::seat::Seat;
use crate::context::Context;
use crate::escape::{escaped, escaped_json};
use crate::exit_code;
use crate::failure::{Failure, Outcome, chain};
use crate::message_document::MessageDocument;
use crate::output::{Output, ascii_json};
use crate::recv_args::RecvArgs;
use crate::service_args::ExecArgs;
use crate::signals::{Signals, Woken};

/// Why receiving ended.
enum End {
    /// All that was asked for was printed.
    Enough,
    /// Nothing was there, and there was to be no wait.
    Nothing,
    /// The time was up first.
    TimedOut,
    /// A terminate message came.
    Terminated,
    /// A signal came.
    Signal(i32),
    /// Nobody reads the output any more.
    OutputClosed,
}

pub(crate) fn run(context: &mut Context, args: &RecvArgs) -> Outcome {
    if args.ack_by_exit {
        let count = if args.follow || args.drain { args.count } else { Some(args.count.unwrap_or(1)) };
        let (RecvArgs { drain, raw, timeout, bus, name, command, .. }, jobs, keep_going) = (args.clone(), 1, false);
        return exec::acknowledging(
            context,
            &ExecArgs { jobs, count, drain, keep_going, raw, timeout, bus, name, command },
        );
    }
    let info = context.choose_bus(&args.bus)?;
    let choice = bus_choice::name(&args.name)?;
    let signals = Signals::catch()?;
    let mut seat = Seat::take(context, &info, &choice)?;
    let mut receiver = Receiver::new(context.out, args, &signals);
    let end = receiver.receive(&mut seat);
    let left = seat.leave(context, &receiver.unprinted, true);
    let end = end?;
    left?;
    Ok(match end {
        End::Enough | End::Terminated | End::OutputClosed => exit_code::DONE,
        End::Nothing => exit_code::NOTHING,
        End::TimedOut => {
            let printed = receiver.printed;
            let message = format!("the time was up after {printed} of the messages that were to come");
            return Err(Failure::told("timeout", exit_code::TIMEOUT, message));
        }
        End::Signal(signal) => exit_code::of_signal(signal),
    })
}

struct Receiver<'a> {
    out: Output,
    args: &'a RecvArgs,
    signals: &'a Signals,
    limit: u64,
    deadline: Option<Instant>,
    printed: u64,
    /// The message that was taken and could not be printed.
    unprinted: Vec<Message>,
}

impl<'a> Receiver<'a> {
    fn new(out: Output, args: &'a RecvArgs, signals: &'a Signals) -> Self {
        let endless = args.follow || args.drain;
        let limit = args.count.unwrap_or(if endless { u64::MAX } else { 1 });
        let timeout = if args.drain { Some(args.timeout.unwrap_or(Duration::ZERO)) } else { args.timeout };
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        Self { out, args, signals, limit, deadline, printed: 0, unprinted: Vec::new() }
    }

    fn receive(&mut self, seat: &mut Seat) -> Outcome<End> {
        while self.printed < self.limit {
            if let Some(signal) = self.signals.pending() {
                return Ok(End::Signal(signal));
            }
            let taken = seat.client.try_recv();
            for damaged in seat.client.take_damaged() {
                report(self.out, &damaged);
            }
            let Some(message) = taken? else {
                if self.args.drain && self.printed > 0 {
                    return Ok(End::Enough);
                }
                match self.signals.wait_for_message(&seat.client, true, self.deadline)? {
                    Woken::Look => continue,
                    Woken::Deadline => return Ok(self.out_of_time()),
                    Woken::Signal(signal) => return Ok(End::Signal(signal)),
                    Woken::OutputClosed => return Ok(End::OutputClosed),
                }
            };
            if message.is_terminate() {
                return Ok(End::Terminated);
            }
            match self.print(&message) {
                Ok(()) => self.printed += 1,
                Err(failure) => {
                    self.unprinted.push(message);
                    return if matches!(failure, Failure::OutputClosed) { Ok(End::OutputClosed) } else { Err(failure) };
                }
            }
        }
        Ok(End::Enough)
    }

    /// What it means that the deadline passed.
    fn out_of_time(&self) -> End {
        let no_wait = self.args.timeout.map_or(self.args.drain, |timeout| timeout.is_zero());
        match self.printed {
            0 if no_wait => End::Nothing,
            // What was to be followed was followed for as long as it was to be.
            1.. if self.args.follow && self.args.count.is_none() => End::Enough,
            _ => End::TimedOut,
        }
    }

    /// Prints one message.
    fn print(&self, message: &Message) -> Outcome<()> {
        let content = message.raw_content();
        let mut bytes = if self.args.raw {
            content.value().as_str().unwrap_or(content.as_json()).as_bytes().to_vec()
        } else {
            let json = if self.args.content {
                content.as_json().to_owned()
            } else {
                ascii_json(&MessageDocument::new(message))?
            };
            let json = if self.out.is_terminal() { escaped_json(&json) } else { json };
            json.into_bytes()
        };
        if self.args.null {
            bytes.push(0);
        } else if !self.args.raw {
            bytes.push(b'\n');
        }
        self.out.bytes(&bytes)
    }
}

/// Tells of something in the mailbox that is not a message.
fn report(out: Output, damaged: &Damaged) {
    let (chain, path) = (chain(damaged.error()), damaged.set_aside());
    let path = path.map(|path| path.to_string_lossy().into_owned());
    let document = json!({
        "damaged": { "code": damaged.error().code(), "message": chain.join(": "), "kept_at": path },
    });
    out.note_either(&document, || {
        let kept = path.as_deref().map_or(String::new(), |path| format!("; it is kept at {}", escaped(path)));
        format!("ipcm: a damaged message was set aside: {}{kept}", escaped(&chain.join(": ")))
    });
}
