// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes JSON as the reference writes it.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

use super::at_once::AtOnce;
use super::read;
use super::token::is_plain;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;

/// Appends the JSON text of a value: ASCII, no white space, floats to 15 digits.
///
/// What was written is read back before it is let go, so nothing leaves that [`normalise`](super::normalise) would
/// refuse: a derived `Serialize` can write one key twice, and the reference loses a whole batch over that.
/// After an error `out` is as it was.
///
/// # Errors
/// `TooLarge` past `limits.decoded_bytes` (as soon as it is passed) or `limits.json_elements`; `Serialize` when it is
/// nested too deep, or the value refuses, or has no sound JSON text.
pub(crate) fn to_wire<T: Serialize + ?Sized>(value: &T, limits: &Limits, out: &mut String) -> Result<()> {
    let start = out.len();
    let refused = Cell::new(None);
    let mut general = None;
    let written = value.serialize(AtOnce::new(out, limits, &refused, &mut general));
    let Some(general) = general else {
        // Written at once, or the value refused before a byte was written.
        return written.map_err(|error| not_written(&refused, limits, error));
    };
    let mut bytes = general.into_inner().bytes;
    let written = match written {
        Ok(()) => check(&mut bytes, start, limits),
        Err(error) => Err(not_written(&refused, limits, error)),
    };
    if written.is_err() {
        bytes.truncate(start);
    }
    match String::from_utf8(bytes) {
        Ok(text) => *out = text,
        Err(error) => return Err(Error::new(ErrorKind::Serialize, "the JSON text is not ASCII").with_source(error)),
    }
    written
}

/// Appends the JSON text of a text, as [`to_wire`] does.
///
/// # Errors
/// As [`to_wire`].
pub(crate) fn text_to_wire(text: &str, limits: &Limits, out: &mut String) -> Result<()> {
    // Nearly all that is not content: nothing to escape, and nothing that could be wrong with it.
    if text.len() > limits.decoded_bytes || !is_plain(text.as_bytes()) {
        return to_wire(text, limits, out);
    }
    out.push('"');
    out.push_str(text);
    out.push('"');
    Ok(())
}

fn not_written(refused: &Cell<Option<Refused>>, limits: &Limits, error: serde_json::Error) -> Error {
    match refused.get() {
        Some(Refused::Size) => {
            let limit = limits.decoded_bytes;
            Error::new(ErrorKind::TooLarge, format!("the JSON text passes the limit of {limit} bytes"))
        }
        Some(Refused::Depth) => read::too_deep(ErrorKind::Serialize, limits.json_depth),
        None => Error::new(ErrorKind::Serialize, "the value cannot be written as JSON").with_source(error),
    }
}

/// Reads back what was written behind `start`.
fn check(bytes: &mut Vec<u8>, start: usize, limits: &Limits) -> Result<()> {
    // Only a fragment that came in ready-made can still change here: a wide integer in it becomes a string.
    if let Cow::Owned(changed) = read::scan(&bytes[start..], read::Source::Own, limits)? {
        bytes.truncate(start);
        bytes.extend_from_slice(changed.as_bytes());
    }
    Ok(())
}

/// Appends a time stamp with all its digits: 15 of them would round to 10 microseconds, and stamps order messages.
pub(crate) fn write_stamp(stamp: f64, out: &mut String) {
    // Below it every whole number of microseconds has a double of its own, and six digits tell it from all others.
    const EXACT: f64 = 9e9;
    let micros = (stamp * 1e6).round();
    if (1.0..EXACT).contains(&stamp) && micros / 1e6 == stamp {
        // Positive, and far below 64 bits.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let micros = micros as u64;
        return write_micros(micros, out);
    }
    let written = if stamp.is_finite() { write!(out, "{stamp:?}") } else { out.write_str("null") };
    debug_assert!(written.is_ok(), "a String takes all text");
}

/// Two digits of every number below 100.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut number = 0;
    while number < 100 {
        // A digit is below 10.
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// Appends seconds with the digits behind the point that they have, and one at least.
fn write_micros(micros: u64, out: &mut String) {
    // Ten digits, the point, and six more.
    let mut digits = [b'.'; 17];
    let (mut seconds, mut rest) = (micros / 1_000_000 % 10_000_000_000, micros % 1_000_000);
    for at in (0..10).step_by(2).rev() {
        digits[at..at + 2].copy_from_slice(&PAIRS[(seconds % 100) as usize]);
        seconds /= 100;
    }
    for at in (11..17).step_by(2).rev() {
        digits[at..at + 2].copy_from_slice(&PAIRS[(rest % 100) as usize]);
        rest /= 100;
    }
    let begin = digits[..9].iter().take_while(|digit| **digit == b'0').count();
    let end = digits.len() - digits[12..].iter().rev().take_while(|digit| **digit == b'0').count();
    debug_assert!(digits.is_ascii());
    out.push_str(std::str::from_utf8(&digits[begin..end]).unwrap_or("0.0"));
}

/// The general way to write: every part is looked at.
pub(super) type General<'a> = Serializer<Bounded<'a>, Wire<'a>>;

/// Which limit a text passed.
#[derive(Clone, Copy)]
pub(super) enum Refused {
    Size,
    Depth,
}

fn refuse(slot: &Cell<Option<Refused>>, why: Refused) -> io::Result<()> {
    slot.set(Some(why));
    // No text: the caller looks at the slot.
    Err(io::ErrorKind::Other.into())
}

/// Takes so many bytes and no more.
pub(super) struct Bounded<'a> {
    bytes: Vec<u8>,
    end: usize,
    refused: &'a Cell<Option<Refused>>,
}

impl<'a> Bounded<'a> {
    pub(super) fn new(bytes: Vec<u8>, end: usize, refused: &'a Cell<Option<Refused>>) -> Self {
        Self { bytes, end, refused }
    }
}

