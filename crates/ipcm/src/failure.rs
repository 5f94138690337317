// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a command ends without having done its work, and how that is told.

use std::error::Error as StdError;
use std::io;

use ipc_manager::{Error, ErrorKind};
use serde_json::json;

use crate::escape::escaped;
use crate::exit_code;

/// What a command ends with: its exit status, or a failure.
pub(crate) type Outcome<T = u8> = Result<T, Failure>;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody reads the output any more: a clean end.
    OutputClosed,
    /// Something that the user must be told.
    Told(Box<Report>),
}

/// What the user is told, and the exit status that goes with it.
#[derive(Debug)]
pub(crate) struct Report {
    code: &'static str,
    exit: u8,
    /// The error, then what caused it, and so on.
    chain: Vec<String>,
    hint: Option<String>,
    bus: Option<String>,
    peer: Option<String>,
}

impl Failure {
    /// A mistake on the command line, or in what was given to send.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::told("usage", exit_code::USAGE, message)
    }

    /// A failure with a code and an exit status of its own.
    pub(crate) fn told(code: &'static str, exit: u8, message: impl Into<String>) -> Self {
        let chain = vec![message.into()];
        Self::Told(Box::new(Report { code, exit, chain, hint: None, bus: None, peer: None }))
    }

    /// A failure of the system outside the bus: a file, a process, the output.
    pub(crate) fn io(what: impl Into<String>, error: &io::Error) -> Self {
        let code = if error.kind() == io::ErrorKind::PermissionDenied { "permission" } else { "store" };
        let mut failure = Self::told(code, exit_code::FAILURE, what);
        if let Self::Told(report) = &mut failure {
            report.chain.push(error.to_string());
        }
        failure
    }

    /// Adds, or replaces, what the user can do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Told(report) = &mut self {
            report.hint = Some(hint.into());
        }
        self
    }

    /// Replaces the exit status, where the place of the mistake says more than its kind.
    pub(crate) fn exit(mut self, exit: u8) -> Self {
        if let Self::Told(report) = &mut self {
            report.exit = exit;
        }
        self
    }

    /// Puts a sentence in front that says what was being done.
    pub(crate) fn during(mut self, what: impl Into<String>) -> Self {
        if let Self::Told(report) = &mut self {
            report.chain.insert(0, what.into());
        }
        self
    }

    /// Says which bus it was about, unless that is known.
    pub(crate) fn on_bus(mut self, bus: Option<&str>) -> Self {
        if let Self::Told(report) = &mut self
            && report.bus.is_none()
        {
            report.bus = bus.map(str::to_owned);
        }
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Told(Box::new(Report {
            code: error.code(),
            exit: exit_code::of(error.kind()),
            chain: chain(&error),
            hint: hint(&error).map(str::to_owned),
            bus: None,
            peer: error.place().peer().map(str::to_owned),
        }))
    }
}

/// The sentences of an error and of its causes.
pub(crate) fn chain(error: &Error) -> Vec<String> {
    let mut chain = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        chain.push(error.to_string());
        cause = error.source();
    }
    chain
}

/// What the user can do about an error.
fn hint(error: &Error) -> Option<&'static str> {
    Some(match error.kind() {
        ErrorKind::NoSuchBus => "`ipcm spawn` makes a bus; is --bus, --bus-file or IPCM_BUS that of one that ended?",
        ErrorKind::InvalidInfo => "a bus is the line that `ipcm spawn` prints, or short as in messagefiles:/tmp/bus",
        ErrorKind::NoSuchPeer => "`ipcm peers` lists who is there; --timeout 5s waits for a peer to come",
        // Otherwise it is the route that somebody else has.
        ErrorKind::NameInUse if error.place().peer().is_some() => {
            "choose another name with --name, or end the process that holds this one"
        }
        ErrorKind::UnknownProtocol | ErrorKind::NotViable => "`ipcm protocols` lists what works here",
        ErrorKind::WouldBlock => "the mailbox is full; --timeout 5s waits for room",
        ErrorKind::Permission => "a bus belongs to the user who made it",
        _ => return None,
    })
}

impl Report {
    /// The exit status.
    pub(crate) fn exit_status(&self) -> u8 {
        self.exit
    }

    /// The lines for a person. `strong` puts colour around the word that leads.
    pub(crate) fn text(&self, strong: impl Fn(&str) -> String) -> String {
        let mut text = format!("{} {}\n", strong("ipcm:"), escaped(self.chain.first().map_or("", String::as_str)));
        for cause in self.chain.iter().skip(1) {
            text.push_str(&format!("  because: {}\n", escaped(cause)));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("  hint: {}\n", escaped(hint)));
        }
        text
    }

    /// The one document for a program.
    pub(crate) fn json(&self) -> serde_json::Value {
        let mut error = json!({
            "code": self.code, "message": self.chain.join(": "), "bus": self.bus, "peer": self.peer,
        });
        if let (Some(hint), Some(table)) = (&self.hint, error.as_object_mut()) {
            table.insert("hint".into(), hint.clone().into());
        }
        json!({ "error": error })
    }
}
