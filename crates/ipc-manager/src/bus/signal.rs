// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals by name.

use std::fmt;

use crate::error::{Error, ErrorKind, Escaped, Result};

/// A signal that the owner of a bus sends to peers when it ends the bus.
///
/// ```
/// use ipc_manager::Signal;
/// assert_eq!(Signal::new("SIGTERM")?, Signal::TERM);
/// assert_eq!(Signal::new("usr1")?.to_string(), "USR1");
/// assert_eq!(Signal::new("15")?, Signal::TERM);
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

const NAMES: [(&str, i32); 12] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ABRT", libc::SIGABRT),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
];

impl Signal {
    /// Hang-up.
    pub const HUP: Self = Self(libc::SIGHUP);
    /// Interrupt, as from a terminal.
    pub const INT: Self = Self(libc::SIGINT);
    /// The end that cannot be caught.
    pub const KILL: Self = Self(libc::SIGKILL);
    /// The polite request to end.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// For the program's own use.
    pub const USR1: Self = Self(libc::SIGUSR1);
    /// For the program's own use.
    pub const USR2: Self = Self(libc::SIGUSR2);

    /// Parses a name with or without `SIG`, in any case, or a number.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage), naming the known ones.
    pub fn new(name: &str) -> Result<Self> {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("SIG").unwrap_or(&upper);
        let known = NAMES.iter().find(|(name, number)| *name == short || number.to_string() == short);
        known.map(|(_, number)| Self(*number)).ok_or_else(|| {
            let known: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
            let detail = format!("\"{}\" is no signal; known are {}", Escaped(name), known.join(", "));
            Error::new(ErrorKind::Usage, detail)
        })
    }

    /// The number on this platform.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl std::str::FromStr for Signal {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}
