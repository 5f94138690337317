// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm send`: messages to one peer, with a receipt for each.

use std::time::{Duration, Instant};

use ipc_manager::{Client, Error, ErrorKind, Message, Receipt, Result};
use serde::Serialize;

use crate::args::SendArgs;
use crate::bus_choice;
use crate::commands::body::{Parts, one};
use crate::commands::seat::Seat;
use crate::context::Context;
use crate::exit_code;
use crate::failure::{Failure, Outcome};
use crate::signals::Signals;

/// How often a send that waits for room without end looks whether a signal came.
const SIGNAL_LOOK: Duration = Duration::from_millis(500);
/// Why a message that was given up was not sent.
const NO_ROOM: &str = "there was no room in the mailbox";

/// A receipt, as documents tell of it.
#[derive(Serialize)]
struct Document<'a> {
    id: &'a str,
    to: &'a str,
    receipt: String,
}

pub(crate) fn run(context: &mut Context, args: &SendArgs) -> Outcome {
    if (args.lines || args.null) && args.body.body.as_deref().is_some_and(|body| body != "-") {
        return Err(Failure::usage("--lines and --null read standard input, so there can be no body beside them"));
    }
    let info = context.choose_bus(&args.bus)?;
    let choice = bus_choice::name(&args.name)?;
    let signals = Signals::catch()?;
    let split = if args.lines { Some(b'\n') } else { args.null.then_some(0) };
    // What cannot be sent is refused before anything is touched.
    let only = if split.is_none() { Some(one(&args.body, &signals)?) } else { None };
    let mut seat = Seat::take(context, &info, &choice)?;
    let mut sender = Sender { context, client: &mut seat.client, args, signals: &signals, stored: 0 };
    let sent = match (split, only) {
        (Some(delimiter), _) => sender.stream(delimiter),
        (None, Some(content)) => sender.batch(vec![content]),
        (None, None) => Ok(()),
    };
    let left = seat.leave(context, &[], false);
    sent?;
    left?;
    Ok(signals.pending().map_or(exit_code::DONE, exit_code::of_signal))
}

/// Sends, and prints the receipts.
struct Sender<'a> {
    context: &'a Context,
    client: &'a mut Client,
    args: &'a SendArgs,
    signals: &'a Signals,
    stored: usize,
}

impl Sender<'_> {
    /// Sends the parts of standard input as they come. The first failure ends it.
    fn stream(&mut self, delimiter: u8) -> Outcome<()> {
        let mut parts = Parts::new(self.signals, delimiter, self.args.body.text);
        loop {
            let mut batch = Vec::new();
            let read = parts.next_batch(&mut batch);
            let done = batch.is_empty();
            if !done {
                self.batch(batch)?;
            }
            read.map_err(|failure| self.after_some(failure))?;
            if done {
                return Ok(());
            }
        }
    }

    /// Sends some contents in order and prints a receipt for each that is stored.
    fn batch(&mut self, contents: Vec<ipc_manager::Content>) -> Outcome<()> {
        let to = self.args.to.as_str();
        let messages = contents.iter().map(|content| self.client.message(to, content)).collect::<Result<Vec<_>>>();
        let messages = messages.map_err(|error| self.after_some(error.into()))?;
        if let Some(timeout) = self.args.timeout {
            await_peer(self.client, to, timeout).map_err(|failure| self.after_some(failure))?;
        }
        let ids: Vec<String> = messages.iter().map(|message| message.id().to_string()).collect();
        let (receipts, refused) = self.deliver(messages);
        self.stored += receipts.len();
        for (id, receipt) in ids.iter().zip(&receipts) {
            let document = Document { id, to, receipt: receipt.to_string() };
            self.context.out.either(&document, || receipt.to_string())?;
        }
        refused.map_or(Ok(()), |error| Err(self.after_some(error.into())))
    }

    /// Sends messages one by one, since each is to have its own receipt: those of the ones that are stored, and why the
    /// next one is not.
    fn deliver(&mut self, messages: Vec<Message>) -> (Vec<Receipt>, Option<Error>) {
        let mut receipts = Vec::with_capacity(messages.len());
        for message in messages {
            match self.deliver_one(message) {
                Ok(receipt) => receipts.push(receipt),
                Err(error) => return (receipts, Some(error)),
            }
        }
        (receipts, None)
    }

    /// Sends a message. The wait for room ends with the time that was given, or with a signal.
    fn deliver_one(&mut self, message: Message) -> Result<Receipt> {
        if let Some(timeout) = self.args.timeout {
            return self.client.send_message_timeout(message, timeout);
        }
        self.client.set_blocking(false);
        let mut refused = match self.client.send_message(message) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => error,
            sent => return sent,
        };
        loop {
            // A message that there was no room for is handed back.
            let message = refused.into_message().ok_or_else(|| Error::new(ErrorKind::WouldBlock, NO_ROOM))?;
            refused = match self.client.send_message_timeout(message, SIGNAL_LOOK) {
                Err(error) if error.kind() == ErrorKind::Timeout && self.signals.pending().is_none() => error,
                sent => return sent,
            };
        }
    }

    /// Adds to a failure how many messages were stored before it.
    fn after_some(&self, failure: Failure) -> Failure {
        match self.stored {
            0 => failure,
            count => failure.during(format!("the messages before were stored ({count}), this one was not")),
        }
    }
}

/// Waits until messages can be sent to a peer: it is there, or its mailbox is.
fn await_peer(client: &mut Client, to: &str, timeout: Duration) -> Outcome<()> {
    let deadline = Instant::now() + timeout;
    if timeout.is_zero() || client.peer(to)?.is_some() {
        return Ok(());
    }
    let left = deadline.saturating_duration_since(Instant::now());
    if client.wait_for_peer(to, Some(left))? || client.peer(to)?.is_some() {
        return Ok(());
    }
    let detail = format!("no peer of this name came within {timeout:?}");
    Err(Error::new(ErrorKind::Timeout, detail).during("send").about_peer(to).into())
}
