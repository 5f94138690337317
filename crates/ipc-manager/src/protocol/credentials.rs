// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who one is to the server that a store is on.

use std::fmt;

/// User and password for stores on a server. They are never part of a connection string, and never shown.
///
/// What is not set here is left to the database's own mechanisms: its environment variables and password files.
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
        f.debug_struct("Credentials").field("user", &self.user).field("password", &password).finish()
    }
}
