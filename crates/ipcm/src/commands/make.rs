// SPDX-License-Identifier: MIT OR Apache-2.0
//! Making a bus for others to join, and telling how it ended.

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_manager::{Audit, ConnectionString, Error, ErrorKind, Signal, Spawn};
use serde::Serialize;

use crate::args::MakeArgs;
use crate::bus_choice::{protocol_named, serializer_named};
use crate::context::Context;
use crate::escape::escaped;
use crate::exit_code;
use crate::failure::{Failure, Outcome};

/// How to make a bus, beside protocol and serializer.
#[derive(Debug, Default)]
pub(crate) struct Making<'a> {
    /// Where; a fresh place otherwise.
    pub(crate) route: Option<&'a str>,
    /// Whether the bus ends with this process.
    pub(crate) guard: bool,
    /// The signal for those on the bus at its end.
    pub(crate) signal: Option<&'a str>,
    /// How long to wait for them.
    pub(crate) timeout: Option<Duration>,
}

/// Makes a bus that other processes can join.
pub(crate) fn make(context: &Context, args: &MakeArgs, making: &Making<'_>) -> Outcome<Spawn> {
    let mut builder = Spawn::builder().registry(context.registry.clone()).guard(making.guard);
    let protocols = args.protocol.iter().map(|name| shared(context, name)).collect::<Outcome<Vec<_>>>()?;
    builder = match protocols.as_slice() {
        [] => builder,
        [one] => builder.protocol(one),
        several => builder.protocols(several.iter().cloned()),
    };
    if let Some(name) = &args.serializer {
        let spec = serializer_named(name, &context.registry).map_err(mistyped)?;
        context.registry.serializers().resolve(&spec).map_err(mistyped)?;
        builder = builder.serializer(&spec.to_string());
    }
    if let Some(route) = making.route {
        builder = builder.route(route);
    }
    if let Some(signal) = making.signal {
        builder = builder.signal(self::signal(signal)?);
    }
    if let Some(timeout) = making.timeout {
        builder = builder.peer_timeout(timeout);
    }
    Ok(builder.spawn()?)
}

/// A protocol by the name that a user typed, if its buses reach past one process.
fn shared(context: &Context, name: &str) -> Outcome<String> {
    let name = protocol_named(name, &context.registry).map_err(mistyped)?;
    if context.registry.get(&name).map_err(mistyped)?.capabilities().crosses_processes {
        return Ok(name);
    }
    let detail = format!("a bus of the protocol {name} lives within one process, so no other command could join it");
    Err(Failure::from(Error::new(ErrorKind::Unsupported, detail)))
}

/// A name of a protocol or serializer that was typed wrong is a mistake of usage here, not a bus out of reach.
fn mistyped(error: Error) -> Failure {
    Failure::from(error).exit(exit_code::USAGE)
}

/// A signal by name or number.
pub(crate) fn signal(name: &str) -> Outcome<Signal> {
    Signal::new(name).map_err(|error| Failure::from(error).exit(exit_code::USAGE))
}

/// A bus, as documents tell of it.
#[derive(Debug, Serialize)]
pub(crate) struct BusDocument {
    info: String,
    protocol: String,
    serializer: String,
    route: String,
}

impl BusDocument {
    /// Takes a connection string apart.
    pub(crate) fn new(info: &ConnectionString) -> Self {
        Self {
            info: info.to_string(),
            protocol: info.protocol().short(),
            serializer: info.serializer().short_name(),
            route: info.route().as_str().to_owned(),
        }
    }
}

/// An audit, as documents tell of it.
#[derive(Debug, Serialize)]
pub(crate) struct AuditDocument {
    balanced: bool,
    sent: i64,
    read: i64,
    delta: BTreeMap<String, i64>,
    remaining: Vec<String>,
}

impl AuditDocument {
    /// Takes an audit apart.
    pub(crate) fn new(audit: &Audit) -> Self {
        Self {
            balanced: audit.is_balanced(),
            sent: audit.sent(),
            read: audit.read(),
            delta: audit.delta().clone(),
            remaining: audit.remaining().iter().map(ToString::to_string).collect(),
        }
    }
}

/// An audit for a person.
pub(crate) fn audit_text(audit: &Audit) -> String {
    let mut text = String::new();
    if audit.is_balanced() {
        text.push_str(&format!("audit: {} sent, {} read, all accounted for\n", audit.sent(), audit.read()));
    } else {
        text.push_str(&format!("audit: {} sent, {} read, and this does not add up:\n", audit.sent(), audit.read()));
        for (pair, count) in audit.delta() {
            text.push_str(&format!("  {}  {count:+}\n", escaped(pair)));
        }
    }
    if !audit.remaining().is_empty() {
        let names: Vec<String> = audit.remaining().iter().map(|name| escaped(name.as_str())).collect();
        text.push_str(&format!("still on the bus: {}\n", names.join(", ")));
    }
    text
}

/// The exit status that an audit calls for.
pub(crate) fn audit_exit(audit: &Audit) -> u8 {
    if !audit.is_balanced() {
        exit_code::AUDIT
    } else if audit.remaining().is_empty() {
        exit_code::DONE
    } else {
        exit_code::TIMEOUT
    }
}
