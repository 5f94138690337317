// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals as something to poll, so that a wait can end for a message or for a signal, without a race between them.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ipc_manager::{Client, ErrorKind, Observer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use crate::failure::{Failure, Outcome};

/// The signals that ask the command to end, caught for as long as the process lives.
#[derive(Debug)]
pub(crate) struct Signals {
    readable: UnixStream,
    last: Arc<AtomicUsize>,
}

/// How often a guard looks whether its bus is still there; the changes before its removal wake it, too.
const LOOK_FOR_THE_BUS: Duration = Duration::from_secs(2);

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// Something may have happened: look again.
    Look,
    /// The time is up.
    Deadline,
    /// A signal asks the command to end.
    Signal(i32),
    /// Nobody reads standard output any more.
    OutputClosed,
}

impl Signals {
    /// Catches INT, TERM and HUP.
    pub(crate) fn catch() -> Outcome<Self> {
        Self::install(false).map_err(|error| Failure::io("signals cannot be caught", &error))
    }

    /// Catches INT, TERM and HUP, and is woken by children that end.
    pub(crate) fn catch_with_children() -> Outcome<Self> {
        Self::install(true).map_err(|error| Failure::io("signals cannot be caught", &error))
    }

    fn install(children: bool) -> io::Result<Self> {
        let (readable, writable) = UnixStream::pair()?;
        readable.set_nonblocking(true)?;
        let last = Arc::new(AtomicUsize::new(0));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // Signal numbers are small and positive.
            signal_hook::flag::register_usize(signal, Arc::clone(&last), usize::try_from(signal).unwrap_or(0))?;
            signal_hook::low_level::pipe::register(signal, writable.try_clone()?)?;
        }
        if children {
            signal_hook::low_level::pipe::register(SIGCHLD, writable)?;
        }
        Ok(Self { readable, last })
    }

    /// The signal that asked the command to end, if one did.
    pub(crate) fn pending(&self) -> Option<i32> {
        i32::try_from(self.last.load(Ordering::SeqCst)).ok().filter(|signal| *signal > 0)
    }

    /// What was rung for is about to be looked at.
    fn drain(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.readable).read(&mut bytes), Ok(count) if count > 0) {}
    }

    /// Waits until one of the descriptors has something, a signal came, or the time is up.
    pub(crate) fn wait(
        &self,
        descriptors: &[BorrowedFd<'_>],
        watch_output: bool,
        timeout: Option<Duration>,
    ) -> Outcome<Woken> {
        match self.pending() {
            Some(signal) => Ok(Woken::Signal(signal)),
            None => self.poll(descriptors, watch_output, timeout),
        }
    }

    fn poll(&self, descriptors: &[BorrowedFd<'_>], watch_output: bool, timeout: Option<Duration>) -> Outcome<Woken> {
        let stdout = io::stdout();
        let mut entries = vec![PollFd::from_borrowed_fd(self.readable.as_fd(), PollFlags::IN)];
        if watch_output {
            // No event is asked for: poll tells of a closed reader all the same, and of nothing else.
            entries.push(PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty()));
        }
        entries.extend(descriptors.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        let timeout = timeout.map(timespec);
        let count = match poll(&mut entries, timeout.as_ref()) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 1,
            Err(error) => return Err(Failure::io("waiting failed", &error.into())),
        };
        let closed = watch_output && entries.get(1).is_some_and(|entry| entry.revents().contains(PollFlags::ERR));
        drop(entries);
        self.drain();
        Ok(match self.pending() {
            Some(signal) => Woken::Signal(signal),
            None if closed => Woken::OutputClosed,
            None if count == 0 => Woken::Deadline,
            None => Woken::Look,
        })
    }

    /// Waits until the client may have a message. The caller has found none just now.
    pub(crate) fn wait_for_message(
        &self,
        client: &Client,
        watch_output: bool,
        deadline: Option<Instant>,
    ) -> Outcome<Woken> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(self.pending().map_or(Woken::Deadline, Woken::Signal));
        }
        let wake = client.wake()?;
        let sleep = left.map_or(wake.look_every, |left| left.min(wake.look_every));
        match self.wait(&wake.descriptors, watch_output, Some(sleep))? {
            // The time to look all the same, or the deadline, which the next call sees.
            Woken::Deadline => Ok(Woken::Look),
            other => Ok(other),
        }
    }

    /// Waits until a child may have ended, also while a signal asks the command to end.
    pub(crate) fn wait_for_child(&self, timeout: Duration) -> Outcome<()> {
        self.poll(&[], false, Some(timeout)).map(|_| ())
    }

    /// Waits until a signal asks the command to end, or the bus was removed; `None` for the latter.
    pub(crate) fn wait_for_end(&self, bus: &mut Observer) -> Outcome<Option<i32>> {
        bus.watch(true);
        loop {
            match bus.peers() {
                Err(error) if error.kind() == ErrorKind::NoSuchBus => return Ok(None),
                _ => {}
            }
            let wake = bus.wake();
            if let Woken::Signal(signal) = self.wait(&wake.descriptors, false, Some(LOOK_FOR_THE_BUS))? {
                return Ok(Some(signal));
            }
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    // A wait of 292 thousand million years is as good as any longer one.
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// Standard input that ends when a signal asks the command to end.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    /// What asks the command to end.
    pub(crate) signals: &'a Signals,
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stdin = io::stdin();
        let stdin = stdin.as_fd();
        loop {
            match self.signals.wait(&[stdin], false, None) {
                Ok(Woken::Signal(_)) => return Ok(0),
                Ok(_) => {}
                Err(_) => return Err(io::Error::other("waiting for standard input failed")),
            }
            let mut entry = [PollFd::from_borrowed_fd(stdin, PollFlags::IN)];
            if poll(&mut entry, Some(&timespec(Duration::ZERO))).unwrap_or(0) > 0 {
                return rustix::io::read(stdin, buffer).map_err(io::Error::from);
            }
        }
    }
}
