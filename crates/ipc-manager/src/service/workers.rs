// SPDX-License-Identifier: MIT OR Apache-2.0
//! The processes that a service started: workers, and services nested in it. They are reaped by their own pids, so that
//! no other child of the program is taken from whoever waits for it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::Service;
use crate::error::{Error, ErrorKind, Result};
use crate::system::process::{self, Forked};
use crate::system::{Deadline, children, poll, signals, title};

/// How often to look whether a process has ended where no descriptor tells.
const LOOK: Duration = Duration::from_millis(50);

/// The processes that a service started.
#[derive(Debug, Default)]
pub(super) struct Workers {
    started: BTreeMap<u32, Process>,
}

#[derive(Debug)]
struct Process {
    /// `None` for a nested service, which is no worker.
    worker: Option<String>,
    end: Option<OwnedFd>,
}

impl Workers {
    fn add(&mut self, pid: u32, worker: Option<&str>) {
        let process = Process { worker: worker.map(str::to_owned), end: children::end_of(pid) };
        self.started.insert(pid, process);
    }

    pub(super) fn add_nested(&mut self, pid: u32) {
        self.add(pid, None);
    }

    /// Reaps those that have ended. With `all`, every child of the program is reaped; those that are no workers are
    /// returned.
    pub(super) fn reap(&mut self, all: bool) -> Vec<(u32, ExitStatus)> {
        if !all {
            if self.may_have_ended() {
                self.started.retain(|pid, _| matches!(children::reap_if_ended(*pid), Ok(None)));
            }
            return Vec::new();
        }
        let mut others = Vec::new();
        while let Some((pid, status)) = children::reap_any() {
            match self.started.remove(&pid) {
                Some(Process { worker: Some(_), .. }) => {}
                _ => others.push((pid, status)),
            }
        }
        others
    }

    fn may_have_ended(&self) -> bool {
        let ends = self.descriptors();
        ends.len() < self.started.len()
            || (!ends.is_empty()
                && poll::readable(&ends, Duration::ZERO).is_ok_and(|woken| woken == poll::Woken::Ready))
    }

    /// Descriptors that tell of the end of each.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.started.values().filter_map(|process| process.end.as_ref()).map(AsFd::as_fd).collect()
    }

    /// How long may be slept without a look; `None` if descriptors tell of everything.
    pub(super) fn look_within(&self) -> Option<Duration> {
        self.started.values().any(|process| process.end.is_none()).then_some(LOOK)
    }

    /// The workers that run, by pid.
    fn names(&self) -> BTreeMap<u32, String> {
        let workers = self.started.iter().filter_map(|(pid, process)| Some((*pid, process.worker.clone()?)));
        workers.collect()
    }

    /// Ends all workers: TERM, then KILL to those that still run after the grace, and so on until none does.
    pub(super) fn stop(&mut self, grace: Duration) {
        self.started.retain(|_, process| process.worker.is_some());
        let mut signal = Signal::TERM;
        while !self.started.is_empty() {
            for pid in self.started.keys() {
                // Not reaped yet, so the number is still its own.
                children::signal_child(*pid, signal);
            }
            signal = Signal::KILL;
            let deadline = Deadline::after(grace);
            while !self.started.is_empty() && !deadline.has_passed() {
                let most = self.look_within().unwrap_or(grace);
                if poll::readable(&self.descriptors(), deadline.left(most)).is_err() {
                    break;
                }
                self.reap(false);
            }
        }
    }
}

impl Service {
    /// Starts a command as a worker: reaped by the service, ended with it. It is killed if the service's process is.
    /// Returns its pid.
    ///
    /// # Errors
    /// What the system says.
    pub fn worker(&mut self, name: &str, mut command: Command) -> Result<u32> {
        self.bind(&mut command);
        let child = command.spawn().map_err(|error| {
            let program = command.get_program().to_string_lossy().into_owned();
            Error::system(error, format!("the worker {name} cannot be started")).at_path(program).during("worker")
        })?;
        // It is reaped by its pid, so nothing is left to do with the value.
        self.workers.add(child.id(), Some(name));
        Ok(child.id())
    }

    /// Forks a worker that does this in place of the service, and exits with what it comes to. It is reaped by the
    /// service, and ended with it. Returns its pid, in the service.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) if more than one thread runs, and what the system says.
    ///
    /// # Safety
    /// It forks. No other thread may run, and the worker has a copy of all that the process holds: open files, buffers
    /// not yet flushed. The service's own client does nothing in it.
    pub unsafe fn fork_worker(&mut self, name: &str, work: impl FnOnce() -> i32) -> Result<u32> {
        refuse_threads("fork_worker")?;
        let service = process::own_pid();
        // SAFETY: one thread runs, as was just checked.
        let forked = unsafe { process::fork() };
        let failed = |error| Error::system(error, format!("the worker {name} cannot be made")).during("fork_worker");
        match forked.map_err(failed)? {
            Forked::Parent(pid) => {
                self.workers.add(pid, Some(name));
                Ok(pid)
            }
            Forked::Child => {
                signals::forget_in_child();
                let _ = children::bind_forked_child_to(service);
                title::append(name);
                let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(255);
                super::launch::leave_process(code, self.settings.posix_exit)
            }
        }
    }

    /// The workers that run, by pid.
    #[must_use]
    pub fn workers(&mut self) -> BTreeMap<u32, String> {
        let all = self.reaps_all();
        if !all {
            self.workers.reap(false);
        }
        self.workers.names()
    }

    /// Has a command die with this process, however that ends: for programs that a service starts beside its workers,
    /// which would otherwise outlive it when it is killed, and for those that its workers start. The kernel counts by
    /// thread: it dies with the one that starts it.
    ///
    /// ```
    /// use ipc_manager::{Reply, Service};
    /// let mut lister = Service::builder("lister")
    ///     .on_request(|service, _| {
    ///         let mut command = std::process::Command::new("echo");
    ///         service.bind(command.arg("listed"));
    ///         Ok(Reply::new(&String::from_utf8(command.output()?.stdout)?)?)
    ///     })
    ///     .spawn_thread()?;
    /// assert_eq!(lister.request("lister", &())?, "listed\n");
    /// # Ok::<(), ipc_manager::Error>(())
    /// ```
    pub fn bind(&self, command: &mut Command) {
        children::prepare(command, None, true);
    }

    /// How long the workers have been given to end; for tests of what is slow.
    pub(super) fn stop_workers(&mut self) {
        let begun = Instant::now();
        let grace = self.settings.worker_grace;
        self.workers.stop(grace);
        log::debug!("{}: the workers had ended after {:?}", self.settings.name, begun.elapsed());
    }
}

/// A fork copies one thread only.
pub(super) fn refuse_threads(operation: &'static str) -> Result<()> {
    if process::thread_count().is_some_and(|count| count > 1) {
        let detail = "a process with several threads cannot be forked";
        return Err(Error::new(ErrorKind::Unsupported, detail).during(operation));
    }
    Ok(())
}
