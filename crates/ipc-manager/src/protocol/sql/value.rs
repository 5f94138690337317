// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values that go into statements and come out of them, and what can go wrong in between, alike for all databases.

use std::fmt;

/// A value that is bound to a statement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Param<'a> {
    Null,
    Integer(i64),
    /// Seconds since the epoch.
    Seconds(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Bool(bool),
}

/// The values that so many rows have in one column, in their order.
#[cfg_attr(not(feature = "postgresql"), allow(dead_code, reason = "only one database takes rows so"))]
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Column<'a> {
    Texts(Vec<Option<&'a str>>),
    /// Seconds since the epoch.
    Seconds(Vec<f64>),
    Bytes(Vec<&'a [u8]>),
    Bools(Vec<bool>),
}

impl<'a> Param<'a> {
    pub(super) fn text_or_null(text: Option<&'a str>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }

    pub(super) fn integer_or_null(number: Option<i64>) -> Self {
        number.map_or(Self::Null, Self::Integer)
    }

    pub(super) fn seconds_or_null(seconds: Option<f64>) -> Self {
        seconds.map_or(Self::Null, Self::Seconds)
    }
}

/// A value out of a row. Columns of foreign tables and values of foreign writers may have any type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Value {
    pub(super) fn is_null(&self) -> bool {
        *self == Self::Null
    }

    /// As a whole number, whatever it is stored as.
    pub(super) fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            #[allow(clippy::cast_possible_truncation)]
            Self::Real(number) if number.fract() == 0.0 && number.abs() < 9e15 => Some(*number as i64),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.trim().parse().ok(),
            _ => None,
        }
    }

    /// As a number, whatever it is stored as.
    pub(super) fn as_number(&self) -> Option<f64> {
        match self {
            #[allow(clippy::cast_precision_loss)]
            Self::Integer(number) => Some(*number as f64),
            Self::Real(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.trim().parse().ok(),
            Self::Null => None,
        }
    }

    /// As text, whatever it is stored as. Bytes that are no UTF-8 are no text.
    pub(super) fn into_text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Integer(number) => Some(number.to_string()),
            Self::Real(number) => Some(number.to_string()),
            Self::Bytes(bytes) => String::from_utf8(bytes).ok(),
            Self::Null => None,
        }
    }

    /// As bytes, whatever it is stored as.
    pub(super) fn into_bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            other => other.into_text().map(String::into_bytes),
        }
    }
}

/// The values of one row, in the order of the statement's columns.
#[derive(Debug, Clone)]
pub(super) struct Row(std::vec::IntoIter<Value>);

impl Row {
    pub(super) fn new(values: Vec<Value>) -> Self {
        Self(values.into_iter())
    }

    /// The next value; null past the end.
    pub(super) fn next(&mut self) -> Value {
        self.0.next().unwrap_or(Value::Null)
    }
}

/// What a failure means to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Others held a lock for longer than anybody waits.
    Busy,
    /// The transaction was rolled back in favour of another; the same again may well succeed.
    Conflict,
    /// A row with this key is there.
    Duplicate,
    /// There is no such table, or no such database.
    Missing,
    /// The connection is gone. What was under way may have been done.
    Lost,
    /// The connection was lost while a transaction was ended: it is kept or undone, and the tables know.
    InDoubt,
    /// The server is not there, or does not let anybody in right now.
    Unreachable,
    /// The user may not do this.
    Denied,
    /// The server is not shown to be the one that the route leads to.
    #[cfg(feature = "tls")]
    Untrusted,
    /// The server cannot do what the route asks for.
    Unable,
    /// The file is no database, or damaged.
    Corrupt,
    /// Anything else.
    Other,
}

/// What a database said no with.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) trouble: Trouble,
    pub(super) source: Box<dyn std::error::Error + Send + Sync>,
}

impl Failure {
    pub(super) fn new(trouble: Trouble, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { trouble, source: source.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}
