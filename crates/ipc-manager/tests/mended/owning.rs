// SPDX-License-Identifier: MIT OR Apache-2.0
//! The owner of a bus: one at a time, on record as it is, and ended by signals as programs are.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use ipc_manager::{Client, ConnectionString, ErrorKind, Spawn, Suspend};
use ipc_manager_testkit::{PATIENCE, Puppet, Sandbox, Subject, Suite, Test, eventually};
use rustix::process::Signal;
use serde_json::json;

use super::play;
use crate::acts::Actor;
use crate::file_bus::{FileBus, names_in};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        a_route_with_a_live_owner_is_not_made_a_bus_again,
        a_route_whose_owner_is_dead_is_made_a_bus_again,
        adopting_leaves_the_record_to_the_owner_that_lives,
        a_bus_whose_owner_was_killed_while_making_it_goes_with_the_next,
        a_bus_that_is_no_longer_guarded_outlives_the_next_owner,
        a_bus_that_is_guarded_again_goes_with_its_owner,
        a_signal_does_not_end_a_bus_that_is_no_longer_guarded,
        a_signal_ends_a_bus_whose_owner_waits_for_its_peers,
        a_signal_ends_a_forked_child_of_an_owner,
        a_shutdown_does_not_wait_for_clients_of_threads_that_ended,
    ]
}

pub fn add_to(suite: Suite) -> Suite {
    suite
        .act("no longer guards", no_longer_guards)
        .act("guards again", guards_again)
        .act("no longer guards on signals", no_longer_guards_on_signals)
        .act("waits for peers", waits_for_peers)
        .act("forks an owner", forks_an_owner)
}

fn a_route_with_a_live_owner_is_not_made_a_bus_again(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    a.send("b", "unread").unwrap();
    let before = sandbox.listing();
    for guard in [true, false] {
        let builder = Spawn::builder().protocol("MessageFiles").guard(guard).peer_timeout(Duration::ZERO);
        let second = builder.route(bus.route().to_str().unwrap()).spawn();
        assert_eq!(second.unwrap_err().kind(), ErrorKind::NameInUse);
        assert_eq!(sandbox.listing(), before);
    }
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "unread");
}

/// Starts an owner of a bus, in a process of its own; returns its bus.
fn owner_in(dir: &Path, request: &serde_json::Value) -> (Puppet, ConnectionString) {
    let mut owner = Puppet::start(&Subject::new("MessageFiles"), "", dir);
    let bus = owner.must(request);
    let info: ConnectionString = bus["info"].as_str().unwrap().parse().unwrap();
    assert!(Path::new(info.route().as_str()).starts_with(dir), "{info} is not in {}", dir.display());
    (owner, info)
}

fn a_route_whose_owner_is_dead_is_made_a_bus_again(sandbox: &Sandbox) {
    let route = sandbox.dir().join("bus");
    let spawn = json!({"op": "spawn", "protocol": "MessageFiles", "route": route.to_str().unwrap(), "guard": true});
    let (mut first, info) = owner_in(sandbox.dir(), &spawn);
    let mut a = ipc_manager::connect("a", &info).unwrap();
    first.kill();
    let (second, info) = owner_in(sandbox.dir(), &spawn);
    let mut b = ipc_manager::connect("b", &info).unwrap();
    b.send("a", "still here").unwrap();
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "still here");
    for client in [&mut a, &mut b] {
        client.disconnect().unwrap();
    }
    second.end();
    assert!(!route.exists());
}

fn adopting_leaves_the_record_to_the_owner_that_lives(sandbox: &Sandbox) {
    let spawn = json!({"op": "spawn", "protocol": "MessageFiles", "guard": true});
    let (mut owner, info) = owner_in(sandbox.dir(), &spawn);
    let record = || fs::read_to_string(Path::new(info.route().as_str()).join(".ipcm-owner")).unwrap();
    let before = record();
    let mut adopted = Spawn::adopt(&info).unwrap();
    assert!(adopted.audit().unwrap().is_balanced());
    adopted.set_guard(false).unwrap();
    drop(adopted);
    assert_eq!(record(), before);
    // So its end shows when it comes, and the next owner of the same user sweeps what it left.
    owner.kill();
    let (next, _) = owner_in(sandbox.dir(), &spawn);
    assert!(!Path::new(info.route().as_str()).exists(), "an abandoned bus stays for ever");
    next.end();
    assert!(names_in(sandbox.dir()).is_empty());
}

