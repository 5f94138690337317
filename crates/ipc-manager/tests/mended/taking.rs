// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking names, and sweeping those of the dead: nobody's things are touched, and nobody is kept out.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::SystemTime;

use ipc_manager::{ConnectionString, ErrorKind, Observer, Spawn};
use ipc_manager_testkit::{Sandbox, Suite, Test, eventually};

use super::play;
use crate::file_bus::{FileBus, dead_pid};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        a_directory_that_is_no_bus_is_joined_by_nobody,
        directories_that_no_bus_made_are_no_dead_peers,
        what_looks_like_a_dead_peer_in_somebodys_directory_is_left_alone,
        a_directory_with_other_things_in_it_is_not_made_a_bus,
        ending_a_bus_in_somebodys_directory_removes_what_is_the_buss,
        junk_in_the_place_of_a_lock_hides_nobody_else,
        a_fork_in_a_critical_section_locks_nobody_out,
    ]
}

pub fn add_to(suite: Suite) -> Suite {
    suite.act("forks while names are taken", forks_while_names_are_taken)
}

/// A user's directory with things that are called like those of a bus.
fn somebodys(route: &Path) {
    fs::DirBuilder::new().mode(0o700).recursive(true).create(route.join("photos/2024")).unwrap();
    fs::create_dir(route.join("src")).unwrap();
    fs::create_dir(route.join("build")).unwrap();
    for (name, content) in [
        ("photos/2024/a.jpg", "x"),
        ("src/main.c", "int main"),
        ("src.stats", "a table"),
        ("nginx.pid", "1"),
        ("my.resume", "I was born"),
        ("build/a.o", "x"),
    ] {
        fs::write(route.join(name), content).unwrap();
    }
    fs::write(route.join("build.pid"), dead_pid().to_string()).unwrap();
}

/// Adds a live peer as another implementation makes one, so that the directory is a bus, too.
fn also_a_bus(route: &Path) {
    fs::create_dir(route.join("peer")).unwrap();
    fs::write(route.join("peer.pid"), std::process::id().to_string()).unwrap();
}

fn bus_at(route: &Path) -> ConnectionString {
    format!("[\"MessageFiles\",\"JSON\",\"{}\"]", route.display()).parse().unwrap()
}

fn a_directory_that_is_no_bus_is_joined_by_nobody(sandbox: &Sandbox) {
    let route = sandbox.dir().join("home");
    somebodys(&route);
    let (before, info) = (sandbox.listing(), bus_at(&route));
    let refused = [
        ipc_manager::connect("me", &info).map(drop),
        ipc_manager::connect("photos", &info).map(drop),
        ipc_manager::reconnect("build", &info).map(drop),
        Observer::new(&info).map(drop),
        Spawn::adopt(&info).map(drop),
    ];
    for refused in refused {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::NoSuchBus);
    }
    assert_eq!(sandbox.listing(), before);
}

fn directories_that_no_bus_made_are_no_dead_peers(sandbox: &Sandbox) {
    let route = sandbox.dir().join("home");
    somebodys(&route);
    also_a_bus(&route);
    // So old that nobody can be just making them.
    let is_old = |name: &str| {
        let changed = fs::metadata(route.join(name)).unwrap().ctime();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        now.saturating_sub(changed.unsigned_abs()) > 10
    };
    eventually("the directories to be old", || ["photos", "src", "build"].into_iter().all(is_old));
    let before = sandbox.listing();
    let mut me = ipc_manager::connect("me", &bus_at(&route)).unwrap();
    assert!(me.reap().unwrap().is_empty());
    for name in ["photos", "build"] {
        assert_eq!(ipc_manager::connect(name, &bus_at(&route)).unwrap_err().kind(), ErrorKind::NameInUse, "{name}");
    }
    assert!(!me.peers().unwrap().iter().any(|peer| peer == "photos"));
    assert!(before.is_subset(&sandbox.listing()), "something is gone");
    me.disconnect().unwrap();
    assert!(before.is_subset(&sandbox.listing()), "something is gone");
}

