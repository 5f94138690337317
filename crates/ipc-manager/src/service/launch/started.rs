// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was started for a handle, and how it ended.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitStatus;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;

use crate::error::{Error, ErrorKind, Result};
use crate::service::handle::Handle;
use crate::system::{Deadline, children, poll};

/// How long a service is waited for whose bus has ended.
const LAST_WAIT: Duration = Duration::from_secs(10);
/// How often to look whether it has ended where no descriptor tells.
const LOOK: Duration = Duration::from_millis(50);

/// How a service ended.
///
/// ```
/// use ipc_manager::{Ended, Service};
/// let builder = Service::builder("short").on_activity(|_, _| Ok(())).on_start(|service| {
///     service.terminate(3);
///     Ok(())
/// });
/// let mut handle = builder.spawn_thread()?;
/// assert!(matches!(handle.wait(None), Some(Ended::Returned(3))));
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Ended {
    /// It ran in a thread, and was terminated with this value.
    Returned(i32),
    /// It ran in a thread, and failed or panicked.
    Failed(Error),
    /// Its process ended.
    Exited(ExitStatus),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Returned(value) => write!(f, "it was terminated with {value}"),
            Self::Failed(error) => error.fmt(f),
            Self::Exited(status) => status.fmt(f),
        }
    }
}

/// What was started.
#[derive(Debug)]
pub(in crate::service) enum Started {
    /// Nothing: the service is somebody else's.
    Elsewhere,
    Thread(Option<JoinHandle<Result<i32>>>),
    Process(Child),
}

/// A process that was started, reaped here and nowhere else.
#[derive(Debug)]
pub(in crate::service) struct Child {
    pid: u32,
    end: Option<OwnedFd>,
    status: Option<ExitStatus>,
}

impl Child {
    pub(super) fn new(pid: u32) -> Self {
        Self { pid, end: children::end_of(pid), status: None }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, waiting for that so long at most.
    fn end_within(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let deadline = Deadline::after(timeout);
        loop {
            if self.status.is_none() {
                match children::reap_if_ended(self.pid) {
                    Ok(status) => self.status = status,
                    // Somebody else reaped it, and knows.
                    Err(_) => return None,
                }
            }
            if self.status.is_some() || deadline.has_passed() {
                return self.status;
            }
            let end: Vec<_> = self.end.as_ref().map(AsFd::as_fd).into_iter().collect();
            let most = if end.is_empty() { LOOK } else { timeout };
            poll::readable(&end, deadline.left(most)).ok()?;
        }
    }

    /// Kills what did not come to be what it was started for.
    fn kill(&mut self) {
        if self.end_within(Duration::ZERO).is_none() {
            // Not reaped, so the number is still its own.
            children::signal_child(self.pid, Signal::KILL);
            self.end_within(LAST_WAIT);
        }
    }
}

impl Started {
    pub(in crate::service) fn pid(&self) -> Option<u32> {
        match self {
            Self::Process(child) => Some(child.pid),
            Self::Elsewhere | Self::Thread(_) => None,
        }
    }

    pub(super) fn end_within(&mut self, timeout: Duration) -> Option<Ended> {
        match self {
            Self::Elsewhere => None,
            Self::Process(child) => child.end_within(timeout).map(Ended::Exited),
            Self::Thread(thread) => {
                let deadline = Deadline::after(timeout);
                while !thread.as_ref()?.is_finished() {
                    if deadline.has_passed() {
                        return None;
                    }
                    // A thread has no descriptor that tells of its end.
                    poll::readable(&[], deadline.left(LOOK)).ok()?;
                }
                Some(match thread.take()?.join() {
                    Ok(Ok(value)) => Ended::Returned(value),
                    Ok(Err(error)) => Ended::Failed(error),
                    Err(_) => Ended::Failed(Error::new(ErrorKind::ServiceError, "the service panicked")),
                })
            }
        }
    }

    pub(super) fn kill(&mut self) {
        if let Self::Process(child) = self {
            child.kill();
        }
    }

    /// Takes leave of what was started. Where its bus has ended it ends, too, and is waited for.
    pub(in crate::service) fn finish(&mut self, bus_has_ended: bool) {
        let timeout = if bus_has_ended { LAST_WAIT } else { Duration::ZERO };
        if let (None, true, Some(pid)) = (self.end_within(timeout), bus_has_ended, self.pid()) {
            log::warn!("the process {pid} goes on after its bus has ended");
        }
    }
}

impl Handle {
    /// Waits until what was started for the service has ended, so long at most; without end for `None`. `None` if it
    /// has not, if nothing was started, and when it was told once where it ran in a thread.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Option<Ended> {
        self.started.end_within(timeout.unwrap_or(Duration::MAX))
    }
}
