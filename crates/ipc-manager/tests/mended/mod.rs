// SPDX-License-Identifier: MIT OR Apache-2.0
//! What went wrong once, found by injuring the library: a test named after what holds.

mod crash;
mod descriptors;
mod ending;
mod full_disk;
mod leaving;
mod mailbox;
mod owning;
mod polling;
mod refusals;
mod taking;
mod waiting;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ipc_manager::Spawn;
use ipc_manager_testkit::{Sandbox, Suite, Test};

use crate::acts::Actor;

pub fn tests() -> Vec<Test> {
    [
        waiting::tests(),
        polling::tests(),
        mailbox::tests(),
        taking::tests(),
        crash::tests(),
        descriptors::tests(),
        leaving::tests(),
        full_disk::tests(),
        owning::tests(),
        ending::tests(),
        refusals::tests(),
    ]
    .concat()
}

pub fn add_to(suite: Suite) -> Suite {
    let add = [waiting::add_to, polling::add_to, mailbox::add_to, taking::add_to, crash::add_to, descriptors::add_to];
    let suite = add.into_iter().fold(suite, |suite, add| add(suite));
    [leaving::add_to, full_disk::add_to, owning::add_to, ending::add_to, refusals::add_to]
        .into_iter()
        .fold(suite, |suite, add| add(suite))
}

/// Plays an act in a process of its own, which must end well.
#[track_caller]
fn play(act: &str, sandbox: &Sandbox) {
    Actor::start(act, sandbox).assert_success();
}

/// Asks a process of its own whether this machine lets it do what a test needs; an act that ends badly prints why.
fn can(act: &str) -> Result<(), String> {
    let asked = Suite::command(act).output().map_err(|error| error.to_string())?;
    if asked.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&asked.stdout).trim().to_owned())
}

/// The answer of an act to [`can`].
fn answer(tried: io::Result<()>, what: &str) -> ExitCode {
    match tried {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{what}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The directory that an act works in.
fn act_dir() -> PathBuf {
    std::env::temp_dir()
}

/// A fresh bus of each protocol, in the sandbox.
fn both(sandbox: &Sandbox) -> [Spawn; 2] {
    let builder = Spawn::builder().serializer("JSON").guard(false).peer_timeout(Duration::from_millis(100));
    let route = sandbox.dir().join("bus");
    let files = builder.clone().protocol("MessageFiles").route(route.to_str().unwrap());
    [files.spawn().unwrap(), builder.protocol("LocalMemory").spawn().unwrap()]
}

/// The processor time that this thread has used.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// Puts this process, which must have one thread, into a user namespace of its own in which it is root, and into
/// others beside it, such as `CLONE_NEWNS`.
fn enter_namespaces(beside: libc::c_int) -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // SAFETY: it changes nothing but what this process may do and see.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER | beside) } != 0 {
        return Err(io::Error::last_os_error());
    }
    std::fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}
