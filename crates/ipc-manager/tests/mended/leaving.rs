// SPDX-License-Identifier: MIT OR Apache-2.0
//! Leaving: nothing unread is lost on the way out, and what went wrong can be tried again.

use std::fs;
use std::io::{Read, Write, pipe};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use ipc_manager::{Client, ErrorKind, Spawn, Suspend};
use ipc_manager_testkit::{PATIENCE, Sandbox, Suite, Test};
use rustix::fs::FlockOperation;

use super::{act_dir, play};
use crate::file_bus::{FileBus, contents, dead_pid};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        what_was_unread_is_handed_back_whatever_else_fails,
        what_is_nested_deep_in_a_mailbox_does_not_keep_it,
        what_cannot_be_removed_keeps_nothing_else_and_the_notes_of_the_store,
        who_cannot_leave_now_is_still_there,
        a_bus_at_a_relative_route_outlives_a_change_of_directory,
        a_bus_whose_parent_is_renamed_is_not_gone,
        a_pipe_is_left_once_a_forked_child_has_let_go_of_it,
    ]
}

/// While a child has a copy of the FIFO to read, others can write into it, and nobody would read that.
fn a_pipe_is_left_once_a_forked_child_has_let_go_of_it(_: &Sandbox) {
    let bus = Spawn::builder().protocol("AtomicPipe").spawn().unwrap();
    for _ in 0..20 {
        let mut reader = bus.connect("reader").unwrap();
        let ((mut is_forked, mut forked), (mut held, mut release)) = (pipe().unwrap(), pipe().unwrap());
        let mut program = Command::new("true");
        let waits = move || forked.write_all(b"x").and_then(|()| held.read_exact(&mut [0]));
        // SAFETY: it only writes and reads, which is safe between fork and exec.
        unsafe { program.pre_exec(waits) };
        let (released, left) = thread::scope(|scope| {
            let child = scope.spawn(move || program.status().unwrap());
            is_forked.read_exact(&mut [0]).unwrap();
            let begun = Instant::now();
            let releases = scope.spawn(move || {
                thread::sleep(Duration::from_millis(40)); // so long the child has its copy
                let released = begun.elapsed();
                release.write_all(b"x").unwrap();
                released
            });
            reader.disconnect().unwrap();
            let left = begun.elapsed();
            assert!(child.join().unwrap().success());
            (releases.join().unwrap(), left)
        });
        // A child that goes on having it is not waited for; on a busy machine it may have been that.
        if released < Duration::from_millis(120) {
            assert!(left >= released, "it left after {left:?}, and the child had its copy until {released:?}");
            return;
        }
    }
    panic!("the machine is too busy to tell");
}

pub fn add_to(suite: Suite) -> Suite {
    suite.act("changes its directory", changes_its_directory)
}

fn send_three(sender: &mut Client, to: &str) {
    for number in 1..=3 {
        sender.send(to, &number).unwrap();
    }
}

fn what_was_unread_is_handed_back_whatever_else_fails(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    send_three(&mut b, "a");
    // The counters cannot be stored.
    fs::create_dir_all(bus.at_name("a.stats.pend/in the way")).unwrap();
    let error = a.disconnect().unwrap_err();
    assert_eq!(contents(error.messages()), [1, 2, 3], "{error}");
    assert!(!a.is_connected());
    // And through the handler of one's own.
    let mut c = bus.client("c");
    send_three(&mut b, "c");
    fs::create_dir_all(bus.at_name("c.stats.pend/in the way")).unwrap();
    let mut unread = Vec::new();
    c.disconnect_with(|messages| unread.extend(messages)).unwrap_err();
    assert_eq!(contents(&unread), [1, 2, 3]);
    // Names are free afterwards, whatever is in the way of their counters.
    drop((bus.client("a"), bus.client("c")));
}

/// Makes directories in each other in a directory.
fn nest(dir: PathBuf, depth: usize) {
    fs::create_dir_all((0..depth).fold(dir, |dir, _| dir.join("d"))).unwrap();
}

