// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who owns a store.

use std::fmt;

/// Ownership of a store; given up when dropped.
pub struct Hold(
    #[allow(dead_code, reason = "what matters is when it is dropped")] Option<Box<dyn std::any::Any + Send>>,
);

impl Hold {
    /// Keeps something alive for as long as the store is owned.
    #[must_use]
    pub fn new(kept: impl std::any::Any + Send) -> Self {
        Self(Some(Box::new(kept)))
    }

    /// For stores that need no record of their owner.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hold")
    }
}
