// SPDX-License-Identifier: MIT OR Apache-2.0
//! A full disk: a small one of its own, seen by one process only. What was acknowledged can be read, what was refused
//! never arrives, and reading makes room.

use std::ffi::CString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use ipc_manager::{Client, ErrorKind, PeerState, Spawn, Stored, Suspend, Wait};
use ipc_manager_testkit::{PATIENCE, Sandbox, Suite, Test};

use super::{act_dir, answer, can, enter_namespaces, play};
use crate::file_bus::contents;

pub fn tests() -> Vec<Test> {
    let tests = ipc_manager_testkit::tests![
        t12_a_small_disk_is_filled_and_drained_again_and_again,
        t12_stores_in_one_file_are_filled_and_drained,
        a_database_on_a_small_disk_lets_more_through_than_fits_on_it,
        a_full_disk_can_be_read_also_with_messages_put_back,
        who_cannot_suspend_for_want_of_room_is_still_there,
        who_leaves_a_full_disk_is_handed_what_was_unread,
        what_can_neither_be_read_nor_removed_does_not_keep_a_client,
        what_can_neither_be_read_nor_removed_is_reported_once,
    ];
    tests.into_iter().map(|test| test.only_if(can_mount)).collect()
}

fn can_mount() -> Result<(), String> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    ANSWER.get_or_init(|| can("mounts a disk")).clone()
}

fn mounts_a_disk() -> ExitCode {
    let tried = enter_namespaces(libc::CLONE_NEWNS).and_then(|()| mount(&act_dir(), "size=1m"));
    answer(tried, "there is no namespace with a disk of its own")
}

pub fn add_to(suite: Suite) -> Suite {
    suite
        .act("mounts a disk", mounts_a_disk)
        .act("fills and drains", fills_and_drains)
        .act("fills and drains SQLite", || fills_and_drains_a_file("SQLite"))
        .act("fills and drains JSONFile", || fills_and_drains_a_file("JSONFile"))
        .act("streams through a small disk", streams_through_a_small_disk)
        .act("reads a full disk", reads_a_full_disk)
        .act("suspends on a full disk", suspends_on_a_full_disk)
        .act("leaves a full disk", leaves_a_full_disk)
        .act("an immovable message", an_immovable_message)
        .act("an immovable message that is looked at", an_immovable_message_that_is_looked_at)
}

/// Mounts a disk of one megabyte that only this process sees, and makes a bus on it.
fn small_disk() -> (Spawn, PathBuf) {
    small_disk_for("MessageFiles")
}

fn small_disk_for(protocol: &str) -> (Spawn, PathBuf) {
    enter_namespaces(libc::CLONE_NEWNS).unwrap();
    let dir = act_dir().join("disk");
    fs::create_dir(&dir).unwrap();
    mount(&dir, "size=1m,mode=700").unwrap();
    let builder = Spawn::builder().protocol(protocol).serializer("JSON").guard(false);
    (builder.route(dir.join("bus").to_str().unwrap()).spawn().unwrap(), dir)
}

fn mount(at: &Path, options: &str) -> io::Result<()> {
    let [none, kind, at, options] =
        ["none", "tmpfs", at.to_str().unwrap(), options].map(|text| CString::new(text).unwrap());
    // SAFETY: all are strings that end; the mount is this process's own and goes with it.
    let mounted = unsafe { libc::mount(none.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) };
    if mounted == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends messages of 4,000 bytes until there is no room; returns how many were acknowledged.
fn fill(sender: &mut Client, to: &str) -> usize {
    let (mut stored, mut refused) = (0, 0);
    while refused < 20 {
        match sender.send(to, &"p".repeat(3_800)) {
            Ok(_) => stored += 1,
            Err(error) => {
                assert_eq!((error.kind(), error.stored()), (ErrorKind::Store, Some(Stored::No)), "{error}");
                assert_eq!(error.messages().len(), 1);
                refused += 1;
            }
        }
    }
    stored
}

/// Takes the last of the room, down to single files.
fn fill_up(dir: &Path) {
    let ballast = fs::OpenOptions::new().append(true).create(true).open(dir.join("ballast"));
    let mut ballast = ballast.unwrap();
    while ballast.write_all(&[0; 4096]).is_ok() {}
    let fits = |number: &i32| fs::write(dir.join(format!("ballast-{number}")), "x").is_ok();
    assert!((0..10_000).take_while(fits).count() < 10_000);
}

fn make_room(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b"ballast") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

fn drain(client: &mut Client) -> usize {
    let mut count = 0;
    loop {
        match client.get_messages().unwrap().len() {
            0 => return count,
            more => count += more,
        }
    }
}

fn t12_a_small_disk_is_filled_and_drained_again_and_again(sandbox: &Sandbox) {
    play("fills and drains", sandbox);
}

fn fills_and_drains() -> ExitCode {
    let (bus, _) = small_disk();
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    for round in 0..3 {
        let stored = fill(&mut b, "a");
        let got = drain(&mut a);
        assert!(stored > 100, "{stored} fit on the disk in round {round}");
        assert_eq!(got, stored, "round {round}");
        assert!(a.take_damaged().is_empty());
    }
    b.send("a", "it works").unwrap();
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "it works");
    assert_eq!(bus.connect("c").unwrap().peers().unwrap(), ["a", "b"]);
    a.disconnect().unwrap();
    b.disconnect().unwrap();
    ExitCode::SUCCESS
}

fn t12_stores_in_one_file_are_filled_and_drained(sandbox: &Sandbox) {
    for protocol in ["SQLite", "JSONFile"] {
        let own = Sandbox::within(sandbox.dir());
        play(&format!("fills and drains {protocol}"), &own);
    }
}