impl io::Write for Bounded<'_> {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.write_all(part).map(|()| part.len())
    }

    fn write_all(&mut self, part: &[u8]) -> io::Result<()> {
        if part.len() > self.end.saturating_sub(self.bytes.len()) {
            return refuse(self.refused, Refused::Size);
        }
        self.bytes.extend_from_slice(part);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The form that the reference reads.
pub(super) struct Wire<'a> {
    depth: usize,
    limit: usize,
    refused: &'a Cell<Option<Refused>>,
}

impl<'a> Wire<'a> {
    pub(super) fn new(limit: usize, refused: &'a Cell<Option<Refused>>) -> Self {
        Self { depth: 0, limit, refused }
    }

    fn open<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        if self.depth >= self.limit {
            return refuse(self.refused, Refused::Depth);
        }
        self.depth += 1;
        writer.write_all(bracket)
    }

    fn close<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth = self.depth.saturating_sub(1);
        writer.write_all(bracket)
    }
}

impl Formatter for Wire<'_> {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        write_ascii(writer, fragment)
    }

    // A ready-made fragment keeps its bytes; outside its strings there is only ASCII.
    fn write_raw_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        write_ascii(writer, fragment)
    }

    fn write_char_escape<W: ?Sized + io::Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        let short: &[u8] = match escape {
            CharEscape::Quote => b"\\\"",
            CharEscape::ReverseSolidus => b"\\\\",
            CharEscape::Solidus => b"/",
            CharEscape::Backspace => b"\\b",
            CharEscape::FormFeed => b"\\f",
            CharEscape::LineFeed => b"\\n",
            CharEscape::CarriageReturn => b"\\r",
            CharEscape::Tab => b"\\t",
            CharEscape::AsciiControl(byte) => return writer.write_all(&escape_unit(u16::from(byte))),
        };
        writer.write_all(short)
    }

    fn write_i128<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: i128) -> io::Result<()> {
        if i64::try_from(value).is_ok() || u64::try_from(value).is_ok() {
            write!(writer, "{value}")
        } else {
            self.write_f64(writer, value as f64)
        }
    }

    fn write_u128<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: u128) -> io::Result<()> {
        if u64::try_from(value).is_ok() { write!(writer, "{value}") } else { self.write_f64(writer, value as f64) }
    }

    fn write_f32<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        // The shortest text of the narrow number: 0.1, where its wide twin would show 0.100000001490116.
        writer.write_all(plain(&format!("{value:e}")).as_bytes())
    }

    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        // Close to the largest double, rounding to 15 digits would give a number that no double holds.
        let scientific = if value.abs() < 1.797e308 { format!("{value:.14e}") } else { format!("{value:e}") };
        writer.write_all(plain(&scientific).as_bytes())
    }
}

fn write_ascii<W: ?Sized + io::Write>(writer: &mut W, text: &str) -> io::Result<()> {
    if text.is_ascii() {
        return writer.write_all(text.as_bytes());
    }
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte >= 0x80) {
        let (ascii, other) = rest.split_at(at);
        writer.write_all(ascii.as_bytes())?;
        let mut chars = other.chars();
        if let Some(c) = chars.next() {
            for unit in c.encode_utf16(&mut [0; 2]) {
                writer.write_all(&escape_unit(*unit))?;
            }
        }
        rest = chars.as_str();
    }
    writer.write_all(rest.as_bytes())
}

/// `\uXXXX` of one UTF-16 unit, in lower-case hexadecimal.
pub(super) fn escape_unit(unit: u16) -> [u8; 6] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digit = |shift: u16| HEX[usize::from(unit >> shift & 0xF)];
    [b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]
}

/// Lays a number in scientific form out as C's `%.15g` does, but keeps `.0` on a whole number.
fn plain(scientific: &str) -> String {
    let (sign, unsigned) = match scientific.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", scientific),
    };
    let (mantissa, exponent) = unsigned.split_once('e').unwrap_or((unsigned, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = match digits.trim_end_matches('0') {
        "" => "0",
        significant => significant,
    };
    let mut text = String::from(sign);
    if !(-4..15).contains(&exponent) {
        let (first, more) = digits.split_at(1);
        let point = if more.is_empty() { "" } else { "." };
        let side = if exponent < 0 { '-' } else { '+' };
        text.push_str(&format!("{first}{point}{more}e{side}{:02}", exponent.unsigned_abs()));
    } else if let Ok(before_point) = usize::try_from(exponent + 1)
        && before_point > 0
    {
        let (whole, fraction) = digits.split_at(before_point.min(digits.len()));
        let fraction = if fraction.is_empty() { "0" } else { fraction };
        text.push_str(&format!("{whole:0<before_point$}.{fraction}"));
    } else {
        let zeros = exponent.unsigned_abs() as usize - 1;
        text.push_str(&format!("0.{:0<zeros$}{digits}", ""));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_written_as_its_shortest_text() {
        let mut stamps =
            vec![0.0, 1.0, 0.5, 1e-6, 1e-7, 0.1 + 0.2, 1_700_000_000.0, 1_700_000_000.123_457, 8_999_999_999.999_999];
        stamps.extend([-1.5, 9e9, 1e15, 1e16, 1e300, f64::MIN_POSITIVE, 5e-324]);
        let mut state = 7_u64;
        for _ in 0..100_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            stamps.push((state >> 12) as f64 / 1e6);
            stamps.push(1_764_000_000.0 + (state >> 43) as f64 / 1e6);
        }
        for stamp in stamps {
            let mut text = String::from("x");
            write_stamp(stamp, &mut text);
            assert_eq!(text, format!("x{stamp:?}"));
        }
    }
}
