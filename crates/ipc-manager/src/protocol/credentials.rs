// SPDX-License-Identifier: MIT OR Apache-2.0
//! As whom one comes to a store: who one is to the server that it is on, and with whom one shares it.

use std::fmt;

use super::Protocol;
use crate::error::{Error, ErrorKind, Result};
use crate::group::Group;
use crate::system::access::{self, Access};

/// User and password for stores on a server, and the group of users for stores that are files. They are never part of a
/// connection string, and passwords are never shown.
///
/// What is not set here is left to the database's own mechanisms: its environment variables and password files. Without a
/// group, stores are for one user.
///
/// ```
/// use ipc_manager::Credentials;
/// let credentials = Credentials::none().with_user("app").with_password("secret");
/// assert_eq!(credentials.user(), Some("app"));
/// assert!(!format!("{credentials:?}").contains("secret"));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    user: Option<String>,
    password: Option<String>,
    group: Option<Group>,
}

impl Credentials {
    /// Nothing of one's own: the database's own mechanisms decide.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Sets the user.
    #[must_use]
    pub fn with_user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// Sets the password.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Sets the group whose stores are to be made and joined, and no others.
    #[must_use]
    pub fn with_group(mut self, group: Group) -> Self {
        self.group = Some(group);
        self
    }

    /// The group, if one is set.
    ///
    /// ```
    /// use ipc_manager::{Credentials, Group};
    /// let group = Group::from_gid(1234)?;
    /// assert_eq!(Credentials::none().with_group(group).group(), Some(group));
    /// # Ok::<(), ipc_manager::Error>(())
    /// ```
    #[must_use]
    pub fn group(&self) -> Option<Group> {
        self.group
    }

    /// For whom stores are.
    ///
    /// # Errors
    /// [`Permission`](ErrorKind::Permission) for a group that this process is not in, and [`Usage`](ErrorKind::Usage) for
    /// one that is not for sharing.
    pub(crate) fn access(&self) -> Result<Access> {
        match self.group {
            None => Ok(Access::Private),
            Some(group) if access::is_own(group.gid()) => {
                let detail = format!("the group {group} is taken for this user's alone: share a bus with another one");
                Err(Error::new(ErrorKind::Usage, detail))
            }
            Some(group) if group.has_this_process() => Ok(Access::Group(group.gid())),
            Some(group) => Err(Error::new(ErrorKind::Permission, format!("this process is not in the group {group}"))),
        }
    }

    /// Refuses what a protocol does not take.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for a group where stores cannot be for one.
    pub(crate) fn check(&self, protocol: &dyn Protocol) -> Result<&Self> {
        let capabilities = protocol.capabilities();
        if self.group.is_none() || capabilities.groups {
            return Ok(self);
        }
        let detail = match () {
            () if capabilities.credentials => {
                "a bus on a server is for whoever may read its tables, which is for the server to say: no group can be named"
            }
            () if !capabilities.crosses_processes => "a bus within one process cannot be shared by a group",
            () => "this protocol knows no buses for a group",
        };
        Err(Error::new(ErrorKind::Unsupported, detail).in_protocol(&protocol.name().short()))
    }

    /// The user, if one is set.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The password, if one is set.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| "(hidden)");
        let mut shown = f.debug_struct("Credentials");
        shown.field("user", &self.user).field("password", &password).field("group", &self.group).finish()
    }
}
