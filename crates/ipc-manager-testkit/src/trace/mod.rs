// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes that stop at every system call, to be killed there or to have that call fail: the points of the code at
//! which faults are injected. Nothing in the library knows of it, so it costs nothing where nobody traces, and calls of
//! libraries under ours, such as SQLite's, are seen like our own.

mod call;
mod registers;

use std::io;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

pub use call::Call;

use crate::PATIENCE;

/// How a step ended.
///
/// ```
/// use ipc_manager_testkit::trace::Step;
/// fn is_over(step: &Step) -> bool {
///     !matches!(step, Step::Call(_))
/// }
/// assert!(is_over(&Step::Silent));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is about to make this call.
    Call(Call),
    /// It says that what is traced is over; see [`end`].
    Over,
    /// The process has ended.
    Ended(ExitStatus),
    /// It did not come to a call in time.
    Silent,
}

/// What a traced process does first: stops, until its tracer lets it go on call by call.
///
/// # Errors
/// What the system says, where it forbids that.
pub fn begin() -> io::Result<()> {
    trace_me()?;
    stop();
    Ok(())
}

/// What a traced process does when what is to be traced is over.
pub fn end() {
    stop();
}

fn stop() {
    // SAFETY: it touches no memory; whoever traces this process lets it go on.
    unsafe { libc::raise(libc::SIGSTOP) };
}

fn trace_me() -> io::Result<()> {
    // SAFETY: it touches no memory.
    checked(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) })
}