fn a_bus_whose_owner_was_killed_while_making_it_goes_with_the_next(sandbox: &Sandbox) {
    let made = |name: &str| {
        let dir = sandbox.dir().join(name);
        fs::create_dir(&dir).unwrap();
        dir
    };
    let suffix = "0123456789abcdef0123456789abcdef";
    // Killed before the mark, while writing it, and while removing what another left.
    let unmarked = made(&format!("ipcm-4000001-{suffix}"));
    let half_marked = made(&format!("ipcm-4000002-{suffix}"));
    fs::write(half_marked.join(".ipcm-made"), "").unwrap();
    let half_removed = made(&format!("ipcm-dead-{suffix}"));
    // Killed before the owner was on record.
    let marked = made(&format!("ipcm-4000003-{suffix}"));
    let stat = rustix::fs::stat(&marked).unwrap();
    fs::write(marked.join(".ipcm-made"), json!({"device": stat.st_dev, "inode": stat.st_ino}).to_string()).unwrap();
    // Somebody's own, that only look so.
    let others = [
        made("ipcm-mine"),
        made(&format!("ipcm-4000004-{suffix}")),
        made(&format!("ipcm-x-{suffix}")),
        // One whose maker is there, and may have been stopped while it was making it.
        made(&format!("ipcm-{}-{suffix}", std::process::id())),
    ];
    fs::write(others[1].join("notes"), "mine").unwrap();
    let spawn = json!({"op": "spawn", "protocol": "MessageFiles", "guard": true});
    // They are left alone while they are so young that somebody may still be making them.
    owner_in(sandbox.dir(), &spawn).0.end();
    assert!(unmarked.exists() && half_marked.exists() && half_removed.exists() && marked.exists());
    let is_old = |path: &Path| {
        fs::metadata(path).is_ok_and(|stat| {
            let changed = Duration::from_secs(stat.ctime().try_into().unwrap());
            UNIX_EPOCH.elapsed().unwrap().saturating_sub(changed) > Duration::from_secs(12)
        })
    };
    eventually("them to be old", || is_old(&marked));
    owner_in(sandbox.dir(), &spawn).0.end();
    assert_eq!(names_in(sandbox.dir()).len(), others.len(), "{:?}", names_in(sandbox.dir()));
    assert!(others.iter().all(|other| other.exists()));
}

fn a_bus_that_is_no_longer_guarded_outlives_the_next_owner(sandbox: &Sandbox) {
    play("no longer guards", sandbox);
}

/// A bus in the act's temporary directory.
fn temporary() -> Spawn {
    Spawn::builder().protocol("MessageFiles").serializer("JSON").guard_on_signals(true).spawn().unwrap()
}

fn no_longer_guards() -> ExitCode {
    let mut bus = temporary();
    bus.set_guard(false).unwrap();
    let info = bus.info().clone();
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    a.suspend(Suspend::open_ended()).unwrap();
    b.send("a", "for later").unwrap();
    b.disconnect().unwrap();
    drop(bus);
    drop(temporary());
    let mut a = ipc_manager::reconnect("a", &info).unwrap();
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "for later");
    ExitCode::SUCCESS
}

fn a_bus_that_is_guarded_again_goes_with_its_owner(sandbox: &Sandbox) {
    let mut actor = Actor::start("guards again", sandbox);
    let info: ConnectionString = actor.line().parse().unwrap();
    actor.0.kill().unwrap();
    actor.0.wait().unwrap();
    let spawn = json!({"op": "spawn", "protocol": "MessageFiles", "guard": true});
    let (next, _) = owner_in(sandbox.dir(), &spawn);
    assert!(!Path::new(info.route().as_str()).exists());
    next.end();
}

fn guards_again() -> ExitCode {
    let mut bus = temporary();
    bus.set_guard(false).unwrap();
    bus.set_guard(true).unwrap();
    println!("{bus}");
    loop {
        thread::park();
    }
}

