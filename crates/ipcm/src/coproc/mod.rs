// SPDX-License-Identifier: MIT OR Apache-2.0
//! The coprocess: a bus for languages without a binding, as one JSON object a line.
//!
//! Each line of input is a request: an object with `op`, perhaps `rid` (echoed), and what the operation takes. Each is
//! answered by exactly one line, in order, flushed at once: `{"ok":true,...}` or
//! `{"ok":false,"error":{"code":"...","message":"..."}}`. One coprocess holds any number of buses and clients; `bus` and
//! `client` are the handles it hands out, and may be left out where there is exactly one. The end of input disconnects
//! every client and shuts down every guarded bus; one with a message that was received and not acknowledged is suspended.
//!
//! A client that has left the bus keeps its handle, so that what is asked of it is answered with `disconnected`.
//! `receive` answers with a `delivery`, the handle of a message that stays in the store until `acknowledge`; without one
//! where no message is there. `recv` without a `timeout` does not wait; with one it waits for the first message and then takes all that is there.

mod answer;
mod bus_ops;
mod client_ops;
mod delivery_ops;
mod engine;
mod message_ops;
mod request;

use std::io::{self, BufRead, Read, Write};

use ipc_manager::Registry;

use answer::Answer;
use engine::Engine;
use request::Request;

/// Longest request, in bytes: the largest message with every character escaped fits.
const LINE_BYTES: u64 = 512 << 20;

/// Answers requests until the input ends, then disconnects every client and shuts down every guarded bus.
///
/// ```
/// let requests = concat!(
///     r#"{"op":"spawn","protocol":"LocalMemory"}"#, "\n",
///     r#"{"op":"connect","name":"a","rid":7}"#, "\n",
///     r#"{"op":"send","to":"nobody","content":1}"#, "\n",
/// );
/// let mut answers = Vec::new();
/// ipcm::coproc::serve(ipc_manager::Registry::standard(), requests.as_bytes(), &mut answers)?;
/// let answers = String::from_utf8(answers).unwrap();
/// let lines: Vec<&str> = answers.lines().collect();
/// assert!(lines[0].starts_with(r#"{"ok":true,"bus":"b1","#));
/// assert_eq!(lines[1], r#"{"rid":7,"ok":true,"client":"c1","name":"a"}"#);
/// assert!(lines[2].contains(r#""code":"no_such_peer""#));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// Of reading the input or writing the output; what went wrong on a bus is in the answers. Clients and buses are left
/// in an orderly way all the same.
pub fn serve(registry: Registry, input: impl BufRead, output: impl Write) -> io::Result<()> {
    serve_until(registry, input, output, &|| false)
}

/// As [`serve`], also ending a wait early once `asked_to_end` says so; the input is expected to end then.
pub(crate) fn serve_until(
    registry: Registry,
    mut input: impl BufRead,
    mut output: impl Write,
    asked_to_end: &dyn Fn() -> bool,
) -> io::Result<()> {
    let mut engine = Engine::new(registry, asked_to_end);
    let served = converse(&mut engine, &mut input, &mut output);
    engine.leave_all();
    served
}

fn converse(engine: &mut Engine<'_>, input: &mut impl BufRead, output: &mut impl Write) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let complete = line.last() == Some(&b'\n');
        let mut answer = if !complete && line.len() as u64 == LINE_BYTES {
            skip_line(input)?;
            Answer::refused(None, &format!("a request cannot be longer than {LINE_BYTES} bytes"))
        } else {
            match Request::parse(&line) {
                Ok(request) => engine.answer(&request),
                Err(refused) => refused.line(),
            }
        };
        answer.push('\n');
        output.write_all(answer.as_bytes())?;
        output.flush()?;
    }
}

/// Reads up to the end of a line that is too long to be kept.
fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let (used, end) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(position) => (position + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        input.consume(used);
        if end {
            return Ok(());
        }
    }
}
