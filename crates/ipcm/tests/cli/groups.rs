// SPDX-License-Identifier: MIT OR Apache-2.0
//! Buses that a group of users shares.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::bench::{Bench, Done};

/// A group to share with that this process may name: as root any, else one that it is in beside its own.
#[allow(clippy::print_stderr, reason = "a test that cannot be run here says so")]
fn group() -> Option<String> {
    let uid = rustix::process::geteuid();
    let groups = rustix::process::getgroups().unwrap().into_iter().map(rustix::process::Gid::as_raw);
    let found = groups.into_iter().find(|gid| *gid != 0 && *gid != uid.as_raw());
    let found = found.or(uid.is_root().then_some(61_100)).map(|gid| gid.to_string());
    if found.is_none() {
        eprintln!("IGNORED: this user is in no group but its own, so there is none to share a bus with");
    }
    found
}

/// A bus that is shared by a group, and stays until it is stopped.
fn shared(bench: &Bench, group: &str) -> String {
    let made = bench.ipcm(&["spawn", "--keep", "-p", "MessageFiles", "-s", "JSON", "--group", group]);
    assert_eq!(made.code(), 0, "{}", made.shown());
    made.stdout.trim_end().to_owned()
}

fn with_group(bench: &Bench, group: &str, args: &[&str]) -> Done {
    let mut command = bench.command(args);
    command.env("IPCM_GROUP", group);
    bench.start(command).finish_with(b"")
}

#[test]
fn a_bus_of_a_group_is_joined_by_who_names_it() {
    let Some(group) = group() else { return };
    let bench = Bench::new();
    let bus = shared(&bench, &group);
    let store = std::fs::metadata(bench.dir().join(&bench.left()[0])).unwrap();
    assert_eq!((store.gid().to_string(), store.permissions().mode() & 0o7777), (group.clone(), 0o2770));
    for command in [["peers", "--bus", &bus], ["stop", "--bus", &bus], ["recv", "--bus", &bus]] {
        let refused = bench.ipcm(&command);
        let says_why = refused.stderr.contains(&format!("shared by the group {group}"));
        assert!(refused.code() == 10 && says_why, "{}", refused.shown());
    }
    let sent = bench.ipcm(&["send", "b", "1", "--bus", &bus, "--group", &group]);
    assert_eq!(sent.code(), 5, "{}", sent.shown());
    assert_eq!(bench.ipcm(&["recv", "--name", "b", "--timeout", "0", "--bus", &bus, "--group", &group]).code(), 3);
    let unknown = bench.ipcm(&["peers", "--bus", &bus, "--group", "no such group, ever"]);
    assert!(unknown.code() == 2 && unknown.stderr.contains("there is no group"), "{}", unknown.shown());
    assert_eq!(with_group(&bench, &group, &["peers", "--bus", &bus]).code(), 0);
    // What one user made alone is not taken for the group's.
    let alone = Bench::with_bus();
    let refused = with_group(&alone, &group, &["peers"]);
    assert!(refused.code() == 10 && refused.stderr.contains("not shared by the group"), "{}", refused.shown());
    assert_eq!(with_group(&bench, &group, &["stop", "--bus", &bus]).code(), 0);
    assert_eq!(bench.left(), [""; 0]);
}

#[test]
fn what_is_run_on_a_bus_of_a_group_finds_it() {
    let Some(group) = group() else { return };
    let bench = Bench::new();
    let run = bench.shell(&format!(
        "\"$IPCM\" run -p MessageFiles --group {group} -- sh -c '\
         \"$IPCM\" exec --name b -n 1 -- sh -c \"cat; echo group \\$IPCM_GROUP\" & \
         \"$IPCM\" send b 7 --timeout 60 > sent; wait'"
    ));
    assert_eq!((run.code(), run.stdout.as_str()), (0, &*format!("7\ngroup {group}\n")), "{}", run.shown());
    std::fs::remove_file(bench.dir().join("sent")).unwrap();
    // A demonstration is this user's own, whatever the environment says.
    let mut demo = bench.command(&["demo", "-p", "MessageFiles"]);
    demo.env("IPCM_GROUP", &group);
    assert_eq!(bench.start(demo).finish_with(b"").code(), 0);
    let refused = bench.ipcm(&["spawn", "-p", "MessageFiles", "--group", "0"]);
    assert!(refused.code() == 2 && refused.stderr.contains("this user's alone"), "{}", refused.shown());
    assert_eq!(bench.left(), [""; 0]);
}

#[test]
fn a_coprocess_makes_and_joins_buses_of_a_group() {
    let Some(group) = group() else { return };
    let bench = Bench::new();
    let requests = format!(
        "{{\"op\":\"spawn\",\"protocol\":\"MessageFiles\",\"group\":\"{group}\"}}\n\
         {{\"op\":\"connect\",\"name\":\"a\"}}\n{{\"op\":\"send\",\"client\":\"c1\",\"to\":\"a\",\"content\":1}}\n\
         {{\"op\":\"recv\",\"client\":\"c1\",\"timeout\":60}}\n{{\"op\":\"shutdown\"}}\n"
    );
    let done = bench.ipcm_with(&["coproc"], requests.as_bytes());
    let answers: Vec<&str> = done.stdout.lines().collect();
    assert!(answers.len() == 5 && answers.iter().all(|line| line.starts_with("{\"ok\":true")), "{}", done.shown());
}