fn checked(answer: libc::c_long) -> io::Result<()> {
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether this machine lets a process be traced by its parent: asked of a process of its own.
///
/// # Errors
/// The reason, one sentence.
pub fn can() -> Result<(), String> {
    static ANSWER: std::sync::OnceLock<Result<(), String>> = std::sync::OnceLock::new();
    let ask = || {
        registers::known()?;
        let mut child = crate::engine::program(ROLE);
        let mut traced = Traced::start(&mut child).map_err(|error| format!("no process can be traced: {error}"))?;
        match traced.step() {
            Step::Call(_) => Ok(()),
            other => Err(format!("a traced process does not stop at its calls: {other:?}")),
        }
    };
    ANSWER.get_or_init(ask).clone()
}

/// The role of the process that is asked.
const ROLE: &str = "trace:can";

/// Plays that process, if this one is it.
pub(crate) fn play(role: &str) -> Option<std::process::ExitCode> {
    if role != ROLE {
        return None;
    }
    Some(match begin() {
        Ok(()) => {
            // A call to stop at.
            drop(std::fs::metadata("/"));
            std::process::ExitCode::SUCCESS
        }
        Err(_) => std::process::ExitCode::FAILURE,
    })
}

/// A process that stops at its system calls; killed when dropped.
///
/// ```standalone_crate
/// use std::process::ExitCode;
/// use ipc_manager_testkit::{Suite, Test, trace::{self, Step, Traced}};
/// fn look() -> ExitCode {
///     trace::begin().expect("it is traced");
///     if std::fs::metadata("/").is_err() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
/// }
/// fn main() -> ExitCode {
///     let fails = Test::new("what_fails_is_told", |_| {
///         let mut traced = Traced::start(&mut Suite::command("look")).unwrap();
///         assert!(matches!(traced.step(), Step::Call(_)));
///         traced.fail(5).unwrap(); // the call is not made, and says EIO
///     });
///     Suite::new(vec![]).act("look", look).tests(vec![fails.only_if(trace::can)]).main()
/// }
/// ```
#[derive(Debug)]
pub struct Traced {
    child: Option<Child>,
    pid: libc::pid_t,
    /// Stopped at the beginning of a call, of which the end is still to come.
    is_inside: bool,
    has_ended: bool,
}

/// What a wait for a traced process came to.
enum Stop {
    Call,
    Signal(i32),
    /// A stop that the tracer asked for.
    Asked,
    Ended(ExitStatus),
    Silent,
}

impl Traced {
    /// Starts a process that is to [`begin`], and waits until it does. The thread that starts it is its tracer.
    ///
    /// # Errors
    /// What the system says; that it ended before it began.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut traced = Self::of_child(command.spawn()?);
        traced.has_begun()?;
        Ok(traced)
    }

    /// A child of this thread's that is to [`begin`] sooner or later.
    pub(crate) fn of_child(child: Child) -> Self {
        let pid = child.id().cast_signed();
        Self { child: Some(child), pid, is_inside: false, has_ended: false }
    }

    /// Waits until it has begun.
    pub(crate) fn has_begun(&mut self) -> io::Result<()> {
        match self.wait(PATIENCE) {
            Stop::Signal(libc::SIGSTOP) => {}
            Stop::Ended(status) => return Err(io::Error::other(format!("it ended before it began: {status}"))),
            _ => return Err(io::Error::other("it did not begin")),
        }
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
        // SAFETY: it has stopped, and this thread traces it.
        checked(unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, self.pid, 0, options) })
    }

    /// Stops a child of this process that runs, and that this thread then traces.
    pub(crate) fn attach(pid: u32) -> io::Result<Self> {
        let pid: libc::pid_t = pid.try_into().map_err(io::Error::other)?;
        let options = libc::PTRACE_O_TRACESYSGOOD;
        // SAFETY: it is a child that was not reaped.
        checked(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, options) })?;
        let mut traced = Self { child: None, pid, is_inside: false, has_ended: false };
        traced.interrupt()?;
        Ok(traced)
    }

    fn interrupt(&mut self) -> io::Result<()> {
        // SAFETY: this thread traces it.
        checked(unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, self.pid, 0, 0) })?;
        loop {
            match self.wait(PATIENCE) {
                Stop::Asked | Stop::Call => return Ok(()),
                Stop::Signal(signal) => self.resume(libc::PTRACE_CONT, signal)?,
                Stop::Ended(_) | Stop::Silent => return Err(io::Error::other("it is not there")),
            }
        }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Lets it go on to its next call.
    #[must_use]
    pub fn step(&mut self) -> Step {
        self.next_within(PATIENCE)
    }

    /// Lets it go on to its next call, waiting so long at most.
    pub(crate) fn next_within(&mut self, patience: Duration) -> Step {
        let deadline = Instant::now() + patience;
        let mut signal = 0;
        loop {
            if self.resume(libc::PTRACE_SYSCALL, signal).is_err() && !self.has_ended {
                return Step::Silent;
            }
            signal = 0;
            match self.wait(deadline.saturating_duration_since(Instant::now())) {
                // The end of the call before.
                Stop::Call if self.is_inside => self.is_inside = false,
                Stop::Call => {
                    self.is_inside = true;
                    return Step::Call(registers::number(self.pid).map_or(Call::OTHER, Call::of));
                }
                Stop::Signal(libc::SIGSTOP) => return Step::Over,
                Stop::Signal(other) => signal = other,
                Stop::Asked => {}
                Stop::Ended(status) => return Step::Ended(status),
                Stop::Silent => return Step::Silent,
            }
        }
    }

    /// The first argument of the call that it is about to make: mostly a descriptor.
    pub(crate) fn first_argument(&self) -> Option<u64> {
        registers::arguments(self.pid).ok().map(|arguments| arguments[0])
    }

    /// The errors with which the call that it is about to make can fail.
    pub(crate) fn errors(&self, call: Call) -> Vec<i32> {
        let of = |first| std::fs::read_link(format!("/proc/{}/fd/{first}", self.pid)).ok();
        let target = self.first_argument().filter(|_| call.works_on_descriptor()).and_then(of);
        let is_socket = target.is_some_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"socket:"));
        if self.lets_go_of_a_lock() {
            return Vec::new();
        }
        // No device is behind a local socket that could fail.
        call.errors().iter().copied().filter(|errno| !(is_socket && *errno == libc::EIO)).collect()
    }

    /// Whether it is about to let go of a lock, which is never refused.
    fn lets_go_of_a_lock(&self) -> bool {
        let Ok((number, [_, command, place, ..])) =
            registers::number(self.pid).and_then(|number| Ok((number, registers::arguments(self.pid)?)))
        else {
            return false;
        };
        if number == libc::SYS_flock {
            return command == u64::from(libc::LOCK_UN.unsigned_abs());
        }
        let locks = [libc::F_SETLK, libc::F_SETLKW, libc::F_OFD_SETLK].map(|command| u64::from(command.unsigned_abs()));
        let mut kind = [0; 2];
        number == libc::SYS_fcntl
            && locks.contains(&command)
            && std::fs::File::open(format!("/proc/{}/mem", self.pid))
                .and_then(|memory| memory.read_exact_at(&mut kind, place))
                .is_ok()
            && i16::from_ne_bytes(kind) == i16::try_from(libc::F_UNLCK).unwrap_or_default()
    }

    /// Has the call that it is about to make fail with this error, without being made.
    ///
    /// # Errors
    /// What the system says.
    pub fn fail(&mut self, errno: i32) -> io::Result<()> {
        registers::skip_call(self.pid)?;
        self.resume(libc::PTRACE_SYSCALL, 0)?;
        match self.wait(PATIENCE) {
            Stop::Call => {}
            _ => return Err(io::Error::other("a call that is not made did not end")),
        }
        self.is_inside = false;
        registers::answer(self.pid, -i64::from(errno))
    }

    /// Lets it run on untraced.
    ///
    /// # Panics
    /// If it was not started as traced.
    #[must_use]
    pub fn release(mut self) -> Child {
        self.detach();
        self.child.take().expect("it was started as traced")
    }

    /// Lets it run on untraced: one that was attached to.
    pub(crate) fn let_go(mut self) {
        self.detach();
        self.has_ended = true;
    }

    fn detach(&mut self) {
        // One that runs cannot be let go; it is stopped first.
        // SAFETY: this thread traces it.
        if unsafe { libc::ptrace(libc::PTRACE_DETACH, self.pid, 0, 0) } == -1 && self.interrupt().is_ok() {
            // SAFETY: as before.
            unsafe { libc::ptrace(libc::PTRACE_DETACH, self.pid, 0, 0) };
        }
    }

    fn resume(&mut self, request: libc::c_uint, signal: i32) -> io::Result<()> {
        // SAFETY: it has stopped, and this thread traces it.
        checked(unsafe { libc::ptrace(request, self.pid, 0, signal) })
    }

    fn wait(&mut self, patience: Duration) -> Stop {
        let deadline = Instant::now() + patience;
        for look in 0_u32.. {
            let mut status = 0;
            // SAFETY: a child of this thread's that was not reaped, and a valid place for its status.
            match unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG | libc::__WALL) } {
                0 if Instant::now() >= deadline => return Stop::Silent,
                // Most stops come at once; one that does not is not waited for with all the processor.
                0 if look < 200 => std::thread::yield_now(),
                0 => std::thread::sleep(Duration::from_micros(200)),
                -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                -1 => return Stop::Silent,
                _ => return self.stop_of(status),
            }
        }
        Stop::Silent
    }

    fn stop_of(&mut self, status: i32) -> Stop {
        if !libc::WIFSTOPPED(status) {
            self.has_ended = true;
            return Stop::Ended(std::os::unix::process::ExitStatusExt::from_raw(status));
        }
        let signal = libc::WSTOPSIG(status);
        if signal == libc::SIGTRAP | 0x80 {
            Stop::Call
        } else if status >> 16 == libc::PTRACE_EVENT_STOP {
            Stop::Asked
        } else {
            Stop::Signal(signal)
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        } else {
            self.detach();
        }
    }
}
