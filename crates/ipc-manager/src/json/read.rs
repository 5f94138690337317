// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads JSON as the reference reads it: one pass, no recursion, nothing built.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;

/// Where a text comes from, which decides how its bytes above 0x7F are meant and what a fault is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A peer: raw bytes above 0x7F are Latin-1 characters.
    Wire,
    /// The user: UTF-8.
    User,
    /// This program, about to send.
    Own,
}

impl Source {
    fn fault(self) -> ErrorKind {
        match self {
            Self::Wire => ErrorKind::Corrupt,
            Self::User => ErrorKind::Deserialize,
            Self::Own => ErrorKind::Serialize,
        }
    }

    fn too_many(self) -> ErrorKind {
        match self {
            Self::Wire => ErrorKind::Corrupt,
            Self::User | Self::Own => ErrorKind::TooLarge,
        }
    }
}

pub(super) fn too_deep(kind: ErrorKind, limit: usize) -> Error {
    Error::new(kind, format!("the JSON text is nested deeper than {limit} levels"))
}

/// Checks a text, and changes what serde_json would take in another sense; see [`normalise`](super::normalise).
pub(super) fn scan<'a>(text: &'a [u8], source: Source, limits: &Limits) -> Result<Cow<'a, str>> {
    let scanner = Scanner::new(text, source, limits);
    scanner.fits(text.len())?;
    scanner.run()
}

/// Whether a part of a received text is a value that needs no change, so many levels and elements below the whole.
pub(crate) fn scan_part(part: &[u8], levels: usize, elements: usize, limits: &Limits) -> bool {
    if let [b'"', inside @ .., b'"'] = part
        && super::is_plain(inside)
    {
        return true;
    }
    let limits = Limits {
        json_depth: limits.json_depth.saturating_sub(levels),
        json_elements: limits.json_elements.saturating_sub(elements),
        ..limits.clone()
    };
    !part.starts_with(BYTE_ORDER_MARK) && matches!(scan(part, Source::Wire, &limits), Ok(Cow::Borrowed(_)))
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Keys of an object that are compared one by one; past it they are hashed.
const FEW_KEYS: usize = 16;

/// What may come next, white space aside.
enum Next {
    Value,
    FirstValue,
    Key,
    FirstKey,
    Separator,
    End,
}

/// An open array or object.
struct Open<'a> {
    is_object: bool,
    /// Where its keys begin among the keys of all open objects.
    first_key: usize,
    /// Its keys once there are many.
    many: Option<HashSet<Cow<'a, [u8]>>>,
}

pub(super) struct Scanner<'a, 'l> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    /// Length of the byte order mark, so that offsets count from the true beginning.
    skipped: usize,
    pub(super) source: Source,
    limits: &'l Limits,
    open: Vec<Open<'a>>,
    keys: Vec<Cow<'a, [u8]>>,
    elements: usize,
    pub(super) is_utf8: bool,
    /// The changed text so far, and how much of the input it stands for; unused while nothing changed.
    changed: Vec<u8>,
    changed_to: usize,
}

impl<'a, 'l> Scanner<'a, 'l> {
    fn new(text: &'a [u8], source: Source, limits: &'l Limits) -> Self {
        let bytes = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        Self {
            bytes,
            at: 0,
            skipped: text.len() - bytes.len(),
            source,
            limits,
            open: Vec::new(),
            keys: Vec::new(),
            elements: 0,
            is_utf8: false,
            changed: Vec::new(),
            changed_to: 0,
        }
    }

