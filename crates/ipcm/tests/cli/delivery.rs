// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages that stay in the mailbox until they are acknowledged: by the exit of a command, or in a coprocess.

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::shows;

/// A bus with these numbers in a mailbox that nobody reads.
fn jobs(numbers: std::ops::RangeInclusive<u32>) -> Bench {
    let bench = Bench::with_bus();
    assert_eq!(bench.ipcm(&["suspend", "jobs"]).code(), 0);
    for number in numbers {
        assert_eq!(bench.ipcm(&["send", "jobs", "--name", "boss", &number.to_string()]).code(), 0);
    }
    bench
}

#[test]
fn a_message_leaves_when_its_command_has_succeeded() {
    let bench = jobs(1..=2);
    shows!(bench.shell("$IPCM recv --name jobs --ack-by-exit -- sh -c 'cat; echo $IPCM_MSG_FROM $IPCM_MSG_ATTEMPTS'"), @"
    exit 0
    out| 1
    out| boss 1
    ");
    shows!(bench.shell("$IPCM recv --name jobs --ack-by-exit -- sh -c 'exit 7'"), @"
    exit 7
    err| ipcm: the command ended with status 7; the message ID goes back
    ");
    shows!(bench.shell("$IPCM recv --name jobs --ack-by-exit --drain -- sh -c 'cat; echo $IPCM_MSG_ATTEMPTS'"), @"
    exit 0
    out| 2
    out| 2
    ");
    shows!(bench.shell("$IPCM recv --name jobs --ack-by-exit --timeout 0 -- cat"), @"exit 3");
    shows!(bench.ipcm(&["audit"]), @"
    exit 0
    out| audit: 2 sent, 2 read, all accounted for
    ");
}

#[test]
fn a_message_stays_when_its_reader_is_killed() {
    let bench = jobs(1..=4);
    let killed = |command: &str| bench.shell(&format!("$IPCM {command}; echo $?"));
    let done = killed("recv --name jobs --ack-by-exit -- sh -c 'kill -9 $PPID'");
    assert_eq!(done.stdout, "137\n", "{}", done.shown());
    let done = killed("exec --name jobs -j 2 -- sh -c 'read n; test $n != 2 || kill -9 $PPID'");
    assert_eq!(done.stdout, "137\n", "{}", done.shown());
    let left = bench.ipcm(&["recv", "--name", "jobs", "--drain", "--content"]);
    // The first may have been acknowledged, or not, when the second killed the reader of both.
    assert!(["1\n2\n3\n4\n", "2\n3\n4\n"].contains(&left.stdout.as_str()), "{}", left.shown());
}

#[test]
fn what_fails_too_often_is_set_aside_and_can_be_revived() {
    let bench = jobs(1..=2);
    for attempt in 1..=5 {
        let done = bench.shell("$IPCM recv --name jobs --ack-by-exit -- false");
        assert_eq!((done.code(), done.stderr.contains("was set aside as dead")), (1, attempt == 5), "{}", done.shown());
    }
    shows!(bench.ipcm(&["recv", "--name", "jobs", "--drain", "--content"]), @"
    exit 0
    out| 2
    ");
    shows!(bench.ipcm(&["dead", "list", "jobs"]), @r#"
    exit 0
    out| {"id":"ID","from":"boss","to":"jobs","stamp":STAMP,"broadcast":false,"content":1,"attempts":5}
    "#);
    shows!(bench.ipcm(&["dead", "revive", "jobs", "nothing"]), @"
    exit 3
    out| 0 revived
    err| ipcm: jobs has no dead message nothing
    ");
    let listed: Value = serde_json::from_str(&bench.ipcm(&["dead", "list", "jobs"]).stdout).unwrap();
    let revived = bench.ipcm(&["--json", "dead", "revive", "jobs", listed["id"].as_str().unwrap()]);
    assert_eq!((revived.code(), revived.stdout.as_str()), (0, "{\"revived\":1}\n"), "{}", revived.shown());
    shows!(bench.ipcm(&["dead", "list", "jobs"]), @"exit 3");
    shows!(bench.ipcm(&["dead", "revive", "jobs", "--all"]), @"
    exit 3
    out| 0 revived
    ");
    shows!(bench.shell("$IPCM recv --name jobs --ack-by-exit -- sh -c 'cat; echo $IPCM_MSG_ATTEMPTS'"), @"
    exit 0
    out| 1
    out| 1
    ");
    assert_eq!(bench.ipcm(&["dead", "list", "nobody"]).code(), 5);
}

#[test]
fn arguments_that_do_not_fit() {
    let bench = Bench::with_bus();
    for wrong in [
        &["recv", "--ack-by-exit"][..],
        &["recv", "--", "cat"],
        &["recv", "--ack-by-exit", "--content", "--", "cat"],
        &["dead"],
        &["dead", "revive", "jobs"],
        &["dead", "revive", "jobs", "--all", "id"],
    ] {
        let done = bench.ipcm(wrong);
        assert_eq!(done.code(), 2, "{wrong:?} {}", done.shown());
    }
    let done = bench.ipcm(&[
        "run",
        "-p",
        "AtomicPipe",
        "--",
        env!("CARGO_BIN_EXE_ipcm"),
        "recv",
        "--ack-by-exit",
        "--",
        "cat",
    ]);
    assert_eq!(done.code(), 1, "{}", done.shown());
    assert!(done.stderr.contains("do not stay in the mailbox"), "{}", done.shown());
}

#[test]
fn a_coprocess_acknowledges() {
    let bench = Bench::new();
    let mut co = bench.start(bench.command(&["coproc"]));
    let mut ask = |request: Value| co.ask(&request.to_string());
    ask(json!({"op": "spawn", "protocol": "MessageFiles"}));
    ask(json!({"op": "connect", "name": "a"}));
    let b = ask(json!({"op": "connect", "name": "b", "delivery_attempts": 2, "hold": 3600}));
    assert_eq!(b["ok"], true, "{b}");
    let none = ask(json!({"op": "receive", "client": "c2"}));
    assert_eq!(none, json!({"ok": true, "delivery": null}));
    let sent = ask(json!({"op": "send", "client": "c1", "to": "b", "content": 7}));
    let first = ask(json!({"op": "receive", "client": "c2", "timeout": 60}));
    assert_eq!(
        (&first["delivery"], &first["attempts"], &first["message"]["id"]),
        (&json!("d1"), &json!(1), &sent["id"])
    );
    assert_eq!(ask(json!({"op": "extend", "delivery": "d1", "hold": 60})), json!({"ok": true}));
    assert_eq!(ask(json!({"op": "put_back", "delivery": "d1"})), json!({"ok": true}));
    for op in ["acknowledge", "put_back", "extend"] {
        let refused = ask(json!({"op": op, "delivery": "d1"}));
        assert_eq!(refused["error"]["code"], "usage", "{refused}");
    }
    let second = ask(json!({"op": "receive", "client": "c2"}));
    assert_eq!((&second["delivery"], &second["attempts"]), (&json!("d2"), &json!(2)));
    let elsewhere = ask(json!({"op": "acknowledge", "client": "c1", "delivery": "d2"}));
    assert_eq!(elsewhere["error"]["code"], "usage", "{elsewhere}");
    ask(json!({"op": "put_back", "delivery": "d2"}));
    let dead = ask(json!({"op": "dead", "client": "c1", "name": "b"}));
    assert_eq!(
        (&dead["dead"][0]["attempts"], &dead["dead"][0]["message"]["content"]),
        (&json!(2), &json!(7)),
        "{dead}"
    );
    assert_eq!(ask(json!({"op": "revive", "client": "c2", "id": sent["id"]})), json!({"ok": true, "revived": 1}));
    let third = ask(json!({"op": "receive", "client": "c2"}));
    assert_eq!(third["attempts"], 1);
    assert_eq!(ask(json!({"op": "acknowledge", "delivery": "d3"})), json!({"ok": true}));
    assert_eq!(ask(json!({"op": "stats", "client": "c2"}))["stats"]["read"], json!({"a": 1}));
    assert_eq!(ask(json!({"op": "disconnect", "client": "c2"}))["ok"], true);
    assert_eq!(co.finish().code(), 0);
}
