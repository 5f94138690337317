// SPDX-License-Identifier: MIT OR Apache-2.0
//! The strings and numbers of a JSON text that is being read.

use std::borrow::Cow;

use super::read::{Scanner, Source};
use super::write::escape_unit;
use crate::error::Result;

/// Bytes of a string that need no look: all but the quote, the backslash, controls and those above 0x7F.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x80 {
        plain[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

/// Whether a text stands in a JSON string as it is.
pub(crate) fn is_plain(text: &[u8]) -> bool {
    // Without a way out in the middle: many bytes are looked at in one step.
    !text.iter().fold(false, |is_special, byte| {
        is_special | (*byte < 0x20) | (*byte >= 0x80) | (*byte == b'"') | (*byte == b'\\')
    })
}

/// How many bytes from the beginning need no look.
fn plain_run(text: &[u8]) -> Option<usize> {
    const AT_ONCE: usize = 32;
    let chunks = text.chunks_exact(AT_ONCE).take_while(|chunk| is_plain(chunk)).count();
    let begin = chunks * AT_ONCE;
    let more = text[begin..].iter().position(|byte| !PLAIN[usize::from(*byte)])?;
    Some(begin + more)
}

/// The inside of a string: what lies between the quotes.
pub(super) struct Inside {
    start: usize,
    end: usize,
    /// It says what it shows: no escapes, nothing above 0x7F.
    is_plain: bool,
}

impl<'a> Scanner<'a, '_> {
    /// What a checked string says, as UTF-8: `"a"` and `"\u0061"` are one key.
    pub(super) fn meaning(&mut self, inside: &Inside) -> Result<Cow<'a, [u8]>> {
        if inside.is_plain {
            return Ok(Cow::Borrowed(&self.bytes[inside.start..inside.end]));
        }
        let resume = std::mem::replace(&mut self.at, inside.start);
        let mut meaning = Vec::with_capacity(inside.end - inside.start);
        while self.at < inside.end {
            let c = match self.bytes[self.at] {
                b'\\' => self.escape()?,
                byte if byte < 0x80 || self.source == Source::Wire => {
                    self.at += 1;
                    char::from(byte)
                }
                byte => {
                    self.at += 1;
                    meaning.push(byte);
                    continue;
                }
            };
            meaning.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        self.at = resume;
        Ok(Cow::Owned(meaning))
    }

    pub(super) fn string(&mut self) -> Result<Inside> {
        let quote = self.at;
        self.at += 1;
        let mut is_plain = true;
        loop {
            let run = plain_run(&self.bytes[self.at..]);
            let Some(run) = run else {
                return Err(self.fault_at(quote, "a string has no end"));
            };
            self.at += run;
            match self.bytes[self.at] {
                b'"' => {
                    self.at += 1;
                    return Ok(Inside { start: quote + 1, end: self.at - 1, is_plain });
                }
                b'\\' => {
                    self.escape()?;
                }
                byte @ 0x80.. => self.above_ascii(byte)?,
                _ => return Err(self.fault("a string holds a raw control character")),
            }
            is_plain = false;
        }
    }

    fn above_ascii(&mut self, byte: u8) -> Result<()> {
        if !self.is_utf8 {
            if let Err(error) = std::str::from_utf8(self.bytes) {
                self.at = error.valid_up_to();
                return Err(self.fault("the JSON text is not UTF-8"));
            }
            self.is_utf8 = true;
        }
        self.at += 1;
        if self.source == Source::Wire {
            self.change(self.at - 1, &escape_unit(u16::from(byte)))?;
        }
        Ok(())
    }

    fn escape(&mut self) -> Result<char> {
        let start = self.at;
        self.at += 1;
        let c = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.code_point(start),
            _ => return Err(self.fault_at(start, "a string holds an unknown escape")),
        };
        self.at += 1;
        Ok(c)
    }

    fn code_point(&mut self, start: usize) -> Result<char> {
        let first = self.unit()?;
        let is_pair = matches!(first, 0xD800..=0xDBFF) && self.bytes[self.at..].starts_with(b"\\u");
        let decoded = if is_pair {
            self.at += 1;
            let second = self.unit()?;
            char::decode_utf16([first, second]).next()
        } else {
            char::decode_utf16([first]).next()
        };
        match decoded {
            Some(Ok(c)) => Ok(c),
            _ => Err(self.fault_at(start, "a string holds half a surrogate pair")),
        }
    }

    /// The four digits after the `u` that is next.
    fn unit(&mut self) -> Result<u16> {
        let mut unit = 0;
        for place in 1..=4 {
            let digit = self.bytes.get(self.at + place).and_then(|byte| char::from(*byte).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.fault("`\\u` lacks its four digits"));
            };
            // A hexadecimal digit is below 16.
            unit = unit << 4 | digit as u16;
        }
        self.at += 5;
        Ok(unit)
    }

    pub(super) fn number(&mut self) -> Result<()> {
        let start = self.at;
        let is_negative = self.peek() == Some(b'-');
        self.at += usize::from(is_negative);
        if self.peek() == Some(b'0') {
            self.at += 1
        } else {
            self.digits()?
        }
        let whole_end = self.at;
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        if self.at == whole_end { self.integer(start, is_negative) } else { self.float(start) }
    }

    fn digits(&mut self) -> Result<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.fault("a digit was expected")) } else { Ok(()) }
    }

    fn integer(&mut self, start: usize, is_negative: bool) -> Result<()> {
        let bytes = self.bytes;
        let token = &bytes[start..self.at];
        if token == b"-0" {
            return self.change(start, b"0");
        }
        // Eighteen digits always fit.
        if token.len() <= 18 {
            return Ok(());
        }
        let digits = std::str::from_utf8(token).unwrap_or_default();
        let fits = if is_negative { digits.parse::<i64>().is_ok() } else { digits.parse::<u64>().is_ok() };
        if fits { Ok(()) } else { self.change(start, &[b"\"", token, b"\""].concat()) }
    }

    fn float(&self, start: usize) -> Result<()> {
        let token = &self.bytes[start..self.at];
        // Without an exponent it takes over 300 digits to pass the largest double.
        if token.len() < 300 && !token.iter().any(|byte| matches!(byte, b'e' | b'E')) {
            return Ok(());
        }
        match std::str::from_utf8(token).unwrap_or_default().parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(()),
            _ => Err(self.fault_at(start, "a number is out of range")),
        }
    }
}
