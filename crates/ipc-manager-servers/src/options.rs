// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a caller can choose.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// How a server is started.
///
/// ```
/// use std::time::Duration;
/// use ipc_manager_servers::{Engine, Options, PrivateServer};
/// let options = Options::new().database("orders").timeout(Duration::from_secs(20)).setting("max_connections", "50");
/// assert!(PrivateServer::start(Engine::MariaDb, &options.setting("not a setting", "1")).is_err());
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) database: String,
    pub(crate) timeout: Duration,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) parent: Option<PathBuf>,
}

impl Options {
    /// A database `quickdb`, a minute of time, a directory in `TMPDIR` or `/tmp`, and the engine's settings as they are.
    #[must_use]
    pub fn new() -> Self {
        Self { database: "quickdb".into(), timeout: Duration::from_secs(60), settings: Vec::new(), parent: None }
    }

    /// The name of the database to make: lower-case ASCII letters, digits and `_`, at most 63 of them.
    #[must_use]
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.database = name.into();
        self
    }

    /// How long the start may take, with all that belongs to it.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// A setting of the engine, such as `max_connections` or `max_allowed_packet`. Later ones win, also over what this
    /// crate sets itself.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// The folder to make the server's directory in, and no other.
    #[must_use]
    pub fn within(mut self, parent: impl AsRef<Path>) -> Self {
        self.parent = Some(parent.as_ref().to_owned());
        self
    }

    /// Checks what ends up in a statement or on a command line.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Error::new(ErrorKind::Usage, "use these options", what));
        let name = &self.database;
        let is_plain = |name: &str| name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_');
        if name.is_empty() || name.len() > 63 || !is_plain(name) || name.as_bytes()[0].is_ascii_digit() {
            return refuse(format!("{name:?} is not a plain name for a database"));
        }
        match self.settings.iter().find(|(name, _)| name.is_empty() || !is_plain(name)) {
            Some((name, _)) => refuse(format!("{name:?} is not the name of a setting")),
            None => Ok(()),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
