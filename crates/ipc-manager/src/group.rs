// SPDX-License-Identifier: MIT OR Apache-2.0
//! A group of users that shares a bus.

use std::fmt;

use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::system::access;

/// A group of users of the system.
///
/// ```
/// use ipc_manager::Group;
/// let group = Group::new("1234")?;
/// assert_eq!((group, group.gid()), (Group::from_gid(1234)?, 1234));
/// assert_eq!(Group::new("no such group, ever").unwrap_err().kind(), ipc_manager::ErrorKind::Usage);
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Group(u32);

impl Group {
    /// Finds a group by its name, or takes its number.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if there is no group of that name, or if it is a number that none can have; and what the
    /// system says of a list of groups that cannot be read.
    pub fn new(name: &str) -> Result<Self> {
        if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
            return name.parse().map_err(|_| no_group(name)).and_then(Self::from_gid);
        }
        // No name has a zero in it.
        let found = if name.contains('\0') { Ok(None) } else { access::group_named(name) };
        let found = found.map_err(|error| Error::system(error, "the groups of the system cannot be looked up"))?;
        found.map_or_else(|| Err(no_group(name)), Self::from_gid)
    }

    /// Takes the number of a group.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) for the one number that stands for none.
    pub fn from_gid(gid: u32) -> Result<Self> {
        if gid == u32::MAX { Err(no_group(&gid.to_string())) } else { Ok(Self(gid)) }
    }

    /// Its number.
    #[must_use]
    pub fn gid(self) -> u32 {
        self.0
    }

    /// Whether this process is in it; root may do as if it were.
    ///
    /// ```
    /// assert!(ipc_manager::Group::from_gid(rustix::process::getegid().as_raw())?.has_this_process());
    /// # Ok::<(), ipc_manager::Error>(())
    /// ```
    #[must_use]
    pub fn has_this_process(self) -> bool {
        access::is_member(self.0)
    }
}

fn no_group(name: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("there is no group \"{}\"", Escaped(name)))
}

impl fmt::Display for Group {
    /// Its number, which [`Group::new`] takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