fn what_is_nested_deep_in_a_mailbox_does_not_keep_it(sandbox: &Sandbox) {
    let mut bus = FileBus::new(sandbox);
    let (mut a, mut b, _c) = (bus.client("a"), bus.client("b"), bus.client("c"));
    send_three(&mut b, "a");
    nest(bus.at_name("a"), 40);
    let error = a.disconnect().unwrap_err();
    assert_eq!((error.kind(), contents(error.messages()).len()), (ErrorKind::UnreadMessages, 3), "{error}");
    // In that of a dead one, which is swept by whoever takes its name.
    bus.foreign_entry("dead", Some(dead_pid()));
    nest(bus.at_name("dead"), 40);
    b.send("dead", "unread").unwrap();
    assert_eq!(bus.client("dead").discarded(), 1);
    nest(bus.at_name("c"), 40);
    bus.owner.unspawn().unwrap();
    assert!(!bus.route().exists());
}

fn what_cannot_be_removed_keeps_nothing_else_and_the_notes_of_the_store(sandbox: &Sandbox) {
    let mut bus = FileBus::new(sandbox);
    let [mut a, b, mut c] = ["a", "b", "c"].map(|name| bus.client(name));
    send_three(&mut a, "c");
    // Deeper than any store is made.
    nest(bus.at_name("b"), 200);
    bus.owner.unspawn().unwrap_err();
    let mut left: Vec<String> =
        fs::read_dir(bus.route()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, [".ipcm-made", ".ipcm-owner", "b"], "so that it can be told whose it was");
    for client in [&mut a, &mut c] {
        let _ = client.disconnect();
    }
    drop(b);
}

fn who_cannot_leave_now_is_still_there(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let [mut leaves, mut suspends, mut sender] = ["leaves", "suspends", "sender"].map(|name| bus.client(name));
    send_three(&mut sender, "leaves");
    send_three(&mut sender, "suspends");
    // As a process holds it that is stopped in the middle of taking a name.
    let lock = fs::File::open(bus.at_name(".ipcm-lock")).unwrap();
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
    thread::scope(|scope| {
        let left = scope.spawn(|| leaves.disconnect());
        let suspended = suspends.suspend(Suspend::open_ended());
        assert_eq!(suspended.unwrap_err().kind(), ErrorKind::Timeout);
        assert_eq!(left.join().unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    });
    assert!(leaves.is_connected() && suspends.is_connected());
    send_three(&mut sender, "leaves");
    rustix::fs::flock(&lock, FlockOperation::Unlock).unwrap();
    let error = leaves.disconnect().unwrap_err();
    assert_eq!(
        (error.kind(), contents(error.messages())),
        (ErrorKind::UnreadMessages, vec![1, 2, 3, 1, 2, 3].into_iter().map(serde_json::Value::from).collect())
    );
    suspends.suspend(Suspend::open_ended()).unwrap();
    assert_eq!(bus.reconnect("suspends").get_messages().unwrap().len(), 3);
}

fn a_bus_at_a_relative_route_outlives_a_change_of_directory(sandbox: &Sandbox) {
    play("changes its directory", sandbox);
}

fn changes_its_directory() -> ExitCode {
    std::env::set_current_dir(act_dir()).unwrap();
    let bus = Spawn::builder().protocol("MessageFiles").serializer("JSON").route("relative").guard(false);
    let bus = bus.spawn().unwrap();
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    send_three(&mut b, "a");
    std::env::set_current_dir("/").unwrap();
    b.send("a", &4).unwrap();
    assert_eq!(b.send("nobody", "x").unwrap_err().kind(), ErrorKind::NoSuchPeer);
    assert!(a.peer("nobody").unwrap().is_none());
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), 1);
    let error = a.disconnect().unwrap_err();
    assert_eq!((error.kind(), contents(error.messages()).len()), (ErrorKind::UnreadMessages, 3));
    assert!(!act_dir().join("relative/a").exists() && !act_dir().join("relative/.live-a").exists());
    b.disconnect().unwrap();
    ExitCode::SUCCESS
}

fn a_bus_whose_parent_is_renamed_is_not_gone(sandbox: &Sandbox) {
    let (here, there) = (sandbox.dir().join("here"), sandbox.dir().join("there"));
    fs::create_dir(&here).unwrap();
    let bus = FileBus::at(&here.join("bus"));
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    send_three(&mut b, "a");
    fs::rename(&here, &there).unwrap();
    assert_eq!(b.send("nobody", "x").unwrap_err().kind(), ErrorKind::NoSuchPeer);
    let error = a.disconnect().unwrap_err();
    assert_eq!((error.kind(), contents(error.messages()).len()), (ErrorKind::UnreadMessages, 3));
    assert!(!there.join("bus/a").exists() && !there.join("bus/.live-a").exists());
}
