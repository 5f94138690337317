// SPDX-License-Identifier: MIT OR Apache-2.0
//! What all processes of a run stand on, and how it gives way: a small disk, inotify instances, the wall clock.

use std::ffi::CString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How large the disk is on which the store lies.
const DISK: &str = "size=24m,mode=700";
/// How many inotify instances a user may have in this namespace; each one may be taken away.
const INSTANCES: &str = "/proc/sys/user/max_inotify_instances";

/// The ground of one run.
#[derive(Debug)]
pub(super) struct Ground {
    /// Where the store goes.
    pub(super) store: PathBuf,
    is_disk: bool,
    instances: Option<String>,
    clock: Option<(PathBuf, fs::File)>,
    /// What cannot be injected here, and why.
    pub(super) missing: Vec<String>,
}

impl Ground {
    /// Prepares it in a directory. This process must have one thread. With `alone` it gets namespaces of its own, which
    /// what is shared with others, such as a server, does not survive.
    pub(super) fn prepare(dir: &Path, alone: bool) -> Self {
        let store = dir.join("disk");
        fs::create_dir(&store).expect("a directory for the store can be made");
        let mut missing = Vec::new();
        let (mut is_disk, mut instances) = (false, None);
        if alone {
            match enter_namespaces().and_then(|()| mount(&store, DISK)) {
                Ok(()) => is_disk = true,
                Err(error) => missing.push(format!("full disk: {error}; ENOSPC is injected into single calls only")),
            }
            match fs::read_to_string(INSTANCES) {
                Ok(most) if is_disk && fs::write(INSTANCES, &most).is_ok() => instances = Some(most),
                _ => missing.push("exhausted inotify: no namespace of its own; EMFILE in single calls only".into()),
            }
        } else {
            missing.push("full disk, exhausted inotify: the store is on a server that others share".into());
        }
        let clock = clock(dir);
        if let Err(reason) = &clock {
            missing.push(format!("clock steps: {reason}"));
        }
        Self { store, is_disk, instances, clock: clock.ok(), missing }
    }

    /// Lets processes see the clock of this ground.
    pub(super) fn put_under(&self, command: &mut Command) {
        if let Some((library, _)) = &self.clock {
            command.env("LD_PRELOAD", library).env("IPC_MANAGER_TESTKIT_CLOCK", library.with_extension("shift"));
        }
    }

    /// Fills the disk to the last byte. Whether there is one.
    pub(super) fn fill(&self) -> bool {
        if !self.is_disk {
            return false;
        }
        let mut ballast = fs::OpenOptions::new().append(true).create(true).open(self.store.join(".ballast"));
        for size in [1 << 20, 4096, 1] {
            while ballast.as_mut().is_ok_and(|ballast| ballast.write_all(&vec![0; size]).is_ok()) {}
        }
        true
    }

    /// Makes room on the disk again.
    pub(super) fn make_room(&self) {
        let _ = fs::remove_file(self.store.join(".ballast"));
    }

    /// Takes all inotify instances away, or gives them back. Whether that can be done here.
    pub(super) fn take_watches(&self, away: bool) -> bool {
        let Some(most) = &self.instances else { return false };
        fs::write(INSTANCES, if away { "0" } else { most }).is_ok()
    }

    /// Sets the clock of all by so many milliseconds beside the true time. Whether that can be done here.
    pub(super) fn shift_clock(&self, milliseconds: i64) -> bool {
        self.clock.as_ref().is_some_and(|(_, shift)| shift.write_all_at(&milliseconds.to_ne_bytes(), 0).is_ok())
    }

    /// What lies where the store was.
    pub(super) fn leftovers(&self) -> Vec<String> {
        crate::removal::listing(&self.store).iter().map(|path| path.display().to_string()).collect()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if self.is_disk {
            let path = CString::new(self.store.as_os_str().as_encoded_bytes()).expect("a path without NUL");
            // SAFETY: a string that ends; the mount is this process's own.
            unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        }
    }
}

/// Puts this process, which must have one thread, into namespaces in which it may mount and set limits.
fn enter_namespaces() -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // SAFETY: it changes nothing but what this process may do and see.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) } != 0 {
        return Err(io::Error::last_os_error());
    }
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

fn mount(at: &Path, options: &str) -> io::Result<()> {
    let at = at.to_str().expect("test directories have names in UTF-8");
    let [kind, at, options] = ["tmpfs", at, options].map(|text| CString::new(text).expect("a path without NUL"));
    // SAFETY: all are strings that end; the mount is this process's own and goes with it.
    let mounted = unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) };
    if mounted == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Builds the library that shifts the clock, and the file that says by how much.
fn clock(dir: &Path) -> Result<(PathBuf, fs::File), String> {
    let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
    fs::write(&source, include_str!("clock.c")).map_err(|error| error.to_string())?;
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-w", "-o"]).arg(&library).arg(&source).stderr(Stdio::null());
    let built = cc.status().map_err(|error| format!("no C compiler to build a clock with: {error}"))?;
    if !built.success() {
        return Err("the C compiler could not build a clock".into());
    }
    let shift = fs::File::create_new(library.with_extension("shift")).map_err(|error| error.to_string())?;
    shift.write_all_at(&0_i64.to_ne_bytes(), 0).map_err(|error| error.to_string())?;
    Ok((library, shift))
}
