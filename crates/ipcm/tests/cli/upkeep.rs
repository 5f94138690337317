// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeping a machine tidy: `gc` and `doctor`.

use std::fs;

use serde_json::{Value, json};

use crate::bench::{Bench, until};
use crate::shows;

/// A bus whose owner was killed.
fn left_by_a_killed_owner(bench: &Bench) -> String {
    let mut guard = bench.start(bench.command(&["spawn", "-p", "MessageFiles", "-s", "JSON"]));
    let bus = guard.line();
    guard.signal("KILL");
    assert_eq!(guard.finish().code(), 137);
    bus
}

#[test]
fn gc_removes_what_a_killed_owner_left() {
    let bench = Bench::new();
    shows!(bench.ipcm(&["gc", "."]), @"
    exit 0
    out| nothing was left
    ");
    left_by_a_killed_owner(&bench);
    shows!(bench.ipcm(&["gc", "--dry-run", "."]), @"
    exit 0
    out| found: bus of MessageFiles in TMP/BUS
    ");
    shows!(bench.ipcm(&["gc", "--dry-run", "--json", "."]), @r#"
    exit 0
    out| {"dry_run":true,"leftovers":[{"kind":"bus","protocol":"MessageFiles","path":"TMP/BUS","fate":"found","reason":null}],"peers":[]}
    "#);
    assert_eq!(bench.left().len(), 1);
    shows!(bench.ipcm(&["gc", "."]), @"
    exit 0
    out| removed: bus of MessageFiles in TMP/BUS
    ");
    assert_eq!(bench.left(), [""; 0]);
    assert_eq!(bench.ipcm(&["gc", "/nonexistent"]).code(), 0);
}

#[test]
fn gc_leaves_what_it_does_not_know_and_says_so() {
    let bench = Bench::new();
    left_by_a_killed_owner(&bench);
    let store = bench.dir().join(&bench.left()[0]);
    fs::write(store.join("notes"), "mine").unwrap();
    shows!(bench.ipcm(&["gc", "."]), @"
    exit 1
    out| kept: bus of MessageFiles in TMP/BUS: it holds `notes`, which is no part of a bus
    ");
    assert_eq!(fs::read_to_string(store.join("notes")).unwrap(), "mine");
}

#[test]
fn gc_of_a_bus_sweeps_its_dead_peers() {
    let bench = Bench::with_bus();
    let reader = bench.start(bench.command(&["recv", "--name", "b", "--follow"]));
    bench.await_peer("b", "active");
    reader.signal("KILL");
    reader.finish();
    bench.await_peer("b", "dead");
    shows!(bench.ipcm(&["gc", "-n", "."]), @"
    exit 0
    out| found: dead peer b
    ");
    assert!(bench.peer("b").is_some());
    shows!(bench.ipcm(&["--json", "gc", "."]), @r#"
    exit 0
    out| {"dry_run":false,"leftovers":[],"peers":["b"]}
    "#);
    assert!(bench.peer("b").is_none());
    let gone = bench.ipcm(&["gc", "--bus", "messagefiles:/nonexistent", "."]);
    assert_eq!(gone.code(), 9, "{}", gone.shown());
}

fn examined(done: &crate::bench::Done) -> Value {
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {}", done.shown()))
}

#[test]
fn doctor_looks_at_everything_and_gives_remedies() {
    let bench = Bench::new();
    let done = bench.ipcm(&["--json", "doctor"]);
    let told = examined(&done);
    let checked = [
        "temporary_directory",
        "temporary_space",
        "temporary_file_system",
        "socket_paths",
        "temporary_cleaners",
        "descriptors",
        "inotify_instances",
        "inotify_watches",
        "pipe_pages",
        "pipe_size",
        "datagram_queue",
        "protocols",
        "leftovers",
    ];
    assert_eq!(told["checked"], json!(checked));
    let findings = told["findings"].as_array().unwrap();
    for finding in findings {
        let (id, severity) = (finding["id"].as_str().unwrap(), finding["severity"].as_str().unwrap());
        assert!(checked.contains(&id) && ["problem", "warning", "note"].contains(&severity), "{finding}");
        assert!(finding["what"].as_str().is_some_and(|text| !text.is_empty()), "{finding}");
        assert!(finding["remedy"].as_str().is_some_and(|text| !text.is_empty()), "{finding}");
    }
    let count = |wanted: &str| findings.iter().filter(|finding| finding["severity"] == wanted).count();
    assert_eq!(told["problems"], count("problem"));
    assert_eq!((&told["warnings"], &told["notes"]), (&json!(count("warning")), &json!(count("note"))));
    assert_eq!(done.code(), if count("problem") > 0 { 11 } else { 0 }, "{}", done.shown());
    let text = bench.ipcm(&["doctor"]);
    assert_eq!(text.code(), done.code());
    assert!(text.stdout.contains("13 things looked at: "), "{}", text.shown());
}

#[test]
fn doctor_finds_a_temporary_directory_that_is_missing() {
    let bench = Bench::new();
    let mut command = bench.command(&["--json", "doctor"]);
    command.env("TMPDIR", bench.dir().join("missing"));
    let done = bench.start(command).finish();
    assert_eq!(done.code(), 11, "{}", done.shown());
    let told = examined(&done);
    assert_eq!(told["findings"][0]["severity"], "problem");
    let found = |id: &str| told["findings"].as_array().unwrap().iter().any(|finding| finding["id"] == id);
    assert!(found("temporary_directory") && found("protocols"), "{}", done.shown());
}

#[test]
fn doctor_finds_few_descriptors_and_leftovers() {
    let bench = Bench::new();
    left_by_a_killed_owner(&bench);
    let done = bench.shell("ulimit -n 64; $IPCM --json doctor");
    let told = examined(&done);
    let findings = told["findings"].as_array().unwrap();
    let of = |id: &str| findings.iter().filter(|finding| finding["id"] == id).collect::<Vec<_>>();
    assert_eq!(of("descriptors")[0]["severity"], "warning");
    let here = bench.left().remove(0);
    let is_here = |finding: &&&Value| finding["what"].as_str().is_some_and(|what| what.contains(&here));
    let of_leftovers = of("leftovers");
    let left = of_leftovers.iter().find(is_here).unwrap();
    assert_eq!(left["remedy"], "ipcm gc");
    until("it is gone", || bench.ipcm(&["gc", "."]).code() == 0 && bench.left().is_empty());
}

#[test]
fn nothing_of_a_bus_is_in_the_arguments_of_what_is_started() {
    let bench = Bench::new();
    let done = bench.shell(
        "$IPCM run -p MessageFiles -- sh -c 'for file in /proc/[0-9]*/cmdline; do tr \"\\000\" \" \" <$file; echo; done' 2>/dev/null",
    );
    assert!(done.stdout.contains("run -p MessageFiles"), "{}", done.shown());
    let bus = format!("{}/ipcm-", bench.dir().display());
    assert!(!done.stdout.contains(&bus), "{}", done.shown());
}

#[test]
fn passwords_are_not_shown() {
    let bench = Bench::new();
    let secret = "s3cr3t-w0rd";
    for bus in [
        format!(r#"["PostgreSQL","JSON","dbi:Pg:dbname=a;password={secret}"]"#),
        format!("postgresql:dbi:Pg:dbname=a;password={secret}"),
        format!("postgres://me:{secret}@localhost/a"),
        format!("mysql://me:{secret}@localhost/a"),
        format!(r#"["PostgreSQL","JSON","dbi:Pg:dbname=a;password={secret}""#),
    ] {
        for args in
            [&["info", "--bus", &bus][..], &["--json", "peers", "--bus", &bus], &["send", "--bus", &bus, "b", "1"]]
        {
            let done = bench.ipcm(args);
            assert!(done.code() != 0 && !done.shown().contains(secret), "{}", done.shown());
        }
    }
}
