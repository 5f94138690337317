// SPDX-License-Identifier: MIT OR Apache-2.0
//! Child processes: descriptors that tell of their end, reaping them, and what they are told before they run.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

use rustix::process::{Pid, Signal, WaitOptions};

use super::process::own_pid;

fn number(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// A descriptor that becomes readable when the process ends, reaped or not. `None` where there is no such thing, or
/// nobody of that number.
#[cfg(target_os = "linux")]
pub(crate) fn end_of(pid: u32) -> Option<OwnedFd> {
    rustix::process::pidfd_open(number(pid)?, rustix::process::PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn end_of(_pid: u32) -> Option<OwnedFd> {
    None
}

/// Reaps a child of this process if it has ended. `NotFound` if it is none, or was reaped already.
pub(crate) fn reap_if_ended(pid: u32) -> io::Result<Option<ExitStatus>> {
    let pid = number(pid).ok_or(io::ErrorKind::NotFound)?;
    loop {
        match rustix::process::waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(ended) => return Ok(ended.map(|(_, status)| ExitStatus::from_raw(status.as_raw()))),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CHILD) => return Err(io::ErrorKind::NotFound.into()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reaps any child of this process that has ended.
pub(crate) fn reap_any() -> Option<(u32, ExitStatus)> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(ended) => {
                let (pid, status) = ended?;
                return Some((pid.as_raw_nonzero().get().unsigned_abs(), ExitStatus::from_raw(status.as_raw())));
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

/// Signals a child that was not reaped yet, so that the number is still its own.
pub(crate) fn signal_child(pid: u32, signal: Signal) {
    if let Some(pid) = number(pid) {
        // That it has just ended is fine.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// The process that started this one.
pub(crate) fn parent_pid() -> Option<u32> {
    rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs())
}

/// Whether this is the first thread of the process. A parent-death signal comes when the *thread* that started the
/// process ends; prctl(2). Only that of the first thread means the process.
pub(crate) fn is_first_thread() -> bool {
    #[cfg(target_os = "linux")]
    {
        rustix::thread::gettid() == rustix::process::getpid()
    }
    #[cfg(not(target_os = "linux"))]
    {
        false
    }
}

/// In a child: has the kernel kill this process when its parent ends, and ends it if the parent has ended already.
/// Allowed between fork and exec.
fn bind_to(parent: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if parent_pid() != Some(parent) {
        super::process::exit_now(1);
    }
    Ok(())
}

/// As [`bind_to`], in a forked child that goes on with the same program.
pub(crate) fn bind_forked_child_to(parent: u32) -> io::Result<()> {
    bind_to(parent)
}

/// Says what is to happen in the child before the command runs: it keeps a descriptor that is closed in every other
/// program, and dies with this process.
pub(crate) fn prepare(command: &mut Command, kept: Option<RawFd>, dies_with_us: bool) {
    let starter = own_pid();
    let before_exec = move || {
        if let Some(kept) = kept {
            // SAFETY: fcntl(2) may be called between fork and exec; the descriptor is open in the parent until the
            // command was started.
            if unsafe { libc::fcntl(kept, libc::F_SETFD, 0) } == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        if dies_with_us { bind_to(starter) } else { Ok(()) }
    };
    // SAFETY: the closure makes system calls that are allowed between fork and exec, allocates nothing and takes no
    // lock.
    unsafe { command.pre_exec(before_exec) };
}

/// Takes over a descriptor that the program was started with, if it is a pipe, and closes it in what is started next.
pub(crate) fn inherited_pipe(raw: RawFd) -> Option<OwnedFd> {
    if raw < 3 {
        return None;
    }
    // SAFETY: it is only asked about; if it is not open, that is the answer.
    let stat = rustix::fs::fstat(unsafe { BorrowedFd::borrow_raw(raw) }).ok()?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Fifo {
        return None;
    }
    // SAFETY: the starter left it open for this process, and it is taken once, before anybody else could.
    let pipe = unsafe { OwnedFd::from_raw_fd(raw) };
    rustix::io::fcntl_setfd(&pipe, rustix::io::FdFlags::CLOEXEC).ok()?;
    Some(pipe)
}

/// The number of a descriptor, for a program that inherits it.
pub(crate) fn raw(descriptor: &OwnedFd) -> RawFd {
    descriptor.as_raw_fd()
}