/// Signals an act that has not ended.
fn signal(actor: &Actor, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(actor.0.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn a_signal_does_not_end_a_bus_that_is_no_longer_guarded(sandbox: &Sandbox) {
    let mut actor = Actor::start("no longer guards on signals", sandbox);
    let info: ConnectionString = actor.line().parse().unwrap();
    let mut a = ipc_manager::connect("a", &info).unwrap();
    signal(&actor, Signal::TERM);
    let status = actor.0.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()), "{status}");
    a.send("a", "it goes on").unwrap();
    let message = a.recv_timeout(PATIENCE).unwrap();
    assert_eq!(message.content(), "it goes on", "nobody was asked to end");
}

fn no_longer_guards_on_signals() -> ExitCode {
    let mut bus = temporary();
    bus.set_guard(false).unwrap();
    println!("{bus}");
    loop {
        thread::park();
    }
}

fn a_signal_ends_a_bus_whose_owner_waits_for_its_peers(sandbox: &Sandbox) {
    for number in [Signal::TERM, Signal::INT] {
        let mut actor = Actor::start("waits for peers", sandbox);
        let info: ConnectionString = actor.line().parse().unwrap();
        let mut a = ipc_manager::connect("a", &info).unwrap();
        // Its own client is there while it waits.
        assert!(a.wait_for_peer("spawn", Some(PATIENCE)).unwrap());
        signal(&actor, number);
        assert!(a.recv_timeout(PATIENCE).unwrap().is_terminate());
        a.disconnect().unwrap();
        let status = actor.0.wait().unwrap();
        assert_eq!(status.signal(), Some(number.as_raw()), "it ends as it would have: {status}");
        assert_eq!(fs::read_dir(sandbox.dir()).unwrap().count(), 0, "something is left after {number:?}");
    }
}

fn waits_for_peers() -> ExitCode {
    const AN_HOUR: Duration = Duration::from_secs(3600);
    let builder = Spawn::builder().protocol("MessageFiles").guard_on_signals(true);
    let mut bus = builder.peer_timeout(PATIENCE).spawn().unwrap();
    println!("{bus}");
    // Without anybody on the bus a wait ends at once.
    let info = bus.info().clone();
    let mut watcher = ipc_manager::Observer::new(&info).unwrap();
    eventually("somebody to be there", || watcher.peer("a").is_ok_and(|peer| peer.is_some()));
    let _ = bus.wait(Some(AN_HOUR));
    loop {
        thread::park();
    }
}

fn a_signal_ends_a_forked_child_of_an_owner(sandbox: &Sandbox) {
    play("forks an owner", sandbox);
}

fn forks_an_owner() -> ExitCode {
    let bus = temporary();
    for number in [Signal::TERM, Signal::INT] {
        // SAFETY: the child calls nothing that another thread could have locked.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
            loop {
                // SAFETY: it has no preconditions.
                unsafe { libc::pause() };
            }
        }
        let pid = rustix::process::Pid::from_raw(child).unwrap();
        rustix::process::kill_process(pid, number).unwrap();
        let options = rustix::process::WaitOptions::NOHANG;
        let mut ended = None;
        eventually("the child to end", || {
            ended = rustix::process::waitpid(Some(pid), options).unwrap();
            ended.is_some()
        });
        assert_eq!(ended.unwrap().1.terminating_signal(), Some(number.as_raw()));
        assert!(Path::new(bus.route().as_str()).is_dir(), "the child ended its parent's bus");
    }
    let mut a = bus.connect("a").unwrap();
    assert!(a.try_recv().unwrap().is_none(), "nobody was asked to end");
    ExitCode::SUCCESS
}

fn a_shutdown_does_not_wait_for_clients_of_threads_that_ended(sandbox: &Sandbox) {
    let route = sandbox.dir().join("bus");
    let builder = Spawn::builder().protocol("MessageFiles").route(route.to_str().unwrap());
    let mut bus = builder.peer_timeout(Duration::from_secs(1)).guard(false).spawn().unwrap();
    let info = bus.info().clone();
    let mut made: Client = thread::spawn(move || ipc_manager::connect("made", &info).unwrap()).join().unwrap();
    // Who is waited for in vain is listed.
    assert_eq!(bus.shutdown().unwrap().remaining(), [""; 0]);
    let _ = made.disconnect();
}
