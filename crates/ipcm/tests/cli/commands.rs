// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each command prints, as text and as documents.

use crate::bench::Bench;
use crate::shows;

#[test]
fn info_tells_what_the_string_says() {
    let bench = Bench::with_bus();
    shows!(bench.ipcm(&["info"]), @"
    exit 0
    out| protocol    MessageFiles
    out| serializer  JSON
    out| route       TMP/BUS
    out| there       yes
    out| peers       0
    ");
    shows!(bench.ipcm(&["--json", "info"]), @r#"
    exit 0
    out| {"info":"[\"IPC::Manager::Client::MessageFiles\",\"IPC::Manager::Serializer::JSON\",\"TMP/BUS\"]","protocol":"MessageFiles","serializer":"JSON","route":"TMP/BUS","there":true,"peers":0}
    "#);
    bench.ipcm(&["stop"]);
    shows!(bench.ipcm(&["info"]), @"
    exit 9
    out| protocol    MessageFiles
    out| serializer  JSON
    out| route       TMP/BUS
    out| there       no
    out| peers       -
    err| ipcm: observe: there is no bus at this route (protocol MessageFiles, route TMP/BUS)
    err|   hint: `ipcm spawn` makes a bus; is --bus, --bus-file or IPCM_BUS that of one that ended?
    ");
    shows!(bench.ipcm(&["info", "--json"]), @r#"
    exit 9
    out| {"info":"[\"IPC::Manager::Client::MessageFiles\",\"IPC::Manager::Serializer::JSON\",\"TMP/BUS\"]","protocol":"MessageFiles","serializer":"JSON","route":"TMP/BUS","there":false,"peers":null}
    err| {"error":{"bus":"[\"IPC::Manager::Client::MessageFiles\",\"IPC::Manager::Serializer::JSON\",\"TMP/BUS\"]","code":"no_such_bus","hint":"`ipcm spawn` makes a bus; is --bus, --bus-file or IPCM_BUS that of one that ended?","message":"observe: there is no bus at this route (protocol MessageFiles, route TMP/BUS)","peer":null}}
    "#);
}

#[test]
fn protocols_are_listed() {
    let bench = Bench::new();
    let listed: serde_json::Value = serde_json::from_str(&bench.ipcm(&["--json", "protocols"]).stdout).unwrap();
    let protocols = listed["protocols"].as_array().unwrap();
    let named = |name: &str| protocols.iter().find(|protocol| protocol["name"] == name).unwrap().to_string();
    insta::assert_snapshot!(named("MessageFiles"), @r#"{"acknowledges":true,"across_processes":true,"automatic":true,"durability":"power","groups":true,"largest_message_bytes":67108864,"most_unread":null,"name":"MessageFiles","order":"per sender","reason":null,"suspend":true,"viable":true,"wait":"inotify"}"#);
    insta::assert_snapshot!(named("LocalMemory"), @r#"{"acknowledges":true,"across_processes":false,"automatic":false,"durability":"process","groups":false,"largest_message_bytes":1048576,"most_unread":10000,"name":"LocalMemory","order":"per sender","reason":null,"suspend":true,"viable":true,"wait":"descriptor"}"#);
    let table = bench.ipcm(&["protocols"]);
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = table.stdout.lines().map(words).collect();
    assert_eq!(lines[0], "protocol viable processes order suspend acknowledge wait largest durability");
    assert!(
        lines.contains(&"MessageFiles yes many per sender yes yes inotify 67108864 B power".into()),
        "{}",
        table.shown()
    );
    assert!(
        lines.contains(&"LocalMemory yes one per sender yes yes descriptor 1048576 B process".into()),
        "{}",
        table.shown()
    );
    let first = |line: &String| line.split(' ').next().unwrap().to_owned();
    let names: Vec<String> = protocols.iter().map(|protocol| protocol["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(lines[1..].iter().map(first).collect::<Vec<_>>(), names);
}

#[test]
fn spawn_prints_the_string() {
    let bench = Bench::new();
    let made = bench.ipcm(&["spawn", "--keep", "-p", "messagefiles", "-s", "json"]);
    shows!(made, @r#"
    exit 0
    out| ["IPC::Manager::Client::MessageFiles","IPC::Manager::Serializer::JSON","TMP/BUS"]
    "#);
    bench.shell(&format!("IPCM_BUS='{}' $IPCM stop", made.stdout.trim()));
    let route = bench.dir().join("here").to_string_lossy().into_owned();
    let made = bench.ipcm(&["spawn", "--keep", "-p", "MessageFiles", "--route", &route, "--json"]);
    shows!(made, @r#"
    exit 0
    out| {"info":"[\"IPC::Manager::Client::MessageFiles\",\"IPC::Manager::Serializer::JSON::Zstd\",\"TMP/here\"]","protocol":"MessageFiles","serializer":"JSON::Zstd","route":"TMP/here"}
    "#);
    let short = format!("messagefiles:{route}");
    assert_eq!(bench.ipcm(&["stop", "--bus", &short]).code(), 0);
    assert_eq!(bench.left(), [""; 0]);
}

#[test]
fn peers_are_listed_without_joining() {
    let bench = Bench::with_bus();
    shows!(bench.ipcm(&["peers"]), @"exit 0");
    bench.ipcm(&["suspend", "b"]);
    bench.ipcm(&["suspend", "c", "--for", "1h"]);
    bench.ipcm(&["send", "b", "1"]);
    shows!(bench.ipcm(&["--json", "peers"]), @r#"
    exit 0
    out| {"peers":[{"name":"b","pid":null,"state":"suspended","until":null,"unread":1},{"name":"c","pid":null,"state":"suspended","until":N,"unread":0}]}
    "#);
    shows!(bench.ipcm(&["peers", "--names"]), @"
    exit 0
    out| b
    out| c
    ");
    let reader = bench.start(bench.command(&["recv", "--name", "live", "--follow"]));
    bench.await_peer("live", "active");
    shows!(bench.ipcm(&["--json", "peers"]), @r#"
    exit 0
    out| {"peers":[{"name":"b","pid":null,"state":"suspended","until":null,"unread":1},{"name":"c","pid":null,"state":"suspended","until":N,"unread":0},{"name":"live","pid":N,"state":"active","until":null,"unread":0}]}
    "#);
    reader.signal("TERM");
    assert_eq!(reader.finish().code(), 143);
}

#[test]
fn peers_are_watched() {
    let bench = Bench::with_bus();
    let mut watch = bench.start(bench.command(&["--json", "peers", "--watch"]));
    assert_eq!(watch.line(), r#"{"peers":[]}"#);
    bench.ipcm(&["suspend", "b"]);
    // Between coming and being suspended it may have been seen in other states.
    while !watch.line().contains(r#""name":"b","pid":null,"state":"suspended""#) {}
    let ended = bench.ipcm(&["peers", "--watch", "--timeout", "50ms"]);
    shows!(ended, @"
    exit 0
    out| name  pid  state      unread
    out| b     -    suspended  0
    ");
}

#[test]
fn suspend_leaves_a_name_behind() {
    let bench = Bench::with_bus();
    shows!(bench.ipcm(&["suspend", "b"]), @"
    exit 0
    out| b is suspended
    ");
    shows!(bench.ipcm(&["suspend", "b", "--for", "1h", "--json"]), @r#"
    exit 0
    out| {"name":"b","state":"suspended","until":N}
    "#);
}

#[test]
fn send_prints_receipts() {
    let bench = Bench::with_bus();
    bench.ipcm(&["suspend", "b"]);
    shows!(bench.ipcm(&["send", "b", r#"{"hello":"world"}"#]), @"
    exit 0
    out| stored
    ");
    shows!(bench.ipcm(&["--json", "send", "b", "--text", "hi"]), @r#"
    exit 0
    out| {"id":"ID","to":"b","receipt":"stored"}
    "#);
    shows!(bench.ipcm_with(&["send", "b"], b" [1,\n2] \n"), @"
    exit 0
    out| stored
    ");
    shows!(bench.ipcm_with(&["send", "b", "--lines"], b"1\n\"two\"\n{\"three\":3}"), @"
    exit 0
    out| stored
    out| stored
    out| stored
    ");
    shows!(bench.ipcm_with(&["send", "b", "--text", "--null", "-"], b"a\nb\0\0c\0"), @"
    exit 0
    out| stored
    out| stored
    out| stored
    ");
    shows!(bench.ipcm(&["recv", "--name", "b", "--drain", "--content"]), @r#"
    exit 0
    out| {"hello":"world"}
    out| "hi"
    out| [1,2]
    out| 1
    out| "two"
    out| {"three":3}
    out| "a\nb"
    out| ""
    out| "c"
    "#);
}

#[test]
fn broadcast_reaches_everybody() {
    let bench = Bench::with_bus();
    shows!(bench.ipcm(&["broadcast", "1"]), @"exit 3");
    bench.ipcm(&["suspend", "b"]);
    bench.ipcm(&["suspend", "c"]);
    shows!(bench.ipcm(&["broadcast", "1"]), @"
    exit 0
    out| b  stored
    out| c  stored
    ");
    shows!(bench.ipcm(&["--json", "broadcast", "--text", "x"]), @r#"
    exit 0
    out| {"results":{"b":{"sent":true,"receipt":"stored"},"c":{"sent":true,"receipt":"stored"}}}
    "#);
}

#[test]
fn counters_and_audit() {
    let bench = Bench::with_bus();
    shows!(bench.ipcm(&["stats"]), @"exit 0");
    bench.ipcm(&["suspend", "b"]);
    bench.ipcm(&["send", "--name", "a", "b", "1"]);
    bench.ipcm(&["send", "--name", "a", "b", "2"]);
    bench.ipcm(&["recv", "--name", "b"]);
    shows!(bench.ipcm(&["stats"]), @"
    exit 0
    out| from  to  sent  read
    out| a     b   2     1
    ");
    shows!(bench.ipcm(&["--json", "stats"]), @r#"
    exit 0
    out| {"stats":{"a":{"read":{},"sent":{"b":2}},"b":{"read":{"a":1},"sent":{}}}}
    "#);
    shows!(bench.ipcm(&["audit"]), @"
    exit 11
    out| audit: 2 sent, 1 read, and this does not add up:
    out|   a -> b  +1
    ");
    shows!(bench.ipcm(&["--json", "audit"]), @r#"
    exit 11
    out| {"balanced":false,"sent":2,"read":1,"delta":{"a -> b":1},"remaining":[]}
    "#);
    bench.ipcm(&["recv", "--name", "b"]);
    shows!(bench.ipcm(&["audit"]), @"
    exit 0
    out| audit: 2 sent, 2 read, all accounted for
    ");
    shows!(bench.ipcm(&["--json", "stop"]), @r#"
    exit 0
    out| {"balanced":true,"sent":2,"read":2,"delta":{},"remaining":[]}
    "#);
    assert_eq!(bench.left(), [""; 0]);
}

#[test]
fn stop_waits_for_mailboxes() {
    let bench = Bench::with_bus();
    bench.ipcm(&["suspend", "b"]);
    for number in ["1", "2", "3"] {
        bench.ipcm(&["send", "b", number]);
    }
    let mut reader = bench.start(bench.command(&["recv", "--name", "b", "--follow", "--content"]));
    // A name without a process is not waited for.
    bench.await_peer("b", "active");
    let stopped = bench.ipcm(&["stop", "--drain", "--timeout", "20s"]);
    assert_eq!([reader.line(), reader.line(), reader.line()], ["1", "2", "3"]);
    assert_eq!(reader.finish().code(), 0);
    shows!(stopped, @"
    exit 0
    out| audit: 3 sent, 3 read, all accounted for
    ");
}

#[test]
fn stop_can_send_a_signal() {
    let bench = Bench::with_bus();
    let reader = bench.start(bench.command(&["recv", "--name", "b", "--follow"]));
    bench.await_peer("b", "active");
    assert_eq!(bench.ipcm(&["stop", "--signal", "HUP"]).code(), 0);
    // Whichever it sees first, the signal or the message.
    assert!(matches!(reader.finish().code(), 0 | 129));
}

#[test]
fn stop_can_be_interrupted_while_it_waits() {
    let bench = Bench::with_bus();
    let reader = bench.start(bench.command(&["recv", "--name", "b", "--follow"]));
    bench.await_peer("b", "active");
    reader.signal("STOP");
    bench.ipcm(&["send", "b", "1"]);
    let stop = bench.start(bench.command(&["stop", "--drain", "--timeout", "50s"]));
    // It catches the signal from the moment on that it has joined nothing and waits; before, it just ends by it.
    crate::bench::until("stop waits", || crate::bench::catches_signals(stop.pid()));
    stop.signal("INT");
    shows!(stop.finish(), @"
    exit 130
    err| ipcm: interrupted; the bus was left as it is
    ");
    reader.signal("CONT");
    reader.signal("TERM");
    assert_eq!(reader.finish().code(), 143);
    assert_eq!(bench.ipcm(&["peers"]).code(), 0);
}
