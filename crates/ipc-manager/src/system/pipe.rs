// SPDX-License-Identifier: MIT OR Apache-2.0
//! FIFOs: made for their user alone, opened without ever blocking or creating, written without a signal to the program.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::access::{Access, PRIVATE};

/// Most bytes that one write puts into a pipe without those of others in between; pipe(7).
pub(crate) const ATOMIC_BYTES: usize = rustix::pipe::PIPE_BUF;

/// What the kernel gives a pipe at most unless it says otherwise; pipe(7).
#[cfg(target_os = "linux")]
const USUAL_MOST: usize = 1 << 20;

pub(crate) fn is_fifo(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Fifo
}

/// Makes a FIFO of mode 0600, or 0660 for a group, whatever the umask, and opens it for reading, so that it has a reader before anybody can
/// see it under its final name.
pub(crate) fn make_fifo_at(dir: BorrowedFd<'_>, name: &OsStr, access: Access) -> io::Result<OwnedFd> {
    #[cfg(not(target_vendor = "apple"))]
    rustix::fs::mknodat(dir, name, FileType::Fifo, PRIVATE, 0)?;
    #[cfg(target_vendor = "apple")]
    return Err(io::ErrorKind::Unsupported.into());
    #[cfg(not(target_vendor = "apple"))]
    {
        access.grant_at(dir, name)?;
        // For writing, too: a pipe that has had all its writers leave would be at its end.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fifo = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        enlarge(fifo.as_fd());
        Ok(fifo)
    }
}

/// Makes a pipe as large as the system grants. How large that is does not matter to anybody else.
#[cfg(target_os = "linux")]
fn enlarge(fifo: BorrowedFd<'_>) {
    let most = std::fs::read_to_string("/proc/sys/fs/pipe-max-size").ok();
    let mut size = most.and_then(|most| most.trim().parse().ok()).unwrap_or(USUAL_MOST);
    let now = rustix::pipe::fcntl_getpipe_size(fifo).unwrap_or(ATOMIC_BYTES);
    // An ordinary user has a quota of pages for all pipes together.
    while size > now && rustix::pipe::fcntl_setpipe_size(fifo, size).is_err() {
        size /= 2;
    }
}