fn fills_and_drains_a_file(protocol: &str) -> ExitCode {
    let (bus, _) = small_disk_for(protocol);
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    let mut counts = Vec::new();
    for _ in 0..3 {
        let stored = fill(&mut b, "a");
        assert!(stored > 5, "{stored} messages fill the disk");
        assert_eq!(drain(&mut a), stored, "what is acknowledged arrives, and nothing else");
        counts.push(stored);
    }
    println!("T12, {protocol}: {counts:?} messages fill the disk");
    b.send("a", "there is room").unwrap();
    assert_eq!(contents(&a.get_messages().unwrap()), ["there is room"]);
    a.disconnect().unwrap();
    b.disconnect().unwrap();
    ExitCode::SUCCESS
}

fn a_database_on_a_small_disk_lets_more_through_than_fits_on_it(sandbox: &Sandbox) {
    play("streams through a small disk", sandbox);
}

fn streams_through_a_small_disk() -> ExitCode {
    let (bus, _) = small_disk_for("SQLite");
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    // A log of the usual length would fill the disk several times over.
    for round in 0..500 {
        a.send("b", &"p".repeat(8_000)).unwrap_or_else(|error| panic!("{round}: {error:?}"));
        b.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{round}: {error:?}"));
    }
    a.disconnect().unwrap();
    b.disconnect().unwrap();
    ExitCode::SUCCESS
}

fn a_full_disk_can_be_read_also_with_messages_put_back(sandbox: &Sandbox) {
    play("reads a full disk", sandbox);
}

fn reads_a_full_disk() -> ExitCode {
    let (bus, dir) = small_disk();
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    for number in 1..=3 {
        b.send("a", &number).unwrap();
    }
    let taken = a.get_messages().unwrap();
    a.requeue(&taken).unwrap();
    let stored = fill(&mut b, "a");
    fill_up(&dir);
    assert_eq!(contents(&a.get_at_most(3).unwrap()), [1, 2, 3]);
    assert_eq!(drain(&mut a), stored);
    make_room(&dir);
    assert_eq!(fill(&mut b, "a"), drain(&mut a));
    assert!(a.take_damaged().is_empty());
    ExitCode::SUCCESS
}

fn who_cannot_suspend_for_want_of_room_is_still_there(sandbox: &Sandbox) {
    play("suspends on a full disk", sandbox);
}

fn suspends_on_a_full_disk() -> ExitCode {
    let (bus, dir) = small_disk();
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    for number in 1..=3 {
        b.send("a", &number).unwrap();
    }
    fill_up(&dir);
    for until in [Suspend::open_ended(), Suspend::within(PATIENCE)] {
        let error = a.suspend(until).unwrap_err();
        assert!(a.is_connected(), "{error}");
        assert_eq!(b.peer("a").unwrap().unwrap().state, PeerState::Active, "{error}");
    }
    let got = a.get_at_most(1).unwrap();
    assert_eq!(contents(&got), [1]);
    make_room(&dir);
    a.suspend(Suspend::open_ended()).unwrap();
    let mut a = bus.reconnect("a").unwrap();
    assert_eq!(contents(&a.get_messages().unwrap()), [2, 3]);
    assert!(b.reap().unwrap().is_empty());
    ExitCode::SUCCESS
}

fn who_leaves_a_full_disk_is_handed_what_was_unread(sandbox: &Sandbox) {
    play("leaves a full disk", sandbox);
}

fn leaves_a_full_disk() -> ExitCode {
    let (bus, dir) = small_disk();
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    for number in 1..=3 {
        b.send("a", &number).unwrap();
    }
    fill_up(&dir);
    let error = a.disconnect().unwrap_err();
    assert_eq!(contents(error.messages()), [1, 2, 3], "{error}");
    assert!(!a.is_connected() && b.peer("a").unwrap().is_none());
    // Nor does anybody join one, and leave something behind in the attempt.
    fill_up(&dir);
    let refused = bus.connect("c").unwrap_err();
    assert_ne!(refused.kind(), ErrorKind::NameInUse, "{refused}");
    assert!(b.peer("c").unwrap().is_none(), "{refused}");
    make_room(&dir);
    drop((bus.connect("a").unwrap(), bus.connect("c").unwrap()));
    ExitCode::SUCCESS
}

fn what_can_neither_be_read_nor_removed_does_not_keep_a_client(sandbox: &Sandbox) {
    play("an immovable message", sandbox);
}

fn an_immovable_message() -> ExitCode {
    let (bus, dir) = small_disk();
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    // What is mounted there can be neither renamed nor removed.
    let stuck = dir.join("bus/a/stuck.ready");
    fs::create_dir(&stuck).unwrap();
    mount(&stuck, "size=64k").unwrap();
    b.send("a", "good").unwrap();
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "good");
    b.send("a", "unread").unwrap();
    // However it ends, it does, and hands back what was unread.
    let error = a.disconnect().unwrap_err();
    assert_eq!(contents(error.messages()), ["unread"], "{error}");
    b.disconnect().unwrap();
    ExitCode::SUCCESS
}

fn what_can_neither_be_read_nor_removed_is_reported_once(sandbox: &Sandbox) {
    play("an immovable message that is looked at", sandbox);
}

fn an_immovable_message_that_is_looked_at() -> ExitCode {
    let (bus, dir) = small_disk();
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    let stuck = dir.join("bus/a/stuck.ready");
    fs::create_dir(&stuck).unwrap();
    mount(&stuck, "size=64k").unwrap();
    for number in 0..10 {
        b.send("a", &number).unwrap();
        assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), number);
    }
    assert_eq!(a.wait(Some(Duration::ZERO)).unwrap(), Wait::Timeout, "nothing is there to be taken");
    a.disconnect().unwrap_err();
    assert_eq!(a.take_damaged().len(), 1);
    ExitCode::SUCCESS
}
