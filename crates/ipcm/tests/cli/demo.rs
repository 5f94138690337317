// SPDX-License-Identifier: MIT OR Apache-2.0
//! The demonstration: that its result depends on its input, and that nothing is left of it.

use std::fs;

use serde_json::Value;

use crate::bench::{Bench, Done, is_running, until};
use crate::shows;

fn document(done: &Done) -> Value {
    assert_eq!(done.code(), 0, "{}", done.shown());
    serde_json::from_str(&done.stdout).unwrap()
}

#[test]
fn counts_the_text_that_it_ships() {
    let bench = Bench::new();
    let done = bench.ipcm(&["demo"]);
    assert_eq!(done.code(), 0, "{}", done.shown());
    let stdout: Vec<&str> = done.stdout.lines().collect();
    assert!(stdout.contains(&"text      the one that comes with ipcm"), "{}", done.shown());
    assert!(stdout.contains(&"audit: 32 sent, 32 read, all accounted for"), "{}", done.shown());
    assert_eq!(done.stderr, "");
    assert_eq!(bench.left(), [""; 0]);
}

#[test]
fn counts_a_file() {
    let bench = Bench::new();
    let text = "the quick brown fox\njumps over The dog\n\n".repeat(1000) + "end";
    fs::write(bench.dir().join("text"), &text).unwrap();
    let document = document(&bench.ipcm(&["--json", "demo", "text", "-p", "messagefiles", "-s", "json"]));
    assert_eq!(document["lines"], 3001);
    assert_eq!(document["words"], 8001);
    assert_eq!(document["bytes"], text.len());
    assert_eq!(document["top"][0], serde_json::json!({"word": "the", "count": 2000}));
    assert_eq!(document["serializer"], "JSON");
    assert_eq!(document["audit"]["balanced"], true);
    let pieces: u64 = document["workers"].as_object().unwrap().values().map(|pieces| pieces.as_u64().unwrap()).sum();
    assert_eq!(document["sent"], pieces);
    assert_eq!(document["received"], pieces + 4);
    assert_eq!(bench.left(), ["text"]);
}

#[test]
fn counts_over_every_mailbox_in_the_kernel() {
    for protocol in ["AtomicPipe", "UnixSocket", "ConnectionUnix"] {
        let bench = Bench::new();
        fs::write(bench.dir().join("text"), "one two\n".repeat(500)).unwrap();
        let document = document(&bench.ipcm(&["--json", "demo", "text", "-p", protocol]));
        assert_eq!((&document["protocol"], &document["words"]), (&protocol.into(), &1000.into()));
        assert_eq!(document["audit"]["balanced"], true, "{document}");
        assert_eq!(bench.left(), ["text"]);
    }
}

#[test]
fn an_empty_text_is_fine() {
    let bench = Bench::new();
    shows!(bench.ipcm(&["--json", "demo", "/dev/null"]), @r#"
    exit 0
    out| {"file":"/dev/null","protocol":"AtomicPipe","serializer":"JSON::Zstd","lines":0,"words":0,"bytes":0,"top":[],"workers":{"worker-1":0,"worker-2":0,"worker-3":0,"worker-4":0},"sent":0,"received":4,"seconds":N,"messages_per_second":N,"audit":{"balanced":true,"sent":4,"read":4,"delta":{},"remaining":[]}}
    "#);
    shows!(bench.ipcm_with(&["--json", "demo", "-"], b""), @r#"
    exit 0
    out| {"file":"-","protocol":"AtomicPipe","serializer":"JSON::Zstd","lines":0,"words":0,"bytes":0,"top":[],"workers":{"worker-1":0,"worker-2":0,"worker-3":0,"worker-4":0},"sent":0,"received":4,"seconds":N,"messages_per_second":N,"audit":{"balanced":true,"sent":4,"read":4,"delta":{},"remaining":[]}}
    "#);
}

#[test]
fn a_missing_file_is_told_before_anything_is_made() {
    let bench = Bench::new();
    shows!(bench.ipcm(&["demo", "none"]), @"
    exit 1
    err| ipcm: the file none cannot be read
    err|   because: No such file or directory (os error 2)
    ");
    shows!(bench.ipcm(&["demo", "."]), @"
    exit 1
    err| ipcm: the file . cannot be read
    err|   because: is a directory
    ");
}

/// The workers' processes, once all are there.
fn workers(bench: &Bench) -> Vec<u32> {
    let mut pids = Vec::new();
    until("all workers are there", || {
        let Some(bus) = bench.left().pop() else { return false };
        let bus = format!("atomicpipe:{}", bench.dir().join(bus).display());
        let peers = bench.ipcm(&["--json", "peers", "--bus", &bus]);
        let peers: Value = serde_json::from_str(&peers.stdout).unwrap_or_default();
        let peers = peers["peers"].as_array().cloned().unwrap_or_default();
        let active = |peer: &&Value| peer["state"] == "active" && peer["name"].as_str().unwrap().starts_with("worker");
        pids = peers.iter().filter(active).map(|peer| peer["pid"].as_u64().unwrap() as u32).collect();
        pids.len() == 4
    });
    pids
}

#[test]
fn an_interrupt_leaves_nothing() {
    for name in ["INT", "TERM", "HUP"] {
        let bench = Bench::new();
        let mut demo = bench.start(bench.command(&["demo", "-"]));
        demo.write("some\nlines\nof\ntext\nand\nmore\n");
        let pids = workers(&bench);
        demo.signal(name);
        let done = demo.finish();
        assert!(matches!(done.code(), 129 | 130 | 143), "{}", done.shown());
        assert_eq!(done.stderr, "ipcm: interrupted; the workers have ended and the bus is removed\n");
        assert_eq!(bench.left(), [""; 0]);
        until("no worker is left", || !pids.iter().any(|pid| is_running(*pid)));
    }
}

#[test]
fn a_worker_that_is_killed_is_told() {
    let bench = Bench::new();
    let mut demo = bench.start(bench.command(&["--json", "demo", "-"]));
    demo.write("some\nlines\nof\ntext\nand\nmore\n");
    let pids = workers(&bench);
    crate::bench::signal(pids[1], "KILL");
    until("the worker is gone", || !is_running(pids[1]));
    let done = demo.finish_with("word\n".repeat(1000).as_bytes());
    assert_eq!(done.code(), 6, "{}", done.shown());
    let error: Value = serde_json::from_str(&done.stderr).unwrap();
    assert_eq!(error["error"]["code"], "peer_gone");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains(&format!("(process {}) was ended by signal 9 before it finished", pids[1])), "{message}");
    assert_eq!(bench.left(), [""; 0]);
    until("no worker is left", || !pids.iter().any(|pid| is_running(*pid)));
}

#[test]
fn workers_end_when_the_dispatcher_is_killed() {
    let bench = Bench::new();
    let demo = bench.start(bench.command(&["demo", "-"]));
    let pids = workers(&bench);
    demo.signal("KILL");
    assert_eq!(demo.finish().code(), 137);
    until("no worker is left", || !pids.iter().any(|pid| is_running(*pid)));
}