#[cfg(not(target_os = "linux"))]
fn enlarge(_: BorrowedFd<'_>) {}

/// Opens a FIFO for writing; never waits for a reader, never creates anything. `ENXIO`: nobody reads it.
pub(crate) fn open_writer_at(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

/// A second descriptor of an open FIFO, for writing or for reading, also where its name is gone.
#[cfg(target_os = "linux")]
pub(crate) fn reopen(fifo: BorrowedFd<'_>, for_reading: bool) -> io::Result<OwnedFd> {
    let access = if for_reading { OFlags::RDONLY } else { OFlags::WRONLY };
    let path = format!("/proc/self/fd/{}", fifo.as_raw_fd());
    Ok(rustix::fs::open(path, access | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn reopen(_: BorrowedFd<'_>, _: bool) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Waits, so long at most, until nobody has a pipe open for reading that this descriptor can write to. Returns whether
/// that is so.
pub(crate) fn has_no_reader(writer: BorrowedFd<'_>, within: Duration) -> io::Result<bool> {
    // No event is asked for: the error that says it is told all the same.
    let mut polled = [PollFd::from_borrowed_fd(writer, PollFlags::empty())];
    let within = Timespec::try_from(within).unwrap_or_default();
    match rustix::event::poll(&mut polled, Some(&within)) {
        Ok(_) | Err(Errno::INTR) => Ok(polled[0].revents().contains(PollFlags::ERR)),
        Err(error) => Err(error.into()),
    }
}

/// How many bytes wait in a pipe.
pub(crate) fn waiting(fifo: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(rustix::io::ioctl_fionread(fifo)?)
}

/// Reads what is there, as much as the buffer takes. `Ok(None)`: nothing is there.
pub(crate) fn read(fifo: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match rustix::io::read(fifo, &mut *buffer) {
            // At the end only while it has no writer, which is but a moment in a reader's own life.
            Ok(0) | Err(Errno::AGAIN) => return Ok(None),
            Ok(count) => return Ok(Some(count)),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes at most [`ATOMIC_BYTES`], all or nothing. A pipe without a reader is `EPIPE`, and never a signal: the kernel is
/// told so, or, where it does not know that, SIGPIPE is held off in this thread if the program does not ignore it anyway.
pub(crate) fn write(fifo: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if let Some(written) = without_signal::write(fifo, bytes) {
        return written;
    }
    if is_ignored() {
        return write_now(fifo, bytes);
    }
    let held = Held::new()?;
    let written = write_now(fifo, bytes);
    let is_broken = written.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EPIPE));
    held.release(is_broken);
    written
}

fn write_now(fifo: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    whole(bytes, || rustix::io::write(fifo, bytes))
}

/// Repeats a write that a signal interrupted.
fn whole(bytes: &[u8], write: impl Fn() -> rustix::io::Result<usize>) -> io::Result<()> {
    loop {
        match write() {
            Ok(count) if count == bytes.len() => return Ok(()),
            // So few bytes are never taken in part; pipe(7).
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writing with the word that no signal is wanted, which Linux takes from 6.18 on.
#[cfg(target_os = "linux")]
mod without_signal {
    use std::io::{self, IoSlice};
    use std::os::fd::BorrowedFd;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::io::{ReadWriteFlags, pwritev2};

    /// `RWF_NOSIGNAL` of linux/fs.h.
    const NO_SIGNAL: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x100);
    /// For what has no position, as a pipe.
    const NO_POSITION: u64 = u64::MAX;

    /// Whether this kernel is known not to take it.
    static IS_UNKNOWN: AtomicBool = AtomicBool::new(false);

    /// `None` where the kernel does not take that word; then nothing was written.
    pub(super) fn write(fifo: BorrowedFd<'_>, bytes: &[u8]) -> Option<io::Result<()>> {
        if IS_UNKNOWN.load(Ordering::Relaxed) {
            return None;
        }
        let part = [IoSlice::new(bytes)];
        let written = super::whole(bytes, || pwritev2(fifo, &part, NO_POSITION, NO_SIGNAL));
        // The last is what a filter of system calls may say; a pipe never does.
        let refusals = [libc::EOPNOTSUPP, libc::ENOSYS, libc::EINVAL, libc::EPERM];
        if written.as_ref().is_err_and(|error| error.raw_os_error().is_some_and(|error| refusals.contains(&error))) {
            IS_UNKNOWN.store(true, Ordering::Relaxed);
            return None;
        }
        Some(written)
    }
}

/// Whether the program ignores SIGPIPE, as Rust programs do unless they change it. Asked each time: it can change.
fn is_ignored() -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: with a null pointer in its place nothing is changed, and the old action is written where it says.
    unsafe {
        libc::sigaction(libc::SIGPIPE, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// SIGPIPE held off in this thread.
struct Held {
    before: libc::sigset_t,
    was_pending: bool,
}

impl Held {
    fn new() -> io::Result<Self> {
        let set = sigpipe();
        let (mut before, mut pending) = (sigpipe(), sigpipe());
        // SAFETY: all three are initialised sets, and only this thread's mask is changed.
        let failed = unsafe {
            libc::sigpending(&raw mut pending) != 0
                || libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before) != 0
        };
        if failed {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: an initialised set and a signal that exists.
        let was_pending = unsafe { libc::sigismember(&raw const pending, libc::SIGPIPE) } == 1;
        Ok(Self { before, was_pending })
    }

    /// Lets it through again; the one that the write raised is consumed, and one that was there before stays.
    fn release(self, is_raised: bool) {
        if is_raised && !self.was_pending {
            let set = sigpipe();
            #[cfg(target_os = "linux")]
            // SAFETY: an initialised set, no information wanted, and no waiting.
            unsafe {
                let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
                libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const now);
            }
            #[cfg(not(target_os = "linux"))]
            // SAFETY: an initialised set; the signal is pending, so there is nothing to wait for.
            unsafe {
                let mut signal = 0;
                libc::sigwait(&raw const set, &raw mut signal);
            }
        }
        // SAFETY: the mask that was there before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

fn sigpipe() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set, and the signal exists.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        set.assume_init()
    }
}
