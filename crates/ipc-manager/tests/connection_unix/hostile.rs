// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames and hellos that no sound peer sends: each is reported, and nothing else suffers.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use ipc_manager::{Client, ErrorKind, Limits};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test, eventually};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;

use super::{StreamBus, frame, message, read_json, read_to_end, recv_count, reports};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        t11_sound_frames_between_junk_arrive,
        d2_a_length_past_the_limit_closes_the_connection,
        a_length_within_the_limit_costs_no_memory,
        a_connection_without_a_hello_is_closed,
        a_connection_that_says_nothing_is_closed_in_time,
        silent_connections_are_bounded,
        descriptors_that_run_out_cost_no_message,
        b7_a_stream_that_ends_in_mid_frame_is_dropped,
        a_hello_in_pieces_is_understood,
        a_reader_that_leaves_takes_what_it_had_not_accepted_yet,
    ]
}

fn t11_sound_frames_between_junk_arrive(sandbox: &Sandbox) {
    let bus = StreamBus::new(sandbox);
    let mut a = bus.client("a");
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let junk: Vec<Vec<u8>> = vec![
        b"\xff\xfe\x00random".to_vec(),
        b"".to_vec(),
        b"{\"from\":\"x\",".to_vec(),
        b"[1,2]".to_vec(),
        b"17".to_vec(),
        br#"{"to":"a","content":1}"#.to_vec(),
        br#"{"from":"x","to":"a","content":null}"#.to_vec(),
        br#"{"from":"x","to":"somebody else","content":1}"#.to_vec(),
        deep.into_bytes(),
    ];
    let mut stream = bus.dial_as("perl", "a");
    let got = thread::scope(|scope| {
        // All of it is more than the kernel holds for a connection.
        scope.spawn(|| {
            for (number, junk) in junk.iter().enumerate() {
                stream.write_all(&message("perl", "a", &json!(number))).unwrap();
                stream.write_all(&frame(junk)).unwrap();
            }
            // A second hello is neither junk nor a message.
            stream.write_all(&frame(br#"{"hello":"another"}"#)).unwrap();
            stream.write_all(&message("perl", "a", &json!("last"))).unwrap();
        });
        recv_count(&mut a, junk.len() + 1)
    });
    assert!(got[..junk.len()].iter().zip(0..).all(|(message, number)| *message.content() == number));
    assert_eq!(got[junk.len()].content(), "last");
    assert_eq!(a.take_damaged().len(), junk.len());
    stream.write_all(&message("perl", "a", &json!("usable"))).unwrap();
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "usable");
}

fn d2_a_length_past_the_limit_closes_the_connection(sandbox: &Sandbox) {
    let bus = StreamBus::new(sandbox);
    let limits = Limits { encoded_bytes: 1_000, ..Limits::DEFAULT };
    let mut a = Client::builder("a", bus.info()).limits(limits).connect().unwrap();
    let (mut sound, mut hostile) = (bus.dial_as("sound", "a"), bus.dial_as("hostile", "a"));
    for length in [1_001_u32, u32::MAX] {
        hostile.write_all(&message("hostile", "a", &json!("before"))).unwrap();
        hostile.write_all(&length.to_be_bytes()).unwrap();
        sound.write_all(&message("sound", "a", &json!("whole"))).unwrap();
        let mut got: Vec<_> = recv_count(&mut a, 2).iter().map(|message| message.content().clone()).collect();
        got.sort_by_key(ToString::to_string);
        assert_eq!(got, [json!("before"), json!("whole")]);
        let texts = reports(&mut a, 1);
        assert!(texts[0].contains(&length.to_string()) && texts[0].contains("hostile"), "{texts:?}");
        read_to_end(&mut hostile, &mut a);
        hostile = bus.dial_as("hostile", "a");
    }
    // Exactly the limit is fine.
    let room = 1_000 - (message("sound", "a", &json!("")).len() - 4);
    let large = loop {
        // Stamps differ in their number of digits.
        let frame = message("sound", "a", &json!("y".repeat(room)));
        if frame.len() == 1_004 {
            break frame;
        }
    };
    sound.write_all(&large).unwrap();
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content().as_str().unwrap().len(), room);
}

/// The resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn a_length_within_the_limit_costs_no_memory(sandbox: &Sandbox) {
    let bus = StreamBus::new(sandbox);
    let mut a = bus.client("a");
    let before = resident();
    let streams: Vec<_> = (0..16)
        .map(|number| {
            let mut stream = bus.dial_as(&format!("p{number}"), "a");
            stream.write_all(&(60_u32 << 20).to_be_bytes()).unwrap();
            stream.write_all(b"{").unwrap();
            stream
        })
        .collect();
    assert!(!a.is_ready().unwrap() && a.is_pending().unwrap());
    assert!(resident().saturating_sub(before) < 64 << 20, "what was announced was set aside");
    drop(streams);
    reports(&mut a, 16);
    assert!(!a.is_pending().unwrap());
}

