// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an event loop above the client needs: descriptors for what it wants, and peers that stay watched.

use super::Client;
use crate::error::Result;
use crate::protocol::{Wake, Wanted};

impl Client {
    /// What to poll for what is wanted. As with [`wake`](Client::wake), what is asked for must be looked at afterwards.
    pub(crate) fn wake_for(&self, wanted: Wanted) -> Result<Wake<'_>> {
        self.check("wake")?;
        Ok(self.wake_with_returns(wanted))
    }

    /// Has peers that come and go tell of it until told otherwise, across waits.
    pub(crate) fn keep_watching_peers(&mut self, on: bool) {
        if self.is_connected && self.keeps_watching != on {
            self.connection.directory().watch_peers(on);
        }
        self.keeps_watching = on;
    }

    pub(super) fn begin_to_watch(&mut self) {
        if !self.keeps_watching {
            self.connection.directory().watch_peers(true);
        }
    }

    pub(super) fn end_to_watch(&mut self) {
        if !self.keeps_watching {
            self.connection.directory().watch_peers(false);
        }
    }
}
