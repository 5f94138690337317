// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding the processes of a directory, where the system lists processes (`/proc`).

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal};

use crate::job::LOOK_EVERY;

/// The environment variable that everything in a directory is started with; its value is the directory.
pub(crate) const MARK: &str = "IPCM_PRIVATE_SERVER";

fn all() -> impl Iterator<Item = Pid> {
    let listed = fs::read_dir("/proc").into_iter().flatten().flatten();
    listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw))
}

/// Whether a process was started in a directory, told by its environment: nobody else's looks like that, while anybody
/// may have it as working directory or name it in an argument.
fn was_started_in(pid: Pid, dir: &Path) -> bool {
    let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
    let ours = |entry: &[u8]| {
        let value = entry.strip_prefix(MARK.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        value == Some(dir.as_os_str().as_bytes())
    };
    environment.split(|byte| *byte == 0).any(ours)
}

/// Whether a process works in a directory, or in one below it. PostgreSQL's sessions overwrite their environment.
fn works_in(pid: Pid, dir: &Path) -> bool {
    fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero())).is_ok_and(|cwd| cwd.starts_with(dir))
}

/// Signals what was started in a directory. Returns whether there was anything.
pub(crate) fn signal(dir: &Path, signal: Signal) -> bool {
    let mut found = false;
    for pid in all() {
        #[cfg(target_os = "linux")]
        {
            use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
            // From here on the descriptor means one process and no other.
            let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            if was_started_in(pid, dir) {
                found |= pidfd_send_signal(process, signal).is_ok();
            }
        }
        #[cfg(not(target_os = "linux"))]
        if was_started_in(pid, dir) {
            found |= rustix::process::kill_process(pid, signal).is_ok();
        }
    }
    found
}

/// Waits until nothing works in a directory any more. Returns whether that is so.
pub(crate) fn wait_until_none(dir: &Path, deadline: Instant) -> bool {
    while all().any(|pid| works_in(pid, dir) || was_started_in(pid, dir)) {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(LOOK_EVERY); // between two looks
    }
    true
}
