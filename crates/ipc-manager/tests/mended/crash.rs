// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes that are killed at every system call of an operation in turn: whatever they leave, the next process can
//! use it, and no acknowledged message is lost or doubled but the one in hand.

use std::process::{ExitCode, Stdio};

use ipc_manager::{Client, ConnectionString, ErrorKind, Spawn, Suspend};
use ipc_manager_testkit::trace::{self, Step, Traced};
use ipc_manager_testkit::{PATIENCE, Sandbox, Suite, Test};
use serde_json::{Value, json};

use crate::file_bus::{FileBus, contents, dead_pid};

pub fn tests() -> Vec<Test> {
    let tests = ipc_manager_testkit::tests![
        a_connect_that_is_killed_leaves_the_name_free,
        a_connect_over_a_dead_peer_that_is_killed_loses_count_of_nothing,
        a_reconnect_that_is_killed_loses_nothing,
        a_reconnect_that_is_killed_does_not_take_a_strangers_pid_for_a_peer,
        a_suspend_that_is_killed_loses_nothing,
        a_requeue_that_is_killed_loses_nothing_but_what_was_in_hand,
        a_receive_that_is_killed_loses_nothing_but_what_was_in_hand,
        a_disconnect_that_is_killed_leaves_the_name_free,
        a_send_that_is_killed_stores_the_message_whole_or_not,
        a_reap_that_is_killed_is_finished_by_the_next,
        a_removal_that_is_killed_is_finished_by_a_shutdown,
    ];
    tests.into_iter().map(|test| test.only_if(trace::can)).collect()
}

pub fn add_to(suite: Suite) -> Suite {
    suite.act("steps", steps)
}

/// Tells the act which bus, and which operation it is to be killed in.
const BUS: &str = "IPC_MANAGER_TEST_BUS";
const OPERATION: &str = "IPC_MANAGER_TEST_OPERATION";

/// Stops here until the tracer lets this process go on, call by call.
fn begin() {
    trace::begin().unwrap();
}

fn steps() -> ExitCode {
    let info: ConnectionString = std::env::var(BUS).unwrap().parse().unwrap();
    let reconnect = || ipc_manager::reconnect("a", &info).unwrap();
    let operation = std::env::var(OPERATION).unwrap();
    let client: Client = match operation.as_str() {
        "connect" => {
            begin();
            ipc_manager::connect("a", &info).unwrap()
        }
        "reconnect" => {
            begin();
            reconnect()
        }
        "unspawn" => {
            let mut bus = Spawn::adopt(&info).unwrap();
            begin();
            bus.unspawn().unwrap();
            // SAFETY: it has no preconditions.
            unsafe { libc::_exit(0) }
        }
        _ => {
            let mut client = reconnect();
            let taken = if operation == "requeue" { client.get_at_most(1).unwrap() } else { vec![] };
            begin();
            match operation.as_str() {
                "suspend" => client.suspend(Suspend::within(PATIENCE)).unwrap(),
                "requeue" => client.requeue(&taken).unwrap(),
                "receive" => drop(client.get_at_most(1).unwrap()),
                "disconnect" => drop(client.disconnect()),
                "send" => drop(client.send("b", &4).unwrap()),
                "reap" => drop(client.reap().unwrap()),
                unknown => panic!("{unknown}"),
            }
            client
        }
    };
    // Killed here at the latest, so that nothing is cleaned up.
    std::mem::forget(client);
    // SAFETY: it has no preconditions.
    unsafe { libc::_exit(0) }
}

