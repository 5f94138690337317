// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for descriptors: the only place where this crate sleeps.

use std::cell::Cell;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

thread_local! {
    static IS_DEAF: Cell<bool> = const { Cell::new(false) };
}

/// For tests of what a lost ring costs: while this runs, no descriptor wakes a wait of this thread, and no change of a
/// directory is known to it.
#[doc(hidden)]
pub fn without_rings<T>(run: impl FnOnce() -> T) -> T {
    /// Hears again, also after a panic.
    struct Hears;
    impl Drop for Hears {
        fn drop(&mut self) {
            IS_DEAF.set(false);
        }
    }
    let _hears = Hears;
    IS_DEAF.set(true);
    run()
}

/// Whether rings are to be lost on this thread.
pub(crate) fn is_deaf() -> bool {
    IS_DEAF.get()
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    Ready,
    TimedOut,
    /// A signal handler ran.
    Signal,
}

/// Waits until a descriptor is readable, a signal handler ran, or the time is over.
pub(crate) fn readable(descriptors: &[BorrowedFd<'_>], most: Duration) -> io::Result<Woken> {
    either(descriptors, &[], most)
}

/// Waits until a descriptor of the first is readable, or one of the second writable; or as [`readable`].
pub(crate) fn either(readers: &[BorrowedFd<'_>], writers: &[BorrowedFd<'_>], most: Duration) -> io::Result<Woken> {
    let readers = if is_deaf() { &[] } else { readers };
    let mut polled = Vec::with_capacity(readers.len() + writers.len());
    polled.extend(readers.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
    polled.extend(writers.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::OUT)));
    let seconds = i64::try_from(most.as_secs()).unwrap_or(i64::MAX);
    let timeout = Timespec { tv_sec: seconds, tv_nsec: most.subsec_nanos().into() };
    match poll(&mut polled, Some(&timeout)) {
        Ok(0) => Ok(Woken::TimedOut),
        Ok(_) => Ok(Woken::Ready),
        Err(rustix::io::Errno::INTR) => Ok(Woken::Signal),
        Err(error) => Err(error.into()),
    }
}

/// Which of these descriptors are readable, or at their end, right now.
pub(crate) fn readable_now(descriptors: &[BorrowedFd<'_>]) -> io::Result<Vec<bool>> {
    let mut polled: Vec<_> = descriptors.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    loop {
        match poll(&mut polled, Some(&Timespec::default())) {
            Ok(_) => return Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