fn a_connection_without_a_hello_is_closed(sandbox: &Sandbox) {
    let bus = StreamBus::new(sandbox);
    let mut a = bus.client("a");
    let first_frames = [
        message("perl", "a", &json!("no hello")),
        frame(b"not json"),
        frame(b"[]"),
        frame(br#"{"hello":""}"#),
        frame(br#"{"hello":"_x"}"#),
        frame(br#"{"hello":null}"#),
        u32::MAX.to_be_bytes().to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ];
    for bytes in &first_frames {
        let mut stream = bus.dial("a");
        stream.write_all(bytes).unwrap();
        reports(&mut a, 1);
        read_to_end(&mut stream, &mut a);
    }
    assert!(a.connections().unwrap().is_empty());
    let mut sound = bus.dial_as("perl", "a");
    sound.write_all(&message("perl", "a", &json!("sound"))).unwrap();
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "sound");
}

fn a_connection_that_says_nothing_is_closed_in_time(sandbox: &Sandbox) {
    let bus = StreamBus::new(sandbox);
    let mut a = bus.client("a");
    let (mut silent, mut slow) = (bus.dial("a"), bus.dial("a"));
    slow.write_all(&[0, 0, 0]).unwrap();
    let begun = Instant::now();
    assert!(!a.is_ready().unwrap());
    assert_eq!(a.connections().unwrap().len(), 2);
    // A sleeping reader wakes up for it.
    let error = a.recv_timeout(Duration::from_secs(7)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(begun.elapsed() >= Duration::from_secs(5));
    assert!(a.connections().unwrap().is_empty());
    assert_eq!(a.take_damaged().len(), 2);
    read_to_end(&mut silent, &mut a);
    read_to_end(&mut slow, &mut a);
}

fn silent_connections_are_bounded(sandbox: &Sandbox) {
    const DIALLED: usize = 1_100;
    let bus = StreamBus::new(sandbox);
    let mut a = bus.client("a");
    let mut silent = Vec::new();
    while silent.len() < DIALLED {
        silent.push(bus.dial("a"));
        if silent.len() % 100 == 0 {
            assert!(!a.is_ready().unwrap());
        }
    }
    assert!(a.connections().unwrap().len() <= 1_024);
    // Who says something is heard all the same.
    let mut sound = bus.dial_as("perl", "a");
    sound.write_all(&message("perl", "a", &json!("sound"))).unwrap();
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "sound");
    drop(silent);
    eventually("the silent ones to be gone", || {
        assert!(!a.is_ready().unwrap());
        a.connections().unwrap().len() <= 1
    });
}

fn descriptors_that_run_out_cost_no_message(sandbox: &Sandbox) {
    const PEERS: usize = 200;
    let bus = StreamBus::new(sandbox);
    let mut reader = bus.puppet("reader");
    let pid = Pid::from_raw(reader.pid().try_into().unwrap());
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(48), maximum: Some(48) }).unwrap();
    // As many as it has descriptors say nothing, and others say all that they have to say at once.
    let silent: Vec<_> = (0..48).map(|_| bus.dial("reader")).collect();
    let mut streams: Vec<_> = (0..PEERS).map(|number| bus.dial_as(&format!("p{number}"), "reader")).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&message(&format!("p{number}"), "reader", &json!(number))).unwrap();
    }
    let mut got: Vec<_> = reader.recv_count(PEERS).iter().map(|seen| seen.content.as_u64().unwrap()).collect();
    got.sort_unstable();
    assert_eq!(got, (0..PEERS as u64).collect::<Vec<_>>());
    drop((silent, streams));
    let mut sound = bus.client("sound");
    sound.send("reader", "still there").unwrap();
    assert_eq!(reader.recv_count(1)[0].content, "still there");
}

fn b7_a_stream_that_ends_in_mid_frame_is_dropped(sandbox: &Sandbox) {
    let bus = StreamBus::new(sandbox);
    let mut a = bus.client("a");
    for (cut, count) in [(2, 1), (4, 1), (50, 1), (0, 0)] {
        let mut stream = bus.dial_as("perl", "a");
        stream.write_all(&message("perl", "a", &json!("whole"))).unwrap();
        stream.write_all(&message("perl", "a", &json!("half"))[..cut]).unwrap();
        drop(stream);
        assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "whole");
        let texts = reports(&mut a, count);
        assert!(texts.iter().all(|text| text.contains("perl") && text.contains(&cut.to_string())), "{texts:?}");
        eventually("the end", || {
            assert!(!a.is_ready().unwrap());
            a.connections().unwrap().is_empty()
        });
        assert!(!a.is_pending().unwrap());
    }
    a.disconnect().unwrap();
}

fn a_hello_in_pieces_is_understood(sandbox: &Sandbox) {
    let bus = StreamBus::new(sandbox);
    bus.register_quiet("perl");
    let mut a = bus.client("a");
    let mut stream = bus.dial("a");
    let mut bytes = frame(br#"{"hello":"perl"}"#);
    bytes.extend(message("perl", "a", &json!("hi")));
    for byte in bytes {
        stream.write_all(&[byte]).unwrap();
        a.is_ready().unwrap();
    }
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "hi");
    a.send("perl", "hi yourself").unwrap();
    assert_eq!(read_json(&mut stream)["content"], "hi yourself");
}

fn a_reader_that_leaves_takes_what_it_had_not_accepted_yet(sandbox: &Sandbox) {
    let bus = StreamBus::new(sandbox);
    let mut a = bus.client("a");
    let mut streams: Vec<_> = (0..10).map(|number| bus.dial_as(&format!("p{number}"), "a")).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&message(&format!("p{number}"), "a", &json!(number))).unwrap();
    }
    let mut got = Vec::new();
    a.disconnect_with(|messages| got.extend(messages)).unwrap();
    assert_eq!(got.len(), 10);
    for mut stream in streams {
        let refused = stream.write_all(&message("p", "a", &json!("late"))).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::BrokenPipe);
    }
}