/// Kills the operation at each of its system calls in turn, each time on a bus of its own.
fn at_every_call(sandbox: &Sandbox, operation: &str, prepare: fn(&FileBus), check: fn(&FileBus)) {
    for calls in 0.. {
        let bus = FileBus::at(&sandbox.dir().join(format!("bus-{calls}")));
        prepare(&bus);
        let mut command = Suite::command("steps");
        command.env(BUS, bus.info().to_string()).env(OPERATION, operation).stdin(Stdio::null());
        let mut traced = Traced::start(&mut command).unwrap();
        let is_inside = (0..calls).all(|_| match traced.step() {
            Step::Call(_) => true,
            Step::Ended(status) => {
                assert!(status.success(), "the act failed: {status}");
                false
            }
            other => panic!("{other:?}"),
        });
        drop(traced);
        println!("{operation}, killed at call {calls}");
        check(&bus);
        // A bus that was ended has nothing left to sweep.
        if bus.route().exists() {
            assert_nothing_of_ours_is_left(&bus);
        }
        if !is_inside {
            assert!(calls > 3, "only {calls} system calls were seen");
            return;
        }
    }
}

/// What the killed left under names of ours goes with the next sweep.
fn assert_nothing_of_ours_is_left(bus: &FileBus) {
    let mut broom = bus.client("broom");
    broom.reap().unwrap();
    let left: Vec<_> = bus
        .tree()
        .into_iter()
        .filter(|path| {
            let name = path.as_os_str().as_encoded_bytes();
            name.starts_with(b".new-") || name.starts_with(b".dead-")
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Leaves three messages for a name that is suspended.
fn suspended(bus: &FileBus) {
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    b.send("a", &1).unwrap();
    let taken = a.recv_timeout(PATIENCE).unwrap();
    a.requeue(&[taken]).unwrap();
    a.suspend(Suspend::open_ended()).unwrap();
    for number in 2..=3 {
        b.send("a", &number).unwrap();
    }
    b.disconnect().unwrap();
}

/// Everything that is in a mailbox.
#[track_caller]
fn all_of(client: &mut Client) -> Vec<Value> {
    let mut got = Vec::new();
    loop {
        match client.get_messages().unwrap() {
            batch if batch.is_empty() => break,
            batch => got.extend(contents(&batch)),
        }
    }
    assert!(client.take_damaged().is_empty());
    got
}

#[track_caller]
fn received(bus: &FileBus) -> Vec<Value> {
    let mut a = bus.reconnect("a");
    let got = all_of(&mut a);
    a.disconnect().unwrap();
    got
}

fn a_connect_that_is_killed_leaves_the_name_free(sandbox: &Sandbox) {
    // Its counters stay, which must not make what is left look like somebody suspended.
    let prepare = |bus: &FileBus| bus.client("a").disconnect().unwrap();
    at_every_call(sandbox, "connect", prepare, |bus| drop(bus.client("a")));
}

/// How many messages lie anywhere in the store.
fn messages_in(bus: &FileBus) -> usize {
    bus.tree().iter().filter(|path| path.extension().is_some_and(|extension| extension == "ready")).count()
}

fn a_connect_over_a_dead_peer_that_is_killed_loses_count_of_nothing(sandbox: &Sandbox) {
    let prepare = |bus: &FileBus| {
        bus.foreign_entry("a", Some(dead_pid()));
        let mut b = bus.client("b");
        for number in 1..=3 {
            b.send("a", &number).unwrap();
        }
    };
    at_every_call(sandbox, "connect", prepare, |bus| {
        let lie_there = messages_in(bus);
        let a = bus.client("a");
        assert_eq!(a.discarded(), lie_there, "messages were thrown away without a word");
    });
}

fn a_reconnect_that_is_killed_loses_nothing(sandbox: &Sandbox) {
    at_every_call(sandbox, "reconnect", suspended, |bus| assert_eq!(received(bus), [1, 2, 3]));
}

fn a_reconnect_that_is_killed_does_not_take_a_strangers_pid_for_a_peer(sandbox: &Sandbox) {
    let prepare = |bus: &FileBus| {
        // The pid on record belonged to a peer, and now to this process, which began at another time.
        let other = bus.client("other");
        let mut identity: Value = serde_json::from_str(bus.read(".live-other").lines().next().unwrap()).unwrap();
        let start = identity["start"].as_u64().expect("the time at which a process began is on record");
        identity["start"] = json!(start - 1);
        std::fs::create_dir(bus.at_name("a")).unwrap();
        std::fs::write(bus.at_name(".live-a"), format!("{identity}\n")).unwrap();
        std::fs::write(bus.at_name("a.pid"), std::process::id().to_string()).unwrap();
        drop(other);
    };
    at_every_call(sandbox, "reconnect", prepare, |bus| assert!(received(bus).is_empty()));
}

fn a_suspend_that_is_killed_loses_nothing(sandbox: &Sandbox) {
    at_every_call(sandbox, "suspend", suspended, |bus| assert_eq!(received(bus), [1, 2, 3]));
}

fn a_requeue_that_is_killed_loses_nothing_but_what_was_in_hand(sandbox: &Sandbox) {
    at_every_call(sandbox, "requeue", suspended, |bus| {
        let got = received(bus);
        assert!(got == [1, 2, 3] || got == [2, 3], "{got:?}");
    });
}

fn a_receive_that_is_killed_loses_nothing_but_what_was_in_hand(sandbox: &Sandbox) {
    at_every_call(sandbox, "receive", suspended, |bus| {
        let got = received(bus);
        assert!(got == [1, 2, 3] || got == [2, 3], "{got:?}");
    });
}

fn a_disconnect_that_is_killed_leaves_the_name_free(sandbox: &Sandbox) {
    at_every_call(sandbox, "disconnect", suspended, |bus| {
        let lie_there = messages_in(bus);
        match bus.try_client("a") {
            Ok(a) => assert!(a.discarded() >= lie_there, "{} of {lie_there}", a.discarded()),
            // Killed before it gave the name up.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NameInUse);
                assert_eq!(received(bus), [1, 2, 3]);
            }
        }
    });
}

fn a_send_that_is_killed_stores_the_message_whole_or_not(sandbox: &Sandbox) {
    let prepare = |bus: &FileBus| {
        suspended(bus);
        bus.client("b").suspend(Suspend::open_ended()).unwrap();
    };
    at_every_call(sandbox, "send", prepare, |bus| {
        let mut b = bus.reconnect("b");
        let got = all_of(&mut b);
        assert!(got.is_empty() || got == [4], "{got:?}");
        // What is half-written holds nobody up, and its sender's name and mailbox are as they were.
        b.disconnect().unwrap();
        assert_eq!(received(bus), [1, 2, 3]);
    });
}

fn a_reap_that_is_killed_is_finished_by_the_next(sandbox: &Sandbox) {
    let prepare = |bus: &FileBus| {
        suspended(bus);
        for name in ["dead", "killed"] {
            bus.foreign_entry(name, Some(dead_pid()));
            bus.client("b").send(name, "never read").unwrap();
        }
    };
    at_every_call(sandbox, "reap", prepare, |bus| {
        assert_eq!(received(bus), [1, 2, 3], "it took what is not the dead peers'");
        let mut b = bus.client("b");
        b.reap().unwrap();
        assert!(b.reap().unwrap().is_empty(), "the second sweep finds something");
        for name in ["dead", "killed"] {
            assert!(b.peer(name).unwrap().is_none() && !bus.at_name(name).exists(), "{name} is still there");
        }
    });
}

fn a_removal_that_is_killed_is_finished_by_a_shutdown(sandbox: &Sandbox) {
    at_every_call(sandbox, "unspawn", suspended, |bus| match Spawn::adopt(bus.info()) {
        Ok(mut adopted) => {
            let audit = adopted.shutdown().unwrap();
            assert_eq!(audit.remaining(), [""; 0], "the dead were waited for");
            assert!(!bus.route().exists(), "something is left of the bus");
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NoSuchBus);
            let left = std::fs::read_dir(bus.route()).map_or(0, |left| left.count());
            assert_eq!(left, 0, "what is left of the bus cannot be ended: {error}");
        }
    });
}
