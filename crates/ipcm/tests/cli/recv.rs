// SPDX-License-Identifier: MIT OR Apache-2.0
//! Receiving: what is printed, how it ends, and that no message is lost on the way out.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::bench::{Bench, let_pass, signal, until};
use crate::shows;

#[test]
fn what_is_printed() {
    let bench = Bench::with_bus();
    bench.ipcm(&["suspend", "b"]);
    let send = |body: &str| bench.ipcm(&["send", "--name", "a", "b", body]);
    send(r#"{"k":"é\u001b[2J"}"#);
    shows!(bench.ipcm(&["recv", "--name", "b"]), @r#"
    exit 0
    out| {"id":"ID","from":"a","to":"b","stamp":STAMP,"broadcast":false,"content":{"k":"\u00e9\u001b[2J"}}
    "#);
    bench.ipcm(&["broadcast", "--name", "a", "[1]"]);
    shows!(bench.ipcm(&["recv", "--name", "b", "--json"]), @r#"
    exit 0
    out| {"id":"ID","from":"a","to":"b","stamp":STAMP,"broadcast":true,"content":[1]}
    "#);
    send("\"two\\nlines\"");
    shows!(bench.ipcm(&["recv", "--name", "b", "--content"]), @r#"
    exit 0
    out| "two\nlines"
    "#);
    send("\"two\\nlines\"");
    shows!(bench.ipcm(&["recv", "--name", "b", "--raw"]), @"
    exit 0
    out| two
    out| lines
    ");
    send("1");
    send("\"x\"");
    let raw = bench.ipcm(&["recv", "--name", "b", "--raw", "--null", "-n", "2"]);
    assert_eq!(raw.stdout, "1\0x\0\n");
}

#[test]
fn two_terminals() {
    let bench = Bench::with_bus();
    let mut reader = bench.start(bench.command(&["recv", "--name", "b", "--follow", "--content"]));
    bench.await_peer("b", "active");
    assert_eq!(bench.ipcm(&["send", "b", "1"]).stdout, "delivered\n");
    assert_eq!(reader.line(), "1");
    let sent = bench.ipcm_with(&["send", "b", "--lines"], b"2\n3\n");
    assert_eq!(sent.stdout, "delivered\ndelivered\n");
    assert_eq!([reader.line(), reader.line()], ["2", "3"]);
    assert_eq!(bench.ipcm(&["stop"]).stdout, "audit: 3 sent, 3 read, all accounted for\n");
    shows!(reader.finish(), @"exit 0");
    assert_eq!(bench.left(), [""; 0]);
}

#[test]
fn lines_are_sent_as_they_come() {
    let bench = Bench::with_bus();
    let mut reader = bench.start(bench.command(&["recv", "--name", "b", "--follow", "--content"]));
    bench.await_peer("b", "active");
    let mut sender = bench.start(bench.command(&["send", "b", "--text", "--lines"]));
    sender.write("one\n");
    assert_eq!(sender.line(), "delivered");
    assert_eq!(reader.line(), "\"one\"");
    sender.write("two\nthr");
    assert_eq!(reader.line(), "\"two\"");
    // What the signal cut short is not sent.
    sender.signal("INT");
    assert_eq!(sender.finish().code(), 130);
    assert_eq!(bench.ipcm(&["send", "b", "4"]).code(), 0);
    assert_eq!(reader.line(), "4");
}

#[test]
fn a_sender_can_wait_for_the_peer() {
    let bench = Bench::with_bus();
    let sender = bench.start(bench.command(&["send", "b", "1", "--timeout", "50s"]));
    let mut reader = bench.start(bench.command(&["recv", "--name", "b", "--content", "--follow"]));
    assert_eq!(reader.line(), "1");
    shows!(sender.finish(), @"
    exit 0
    out| delivered
    ");
    reader.signal("TERM");
    assert_eq!(reader.finish().code(), 143);
}

#[test]
fn a_terminate_message_ends_it_and_is_not_printed() {
    let bench = Bench::with_bus();
    bench.ipcm(&["suspend", "b"]);
    bench.ipcm(&["send", "b", "1"]);
    bench.ipcm(&["send", "b", r#"{"terminate":1}"#]);
    bench.ipcm(&["send", "b", "2"]);
    shows!(bench.ipcm(&["recv", "--name", "b", "--follow", "--content"]), @"
    exit 0
    out| 1
    ");
    shows!(bench.ipcm(&["recv", "--name", "b", "--content"]), @"
    exit 0
    out| 2
    ");
}

#[test]
fn a_signal_ends_it_and_keeps_what_is_unread() {
    let bench = Bench::with_bus();
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let reader = bench.start(bench.command(&["recv", "--name", "b", "--follow"]));
        let pid = bench.await_peer("b", "active")["pid"].as_u64();
        assert_eq!(pid, Some(reader.pid().into()));
        reader.signal(name);
        assert_eq!(reader.finish().code(), code);
        // With nothing unread and no mailbox before, the name is given up.
        assert_eq!(bench.peer("b"), None);
    }
    // Stopped, it cannot read; both signals are there when it goes on.
    let reader = bench.start(bench.command(&["recv", "--name", "b", "--follow"]));
    bench.await_peer("b", "active");
    reader.signal("STOP");
    bench.ipcm_with(&["send", "b", "--lines"], b"1\n2\n");
    reader.signal("TERM");
    reader.signal("CONT");
    let printed = reader.finish();
    assert_eq!(printed.code(), 143);
    let rest = bench.ipcm(&["recv", "--name", "b", "--drain"]);
    let all = printed.stdout + &rest.stdout;
    assert_eq!(all.lines().count(), 2, "{all}");
}

#[test]
fn a_message_that_nobody_can_read_any_more_goes_back() {
    let bench = Bench::with_bus();
    bench.ipcm(&["suspend", "b"]);
    bench.ipcm_with(&["send", "--name", "a", "b", "--lines"], b"1\n2\n3\n");
    for _ in 0..2 {
        let (readable, writable) = std::io::pipe().unwrap();
        drop(readable);
        let mut command = bench.command(&["recv", "--name", "b", "--follow"]);
        let status = command.stdin(Stdio::null()).stdout(writable).status().unwrap();
        assert_eq!(status.code(), Some(0));
    }
    let rest = bench.ipcm(&["recv", "--name", "b", "--drain", "--content"]);
    assert_eq!(rest.stdout, "1\n2\n3\n", "{}", rest.shown());
    shows!(bench.ipcm(&["audit"]), @"
    exit 0
    out| audit: 3 sent, 3 read, all accounted for
    ");
}

#[test]
fn a_reader_that_goes_away_is_noticed_while_idle() {
    let bench = Bench::with_bus();
    let (readable, writable) = std::io::pipe().unwrap();
    let mut command = bench.command(&["recv", "--name", "b", "--follow"]);
    command.stdin(Stdio::null()).stdout(writable);
    let mut child = command.spawn().unwrap();
    drop(command);
    bench.await_peer("b", "active");
    drop(readable);
    let mut status = None;
    until("recv ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
}

#[test]
fn a_crashed_reader_is_continued() {
    let bench = Bench::with_bus();
    let reader = bench.start(bench.command(&["recv", "--name", "b", "--follow"]));
    bench.await_peer("b", "active");
    reader.signal("STOP");
    bench.ipcm_with(&["send", "b", "--lines"], b"1\n2\n");
    reader.signal("KILL");
    assert_eq!(reader.finish().code(), 137);
    bench.await_peer("b", "dead");
    assert_eq!(bench.ipcm(&["send", "b", "3"]).stdout, "stored\n");
    let rest = bench.ipcm(&["recv", "--name", "b", "-n", "1", "--content"]);
    assert_eq!(rest.stdout, "1\n", "{}", rest.shown());
    // It had more, so the mailbox is kept.
    assert_eq!(bench.peer("b").unwrap()["unread"], 2);
    let rest = bench.ipcm(&["recv", "--name", "b", "--drain", "--content"]);
    assert_eq!(rest.stdout, "2\n3\n");
}

#[test]
fn what_is_no_message_costs_itself() {
    let bench = Bench::with_bus();
    bench.ipcm(&["suspend", "b"]);
    bench.ipcm(&["send", "b", "1"]);
    let info: serde_json::Value = serde_json::from_str(bench.bus()).unwrap();
    let mailbox = Path::new(info[2].as_str().unwrap()).join("b");
    fs::write(mailbox.join("junk.ready"), "{\"from\":").unwrap();
    bench.ipcm(&["send", "b", "2"]);
    let read = bench.ipcm(&["recv", "--name", "b", "--drain", "--content"]);
    assert_eq!((read.code(), read.stdout.as_str()), (0, "1\n2\n"), "{}", read.shown());
    assert_eq!(read.stderr.lines().count(), 1, "{}", read.shown());
    assert!(read.stderr.starts_with("ipcm: a damaged message was set aside: "), "{}", read.shown());
}

/// What a process has used so far: clock ticks, and how often it gave up the processor.
fn used(pid: u32) -> (u64, u64) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let switches = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    (ticks, switches.trim().parse().unwrap())
}

#[test]
fn an_idle_reader_sleeps() {
    let bench = Bench::with_bus();
    let mut reader = bench.start(bench.command(&["recv", "--name", "b", "--follow", "--content"]));
    bench.await_peer("b", "active");
    // It has come to rest when it does not wake for a while.
    let mut before = used(reader.pid());
    until("recv is at rest", || {
        let_pass(Duration::from_millis(200));
        let now = used(reader.pid());
        std::mem::replace(&mut before, now) == now
    });
    let_pass(Duration::from_secs(3));
    let after = used(reader.pid());
    assert!(after.0 - before.0 <= 1 && after.1 - before.1 <= 3, "{before:?} {after:?}");
    bench.ipcm(&["send", "b", "1"]);
    assert_eq!(reader.line(), "1");
}

#[test]
fn an_idle_reader_makes_no_system_calls() {
    if !Path::new("/usr/bin/strace").exists() {
        // The test above says as much as can be said without it.
        return;
    }
    let bench = Bench::with_bus();
    let mut command = Command::new("/usr/bin/strace");
    command.args(["-f", "-qq", "-o", "trace", env!("CARGO_BIN_EXE_ipcm"), "recv", "--name", "b", "--follow"]);
    bench.prepare(&mut command);
    let tracer = bench.start(command);
    let pid = bench.await_peer("b", "active")["pid"].as_u64().unwrap();
    let lines = || fs::read_to_string(bench.dir().join("trace")).unwrap().lines().count();
    let mut before = lines();
    until("recv is at rest", || {
        let_pass(Duration::from_millis(300));
        let now = lines();
        std::mem::replace(&mut before, now) == now
    });
    let_pass(Duration::from_secs(3));
    let after = lines();
    // One look at the mailbox may fall into the time.
    assert!(after - before < 20, "{} system calls", after - before);
    signal(u32::try_from(pid).unwrap(), "TERM");
    assert_eq!(tracer.finish().code(), 143);
}
