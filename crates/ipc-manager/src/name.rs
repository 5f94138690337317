// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of peers: parsed once, so that an invalid one cannot be built.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::limits::PEER_NAME_BYTES;

/// What ends the name of a file that belongs to a peer. A name that ends so would be taken for such a file.
const SIDECAR_SUFFIXES: [&str; 8] = [".pid", ".name", ".resume", ".stats", ".suspend", ".pend", ".ready", ".bad"];

/// The name of a peer on a bus.
///
/// There are two ways to get one. [`PeerName::new`] takes only names that every protocol and both implementations
/// handle alike; it is what a client connects under. [`PeerName::foreign`] takes every name that a peer may have been
/// given elsewhere; it is what one sends to.
///
/// ```
/// use ipc_manager::PeerName;
/// let name = PeerName::new("worker-1")?;
/// assert_eq!(name.as_str(), "worker-1");
/// for bad in ["", ".", "..", "0", "_hidden", ".x", "a\nb", "x.pid", "\u{1F511}"] {
///     assert!(PeerName::new(bad).is_err(), "{bad:?}");
/// }
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName(Arc<str>);

impl PeerName {
    /// Parses a name to connect under: 1 to 512 printable ASCII characters, no blank at either end, not beginning
    /// with `.` or `_`, not `0`, not ending like a file that belongs to a peer (`.pid`, `.ready` and so on).
    ///
    /// # Errors
    /// [`InvalidName`](ErrorKind::InvalidName), saying which rule is broken.
    pub fn new(name: &str) -> Result<Self> {
        let name = Self::foreign(name)?;
        let text = name.as_str();
        let broken = if text.len() > PEER_NAME_BYTES {
            format!("it has {} bytes, and the limit is {PEER_NAME_BYTES}", text.len())
        } else if let Some(c) = text.chars().find(|c| !matches!(c, ' '..='~')) {
            format!("{c:?} is not a printable ASCII character")
        } else if text.starts_with(' ') || text.ends_with(' ') {
            "it begins or ends with a blank".into()
        } else if text.starts_with('.') {
            "it begins with a dot".into()
        } else if text == "0" {
            "a peer called 0 cannot be addressed by the reference implementation".into()
        } else if let Some(suffix) = SIDECAR_SUFFIXES.iter().find(|suffix| text.ends_with(**suffix)) {
            format!("it ends in {suffix}, as a file that belongs to a peer does")
        } else {
            return Ok(name);
        };
        Err(refused(text, &broken))
    }

    /// Parses a name that a peer may have been given by another implementation. Refused are only names that no
    /// protocol can hold: empty, `.`, `..`, beginning with `_`, with a NUL, or over 64 KiB.
    ///
    /// # Errors
    /// [`InvalidName`](ErrorKind::InvalidName), saying which rule is broken.
    pub fn foreign(name: &str) -> Result<Self> {
        let broken = match name {
            "" => "it is empty",
            "." | ".." => "it means a directory",
            _ if name.starts_with('_') => "it begins with an underscore",
            _ if name.contains('\0') => "it has a NUL in it",
            _ if name.len() > 64 << 10 => "it is longer than 64 KiB",
            _ => return Ok(Self(name.into())),
        };
        Err(refused(name, broken))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn refused(name: &str, broken: &str) -> Error {
    Error::new(ErrorKind::InvalidName, format!("\"{}\" cannot be a peer's name: {broken}", Escaped(name)))
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for PeerName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for PeerName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for PeerName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

impl PartialEq<str> for PeerName {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for PeerName {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_to_connect_under() {
        for good in ["a", "spawn", "with/slash", "back\\slash", "h-x", "a b", "x.y", "00", "~", &"n".repeat(512)] {
            assert!(PeerName::new(good).is_ok(), "{good}");
        }
        let long = "n".repeat(10_000);
        let bad = [
            "", ".", "..", "0", "_x", ".x", "a\0b", "a\nb", "a\u{7f}b", " a", "a ", "\u{e9}", "x.pid", "x.ready",
            "x.pend", "x.bad", &long,
        ];
        for bad in bad {
            let error = PeerName::new(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidName);
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }

    #[test]
    fn names_met_from_others() {
        for good in ["0", ".x", "x.pid", "a\nb", "\u{e9}", &"n".repeat(10_000)] {
            assert!(PeerName::foreign(good).is_ok(), "{good:?}");
        }
        for bad in ["", ".", "..", "_x", "a\0"] {
            assert!(PeerName::foreign(bad).is_err(), "{bad:?}");
        }
    }
}
