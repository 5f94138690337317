// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes: who we are, who is alive, and signals that reach nobody else.

use std::fs;
use std::io;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

/// What tells one process from every other that had or will have its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// The boot that the process belongs to; empty where the system does not say.
    boot: String,
    /// The pid namespace; 0 where the system does not say.
    pid_ns: u64,
    pub(crate) pid: u32,
    /// When it was started, in clock ticks after boot; 0 where the system does not say.
    start: u64,
}

/// Whether a process is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alive {
    Yes,
    No,
    /// It lives in another pid namespace, where its number means nothing to us.
    Unknown,
}

/// The id of this process, without asking the kernel each time.
#[cfg(target_os = "linux")]
pub(crate) fn own_pid() -> u32 {
    match PID_PAGE.get_or_init(PidPage::map) {
        Some(page) => page.pid(),
        None => asked_pid(),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn own_pid() -> u32 {
    asked_pid()
}

fn asked_pid() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get().unsigned_abs()
}

/// Memory that the kernel makes zero in a forked child, however it was forked, so that it tells whether what is in it
/// was written by this process.
#[cfg(target_os = "linux")]
struct PidPage(&'static std::sync::atomic::AtomicU32);

#[cfg(target_os = "linux")]
static PID_PAGE: std::sync::OnceLock<Option<PidPage>> = std::sync::OnceLock::new();

#[cfg(target_os = "linux")]
impl PidPage {
    fn map() -> Option<Self> {
        let size = rustix::param::page_size();
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh private mapping at an address of the kernel's choice touches nothing that is there.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), size, access, flags, -1, 0) };
        if page == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the mapping is that of above, whole.
        if unsafe { libc::madvise(page, size, libc::MADV_WIPEONFORK) } != 0 {
            // SAFETY: the same, and nothing refers to it.
            unsafe { libc::munmap(page, size) };
            return None;
        }
        // SAFETY: it is readable, writable, aligned to a page, zero, and never unmapped.
        Some(Self(unsafe { std::sync::atomic::AtomicU32::from_ptr(page.cast()) }))
    }

    fn pid(&self) -> u32 {
        use std::sync::atomic::Ordering;
        match self.0.load(Ordering::Relaxed) {
            0 => {
                let pid = asked_pid();
                self.0.store(pid, Ordering::Relaxed);
                pid
            }
            pid => pid,
        }
    }
}

impl Identity {
    /// The identity of this process, also in a forked child.
    pub(crate) fn own() -> Self {
        static OWN: Mutex<Option<Identity>> = Mutex::new(None);
        let pid = own_pid();
        let mut own = OWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(identity) = own.as_ref().filter(|identity| identity.pid == pid) {
            return identity.clone();
        }
        let start = state_of("self").map_or(0, |(_, start)| start);
        let identity = Self { boot: boot_id(), pid_ns: pid_namespace(), pid, start };
        *own = Some(identity.clone());
        identity
    }

    /// Its number as it is known here; `None` if it lives in another pid namespace.
    pub(crate) fn pid_here(&self) -> Option<u32> {
        (self.pid_ns == Self::own().pid_ns).then_some(self.pid)
    }

    /// Whether exactly this process is there.
    pub(crate) fn alive(&self) -> Alive {
        let own = Self::own();
        if !self.boot.is_empty() && !own.boot.is_empty() && self.boot != own.boot {
            return Alive::No;
        }
        if self.pid_ns != own.pid_ns {
            return Alive::Unknown;
        }
        if !pid_is_alive(self.pid) {
            return Alive::No;
        }
        match state_of(&self.pid.to_string()) {
            Some((_, start)) if self.start != 0 && start != self.start => Alive::No,
            _ => Alive::Yes,
        }
    }
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// The inode number of the pid namespace, from `pid:[4026531836]`; namespaces(7).
fn pid_namespace() -> u64 {
    let link = fs::read_link("/proc/self/ns/pid").ok();
    link.and_then(|link| link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()).unwrap_or(0)
}

/// State letter and start time out of `/proc/PID/stat`, fields 3 and 22; proc_pid_stat(5).
fn state_of(pid: &str) -> Option<(u8, u64)> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything, more of them too.
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let rest = std::str::from_utf8(stat.get(after_name..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// Tells one program of a process from the next that it becomes by exec: where its code and its stack begin, fields 26 and
/// 28 of `/proc/PID/stat`. `None` where that is not known, or not told.
pub(crate) fn image_of(pid: u32) -> Option<(u64, u64)> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = std::str::from_utf8(stat.get(after_name..)?).ok()?.split_ascii_whitespace();
    let (code, stack) = (fields.nth(23)?.parse().ok()?, fields.nth(1)?.parse().ok()?);
    // Who may not know is told 0 or 1.
    (code > 1 && stack > 1).then_some((code, stack))
}

/// Whether a process of that number is there. One that ended but was not reaped yet is not.
pub(crate) fn pid_is_alive(pid: u32) -> bool {
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    if rustix::process::test_kill_process(number) == Err(rustix::io::Errno::SRCH) {
        return false;
    }
    !matches!(state_of(&pid.to_string()), Some((b'Z' | b'X', _)))
}

/// When a process was started, by the wall clock as it is now.
fn started(pid: u32) -> Option<SystemTime> {
    let (_, ticks) = state_of(&pid.to_string())?;
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot: u64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let since_boot = Duration::from_millis(ticks.checked_mul(1000)? / rustix::param::clock_ticks_per_second());
    UNIX_EPOCH.checked_add(Duration::from_secs(boot))?.checked_add(since_boot)
}

/// Whether the process of that number is there, and was at a point in time.
pub(crate) fn was_there(pid: u32, when: SystemTime) -> bool {
    pid_is_alive(pid) && started(pid).is_none_or(|started| started <= when + START_SLACK)
}

/// The boot time is known to the second, and clocks are corrected a little.
const START_SLACK: Duration = Duration::from_secs(2);

/// Signals the process of that number, if it is not one that was started after `since`, and if `is_it` still says so
/// when it can no longer be replaced by another. Returns whether it was signalled.
pub(crate) fn signal(
    pid: u32,
    signal: i32,
    since: Option<SystemTime>,
    mut is_it: impl FnMut() -> bool,
) -> io::Result<bool> {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let (Some(number), Some(signal)) = (number, Signal::from_named_raw(signal)) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    // Never the first process, whatever a store says.
    if pid == 1 {
        return Err(io::Error::from(io::ErrorKind::PermissionDenied));
    }
    let gone = |error: rustix::io::Errno| match error {
        rustix::io::Errno::SRCH => Ok(false),
        error => Err(io::Error::from(error)),
    };
    let is_successor = || match (since, started(pid)) {
        (Some(since), Some(started)) => started > since + START_SLACK,
        _ => false,
    };
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
        // From here on the descriptor means one process and no other.
        match pidfd_open(number, PidfdFlags::empty()) {
            Ok(_) if is_successor() || !is_it() => return Ok(false),
            Ok(descriptor) => return pidfd_send_signal(descriptor, signal).map_or_else(gone, |()| Ok(true)),
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => {}
            Err(error) => return gone(error),
        }
    }
    if is_successor() || !is_it() {
        return Ok(false);
    }
    rustix::process::kill_process(number, signal).map_or_else(gone, |()| Ok(true))
}

/// A process that is watched without asking for its number again.
#[derive(Debug)]
pub(crate) struct Watched(std::os::fd::OwnedFd);

impl Watched {
    /// Begins to watch exactly this process. `None` if it is not there, or cannot be watched.
    #[cfg(target_os = "linux")]
    pub(crate) fn new(identity: &Identity) -> Option<Self> {
        use rustix::process::{PidfdFlags, pidfd_open};
        let number = i32::try_from(identity.pid).ok().and_then(Pid::from_raw)?;
        let descriptor = pidfd_open(number, PidfdFlags::empty()).ok()?;
        // Asked under the descriptor, which means one process and no other.
        (identity.alive() == Alive::Yes).then_some(Self(descriptor))
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn new(_identity: &Identity) -> Option<Self> {
        None
    }

    /// Whether it has ended; one that was not reaped yet has.
    pub(crate) fn has_ended(&self) -> bool {
        use std::os::fd::AsFd;
        super::poll::readable(&[self.0.as_fd()], std::time::Duration::ZERO)
            .is_ok_and(|woken| woken == super::poll::Woken::Ready)
    }
}

/// How many threads this process has; `None` where the system does not say.
pub(crate) fn thread_count() -> Option<usize> {
    Some(fs::read_dir("/proc/self/task").ok()?.count())
}

/// Where the process is after [`fork`].
pub(crate) enum Forked {
    Parent(u32),
    Child,
}

/// Forks this process.
///
/// # Safety
/// No other thread may run: what it held locked stays locked in the child for ever.
pub(crate) unsafe fn fork() -> io::Result<Forked> {
    // SAFETY: the caller promises that no other thread runs.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid.unsigned_abs())),
    }
}

/// Has a signal end forked children of this process as it would without any handler.
pub(crate) fn end_forked_child_by(signal: i32) -> io::Result<()> {
    let own = own_pid();
    let act = move || {
        if own_pid() != own {
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    };
    // SAFETY: the handler asks for its pid and emulates the default, both of which are safe in a signal handler.
    unsafe { signal_hook::low_level::register(signal, act) }.map(drop)
}

/// Ends this process at once, without exit handlers and without unwinding.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Reaps a child, waiting for its end.
pub(crate) fn reap(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let options = rustix::process::WaitOptions::empty();
        while matches!(rustix::process::waitpid(Some(pid), options), Err(rustix::io::Errno::INTR)) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn utl_01_own_ended_and_impossible_pids() {
        assert!(pid_is_alive(own_pid()));
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(!pid_is_alive(pid));
        assert!(!pid_is_alive(0));
        assert!(!pid_is_alive(u32::MAX));
    }

    #[test]
    fn a_process_that_becomes_another_program_has_another_image() {
        let mut child = Command::new("sh")
            .args(["-c", "read line; exec sleep 60"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let ended = std::time::Instant::now() + std::time::Duration::from_secs(10);
        // For a moment after it was started it is still becoming the first program.
        let before = loop {
            match image_of(child.id()) {
                None => assert!(std::time::Instant::now() < ended, "it has no image"),
                image => break image,
            }
        };
        let own = image_of(own_pid());
        assert!(own.is_some() && own == image_of(own_pid()));
        drop(child.stdin.take());
        while image_of(child.id()) == before {
            assert!(std::time::Instant::now() < ended, "it is taken for the same program");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(image_of(child.id()), None);
    }

    #[test]
    fn b8_a_child_that_was_not_reaped_is_dead() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let identity =
            Identity { pid: child.id(), start: state_of(&child.id().to_string()).unwrap().1, ..Identity::own() };
        assert_eq!(identity.alive(), Alive::Yes);
        child.kill().unwrap();
        let ended = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while pid_is_alive(child.id()) {
            assert!(std::time::Instant::now() < ended, "a zombie counts as alive");
            std::thread::yield_now();
        }
        assert_eq!(identity.alive(), Alive::No);
        child.wait().unwrap();
    }

    #[test]
    fn b16_a_reused_pid_is_another_process() {
        let own = Identity::own();
        assert_eq!(own.alive(), Alive::Yes);
        assert_eq!(Identity { start: own.start + 1, ..own.clone() }.alive(), Alive::No);
        assert_eq!(Identity { boot: "another".into(), ..own.clone() }.alive(), Alive::No);
        assert_eq!(Identity { pid_ns: 1, ..own }.alive(), Alive::Unknown);
    }

    #[test]
    fn signals_never_reach_a_successor_or_the_first_process() {
        let long_ago = SystemTime::now() - Duration::from_secs(365 * 24 * 3600 * 20);
        assert!(!signal(own_pid(), libc::SIGKILL, Some(long_ago), || true).unwrap());
        assert!(!signal(own_pid(), libc::SIGKILL, None, || false).unwrap());
        assert!(signal(1, libc::SIGTERM, None, || true).is_err());
        assert!(signal(0, libc::SIGTERM, None, || true).is_err());
    }
}
