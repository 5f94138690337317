// SPDX-License-Identifier: MIT OR Apache-2.0
//! Section B: hangs and stalls.

use std::fs;
use std::time::Duration;

use ipc_manager::{ErrorKind, PeerState, Wait, WaitFor};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test, eventually};
use serde_json::json;

use crate::file_bus::{FileBus, contents, dead_pid, foreign_message};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        b4_a_client_with_only_put_back_messages_can_leave,
        b5_put_back_messages_are_visible_at_once,
        b6_a_stray_half_written_message_does_not_hold_up_leaving,
        b8_a_killed_and_unreaped_process_counts_as_gone,
        b10_leaving_and_shutdown_do_not_wait_in_steps,
        b13_an_entry_that_a_crash_left_without_a_pid_is_swept,
        b14_a_left_over_leaving_directory_is_in_nobodys_way,
        b15_very_many_waiting_messages_are_handed_out,
        b16_a_reused_pid_does_not_keep_a_name,
    ]
}

fn b4_a_client_with_only_put_back_messages_can_leave(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    b.send("a", "x").unwrap();
    let taken = a.get_messages().unwrap();
    a.requeue(&taken).unwrap();
    let error = a.disconnect().unwrap_err();
    assert_eq!((error.kind(), contents(error.messages())), (ErrorKind::UnreadMessages, vec![json!("x")]));
    assert!(!bus.at_name("a").exists() && !bus.at_name("a.resume").exists());
}

fn b5_put_back_messages_are_visible_at_once(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    b.send("a", "x").unwrap();
    let taken = a.get_messages().unwrap();
    a.requeue(&taken).unwrap();
    assert!(a.is_ready().unwrap());
    assert!(matches!(a.wait(Some(Duration::ZERO)).unwrap(), Wait::Message));
    assert_eq!(a.get_messages().unwrap(), taken);
}

fn b6_a_stray_half_written_message_does_not_hold_up_leaving(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    fs::write(bus.at_name("a").join("of-a-dead-writer.pend"), "{\"half").unwrap();
    a.disconnect().unwrap();
    assert!(!bus.at_name("a").exists() && !bus.at_name("_a").exists());
}

fn b8_a_killed_and_unreaped_process_counts_as_gone(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    b.kill_unreaped();
    assert!(matches!(a.wait_for(&WaitFor::message().or_gone("b").unwrap().within(PATIENCE)), Ok(Wait::PeerGone(_))));
    assert_eq!(a.peer("b").unwrap().unwrap().state, PeerState::Dead);
    // Also where only a pid is known, as of a peer of another implementation.
    bus.foreign_entry("perl", Some(b.pid()));
    assert_eq!(a.peer("perl").unwrap().unwrap().state, PeerState::Dead);
    let mut reaped: Vec<String> = a.reap().unwrap().iter().map(ToString::to_string).collect();
    reaped.sort();
    assert_eq!(reaped, ["b", "perl"]);
}

fn b10_leaving_and_shutdown_do_not_wait_in_steps(sandbox: &Sandbox) {
    // Not a matter of time, but of what it waits for: a hundred of them in steps of a second would meet the watchdog.
    for round in 0..100 {
        let route = sandbox.dir().join(format!("bus-{round}"));
        let mut bus = FileBus::at(&route);
        let (mut a, mut b) = (bus.client("a"), bus.client("b"));
        a.send("b", "x").unwrap();
        a.disconnect().unwrap();
        b.disconnect_with(|_| ()).unwrap();
        bus.owner.shutdown().unwrap();
        assert!(!route.exists());
    }
}

fn b13_an_entry_that_a_crash_left_without_a_pid_is_swept(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    bus.foreign_entry("half-made", None);
    assert!(a.reap().unwrap().is_empty(), "it may be just starting");
    eventually("the entry to be old enough", || a.reap().unwrap() == ["half-made"]);
    drop(bus.client("half-made"));
}

fn b14_a_left_over_leaving_directory_is_in_nobodys_way(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    fs::create_dir(bus.at_name("_a")).unwrap();
    fs::write(bus.at_name("_a").join("old.ready"), foreign_message("b", "a", "old", 5.0, &json!("old"))).unwrap();
    fs::write(bus.at_name("a.pid"), dead_pid().to_string()).unwrap();
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    b.send("a", "new").unwrap();
    assert_eq!(contents(&a.get_messages().unwrap()), ["new"]);
    a.disconnect().unwrap();
    assert!(!bus.at_name("_a").exists());
    drop(bus.client("a"));
}

fn b15_very_many_waiting_messages_are_handed_out(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    for number in 0..70_000 {
        let text = foreign_message("b", "a", &format!("id-{number}"), f64::from(number), &number.into());
        fs::write(bus.at_name("a").join(format!("id-{number}.ready")), text).unwrap();
    }
    let mut got = 0;
    while let Some(message) = a.try_recv().unwrap() {
        assert_eq!(message.content(), got);
        got += 1;
    }
    assert_eq!(got, 70_000);
}

fn b16_a_reused_pid_does_not_keep_a_name(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut b = bus.puppet("b");
    b.kill();
    // The number belongs to somebody else now: this process.
    fs::write(bus.at_name("b.pid"), std::process::id().to_string()).unwrap();
    let lock = bus.at_name(".live-b");
    let identity = fs::read_to_string(&lock).unwrap();
    let reused = identity.replace(&format!("\"pid\":{}", b.pid()), &format!("\"pid\":{}", std::process::id()));
    assert_ne!(identity, reused, "the lock file does not say whose it is");
    fs::write(&lock, reused).unwrap();
    let mut a = bus.client("a");
    assert_eq!(
        a.peer("b").unwrap().unwrap().state,
        PeerState::Dead,
        "the number lives, the process that had it does not"
    );
    drop(bus.client("b"));
}
