// SPDX-License-Identifier: MIT OR Apache-2.0
//! The JSON text of the wire: exactly what the reference writes and reads.
//!
//! The reference is not a plain JSON program: it writes ASCII only and 15 digits of a float, reads raw bytes above
//! 0x7F as Latin-1, and keeps wide integers as text. [`normalise`] turns a text that it could have sent into one that
//! serde_json reads in the same sense; [`to_wire`] writes one that it reads in the same sense.

mod at_once;
mod read;
#[cfg(test)]
mod tests;
mod token;
mod write;

use std::borrow::Cow;

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;

pub(crate) use read::scan_part;
pub(crate) use token::is_plain;
pub(crate) use write::{text_to_wire, to_wire, write_stamp};

/// Checks a received JSON text and makes it safe for serde_json, in one pass.
///
/// Checked: the whole grammar, duplicate keys, lone surrogates, numbers out of range, and the limits on size, depth
/// and elements. Changed: a byte order mark in front goes; each byte above 0x7F becomes the escape of that Latin-1
/// character, as the reference reads it; an integer of more than 64 bits becomes a string of its digits; `-0` becomes
/// `0`. The result is always ASCII, and borrowed when nothing had to change.
///
/// # Errors
/// `Corrupt` with the byte offset; `TooLarge` for a text over `limits.decoded_bytes`.
pub(crate) fn normalise<'a>(payload: &'a [u8], limits: &Limits) -> Result<Cow<'a, str>> {
    read::scan(payload, read::Source::Wire, limits)
}

/// Builds the value of a text that [`normalise`] made.
///
/// # Errors
/// `Corrupt` for a text nested 128 levels deep or more, which is where serde_json stops.
pub(crate) fn parse_value(text: &str) -> Result<Value> {
    value(text, ErrorKind::Corrupt)
}

/// Builds the value of a JSON text that a user typed: UTF-8, where `é` means `é`.
///
/// # Errors
/// `Deserialize` with the byte offset, for the same faults that [`normalise`] refuses; `TooLarge` for a limit.
pub(crate) fn user_value(text: &str, limits: &Limits) -> Result<Value> {
    let text = user_text(text, limits)?;
    value(&text, ErrorKind::Deserialize)
}

/// Reads a JSON text that a user typed, and gives it back as text without anything that [`normalise`] would refuse.
///
/// # Errors
/// As [`user_value`].
pub(crate) fn user_text<'a>(text: &'a str, limits: &Limits) -> Result<Cow<'a, str>> {
    read::scan(text.as_bytes(), read::Source::User, limits)
}

/// The byte offset of an error that serde_json reported for this text.
pub(crate) fn offset(text: &str, error: &serde_json::Error) -> usize {
    let lines_before = error.line().saturating_sub(1);
    let line: usize = text.split_inclusive('\n').take(lines_before).map(str::len).sum();
    // The column counts the bytes that were read, so it is one past the offending one.
    (line + error.column().saturating_sub(1)).min(text.len())
}

fn value(text: &str, kind: ErrorKind) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| {
        let offset = offset(text, &error);
        Error::new(kind, "the JSON text cannot be read as a value").at_offset(offset).with_source(error)
    })
}