fn what_looks_like_a_dead_peer_in_somebodys_directory_is_left_alone(sandbox: &Sandbox) {
    let route = sandbox.dir().join("home");
    somebodys(&route);
    also_a_bus(&route);
    let mut me = ipc_manager::connect("me", &bus_at(&route)).unwrap();
    let before = sandbox.listing();
    assert!(me.reap().unwrap().is_empty());
    assert_eq!(ipc_manager::connect("build", &bus_at(&route)).unwrap_err().kind(), ErrorKind::NameInUse);
    assert_eq!(sandbox.listing(), before);
    // One that can be nobody else's is swept as ever.
    fs::create_dir(route.join("dead")).unwrap();
    fs::write(route.join("dead.pid"), dead_pid().to_string()).unwrap();
    assert_eq!(me.reap().unwrap(), ["dead"]);
    assert_eq!(sandbox.listing(), before);
}

fn a_directory_with_other_things_in_it_is_not_made_a_bus(sandbox: &Sandbox) {
    let route = sandbox.dir().join("home");
    somebodys(&route);
    let before = sandbox.listing();
    let builder = Spawn::builder().protocol("MessageFiles").route(route.to_str().unwrap());
    assert_eq!(builder.spawn().unwrap_err().kind(), ErrorKind::NameInUse);
    assert_eq!(sandbox.listing(), before);
}

fn ending_a_bus_in_somebodys_directory_removes_what_is_the_buss(sandbox: &Sandbox) {
    let route = sandbox.dir().join("home");
    somebodys(&route);
    let before = sandbox.listing();
    also_a_bus(&route);
    for name in ["a", "b"] {
        let mut client = ipc_manager::connect(name, &bus_at(&route)).unwrap();
        client.send(name, "unread").unwrap();
        client.suspend(ipc_manager::Suspend::open_ended()).unwrap();
    }
    assert!(route.join("a/").exists() && route.join("b.stats").exists());
    Spawn::adopt(&bus_at(&route)).unwrap().unspawn().unwrap();
    assert_eq!(sandbox.listing(), before);
    assert_eq!(fs::read_to_string(route.join("my.resume")).unwrap(), "I was born");
}

fn junk_in_the_place_of_a_lock_hides_nobody_else(sandbox: &Sandbox) {
    let mut bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    fs::create_dir(bus.at_name("z")).unwrap();
    fs::create_dir(bus.at_name(".live-z")).unwrap();
    std::os::unix::fs::symlink("/nowhere", bus.at_name(".live-link")).unwrap();
    fs::create_dir(bus.at_name(".live-nobody")).unwrap();
    assert!(a.peers().unwrap().iter().any(|peer| peer == "b"));
    assert!(a.reap().is_ok());
    let reached: Vec<String> = a.broadcast("to all").unwrap().iter().map(|(name, _)| name.to_string()).collect();
    assert!(reached.iter().any(|name| name == "b"), "{reached:?}");
    assert_eq!(b.try_recv().unwrap().unwrap().content(), "to all");
    assert!(a.peer("z").is_ok());
    a.disconnect().unwrap();
    b.disconnect().unwrap();
    bus.owner.shutdown().unwrap();
    assert!(!bus.route().exists());
}

fn a_fork_in_a_critical_section_locks_nobody_out(sandbox: &Sandbox) {
    play("forks while names are taken", sandbox);
}

/// Forks a child that sleeps until it is killed, at the latest with its parent.
fn sleeping_child() -> libc::pid_t {
    // SAFETY: between the fork and its end the child calls nothing that another thread could have locked.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        loop {
            // SAFETY: it has no preconditions.
            unsafe { libc::pause() };
        }
    }
    child
}

fn forks_while_names_are_taken() -> ExitCode {
    let bus = Spawn::builder().protocol("MessageFiles").serializer("JSON").spawn().unwrap();
    let (taken, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let mut children = Vec::new();
    let failed = thread::scope(|scope| {
        let takes = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if let Err(error) = bus.connect("comes and goes").and_then(|mut client| client.disconnect()) {
                    return Some(error);
                }
                taken.fetch_add(1, Ordering::Relaxed);
            }
            None
        });
        eventually("names to be taken", || taken.load(Ordering::Relaxed) > 0);
        for _ in 0..40 {
            children.push(sleeping_child());
            let before = taken.load(Ordering::Relaxed);
            eventually("the next name to be taken", || taken.load(Ordering::Relaxed) > before || takes.is_finished());
        }
        stop.store(true, Ordering::Relaxed);
        takes.join().unwrap()
    });
    for child in children {
        // SAFETY: a child of this process's that was not reaped.
        unsafe { libc::kill(child, libc::SIGKILL) };
    }
    assert!(failed.is_none(), "{failed:?}");
    ExitCode::SUCCESS
}
