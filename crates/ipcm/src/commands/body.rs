// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is to be sent: from the command line or from standard input.

use std::io::{self, BufRead, BufReader, Read};

use ipc_manager::{Content, ErrorKind};

use crate::args::BodyArgs;
use crate::failure::{Failure, Outcome};
use crate::signals::{Input, Signals};

/// Longest content read from standard input, in bytes. The library's own limit on a message is the same.
const BODY_BYTES: u64 = 64 << 20;
/// Most messages that are sent in one go.
const BATCH: usize = 256;

/// The one content of a command that sends one.
pub(crate) fn one(args: &BodyArgs, signals: &Signals) -> Outcome<Content> {
    match args.body.as_deref() {
        None | Some("-") => {
            let mut bytes = Vec::new();
            let mut input = Input { signals }.take(BODY_BYTES + 1);
            input.read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
            if let Some(signal) = signals.pending() {
                return Err(interrupted(signal));
            }
            content(&bytes, args.text, "standard input")
        }
        Some(body) => content(body.as_bytes(), args.text, "the body"),
    }
}

/// What ends a command that a signal interrupts while it reads.
pub(crate) fn interrupted(signal: i32) -> Failure {
    Failure::told("usage", crate::exit_code::of_signal(signal), "interrupted while reading standard input")
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::io("standard input cannot be read", error)
}

/// Turns bytes into a content.
fn content(bytes: &[u8], text: bool, source: &str) -> Outcome<Content> {
    if bytes.len() as u64 > BODY_BYTES {
        let message = format!("{source} is longer than {BODY_BYTES} bytes");
        return Err(Failure::told("too_large", crate::exit_code::REFUSED, message));
    }
    let decoded = std::str::from_utf8(bytes).map_err(|error| {
        Failure::usage(format!("{source} is not UTF-8 (byte {})", error.valid_up_to()))
            .hint("a content is JSON or text; encode other bytes first, for example with base64")
    })?;
    if text {
        return Ok(Content::new(decoded)?);
    }
    Content::from_json(decoded).map_err(|error| match error.kind() {
        ErrorKind::Deserialize => {
            Failure::usage(format!("{source} is not JSON: {error}")).hint("--text sends a string as it is")
        }
        ErrorKind::Serialize => Failure::usage(format!("{source} is null, which cannot be sent")),
        _ => error.into(),
    })
}

/// Standard input, cut into contents at newlines or NULs.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    input: BufReader<Input<'a>>,
    signals: &'a Signals,
    delimiter: u8,
    text: bool,
    count: usize,
}

impl<'a> Parts<'a> {
    /// Starts reading.
    pub(crate) fn new(signals: &'a Signals, delimiter: u8, text: bool) -> Self {
        let input = BufReader::with_capacity(64 << 10, Input { signals });
        Self { input, signals, delimiter, text, count: 0 }
    }

    /// The next contents: waits for one, and adds those that are there already. Sound ones in front of one that is not
    /// are handed out with it.
    pub(crate) fn next_batch(&mut self, batch: &mut Vec<Content>) -> Outcome<()> {
        loop {
            let mut part = Vec::new();
            let mut limited = (&mut self.input).take(BODY_BYTES + 2);
            limited.read_until(self.delimiter, &mut part).map_err(|error| unreadable(&error))?;
            if part.is_empty() {
                return Ok(());
            }
            if part.last() == Some(&self.delimiter) {
                part.pop();
            } else if self.signals.pending().is_some() {
                // The signal cut it short.
                return Ok(());
            }
            self.count += 1;
            let unit = if self.delimiter == 0 { "part" } else { "line" };
            batch.push(content(&part, self.text, &format!("{unit} {} of standard input", self.count))?);
            if batch.len() == BATCH || !self.input.buffer().contains(&self.delimiter) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents() {
        assert_eq!(content(b"{\"a\":1}", false, "x").unwrap().value()["a"], 1);
        assert_eq!(content(b"{\"a\"", true, "x").unwrap().value(), "{\"a\"");
        for (bytes, byte) in [(&b"{\"a\" 1}"[..], 5), (b"", 0), (b"1\n\n x", 4), (b"[1,]", 3)] {
            let Err(Failure::Told(report)) = content(bytes, false, "it") else { panic!("{bytes:?}") };
            assert!(report.json().to_string().contains(&format!("(byte {byte})")), "{}", report.json());
        }
        assert!(content(b"null", false, "x").is_err());
        assert!(content(b"\xff", true, "x").is_err());
    }
}
