// SPDX-License-Identifier: MIT OR Apache-2.0
//! Having something done in a service, from another thread.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Service, ServiceResult};
use crate::error::{Error, ErrorKind, Result};
use crate::system::bell::Bell;

pub(super) type Call = Box<dyn FnOnce(&mut Service) -> ServiceResult + Send>;

/// What other threads want done, and the bell that wakes the service for it.
pub(super) struct RemoteCalls {
    calls: Mutex<Vec<Call>>,
    bell: Bell,
    /// Whether the bell rings: a look at this costs no system call.
    has_rung: AtomicBool,
    has_ended: AtomicBool,
}

impl RemoteCalls {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { calls: Mutex::default(), bell: Bell::new()?, has_rung: false.into(), has_ended: false.into() })
    }

    pub(super) fn take(&self) -> Vec<Call> {
        // In this order: what is added in between rings again.
        if !self.has_rung.swap(false, Ordering::SeqCst) {
            return Vec::new();
        }
        self.bell.clear();
        std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.bell.descriptor()
    }

    /// Nothing is taken any more. What waits is dropped.
    pub(super) fn end(&self) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_ended.store(true, Ordering::SeqCst);
        calls.clear();
    }
}

/// A way for other threads to have something done in a service: to answer later, above all.
///
/// ```
/// use ipc_manager::{Reply, Service, Spawn};
/// let bus = Spawn::builder().protocol("LocalMemory").spawn()?;
/// let mut slow = Service::builder("slow")
///     .bus(bus.info())
///     .on_request(|service, request| {
///         let (remote, ticket, number) = (service.remote(), request.ticket(), request.parse::<u64>()?);
///         std::thread::spawn(move || {
///             let answer = (1..=number).product::<u64>();
///             remote.call(move |service| Ok(service.respond(&ticket, &answer)?))
///         });
///         Ok(Reply::Later)
///     })
///     .spawn_thread()?;
/// assert_eq!(slow.request("slow", &5)?, 120);
/// slow.terminate()?;
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Clone)]
pub struct Remote(Arc<RemoteCalls>);

impl Remote {
    pub(super) fn new(calls: &Arc<RemoteCalls>) -> Self {
        Self(Arc::clone(calls))
    }

    /// Has the service call this, on its own thread, as it would any callback.
    ///
    /// # Errors
    /// [`Disconnected`](ErrorKind::Disconnected) if the service has ended.
    pub fn call(&self, call: impl FnOnce(&mut Service) -> ServiceResult + Send + 'static) -> Result<()> {
        let mut calls = self.0.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.has_ended.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Disconnected, "the service has ended").during("call"));
        }
        calls.push(Box::new(call));
        drop(calls);
        self.0.bell.ring();
        self.0.has_rung.store(true, Ordering::SeqCst);
        Ok(())
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}
