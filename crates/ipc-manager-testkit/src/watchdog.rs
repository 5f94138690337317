// SPDX-License-Identifier: MIT OR Apache-2.0
//! The last resort against a test that hangs: past its time the whole run ends, its processes and files with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::removal;

/// How long one test may take.
const PER_TEST: Duration = Duration::from_secs(300);

/// How often the watchdog looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What must not outlive the run.
#[derive(Debug)]
struct Kept {
    next: u64,
    running: BTreeMap<u64, (String, Instant)>,
    puppets: BTreeSet<u32>,
    directories: BTreeSet<PathBuf>,
}

static KEPT: Mutex<Kept> =
    Mutex::new(Kept { next: 0, running: BTreeMap::new(), puppets: BTreeSet::new(), directories: BTreeSet::new() });

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches one test until it is dropped.
#[derive(Debug)]
pub(crate) struct Watched(u64);

impl Watched {
    pub(crate) fn new(test: &str) -> Self {
        static STARTED: Once = Once::new();
        STARTED.call_once(|| drop(thread::Builder::new().name("watchdog".into()).spawn(watch)));
        let mut kept = kept();
        kept.next += 1;
        let id = kept.next;
        // A search goes on for as long as it was told to.
        let patience = PER_TEST + Duration::from_secs(crate::fuzz::seconds().unwrap_or(0));
        kept.running.insert(id, (test.to_owned(), Instant::now() + patience));
        Self(id)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        kept().running.remove(&self.0);
    }
}

fn watch() {
    loop {
        thread::sleep(LOOK_EVERY); // between two looks
        let kept = kept();
        let now = Instant::now();
        if let Some((test, _)) = kept.running.values().find(|(_, deadline)| *deadline < now) {
            eprintln!("\nwatchdog: {test} still runs past its time; the run ends here");
            for pid in &kept.puppets {
                kill(*pid, rustix::process::Signal::KILL);
            }
            kept.directories.iter().for_each(|dir| removal::remove(dir));
            std::process::abort();
        }
    }
}

/// Signals a child of ours. It was not reaped, so the number is still its own.
pub(crate) fn kill(pid: u32, signal: rustix::process::Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

pub(crate) fn puppet_started(pid: u32) {
    kept().puppets.insert(pid);
}

pub(crate) fn puppet_reaped(pid: u32) {
    kept().puppets.remove(&pid);
}

pub(crate) fn directory_made(dir: &Path) {
    kept().directories.insert(dir.to_owned());
}

pub(crate) fn directory_gone(dir: &Path) {
    kept().directories.remove(dir);
}
