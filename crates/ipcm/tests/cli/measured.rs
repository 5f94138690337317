// SPDX-License-Identifier: MIT OR Apache-2.0
//! The benchmark: that it measures, tells of it in a shape that stays, and leaves nothing behind. No speed is asserted.

use std::fs;

use serde_json::Value;

use crate::bench::{Bench, is_running, signal, until};

/// The smallest benchmark of a protocol.
const SMALL: [&str; 7] = ["--json", "bench", "--messages", "20", "--rounds", "2", "-p"];

/// A document with every number in place of itself.
fn shape(value: &mut Value) {
    match value {
        Value::Number(_) => *value = Value::from("N"),
        Value::Array(items) => items.iter_mut().for_each(shape),
        Value::Object(fields) => fields.values_mut().for_each(shape),
        _ => {}
    }
}

#[test]
fn the_document_has_a_frozen_shape() {
    let bench = Bench::new();
    let done = bench.ipcm(&[&SMALL[..], &["messagefiles", "--size", "100", "--senders", "2"]].concat());
    assert_eq!(done.code(), 0, "{}", done.shown());
    assert_eq!(done.stderr, "");
    let mut document: Value = serde_json::from_str(&done.stdout).unwrap();
    let size = &document["protocols"][0]["sizes"][0];
    assert_eq!(size["content_bytes"], 100);
    assert!(size["message_bytes"].as_u64().unwrap() > 100);
    assert_eq!(size["round_trip"]["samples"], 40);
    for one_way in size["one_way"].as_array().unwrap() {
        assert_eq!(one_way["messages_a_round"], 20);
        assert!(one_way["messages_per_second"].as_f64().unwrap() > 0.0);
    }
    let percentiles = ["p50_us", "p90_us", "p99_us", "p999_us"].map(|key| size["round_trip"][key].as_f64().unwrap());
    assert!(percentiles.is_sorted() && percentiles[0] > 0.0, "{percentiles:?}");
    let request = &size["request"];
    assert_eq!(request["samples"], 40);
    assert!(request["p50_us"].as_f64().unwrap() > 0.0 && request["plain_p50_us"].as_f64().unwrap() > 0.0);
    assert!(request["ratio"].as_f64().unwrap() > 0.0);
    shape(&mut document);
    insta::assert_snapshot!(document.to_string(), @r#"{"cores":"N","protocols":[{"floor":null,"protocol":"MessageFiles","sizes":[{"content_bytes":"N","message_bytes":"N","one_way":[{"batch":"N","floor_messages_per_second":null,"megabytes_per_second":"N","messages_a_round":"N","messages_per_second":"N","ratio":null,"ratio_to_single_sends":null,"senders":"N"},{"batch":"N","floor_messages_per_second":null,"megabytes_per_second":"N","messages_a_round":"N","messages_per_second":"N","ratio":null,"ratio_to_single_sends":null,"senders":"N"}],"request":{"p50_us":"N","p90_us":"N","p999_us":"N","p99_us":"N","plain_p50_us":"N","ratio":"N","samples":"N"},"round_trip":{"floor_p50_us":null,"p50_us":"N","p90_us":"N","p999_us":"N","p99_us":"N","ratio":null,"samples":"N"},"skipped":null}],"skipped":null}],"rounds":"N","serializer":"JSON"}"#);
    assert_eq!(bench.left(), [""; 0]);
}

#[test]
fn several_protocols_are_told_of_and_a_picture_drawn() {
    let bench = Bench::new();
    let all = "atomicpipe,unixsocket,connectionunix,messagefiles";
    let args = ["bench", "-p", all, "--messages", "8", "--rounds", "1", "--size", "2,1k", "--senders", "1"];
    let done = bench.ipcm(&[&args[..], &["--svg", "picture.svg"]].concat());
    assert_eq!(done.code(), 0, "{}", done.shown());
    for protocol in ["AtomicPipe", "UnixSocket", "ConnectionUnix", "MessageFiles"] {
        assert_eq!(done.stdout.matches(&format!("\n{protocol} ")).count(), 2, "{}", done.shown());
    }
    let picture = fs::read_to_string(bench.dir().join("picture.svg")).unwrap();
    assert!(picture.starts_with("<svg ") && picture.contains("MessageFiles") && picture.ends_with("</svg>\n"));
    assert_eq!(bench.left(), ["picture.svg"]);
}

#[test]
fn what_is_too_large_for_a_protocol_costs_only_that_size() {
    let bench = Bench::new();
    let done = bench.ipcm(&[&SMALL[..], &["unixsocket", "--size", "8M,100", "--senders", "1"]].concat());
    let document: Value = serde_json::from_str(&done.stdout).unwrap();
    let sizes = document["protocols"][0]["sizes"].as_array().unwrap();
    assert!(sizes[0]["skipped"].as_str().unwrap().contains("limit"), "{}", done.shown());
    assert_eq!(sizes[0]["round_trip"], Value::Null);
    assert_eq!(sizes[1]["skipped"], Value::Null);
    assert!(sizes[1]["round_trip"]["p50_us"].as_f64().unwrap() > 0.0);
}

#[test]
fn mistakes_have_their_exit_codes() {
    let bench = Bench::new();
    for (args, code) in [
        (&["-p", "pigeon"][..], 2),
        (&["-p", "localmemory"], 1),
        (&["--size", "1"], 2),
        (&["--senders", "0"], 2),
        (&["--all", "-p", "messagefiles"], 2),
        (&["-p", "messagefiles", "-s", "nonsense"], 2),
        (&["-p", "messagefiles", "--timeout", "0"], 4),
    ] {
        let done = bench.ipcm(&[&["bench"], args].concat());
        assert_eq!(done.code(), code, "{args:?}: {}", done.shown());
        assert_eq!(done.stdout, "");
    }
    assert_eq!(bench.left(), [""; 0]);
}

#[test]
fn an_interrupted_one_leaves_neither_processes_nor_files() {
    let bench = Bench::new();
    let running = bench.start(bench.command(&["bench", "-p", "messagefiles", "--rounds", "60000"]));
    let pid = running.pid();
    let children = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    until("all workers run", || children().split_whitespace().count() == 5);
    let workers: Vec<u32> = children().split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    signal(pid, "INT");
    let done = running.finish();
    assert_eq!(done.code(), 130, "{}", done.shown());
    until("no worker runs", || !workers.iter().any(|pid| is_running(*pid)));
    assert_eq!(bench.left(), [""; 0]);
}
