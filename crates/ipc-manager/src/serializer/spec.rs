// SPDX-License-Identifier: MIT OR Apache-2.0
//! The serializer slot of a connection string.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::json;
use crate::limits::Limits;

/// What a class name has in front when it is one of the distribution.
const PREFIX: &str = "IPC::Manager::Serializer::";

/// Which serializer a bus uses, and with what arguments: the second slot of its connection string.
///
/// The slot is a class name, or an array of class name, key, value, key, value and so on. A name may be short
/// (`JSON::Zstd`), full (`IPC::Manager::Serializer::JSON::Zstd`), or that of a class outside the distribution
/// (`+My::Serializer`). Two specs are equal when they are written alike, once names are expanded.
///
/// ```
/// use ipc_manager::serializer::SerializerSpec;
///
/// let spec: SerializerSpec = "JSON::Zstd".parse()?;
/// assert_eq!(spec.class(), "IPC::Manager::Serializer::JSON::Zstd");
/// assert_eq!(spec.short_name(), "JSON::Zstd");
///
/// let spec = SerializerSpec::from_name(r#"["JSON::Zstd", "level", 9]"#)?;
/// assert_eq!(spec.argument("level").and_then(|level| level.as_i64()), Some(9));
/// assert_eq!(spec.to_string(), r#"["IPC::Manager::Serializer::JSON::Zstd","level",9]"#);
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SerializerSpec {
    class: String,
    is_array: bool,
    arguments: Vec<(String, Value)>,
}

impl SerializerSpec {
    /// Understands the slot of a decoded connection string.
    ///
    /// # Errors
    /// `InvalidInfo` when the slot is neither a class name nor a sound array; also for plain JSON as an array, which
    /// the reference refuses, so a bus of that name could not be shared with it.
    pub fn parse(slot: &Value) -> Result<Self> {
        match slot {
            Value::String(given) => Ok(Self::of_class(expand(given)?)),
            Value::Array(items) => Self::parse_array(items),
            Value::Null => Err(invalid("serializer spec not understood: the serializer is missing")),
            _ => Err(invalid("serializer spec not understood: it must be a class name or an array")),
        }
    }

    fn parse_array(items: &[Value]) -> Result<Self> {
        let Some((Value::String(given), rest)) = items.split_first() else {
            return Err(invalid("serializer spec not understood: the array must begin with a class name"));
        };
        let class = expand(given)?;
        if class == super::json::CLASS {
            return Err(invalid("serializer class has no constructor: write plain JSON as a string, not as an array"));
        }
        let (pairs, odd) = rest.as_chunks::<2>();
        if !odd.is_empty() {
            return Err(invalid("serializer spec not understood: an argument has no value"));
        }
        let mut arguments: Vec<(String, Value)> = Vec::with_capacity(pairs.len());
        for [key, value] in pairs {
            let Value::String(key) = key else {
                return Err(invalid("serializer spec not understood: the key of an argument must be a string"));
            };
            if value.is_array() || value.is_object() {
                let detail = format!("serializer argument `{}` must be a plain value", Escaped(key));
                return Err(invalid(detail));
            }
            if arguments.iter().any(|(known, _)| known == key) {
                return Err(invalid(format!("serializer argument `{}` is given twice", Escaped(key))));
            }
            arguments.push((key.clone(), value.clone()));
        }
        Ok(Self::of_class(class).with_arguments(arguments))
    }

    /// Understands what a user types: a name, or the JSON text of an array.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); also `InvalidInfo` for an array that is not JSON.
    pub fn from_name(name: &str) -> Result<Self> {
        let name = name.trim();
        if !name.starts_with('[') {
            return Ok(Self::of_class(expand(name)?));
        }
        let slot = json::user_value(name, &Limits::DEFAULT).map_err(|error| error.with_kind(ErrorKind::InvalidInfo))?;
        Self::parse(&slot)
    }

    /// The spec of an expanded class, without arguments.
    pub(super) fn of_class(class: impl Into<String>) -> Self {
        Self { class: class.into(), is_array: false, arguments: Vec::new() }
    }

    /// The same with these arguments, which makes it an array.
    pub(super) fn with_arguments(mut self, arguments: Vec<(String, Value)>) -> Self {
        self.is_array = true;
        self.arguments = arguments;
        self
    }

    /// The full class name.
    #[must_use]
    pub fn class(&self) -> &str {
        &self.class
    }

    /// The name to show and to type: without the prefix of the distribution, or with `+` when it is not part of it.
    #[must_use]
    pub fn short_name(&self) -> String {
        short_name(&self.class)
    }

    /// Whether it is written as an array.
    #[must_use]
    pub fn is_array(&self) -> bool {
        self.is_array
    }

    /// One argument.
    #[must_use]
    pub fn argument(&self, key: &str) -> Option<&Value> {
        self.arguments.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// The arguments, in the order in which they are written.
    pub fn arguments(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.arguments.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Refuses arguments that the serializer does not know.
    ///
    /// # Errors
    /// `Usage`, naming the unknown one and the known ones.
    pub fn check_arguments(&self, known: &[&str]) -> Result<()> {
        let Some((key, _)) = self.arguments().find(|(key, _)| !known.contains(key)) else { return Ok(()) };
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let detail = format!("serializer {} has no argument `{}`; it knows: {known}", self.short_name(), Escaped(key));
        Err(Error::new(ErrorKind::Usage, detail))
    }

    /// What to put into the slot of a connection string.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let class = Value::from(self.written_class());
        if !self.is_array {
            return class;
        }
        let arguments = self.arguments.iter().flat_map(|(key, value)| [Value::from(key.as_str()), value.clone()]);
        std::iter::once(class).chain(arguments).collect()
    }

    /// A class outside the distribution needs its `+`, or the reader would put the prefix in front.
    fn written_class(&self) -> String {
        if self.class.starts_with(PREFIX) { self.class.clone() } else { format!("+{}", self.class) }
    }
}

impl FromStr for SerializerSpec {
    type Err = Error;

    /// The same as [`from_name`](SerializerSpec::from_name).
    fn from_str(name: &str) -> Result<Self> {
        Self::from_name(name)
    }
}

impl fmt::Display for SerializerSpec {
    /// Writes what [`from_name`](SerializerSpec::from_name) understands: a class name, or the JSON text of an array.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_array {
            return f.write_str(&self.written_class());
        }
        let mut text = String::new();
        json::to_wire(&self.to_value(), &Limits::DEFAULT, &mut text).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

pub(super) fn short_name(class: &str) -> String {
    class.strip_prefix(PREFIX).map_or_else(|| format!("+{class}"), str::to_owned)
}

fn expand(given: &str) -> Result<String> {
    let (class, name) = match given.strip_prefix('+') {
        Some(rest) => (rest.to_owned(), rest),
        None => match given.strip_prefix(PREFIX) {
            Some(rest) => (given.to_owned(), rest),
            None => (format!("{PREFIX}{given}"), given),
        },
    };
    if name.is_empty() || name.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(invalid(format!("`{}` is not the name of a serializer", Escaped(given))));
    }
    Ok(class)
}

fn invalid(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInfo, detail)
}
