// SPDX-License-Identifier: MIT OR Apache-2.0
//! Routes: where a bus is, in its protocol's own terms.

use std::fmt;

use crate::error::{Error, ErrorKind, Result, redacted};

/// Longest route accepted, in bytes: what a path may have on Linux.
const ROUTE_BYTES: usize = 4096;

/// Where a bus is. What the text means is the protocol's business: a directory, a file, a data source name.
///
/// The spelling is kept to the letter, since some protocols compute names on disk from its length.
///
/// ```
/// assert!(ipc_manager::Route::new("/tmp/bus").is_ok());
/// assert!(ipc_manager::Route::new("").is_err());
/// // A password has no place in a route: none with one can be used, and it is not shown.
/// let route = ipc_manager::Route::new("dbi:Pg:dbname=a;password=secret")?;
/// assert_eq!(route.to_string(), "dbi:Pg:dbname=a;password=***");
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route(Box<str>);

impl Route {
    /// Parses a route: not empty, no NUL, at most 4096 bytes.
    ///
    /// # Errors
    /// [`InvalidName`](ErrorKind::InvalidName), saying which rule is broken.
    pub fn new(route: &str) -> Result<Self> {
        let broken = match route {
            "" => "a route is required, and this one is empty",
            _ if route.contains('\0') => "a route cannot have a NUL in it",
            _ if route.len() > ROUTE_BYTES => "a route cannot be longer than 4096 bytes",
            _ => return Ok(Self(route.into())),
        };
        Err(Error::new(ErrorKind::InvalidName, broken))
    }

    /// The route as text, spelled as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted(&self.0))
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Route").field(&redacted(&self.0)).finish()
    }
}

impl AsRef<std::path::Path> for Route {
    fn as_ref(&self) -> &std::path::Path {
        (*self.0).as_ref()
    }
}
