// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service in a forked copy of this process.

use std::io;

use super::ready::{self, Ready};
use super::started::{Child, Started};
use super::{exit_status, leave_process};
use crate::error::{Error, ErrorKind, Result};
use crate::service::builder::ServiceBuilder;
use crate::service::handle::Handle;
use crate::service::workers::refuse_threads;
use crate::system::process::{self, Forked};
use crate::system::{children, signals, title};

impl ServiceBuilder {
    /// Starts the service in a forked copy of this process, and waits until it is on its bus. Returns in this process
    /// only: the copy is the service, is called after it where processes are listed, and ends with it. Without a bus of
    /// the caller's it gets a new one, which ends with the handle.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) if more than one thread runs; as [`run`](ServiceBuilder::run) for what
    /// goes wrong before the service is on its bus; [`Timeout`](ErrorKind::Timeout) if it is not in time;
    /// [`ServiceError`](ErrorKind::ServiceError) if a hook fails, or the process ends before.
    ///
    /// # Safety
    /// It forks. No other thread may run, and the service has a copy of all that this process holds: open files, and
    /// buffers not yet flushed. Clients and buses of this process do nothing in it.
    pub unsafe fn fork(mut self) -> Result<Handle> {
        let mut prepare = || {
            self.check()?;
            self.settle_bus()
        };
        let handle = prepare().map_err(|error: Error| error.during("fork"))?;
        // SAFETY: the caller's promise.
        unsafe { self.start_in_fork(handle) }.map_err(|error| error.during("fork"))
    }

    /// # Safety
    /// As [`fork`](ServiceBuilder::fork).
    pub(super) unsafe fn start_in_fork(mut self, mut handle: Handle) -> Result<Handle> {
        refuse_threads("fork")?;
        let failed = |error| Error::system(error, "the process of the service cannot be made");
        if let Some(hook) = self.launch.pre_fork.take() {
            hook().map_err(|source| {
                Error::new(ErrorKind::ServiceError, "the hook before the fork failed").with_source(source)
            })?;
        }
        self.watch_starter();
        let (pipe, writer) = io::pipe().map_err(failed)?;
        let (timeout, waits) = (self.settings.timeout, !self.launch.without_waiting);
        // SAFETY: one thread runs, as was just checked.
        match unsafe { process::fork() }.map_err(failed)? {
            Forked::Child => {
                drop(pipe);
                self.become_the_service(writer)
            }
            Forked::Parent(pid) => {
                drop(writer);
                handle.started = Started::Process(Child::new(pid));
                if waits && let Err(error) = ready::wait_for(&mut handle, pipe, timeout) {
                    handle.started.kill();
                    return Err(error);
                }
                Ok(handle)
            }
        }
    }

    /// In the child.
    fn become_the_service(mut self, writer: io::PipeWriter) -> ! {
        let (name, at_once) = (self.settings.name.clone(), self.settings.posix_exit);
        let starter = self.settings.watch_pids.last().copied();
        signals::forget_in_child();
        let ready = Ready::Pipe(writer.into());
        let bound = match starter {
            Some(starter) if !self.settings.outlives_starter => children::bind_forked_child_to(starter),
            _ => Ok(()),
        };
        let prepared = bound.map_err(|error| Error::system(error, "the process cannot be bound to its starter"));
        let prepared = prepared.and_then(|()| match self.launch.post_fork.take() {
            Some(hook) => hook().map_err(|source| {
                Error::new(ErrorKind::ServiceError, "the hook after the fork failed").with_source(source)
            }),
            None => Ok(()),
        });
        // Whoever returned from the hook is the service.
        title::append(&name);
        let ran = match prepared {
            Ok(()) => self.run_and_tell(ready),
            Err(error) => {
                ready.tell(Err(&error));
                Err(error)
            }
        };
        leave_process(exit_status(&name, &ran), at_once)
    }
}
