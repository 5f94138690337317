// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals that are only counted, and ring a bell: for as long as somebody wants them. The disposition that was there
//! before comes back with the last who wanted the signal.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::bell::Bell;
use super::process::own_pid;

/// Most watches at a time in one process.
const SLOTS: usize = 64;
/// One more than the highest signal number that is counted.
const NUMBERS: usize = 65;

/// What the handler writes to: nothing but atomics, since a handler may interrupt anything.
struct Slot {
    /// The descriptor to write to, or -1.
    bell: AtomicI32,
    wanted: AtomicU64,
    counts: [AtomicU32; NUMBERS],
}

static TABLE: [Slot; SLOTS] = [const {
    Slot { bell: AtomicI32::new(-1), wanted: AtomicU64::new(0), counts: [const { AtomicU32::new(0) }; NUMBERS] }
}; SLOTS];

/// What was there before, and by how many the signal is wanted.
struct Replaced {
    before: libc::sigaction,
    wanted_by: usize,
}

static REPLACED: Mutex<BTreeMap<i32, Replaced>> = Mutex::new(BTreeMap::new());

fn replaced() -> MutexGuard<'static, BTreeMap<i32, Replaced>> {
    REPLACED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bit(signal: i32) -> Option<u64> {
    usize::try_from(signal).ok().filter(|number| (1..NUMBERS).contains(number)).map(|number| 1 << (number - 1))
}

/// Counts the signal for every slot that wants it, and rings.
extern "C" fn note(signal: libc::c_int) {
    let (Some(bit), Ok(number)) = (bit(signal), usize::try_from(signal)) else { return };
    // SAFETY: the place of errno is this thread's own; a handler must leave it as it was.
    let before = unsafe { *errno() };
    for slot in TABLE.iter().filter(|slot| slot.wanted.load(Ordering::Acquire) & bit != 0) {
        slot.counts[number].fetch_add(1, Ordering::AcqRel);
        let bell = slot.bell.load(Ordering::Acquire);
        if bell >= 0 {
            // SAFETY: write(2) may be called in a handler; one byte is read from a place that lives for ever. A full
            // socket means that it rings already.
            unsafe { libc::write(bell, b"!".as_ptr().cast(), 1) };
        }
    }
    // SAFETY: as above.
    unsafe { *errno() = before };
}

#[cfg(any(target_os = "linux", target_os = "l4re", target_os = "emscripten"))]
unsafe fn errno() -> *mut libc::c_int {
    // SAFETY: it has no preconditions.
    unsafe { libc::__errno_location() }
}

#[cfg(any(target_os = "macos", target_os = "ios", target_os = "freebsd", target_os = "dragonfly"))]
unsafe fn errno() -> *mut libc::c_int {
    // SAFETY: it has no preconditions.
    unsafe { libc::__error() }
}

#[cfg(any(target_os = "openbsd", target_os = "netbsd", target_os = "android"))]
unsafe fn errno() -> *mut libc::c_int {
    // SAFETY: it has no preconditions.
    unsafe { libc::__errno() }
}

/// Signals that are counted until this is dropped.
#[derive(Debug)]
pub(crate) struct SignalWatch {
    slot: usize,
    wanted: Vec<i32>,
    bell: Bell,
    pid: u32,
}

impl SignalWatch {
    /// Takes a place in the table. No signal is wanted yet.
    pub(crate) fn new() -> io::Result<Self> {
        let bell = Bell::new()?;
        let raw = bell.ringing_descriptor().as_raw_fd();
        let free = TABLE
            .iter()
            .position(|slot| slot.bell.compare_exchange(-1, raw, Ordering::AcqRel, Ordering::Acquire).is_ok());
        let slot = free.ok_or_else(|| io::Error::other("too many watch for signals in this process"))?;
        Ok(Self { slot, wanted: Vec::new(), bell, pid: own_pid() })
    }

    /// Also counts this signal from here on.
    pub(crate) fn want(&mut self, signal: i32) -> io::Result<()> {
        let Some(bit) = bit(signal) else { return Err(io::ErrorKind::InvalidInput.into()) };
        if self.wanted.contains(&signal) {
            return Ok(());
        }
        let mut replaced = replaced();
        TABLE[self.slot].wanted.fetch_or(bit, Ordering::AcqRel);
        match replaced.get_mut(&signal) {
            Some(known) => known.wanted_by += 1,
            None => match replace(signal) {
                Ok(before) => drop(replaced.insert(signal, Replaced { before, wanted_by: 1 })),
                Err(error) => {
                    TABLE[self.slot].wanted.fetch_and(!bit, Ordering::AcqRel);
                    return Err(error);
                }
            },
        }
        self.wanted.push(signal);
        Ok(())
    }

