// SPDX-License-Identifier: MIT OR Apache-2.0
//! Services that a service starts: on its own bus unless told otherwise, and asked over its own client.

use super::exec::Exec;
use super::started::Started;
use crate::error::{Error, ErrorKind, Result};
use crate::name::PeerName;
use crate::service::builder::ServiceBuilder;
use crate::service::handle::Handle;
use crate::service::peer::Peer;
use crate::service::service::Service;

impl Service {
    /// Starts a service on this one's bus, in a fresh program, and waits until it is there.
    ///
    /// # Errors
    /// As [`Exec::spawn`]; [`Usage`](ErrorKind::Usage) if it was given a bus: that is asked with a handle.
    pub fn start_exec(&mut self, mut exec: Exec) -> Result<Peer<'_>> {
        let start = |service: &mut Self| {
            exec.check()?;
            let handle = service.settle_nested(exec.builder())?;
            exec.start(handle)
        };
        let handle = start(self).map_err(|error: Error| error.during("start_exec"))?;
        self.keep(handle)
    }

    /// Starts a service on this one's bus, in a thread of this process, and waits until it is there.
    ///
    /// # Errors
    /// As [`ServiceBuilder::spawn_thread`]; [`Usage`](ErrorKind::Usage) if it was given a bus.
    pub fn start_thread(&mut self, mut builder: ServiceBuilder) -> Result<Peer<'_>> {
        let start = |service: &mut Self| {
            let handle = service.settle_nested(&mut builder)?;
            builder.check()?;
            builder.start_in_thread(handle)
        };
        let handle = start(self).map_err(|error: Error| error.during("start_thread"))?;
        self.keep(handle)
    }

    /// Starts a service on this one's bus, in a forked copy of this process, and waits until it is there. In the copy
    /// it takes the place of this service.
    ///
    /// # Errors
    /// As [`ServiceBuilder::fork`]; [`Usage`](ErrorKind::Usage) if it was given a bus.
    ///
    /// # Safety
    /// As [`ServiceBuilder::fork`].
    pub unsafe fn start_fork(&mut self, mut builder: ServiceBuilder) -> Result<Peer<'_>> {
        let start = |service: &mut Self| {
            let handle = service.settle_nested(&mut builder)?;
            builder.check()?;
            // SAFETY: the caller's promise.
            unsafe { builder.start_in_fork(handle) }
        };
        let handle = start(self).map_err(|error: Error| error.during("start_fork"))?;
        self.keep(handle)
    }

    /// Puts a service on this one's bus.
    fn settle_nested(&self, builder: &mut ServiceBuilder) -> Result<Handle> {
        if builder.info.is_some() || builder.new_bus.is_some() {
            let detail =
                "a nested service is on the bus of the one that starts it; one on another bus is asked with a handle";
            return Err(Error::new(ErrorKind::Usage, detail));
        }
        builder.info = Some(self.info().clone());
        builder.registry = self.registry.clone();
        builder.settle_bus()
    }

    fn keep(&mut self, mut handle: Handle) -> Result<Peer<'_>> {
        let name: PeerName = handle.service_name().clone();
        if let Some(pid) = handle.child_pid() {
            self.nested.insert(name.clone(), pid);
            self.workers.add_nested(pid);
            // Reaped by the service from here on.
            handle.started = Started::Elsewhere;
        }
        self.peer(name.as_str())
    }
}
