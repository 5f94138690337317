// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where inotify is missing, exhausted, or loses events: the directory is the truth, and is looked at.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use ipc_manager::{Spawn, Suspend, Wait, WaitFor};
use ipc_manager_testkit::{PATIENCE, Puppet, Sandbox, Subject, Suite, Test};
use serde_json::Value;

use super::{act_dir, answer, can, cpu, enter_namespaces, play};
use crate::file_bus::contents;

pub fn tests() -> Vec<Test> {
    let limited = ipc_manager_testkit::tests![
        everything_works_without_inotify,
        everything_works_while_others_have_all_of_inotify,
    ];
    let limited = limited.into_iter().map(|test| test.only_if(can_limit)).collect();
    let others =
        ipc_manager_testkit::tests![events_that_were_lost_cost_no_message, events_that_were_lost_cost_no_wake_up];
    [limited, others].concat()
}

fn can_limit() -> Result<(), String> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    ANSWER.get_or_init(|| can("limits inotify")).clone()
}

fn limits_inotify() -> ExitCode {
    answer(limit_instances(0), "there is no user namespace with a limit on inotify")
}

pub fn add_to(suite: Suite) -> Suite {
    suite
        .act("limits inotify", limits_inotify)
        .act("no inotify", no_inotify)
        .act("inotify taken", inotify_taken)
        .act("too many messages", too_many_messages)
        .act("too many events", too_many_events)
}

fn everything_works_without_inotify(sandbox: &Sandbox) {
    play("no inotify", sandbox);
}

fn everything_works_while_others_have_all_of_inotify(sandbox: &Sandbox) {
    play("inotify taken", sandbox);
}

/// Another inotify instance, which nobody uses.
fn inotify() -> io::Result<std::os::fd::OwnedFd> {
    Ok(rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC)?)
}

/// Puts this process into a user namespace that has so many instances in all.
fn limit_instances(most: u32) -> io::Result<()> {
    enter_namespaces(0)?;
    std::fs::write("/proc/sys/user/max_inotify_instances", most.to_string())
}

fn no_inotify() -> ExitCode {
    limit_instances(0).unwrap();
    assert!(inotify().is_err(), "this test needs a process without inotify");
    converse();
    ExitCode::SUCCESS
}

fn inotify_taken() -> ExitCode {
    limit_instances(3).unwrap();
    let taken: Vec<_> = std::iter::from_fn(|| inotify().ok()).collect();
    assert!(taken.len() <= 3 && inotify().is_err());
    converse();
    drop(taken);
    ExitCode::SUCCESS
}