    /// How often each signal came since last asked.
    pub(crate) fn take(&self) -> BTreeMap<i32, u32> {
        self.bell.clear();
        let counts = |signal: &i32| {
            let number = usize::try_from(*signal).unwrap_or(0);
            let count = TABLE[self.slot].counts[number].swap(0, Ordering::AcqRel);
            (count > 0).then_some((*signal, count))
        };
        self.wanted.iter().filter_map(counts).collect()
    }

    /// Readable once a signal came, until [`take`](SignalWatch::take).
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.bell.descriptor()
    }
}

impl Drop for SignalWatch {
    fn drop(&mut self) {
        // A forked child gave everything back by `forget_in_child`, or is about to end.
        if self.pid != own_pid() {
            return;
        }
        let mut replaced = replaced();
        TABLE[self.slot].wanted.store(0, Ordering::Release);
        for signal in &self.wanted {
            let Some(known) = replaced.get_mut(signal) else { continue };
            known.wanted_by -= 1;
            if known.wanted_by == 0 {
                restore(*signal, &known.before);
                replaced.remove(signal);
            }
        }
        for count in &TABLE[self.slot].counts {
            count.store(0, Ordering::Release);
        }
        TABLE[self.slot].bell.store(-1, Ordering::Release);
    }
}

/// In a forked child: what the parent counts is none of its business, so every disposition is as it was before.
pub(crate) fn forget_in_child() {
    let mut replaced = replaced();
    for (signal, known) in std::mem::take(&mut *replaced) {
        restore(signal, &known.before);
    }
    for slot in &TABLE {
        slot.wanted.store(0, Ordering::Release);
        slot.bell.store(-1, Ordering::Release);
    }
}

fn replace(signal: i32) -> io::Result<libc::sigaction> {
    // SAFETY: both structures are plain data and valid when zeroed; the handler does what is allowed in one.
    unsafe {
        let mut ours: libc::sigaction = std::mem::zeroed();
        let mut before: libc::sigaction = std::mem::zeroed();
        ours.sa_sigaction = note as *const () as libc::sighandler_t;
        // What the signal interrupts goes on; only poll(2) ends early, and that is where it is waited for.
        ours.sa_flags = libc::SA_RESTART;
        libc::sigemptyset(&raw mut ours.sa_mask);
        if libc::sigaction(signal, &raw const ours, &raw mut before) == 0 {
            return Ok(before);
        }
    }
    Err(io::Error::last_os_error())
}

fn restore(signal: i32, before: &libc::sigaction) {
    // SAFETY: the structure is what sigaction(2) gave.
    unsafe { libc::sigaction(signal, before, std::ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disposition(signal: i32) -> libc::sighandler_t {
        // SAFETY: nothing is changed, and the structure is valid when zeroed.
        unsafe {
            let mut now: libc::sigaction = std::mem::zeroed();
            assert_eq!(libc::sigaction(signal, std::ptr::null(), &raw mut now), 0);
            now.sa_sigaction
        }
    }

    #[test]
    fn signals_are_counted_for_all_who_want_them_and_given_back() {
        let signal = libc::SIGURG;
        let before = disposition(signal);
        let (mut first, mut second) = (SignalWatch::new().unwrap(), SignalWatch::new().unwrap());
        first.want(signal).unwrap();
        first.want(signal).unwrap();
        second.want(signal).unwrap();
        for _ in 0..3 {
            // SAFETY: it raises a signal that is only counted.
            assert_eq!(unsafe { libc::raise(signal) }, 0);
        }
        assert_eq!(first.take(), BTreeMap::from([(signal, 3)]));
        assert!(first.take().is_empty());
        drop(first);
        assert_ne!(disposition(signal), before, "the second still wants it");
        assert_eq!(second.take(), BTreeMap::from([(signal, 3)]));
        assert!(second.want(0).is_err() && second.want(libc::SIGKILL).is_err());
        drop(second);
        assert_eq!(disposition(signal), before);
    }
}
