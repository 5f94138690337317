// SPDX-License-Identifier: MIT OR Apache-2.0
//! Users of the machine that this program can be started again as, where root runs it.

use std::process::Command;

use rustix::fs::Mode;
use rustix::process::{Gid, Uid};

/// Tells a started program whom to become.
const USER: &str = "IPC_MANAGER_TESTKIT_USER";

/// A user that a started program becomes before it does anything, with the groups that it is in and its umask.
///
/// ```
/// use ipc_manager_testkit::{Suite, User};
/// let somebody = User { uid: 61_001, gid: 61_001, groups: vec![61_100], umask: 0o077 };
/// let mut command = Suite::command("an act");
/// somebody.plays(&mut command);
/// // Run by root, it is that user's; its environment tells it.
/// assert!(command.get_envs().any(|(_, value)| value.is_some_and(|value| value == "61001,61001,63,61100")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its number, and no other before or after.
    pub uid: u32,
    /// The number of the group that is its own.
    pub gid: u32,
    /// The numbers of the other groups that it is in.
    pub groups: Vec<u32>,
    /// What it takes off the modes of what it makes.
    pub umask: u32,
}

impl User {
    /// Has a command that starts this program in a role play it as this user.
    pub fn plays(&self, command: &mut Command) {
        let numbers = [self.uid, self.gid, self.umask].into_iter().chain(self.groups.iter().copied());
        let text: Vec<String> = numbers.map(|number| number.to_string()).collect();
        command.env(USER, text.join(","));
    }
}

/// Becomes the user that this process was started as, if it was. To be called while it has one thread.
pub(crate) fn become_it() {
    let Ok(text) = std::env::var(USER) else { return };
    let numbers: Vec<u32> = text.split(',').map(|number| number.parse().expect("a number")).collect();
    let [uid, gid, umask, groups @ ..] = numbers.as_slice() else { panic!("no user: {text}") };
    let groups: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
    rustix::thread::set_thread_groups(&groups).expect("root may have any groups");
    rustix::thread::set_thread_res_gid(gid, gid, gid).expect("root may have any group");
    rustix::thread::set_thread_res_uid(uid, uid, uid).expect("root may become anybody");
    rustix::process::umask(Mode::from_bits_truncate(*umask));
}
