// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service in a thread of this process.

use std::sync::mpsc::{self, RecvTimeoutError};

use super::Started;
use super::ready::Ready;
use crate::error::{Error, ErrorKind, Result};
use crate::service::builder::ServiceBuilder;
use crate::service::handle::Handle;

impl ServiceBuilder {
    /// Starts the service in a new thread of this process, and waits until it is on its bus. Without a bus of the
    /// caller's it gets a new one, which ends with the handle.
    ///
    /// # Errors
    /// As [`run`](ServiceBuilder::run) for what goes wrong before the service is on its bus;
    /// [`Timeout`](ErrorKind::Timeout) if it is not in time.
    pub fn spawn_thread(mut self) -> Result<Handle> {
        let mut start = || {
            self.check()?;
            self.settle_bus()
        };
        let handle = start().map_err(|error: Error| error.during("spawn_thread"))?;
        self.start_in_thread(handle).map_err(|error| error.during("spawn_thread"))
    }

    pub(super) fn start_in_thread(self, mut handle: Handle) -> Result<Handle> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let (timeout, waits) = (self.settings.timeout, !self.launch.without_waiting);
        let thread = std::thread::Builder::new().name(self.settings.name.clone());
        let thread = thread
            .spawn(move || self.run_and_tell(Ready::Thread(sender)))
            .map_err(|error| Error::system(error, "the thread of the service cannot be made"))?;
        handle.started = Started::Thread(Some(thread));
        if !waits {
            return Ok(handle);
        }
        match receiver.recv_timeout(timeout) {
            Ok(Ok(())) => Ok(handle),
            Ok(Err(word)) => word.into_result().map(|()| handle),
            Err(RecvTimeoutError::Timeout) => {
                let detail = format!("the service was not on its bus within {timeout:?}");
                Err(Error::new(ErrorKind::Timeout, detail))
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(Error::new(ErrorKind::ServiceError, "the service panicked before it was on its bus"))
            }
        }
    }
}
