// SPDX-License-Identifier: MIT OR Apache-2.0
//! The connection string: protocol, serializer and route of a bus in one line of ASCII JSON.

use std::fmt;

use serde_json::Value;

use crate::error::{Error, ErrorKind, Escaped, Result, redacted};
use crate::json;
use crate::limits::{CONNECTION_STRING_BYTES, Limits};
use crate::route::Route;
use crate::serializer::SerializerSpec;

/// What the class names of the built-in protocols begin with.
const PROTOCOL_PREFIX: &str = "IPC::Manager::Client::";

/// The name of a protocol, as it stands in slot 0 of a connection string.
///
/// Short names, full class names and `+Name` for a custom protocol are all accepted; what is written is the full
/// class name, which the reference implementation reads.
///
/// ```
/// use ipc_manager::ProtocolName;
/// assert_eq!(ProtocolName::new("SQLite").class(), "IPC::Manager::Client::SQLite");
/// assert_eq!(ProtocolName::new("IPC::Manager::Client::SQLite").short(), "SQLite");
/// assert_eq!(ProtocolName::new("+My::Proto").to_string(), "+My::Proto");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolName(Box<str>);

impl ProtocolName {
    /// Expands a short or full name. Whether there is such a protocol, the [`Registry`](crate::Registry) knows.
    #[must_use]
    pub fn new(name: &str) -> Self {
        if let Some(custom) = name.strip_prefix('+') {
            Self(custom.into())
        } else if name.starts_with(PROTOCOL_PREFIX) {
            Self(name.into())
        } else {
            Self(format!("{PROTOCOL_PREFIX}{name}").into())
        }
    }

    /// The class name, such as `IPC::Manager::Client::MessageFiles`.
    #[must_use]
    pub fn class(&self) -> &str {
        &self.0
    }

    /// The name to show: without the prefix of the built-in ones, with `+` for a custom one.
    #[must_use]
    pub fn short(&self) -> String {
        match self.0.strip_prefix(PROTOCOL_PREFIX) {
            Some(short) => short.to_owned(),
            None => format!("+{}", self.0),
        }
    }
}

/// As it stands in a connection string: the class name, with `+` in front of a custom one.
impl fmt::Display for ProtocolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plus = if self.0.starts_with(PROTOCOL_PREFIX) { "" } else { "+" };
        write!(f, "{plus}{}", self.0)
    }
}

/// What another process needs to join a bus. `Display` gives the one line to hand on; it holds no secret, but who has
/// it can join, so pass it by environment or file rather than by argument.
///
/// ```
/// use ipc_manager::ConnectionString;
/// let info = ConnectionString::parse(r#" ["MessageFiles","JSON","/tmp/bus"] "#)?;
/// assert_eq!(info.protocol().short(), "MessageFiles");
/// assert_eq!(
///     info.to_string(),
///     r#"["IPC::Manager::Client::MessageFiles","IPC::Manager::Serializer::JSON","/tmp/bus"]"#
/// );
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConnectionString {
    protocol: ProtocolName,
    serializer: SerializerSpec,
    route: Route,
}

impl ConnectionString {
    /// Puts a connection string together.
    #[must_use]
    pub fn new(protocol: ProtocolName, serializer: SerializerSpec, route: Route) -> Self {
        Self { protocol, serializer, route }
    }

    /// Parses a line of JSON: an array of protocol, serializer and route; what follows the third is ignored.
    ///
    /// # Errors
    /// [`InvalidInfo`](ErrorKind::InvalidInfo), saying what is wrong and, for bad JSON, at which byte.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > CONNECTION_STRING_BYTES {
            return Err(invalid(&format!("is longer than {CONNECTION_STRING_BYTES} bytes")));
        }
        let value = json::user_value(text, &Limits::DEFAULT).map_err(|error| {
            let offset = error.place().offset().unwrap_or(0);
            invalid(&format!("is not JSON: {}", Escaped(text.trim()))).at_offset(offset).with_source(error)
        })?;
        Self::from_value(&value)
    }

    /// Takes a connection string that was decoded already.
    ///
    /// # Errors
    /// [`InvalidInfo`](ErrorKind::InvalidInfo), saying what is wrong.
    pub fn from_value(value: &Value) -> Result<Self> {
        let Value::Array(slots) = value else { return Err(invalid("is not an array")) };
        let protocol = match slots.first() {
            Some(Value::String(name)) if !matches!(name.as_str(), "" | "+") => ProtocolName::new(name),
            None | Some(Value::Null) => return Err(invalid("names no protocol")),
            Some(_) => return Err(invalid("has no name of a protocol in its first slot")),
        };
        let serializer = SerializerSpec::parse(slots.get(1).unwrap_or(&Value::Null))?;
        let route = match slots.get(2) {
            Some(Value::String(route)) => {
                Route::new(route).map_err(|error| invalid("has a bad route").with_source(error))?
            }
            None | Some(Value::Null) => return Err(invalid("has no route, and a route is required")),
            Some(_) => return Err(invalid("has a route that is not a string")),
        };
        Ok(Self { protocol, serializer, route })
    }

    /// The protocol.
    #[must_use]
    pub fn protocol(&self) -> &ProtocolName {
        &self.protocol
    }

    /// The serializer.
    #[must_use]
    pub fn serializer(&self) -> &SerializerSpec {
        &self.serializer
    }

    /// The route.
    #[must_use]
    pub fn route(&self) -> &Route {
        &self.route
    }
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidInfo, format!("the connection string {what}"))
}

impl fmt::Display for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without a password that somebody put into the route: no bus can be reached by such a string.
        let slots = (self.protocol.to_string(), self.serializer.to_value(), redacted(self.route.as_str()));
        let mut text = String::new();
        json::to_wire(&slots, &Limits::DEFAULT, &mut text).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

impl std::str::FromStr for ConnectionString {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}