    fn run(mut self) -> Result<Cow<'a, str>> {
        self.document()?;
        let text = if self.changed_to == 0 {
            std::str::from_utf8(self.bytes).map(Cow::Borrowed).ok()
        } else {
            self.changed.extend_from_slice(&self.bytes[self.changed_to..]);
            self.fits(self.changed.len())?;
            String::from_utf8(std::mem::take(&mut self.changed)).map(Cow::Owned).ok()
        };
        text.ok_or_else(|| self.fault("the JSON text is not UTF-8"))
    }

    fn document(&mut self) -> Result<()> {
        let mut next = Next::Value;
        loop {
            self.blanks()?;
            let Some(byte) = self.peek() else { break };
            next = match next {
                Next::FirstValue if byte == b']' => self.close(),
                Next::FirstKey if byte == b'}' => self.close(),
                Next::FirstValue => {
                    self.count()?;
                    self.value(byte)?
                }
                Next::Value => self.value(byte)?,
                Next::Key | Next::FirstKey => self.key(byte)?,
                Next::Separator => self.separator(byte)?,
                Next::End => return Err(self.fault("something follows the JSON text")),
            };
        }
        if matches!(next, Next::End) { Ok(()) } else { Err(self.fault("the JSON text ends too early")) }
    }

    /// Leaves white space out, so that a text is always one line.
    fn blanks(&mut self) -> Result<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        if self.at > start { self.change(start, b"") } else { Ok(()) }
    }

    fn value(&mut self, byte: u8) -> Result<Next> {
        match byte {
            b'[' => return self.enter(false),
            b'{' => return self.enter(true),
            b'"' => {
                self.string()?;
            }
            b'-' | b'0'..=b'9' => self.number()?,
            _ => {
                let rest = &self.bytes[self.at..];
                let Some(word) = ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word.as_bytes()))
                else {
                    return Err(self.fault("a JSON value was expected"));
                };
                self.at += word.len();
            }
        }
        Ok(self.after_value())
    }

    fn after_value(&self) -> Next {
        if self.open.is_empty() { Next::End } else { Next::Separator }
    }

    fn enter(&mut self, is_object: bool) -> Result<Next> {
        if self.open.len() >= self.limits.json_depth {
            let error = too_deep(self.source.fault(), self.limits.json_depth);
            return Err(error.at_offset(self.skipped + self.at));
        }
        if self.open.is_empty() {
            // Room for the usual message at once; a bare string needs none.
            self.open.reserve(8);
            self.keys.reserve(FEW_KEYS);
        }
        self.open.push(Open { is_object, first_key: self.keys.len(), many: None });
        self.at += 1;
        Ok(if is_object { Next::FirstKey } else { Next::FirstValue })
    }

    fn close(&mut self) -> Next {
        if let Some(closed) = self.open.pop() {
            self.keys.truncate(closed.first_key);
        }
        self.at += 1;
        self.after_value()
    }

    fn separator(&mut self, byte: u8) -> Result<Next> {
        let in_object = self.open.last().is_some_and(|open| open.is_object);
        match (byte, in_object) {
            (b'}', true) | (b']', false) => Ok(self.close()),
            (b',', true) => {
                self.at += 1;
                Ok(Next::Key)
            }
            (b',', false) => {
                self.at += 1;
                self.count()?;
                Ok(Next::Value)
            }
            (_, true) => Err(self.fault("`,` or `}` was expected")),
            (_, false) => Err(self.fault("`,` or `]` was expected")),
        }
    }

    fn key(&mut self, byte: u8) -> Result<Next> {
        if byte != b'"' {
            return Err(self.fault("a key was expected"));
        }
        self.count()?;
        let start = self.at;
        let inside = self.string()?;
        let key = self.meaning(&inside)?;
        if !self.is_new(key) {
            return Err(self.fault_at(start, "a key occurs twice in one object"));
        }
        self.blanks()?;
        if self.peek() != Some(b':') {
            return Err(self.fault("`:` was expected"));
        }
        self.at += 1;
        Ok(Next::Value)
    }

    fn is_new(&mut self, key: Cow<'a, [u8]>) -> bool {
        let Some(open) = self.open.last_mut() else { return true };
        if let Some(many) = &mut open.many {
            return many.insert(key);
        }
        let few = &self.keys[open.first_key..];
        if few.contains(&key) {
            return false;
        }
        let is_full = few.len() == FEW_KEYS;
        self.keys.push(key);
        if is_full {
            open.many = Some(self.keys.drain(open.first_key..).collect());
        }
        true
    }

    /// Replaces the bytes from `start` to here.
    pub(super) fn change(&mut self, start: usize, with: &[u8]) -> Result<()> {
        self.changed.extend_from_slice(&self.bytes[self.changed_to..start]);
        self.changed.extend_from_slice(with);
        self.changed_to = self.at;
        // A Latin-1 text grows sixfold, which the limit must bound too.
        self.fits(self.changed.len())
    }

    fn fits(&self, size: usize) -> Result<()> {
        let limit = self.limits.decoded_bytes;
        if size <= limit {
            return Ok(());
        }
        Err(Error::new(ErrorKind::TooLarge, format!("the JSON text of {size} bytes passes the limit of {limit}")))
    }

    fn count(&mut self) -> Result<()> {
        self.elements += 1;
        let limit = self.limits.json_elements;
        if self.elements <= limit {
            return Ok(());
        }
        let detail = format!("the JSON text has more than {limit} keys and elements");
        Err(Error::new(self.source.too_many(), detail).at_offset(self.skipped + self.at))
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn fault(&self, detail: &str) -> Error {
        self.fault_at(self.at, detail)
    }

    pub(super) fn fault_at(&self, at: usize, detail: &str) -> Error {
        Error::new(self.source.fault(), detail).at_offset(self.skipped + at)
    }
}
