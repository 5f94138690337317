// SPDX-License-Identifier: MIT OR Apache-2.0
//! What on this machine will bite: one small function a check, each told by a [`Machine`] where to look, so that each can
//! be shown machines that there are not.

mod cleaners;
mod kernel;
mod leftovers;
mod place;
mod servers;

use std::path::{Path, PathBuf};

use ipc_manager::Registry;
use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// Something does not work now.
    Problem,
    /// Something will not work when there is more of it, or later.
    Warning,
    /// Good to know.
    Note,
}

/// Something that was found, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// A stable name.
    pub(crate) id: &'static str,
    pub(crate) severity: Severity,
    pub(crate) what: String,
    pub(crate) remedy: String,
}

impl Finding {
    fn new(severity: Severity, id: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { id, severity, what: what.into(), remedy: remedy.into() }
    }
}

/// Where to look, and who looks.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// What `/proc`, `/etc` and the like are in: `/`, but for tests.
    pub(crate) root: PathBuf,
    /// Whose buses these are.
    pub(crate) uid: u32,
    /// Where temporary stores are made.
    pub(crate) temporary: PathBuf,
    /// How many descriptors a process may have, and how many it may ask for; `None` is without limit.
    pub(crate) descriptors: (Option<u64>, Option<u64>),
}

impl Machine {
    /// This one.
    pub(crate) fn own() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Self {
            root: PathBuf::from("/"),
            uid: rustix::process::geteuid().as_raw(),
            temporary: std::env::temp_dir(),
            descriptors: (limit.current, limit.maximum),
        }
    }

    /// A path of the machine's.
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A number that the kernel tells in a file.
    fn number(&self, path: &str) -> Option<u64> {
        std::fs::read_to_string(self.at(path)).ok()?.trim().parse().ok()
    }
}

/// A check: its name, and what does it.
type Check = (&'static str, fn(&Machine) -> Vec<Finding>);

/// Those that look at the machine only.
const CHECKS: &[Check] = &[
    ("temporary_directory", place::permissions),
    ("temporary_space", place::space),
    ("temporary_file_system", place::file_system),
    ("socket_paths", place::socket_paths),
    ("temporary_cleaners", cleaners::cleaners),
    ("descriptors", kernel::descriptors),
    ("inotify_instances", kernel::inotify_instances),
    ("inotify_watches", kernel::inotify_watches),
    ("pipe_pages", kernel::pipe_pages),
    ("pipe_size", kernel::pipe_size),
    ("datagram_queue", kernel::datagram_queue),
];

/// What was looked at, and what was found, the worst first.
#[derive(Debug, Serialize)]
pub(crate) struct Examination {
    pub(crate) checked: Vec<&'static str>,
    pub(crate) findings: Vec<Finding>,
}

/// Makes all checks.
pub(crate) fn examine(machine: &Machine, registry: &Registry) -> Examination {
    let mut checked: Vec<_> = CHECKS.iter().map(|(name, _)| *name).collect();
    let mut findings: Vec<_> = CHECKS.iter().flat_map(|(_, check)| check(machine)).collect();
    checked.extend(["protocols", "leftovers"]);
    findings.extend(servers::protocols(registry));
    findings.extend(leftovers::leftovers(registry));
    findings.sort_by_key(|finding| finding.severity);
    Examination { checked, findings }
}

/// A path for a person.
fn shown(path: &Path) -> String {
    path.display().to_string().escape_debug().to_string()
}

/// A made-up machine for the tests of the checks.
#[cfg(test)]
mod made_up {
    use std::fs;

    use super::*;

    /// A machine in a directory of its own, removed when dropped.
    pub(super) struct MadeUp {
        pub(super) machine: Machine,
    }

    impl MadeUp {
        /// One with nothing in it but a temporary directory.
        pub(super) fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("ipcm-doctor-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            let temporary = root.join("tmp");
            fs::create_dir_all(&temporary).unwrap();
            let uid = rustix::process::geteuid().as_raw();
            Self { machine: Machine { root, uid, temporary, descriptors: (Some(1024), Some(4096)) } }
        }

        /// Puts a file in it.
        pub(super) fn with(self, path: &str, content: &str) -> Self {
            let path = self.machine.at(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
            self
        }

        /// Severity and name of what a check finds.
        pub(super) fn found(&self, check: fn(&Machine) -> Vec<Finding>) -> Vec<(Severity, &'static str)> {
            let findings = check(&self.machine);
            assert!(findings.iter().all(|finding| !finding.what.is_empty() && !finding.remedy.is_empty()));
            findings.iter().map(|finding| (finding.severity, finding.id)).collect()
        }
    }

    impl Drop for MadeUp {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.machine.root);
        }
    }
}