/// All that clients do with each other, between processes and within this one.
fn converse() {
    let mut bus = Spawn::builder().protocol("MessageFiles").serializer("JSON").peer_timeout(PATIENCE).spawn().unwrap();
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    let mut puppet = Puppet::start(&Subject::new("MessageFiles"), &bus.to_string(), &act_dir());
    let wake = a.wake().unwrap();
    assert!(wake.descriptors.is_empty() && wake.look_every <= Duration::from_secs(1), "an event loop polls, too");

    // A wait for a peer, that is there before it comes and while it is away.
    thread::scope(|scope| {
        let waited = scope.spawn(|| a.wait_for_peer("puppet", Some(PATIENCE)).unwrap());
        puppet.try_connect("puppet").unwrap();
        assert!(waited.join().unwrap());
    });
    // A conversation, each side waiting for the other.
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..100 {
                let seen = puppet.recv_count(1).remove(0);
                puppet.send("a", seen.content).unwrap();
            }
        });
        for number in 0..100 {
            a.send("puppet", &number).unwrap();
            assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), &Value::from(number));
        }
    });
    // Waits of every kind that must end.
    thread::scope(|scope| {
        let waited = scope.spawn(|| b.wait(Some(PATIENCE)).unwrap());
        a.send("b", "wake up").unwrap();
        assert_eq!(waited.join().unwrap(), Wait::Message);
        let waited = scope.spawn(|| a.wait_for(&WaitFor::nothing().or_peer_change().within(PATIENCE)).unwrap());
        // It knows who is there only once it waits, so somebody comes again and again.
        while !waited.is_finished() {
            drop(bus.connect("comes and goes").unwrap());
        }
        assert!(matches!(waited.join().unwrap(), Wait::PeerChange { .. }));
    });
    // And waits that must not: they look now and then, and use next to nothing.
    let before = cpu();
    assert!(b.recv_timeout(PATIENCE).is_ok());
    assert!(b.recv_timeout(Duration::from_secs(1)).is_err());
    assert!(cpu() - before < Duration::from_millis(300), "{:?} in a second", cpu() - before);

    b.suspend(Suspend::open_ended()).unwrap();
    a.send("b", "while away").unwrap();
    let mut b = bus.reconnect("b").unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "while away");
    puppet.kill_unreaped();
    let gone = WaitFor::message().or_gone("puppet").unwrap().within(PATIENCE);
    assert!(matches!(a.wait_for(&gone).unwrap(), Wait::PeerGone(_)));
    assert_eq!(a.reap().unwrap(), ["puppet"]);
    thread::scope(|scope| {
        let waited = scope.spawn(|| a.wait(Some(PATIENCE)).unwrap());
        bus.unspawn().unwrap();
        assert_eq!(waited.join().unwrap(), Wait::BusClosed);
    });
    let _ = b.disconnect();
}

/// More events than the kernel keeps; inotify(7).
fn more_than_fit() -> u32 {
    let most = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    most.trim().parse::<u32>().unwrap() + 1_000
}

fn events_that_were_lost_cost_no_message(sandbox: &Sandbox) {
    play("too many messages", sandbox);
}

fn too_many_messages() -> ExitCode {
    let bus = Spawn::builder().protocol("MessageFiles").serializer("JSON").spawn().unwrap();
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    let count = more_than_fit().max(20_000);
    assert!(a.try_recv().unwrap().is_none());
    for number in 0..count {
        b.send("a", &number).unwrap();
    }
    let mut got = Vec::new();
    while got.len() < count as usize {
        a.wait(Some(PATIENCE)).unwrap();
        got.extend(contents(&a.get_messages().unwrap()));
    }
    assert!(got == (0..count).map(Value::from).collect::<Vec<_>>(), "out of order, or not all");
    assert!(a.try_recv().unwrap().is_none());
    // And what comes afterwards is told of again.
    thread::scope(|scope| {
        let waited = scope.spawn(|| a.recv_timeout(PATIENCE).unwrap());
        b.send("a", "afterwards").unwrap();
        assert_eq!(waited.join().unwrap().content(), "afterwards");
    });
    ExitCode::SUCCESS
}

fn events_that_were_lost_cost_no_wake_up(sandbox: &Sandbox) {
    play("too many events", sandbox);
}

fn too_many_events() -> ExitCode {
    let bus = Spawn::builder().protocol("MessageFiles").serializer("JSON").spawn().unwrap();
    let (mut a, mut b, noisy) = (bus.connect("a").unwrap(), bus.connect("b").unwrap(), bus.connect("noisy").unwrap());
    assert!(a.try_recv().unwrap().is_none());
    // All of them in another mailbox, so that nothing but the overflow tells of the message. Two files by turns: an event
    // that is like the one before is not kept.
    let mailbox = Path::new(bus.route().as_str()).join("noisy");
    for _ in 0..more_than_fit() / 2 {
        for name in ["tick.pend", "tock.pend"] {
            std::fs::write(mailbox.join(name), "").unwrap();
            std::fs::remove_file(mailbox.join(name)).unwrap();
        }
    }
    b.send("a", "drowned out").unwrap();
    // Less than the time after which a mailbox is looked at all the same.
    assert_eq!(a.recv_timeout(Duration::from_secs(5)).unwrap().content(), "drowned out");
    drop(noisy);
    ExitCode::SUCCESS
}
