// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong: what kind, doing what, where.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::Missing;

/// The result of every fallible call of this crate.
///
/// ```
/// use ipc_manager_servers::Result;
/// fn nothing() -> Result<()> {
///     Ok(())
/// }
/// assert!(nothing().is_ok());
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, named by what a caller can do about it.
///
/// ```
/// use ipc_manager_servers::{Engine, ErrorKind, Options, PrivateServer};
/// let refused = PrivateServer::start(Engine::PostgreSQL, &Options::new().database("no such; name"));
/// assert_eq!(refused.unwrap_err().kind(), ErrorKind::Usage);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A program is not on this machine; which one is in [`Error::missing`].
    Missing,
    /// An option has an impossible value.
    Usage,
    /// There is no place for the directory: none that the server's account can reach, or only with a path that is too
    /// long for a socket.
    NoPlace,
    /// There is no account that the server could run as instead of root.
    NoAccount,
    /// One of the server's programs failed; what it said is in the message.
    Failed,
    /// It was not ready in time.
    Timeout,
    /// The operating system refused; its words are the source.
    System,
}

/// What went wrong, doing what, and where.
///
/// `Display` is one sentence; the cause, if there is one, is in [`source`](StdError::source) and not repeated.
///
/// ```
/// use ipc_manager_servers::{Engine, ErrorKind, Options, PrivateServer};
/// let options = Options::new().database("no such; name");
/// if let Err(error) = PrivateServer::start(Engine::MySql, &options) {
///     assert!([ErrorKind::Usage, ErrorKind::Missing].contains(&error.kind()));
/// }
/// ```
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    place: Option<PathBuf>,
    detail: String,
    missing: Option<Missing>,
    source: Option<io::Error>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, operation: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self(Box::new(Inner { kind, operation, place: None, detail, missing: None, source: None }))
    }

    /// A refusal of the operating system.
    pub(crate) fn system(operation: &'static str, source: impl Into<io::Error>) -> Self {
        let mut error = Self::new(ErrorKind::System, operation, "the system refused");
        error.0.source = Some(source.into());
        error
    }

    pub(crate) fn at(mut self, place: &Path) -> Self {
        self.0.place = Some(place.to_owned());
        self
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What was being done, such as `start the server`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The file or directory concerned, if it was about one.
    #[must_use]
    pub fn place(&self) -> Option<&Path> {
        self.0.place.as_deref()
    }

    /// Which programs are missing, if that is what is wrong.
    #[must_use]
    pub fn missing(&self) -> Option<&Missing> {
        self.0.missing.as_ref()
    }
}

impl From<Missing> for Error {
    fn from(missing: Missing) -> Self {
        let mut error = Self::new(ErrorKind::Missing, "find the server's programs", missing.to_string());
        error.0.missing = Some(missing);
        error
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.0.operation)?;
        if let Some(place) = &self.0.place {
            write!(f, " ({})", place.display())?;
        }
        write!(f, ": {}", self.0.detail)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| source as _)
    }
}
