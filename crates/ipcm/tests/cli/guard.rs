// SPDX-License-Identifier: MIT OR Apache-2.0
//! Buses that end with a process: `spawn` in the foreground, and `run`.

use crate::bench::{Bench, is_running, until};
use crate::shows;

#[test]
fn spawn_guards_the_bus_until_a_signal() {
    for name in ["INT", "TERM"] {
        let bench = Bench::new();
        let mut guard = bench.start(bench.command(&["spawn"]));
        let bus = guard.line();
        assert_eq!(bench.ipcm(&["peers", "--bus", &bus]).code(), 0);
        assert_eq!(bench.left().len(), 1);
        guard.signal(name);
        let done = guard.finish();
        assert_eq!((done.code(), done.stderr.as_str()), (0, "audit: 0 sent, 0 read, all accounted for\n"));
        assert_eq!(bench.left(), [""; 0]);
    }
}

#[test]
fn spawn_reports_what_does_not_add_up() {
    let bench = Bench::new();
    let mut guard = bench.start(bench.command(&["--json", "spawn", "-p", "MessageFiles"]));
    let bus: serde_json::Value = serde_json::from_str(&guard.line()).unwrap();
    let bus = bus["info"].as_str().unwrap().to_owned();
    bench.ipcm(&["suspend", "b", "--bus", &bus]);
    bench.ipcm(&["send", "--name", "a", "b", "1", "--bus", &bus]);
    guard.signal("TERM");
    shows!(guard.finish(), @r#"
    exit 11
    err| {"balanced":false,"sent":1,"read":0,"delta":{"a -> b":1},"remaining":[]}
    "#);
    assert_eq!(bench.left(), [""; 0]);
}

#[test]
fn spawn_ends_the_readers() {
    let bench = Bench::new();
    let mut guard = bench.start(bench.command(&["spawn"]));
    let bus = guard.line();
    let mut command = bench.command(&["recv", "--name", "b", "--follow"]);
    command.env("IPCM_BUS", &bus);
    let reader = bench.start(command);
    until("b is there", || bench.ipcm(&["peers", "--bus", &bus]).stdout.contains("active"));
    guard.signal("INT");
    assert_eq!(reader.finish().code(), 0);
    assert_eq!(guard.finish().code(), 0);
}

#[test]
fn a_bus_that_nobody_learnt_of_is_not_made() {
    let bench = Bench::new();
    let done = bench.shell("{ $IPCM spawn --keep; echo $? >&2; } | true; { $IPCM spawn; echo $? >&2; } | true");
    // Whether `true` has ended when the string is printed is up to the scheduler.
    if bench.left().is_empty() {
        assert_eq!(done.stderr, "0\n0\n");
    }
    let (readable, writable) = std::io::pipe().unwrap();
    drop(readable);
    let before = bench.left().len();
    let status = bench.command(&["spawn"]).stdin(std::process::Stdio::null()).stdout(writable).status().unwrap();
    assert_eq!((status.code(), bench.left().len()), (Some(0), before));
}

#[test]
fn run_lends_a_bus_to_a_command() {
    let bench = Bench::new();
    let done = bench.shell(
        "$IPCM run -p MessageFiles -- sh -c '$IPCM suspend b; $IPCM send --name a b 1; $IPCM recv --name b --content; $IPCM info; exit 7'",
    );
    shows!(done, @"
    exit 7
    out| b is suspended
    out| stored
    out| 1
    out| protocol    MessageFiles
    out| serializer  JSON::Zstd
    out| route       TMP/BUS
    out| there       yes
    out| peers       1
    ");
    assert_eq!(bench.left(), [""; 0]);
}

#[test]
fn run_tells_how_the_command_ended() {
    let bench = Bench::new();
    shows!(bench.shell("$IPCM run -p MessageFiles -- true"), @"exit 0");
    shows!(bench.shell("$IPCM run --json -- true"), @r#"
    exit 0
    err| {"balanced":true,"sent":0,"read":0,"delta":{},"remaining":[]}
    "#);
    shows!(bench.shell("$IPCM run -p MessageFiles -- sh -c 'kill -9 $$'"), @"exit 137");
    shows!(bench.shell("$IPCM run -p MessageFiles -- /nonexistent/command"), @"
    exit 1
    err| ipcm: the command /nonexistent/command cannot be run
    err|   because: No such file or directory (os error 2)
    ");
    shows!(bench.shell("$IPCM run -p MessageFiles -- sh -c '$IPCM suspend b; $IPCM send --name a b 1'"), @"
    exit 11
    out| b is suspended
    out| stored
    err| audit: 1 sent, 0 read, and this does not add up:
    err|   a -> b  +1
    ");
    shows!(bench.shell("$IPCM run -p MessageFiles -- sh -c '$IPCM suspend b; $IPCM send --name a b 1; exit 3'"), @"
    exit 3
    out| b is suspended
    out| stored
    err| audit: 1 sent, 0 read, and this does not add up:
    err|   a -> b  +1
    ");
    assert_eq!(bench.left(), [""; 0]);
}

#[test]
fn run_passes_signals_on() {
    let bench = Bench::new();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ipcm"));
    command.args([
        "run",
        "--",
        "/bin/sh",
        "-c",
        "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done",
    ]);
    bench.prepare(&mut command);
    command.env("PATH", "/usr/bin:/bin");
    let mut run = bench.start(command);
    assert_eq!(run.line(), "ready");
    run.signal("TERM");
    assert_eq!(run.line(), "caught");
    let done = run.finish();
    assert_eq!(done.code(), 5, "{}", done.shown());
    assert_eq!(bench.left(), [""; 0]);
}

#[test]
fn run_ends_what_the_command_left_behind() {
    let bench = Bench::new();
    let done = bench.shell(
        "$IPCM run -p MessageFiles -- sh -c '$IPCM recv --name b --follow >/dev/null 2>&1 & echo $!; $IPCM send b 1 --timeout 20'",
    );
    assert_eq!(done.code(), 0, "{}", done.shown());
    let pid: u32 = done.stdout.lines().next().unwrap().parse().unwrap();
    until("the reader has ended", || !is_running(pid));
    assert_eq!(bench.left(), [""; 0]);
}

#[test]
fn a_guard_whose_bus_was_removed_ends() {
    let bench = Bench::new();
    let mut guard = bench.start(bench.command(&["spawn"]));
    let bus = guard.line();
    assert_eq!(bench.ipcm(&["stop", "--bus", &bus]).code(), 0);
    shows!(guard.finish(), @"
    exit 0
    err| the bus was removed by somebody else
    ");
    assert_eq!(bench.left(), [""; 0]);
}
