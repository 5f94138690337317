// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where an error happened.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where an error happened: as much of it as is known.
///
/// ```
/// let place = ipc_manager::Place::default();
/// assert!(place.peer().is_none());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    pub(super) protocol: Option<String>,
    pub(super) route: Option<String>,
    pub(super) peer: Option<String>,
    pub(super) message_id: Option<String>,
    pub(super) path: Option<PathBuf>,
    pub(super) offset: Option<usize>,
    pub(super) table: Option<String>,
}

impl Place {
    /// The protocol's short name.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// The route of the bus.
    #[must_use]
    pub fn route(&self) -> Option<&str> {
        self.route.as_deref()
    }

    /// The peer that it was about.
    #[must_use]
    pub fn peer(&self) -> Option<&str> {
        self.peer.as_deref()
    }

    /// The message that it was about.
    #[must_use]
    pub fn message_id(&self) -> Option<&str> {
        self.message_id.as_deref()
    }

    /// The file that it was about.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The table of a database that it was about; the row is that of the message or peer.
    #[must_use]
    pub fn table(&self) -> Option<&str> {
        self.table.as_deref()
    }

    /// Byte offset into the text, file or payload.
    #[must_use]
    pub fn offset(&self) -> Option<usize> {
        self.offset
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut part = |f: &mut fmt::Formatter<'_>, name: &str, value: &dyn fmt::Display| {
            let written = write!(f, "{separator}{name} {value}");
            separator = ", ";
            written
        };
        if let Some(protocol) = &self.protocol {
            part(f, "protocol", protocol)?;
        }
        // A path lies within the route, so it says both.
        match (&self.path, &self.route) {
            (Some(path), _) => part(f, "path", &Escaped(&path.to_string_lossy()))?,
            (None, Some(route)) => part(f, "route", &Escaped(route))?,
            (None, None) => {}
        }
        if let Some(table) = &self.table {
            part(f, "table", table)?;
        }
        if let Some(peer) = &self.peer {
            part(f, "peer", &Escaped(peer))?;
        }
        if let Some(id) = &self.message_id {
            part(f, "message", &Escaped(id))?;
        }
        if let Some(offset) = self.offset {
            part(f, "byte", &offset)?;
        }
        Ok(())
    }
}

/// Shows text of unknown origin on one line, cut to a readable length, with control characters escaped.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 200;
        for (count, c) in self.0.chars().enumerate() {
            if count == SHOWN {
                return f.write_str("...");
            }
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        Ok(())
    }
}
