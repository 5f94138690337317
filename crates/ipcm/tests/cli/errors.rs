// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every exit status that can be reached, and how failures are told.

use crate::bench::Bench;
use crate::shows;

#[test]
fn usage_is_2() {
    let bench = Bench::with_bus();
    bench.ipcm(&["suspend", "b"]);
    shows!(bench.ipcm(&["send", "b", r#"{"a": 1,}"#]), @"
    exit 2
    err| ipcm: the body is not JSON: a key was expected (byte 8)
    err|   hint: --text sends a string as it is
    ");
    shows!(bench.ipcm(&["send", "b", "null"]), @"
    exit 2
    err| ipcm: the body is null, which cannot be sent
    ");
    shows!(bench.ipcm(&["send", "--lines", "b", "1"]), @"
    exit 2
    err| ipcm: --lines and --null read standard input, so there can be no body beside them
    ");
    shows!(bench.ipcm(&["--json", "send"]), @r#"
    exit 2
    err| {"error":{"bus":null,"code":"usage","message":"the following required arguments were not provided: <TO>","peer":null}}
    "#);
    shows!(bench.ipcm(&["recv", "--timeout", "soon"]), @"
    exit 2
    err| error: invalid value 'soon' for '--timeout <DURATION>': the unit must be us, ms, s, m or h
    err| 
    err| For more information, try '--help'.
    ");
    shows!(bench.ipcm(&["recv", "--name", "_x"]), @r#"
    exit 2
    err| ipcm: "_x" cannot be a peer's name: it begins with an underscore
    "#);
    shows!(bench.ipcm(&["stop", "--signal", "NONSENSE"]), @r#"
    exit 2
    err| ipcm: "NONSENSE" is no signal; known are HUP, INT, QUIT, ABRT, KILL, USR1, USR2, PIPE, ALRM, TERM, CONT, STOP
    "#);
    shows!(bench.ipcm(&["spawn", "-p", "Pigeon"]), @r#"
    exit 2
    err| ipcm: there is no protocol "Pigeon"; known are PROTOCOLS
    err|   hint: `ipcm protocols` lists what works here
    "#);
    shows!(bench.ipcm(&["spawn", "-s", "Pigeon"]), @"
    exit 2
    err| ipcm: there is no serializer Pigeon; known are: JSON, JSON::Zstd
    ");
    shows!(bench.ipcm(&["nonsense"]), @"
    exit 2
    err| error: unrecognized subcommand 'nonsense'
    err| 
    err| Usage: ipcm [OPTIONS] <COMMAND>
    err| 
    err| For more information, try '--help'.
    ");
}

#[test]
fn some_lines_may_be_stored_before_one_that_is_not() {
    let bench = Bench::with_bus();
    bench.ipcm(&["suspend", "b"]);
    shows!(bench.ipcm_with(&["send", "--lines", "b"], b"1\n2\nthree\n4\n"), @"
    exit 2
    out| stored
    out| stored
    err| ipcm: the messages before were stored (2), this one was not
    err|   because: line 3 of standard input is not JSON: a JSON value was expected (byte 0)
    err|   hint: --text sends a string as it is
    ");
    shows!(bench.ipcm(&["recv", "--name", "b", "--drain", "--content"]), @"
    exit 0
    out| 1
    out| 2
    ");
}

#[test]
fn nothing_there_is_3() {
    let bench = Bench::with_bus();
    shows!(bench.ipcm(&["recv", "--timeout", "0"]), @"exit 3");
    shows!(bench.ipcm(&["recv", "--drain"]), @"exit 3");
    shows!(bench.ipcm(&["broadcast", "1"]), @"exit 3");
}

#[test]
fn time_up_is_4() {
    let bench = Bench::with_bus();
    shows!(bench.ipcm(&["recv", "--timeout", "10ms"]), @"
    exit 4
    err| ipcm: the time was up after 0 of the messages that were to come
    ");
    shows!(bench.ipcm(&["send", "late", "1", "--timeout", "10ms"]), @"
    exit 4
    err| ipcm: send: no peer of this name came within 10ms (peer late)
    ");
    bench.ipcm(&["suspend", "b"]);
    bench.ipcm(&["send", "b", "1"]);
    shows!(bench.ipcm(&["recv", "--name", "b", "-n", "2", "--timeout", "10ms", "--content"]), @"
    exit 4
    out| 1
    err| ipcm: the time was up after 1 of the messages that were to come
    ");
}

#[test]
fn no_such_peer_is_5() {
    let bench = Bench::with_bus();
    shows!(bench.ipcm(&["send", "nobody", "1"]), @"
    exit 5
    err| ipcm: send: no peer of that name is on the bus (protocol MessageFiles, route TMP/BUS, peer nobody, message ID)
    err|   hint: `ipcm peers` lists who is there; --timeout 5s waits for a peer to come
    ");
    shows!(bench.ipcm(&["--json", "send", "nobody", "1"]), @r#"
    exit 5
    err| {"error":{"bus":"[\"IPC::Manager::Client::MessageFiles\",\"IPC::Manager::Serializer::JSON\",\"TMP/BUS\"]","code":"no_such_peer","hint":"`ipcm peers` lists who is there; --timeout 5s waits for a peer to come","message":"send: no peer of that name is on the bus (protocol MessageFiles, route TMP/BUS, peer nobody, message ID)","peer":"nobody"}}
    "#);
}

#[test]
fn too_large_is_8() {
    let bench = Bench::with_bus();
    bench.ipcm(&["suspend", "b"]);
    let large = vec![b'x'; (64 << 20) + 1];
    shows!(bench.ipcm_with(&["send", "--text", "b"], &large), @"
    exit 8
    err| ipcm: standard input is longer than 67108864 bytes
    ");
    assert_eq!(bench.peer("b").unwrap()["unread"], 0);
}

#[test]
fn no_bus_is_9() {
    let bench = Bench::new();
    shows!(bench.ipcm(&["peers"]), @"
    exit 9
    err| ipcm: no bus was given
    err|   hint: set IPCM_BUS, or give --bus or --bus-file; `ipcm spawn` makes a bus
    ");
    shows!(bench.ipcm(&["peers", "--bus", "messagefiles:/nonexistent/bus"]), @"
    exit 9
    err| ipcm: observe: there is no bus at this route (protocol MessageFiles, route /nonexistent/bus)
    err|   hint: `ipcm spawn` makes a bus; is --bus, --bus-file or IPCM_BUS that of one that ended?
    ");
    shows!(bench.ipcm(&["--json", "peers", "--bus", "messagefiles:/nonexistent/bus"]), @r#"
    exit 9
    err| {"error":{"bus":"[\"IPC::Manager::Client::MessageFiles\",\"IPC::Manager::Serializer::JSON::Zstd\",\"/nonexistent/bus\"]","code":"no_such_bus","hint":"`ipcm spawn` makes a bus; is --bus, --bus-file or IPCM_BUS that of one that ended?","message":"observe: there is no bus at this route (protocol MessageFiles, route /nonexistent/bus)","peer":null}}
    "#);
    shows!(bench.ipcm(&["peers", "--bus", "[1"]), @"
    exit 9
    err| ipcm: the connection string is not JSON: [1 (byte 2)
    err|   because: the JSON text ends too early (byte 2)
    err|   hint: a bus is the line that `ipcm spawn` prints, or short as in messagefiles:/tmp/bus
    ");
    shows!(bench.ipcm(&["peers", "--bus", "/tmp/bus"]), @"
    exit 9
    err| ipcm: the connection string is not JSON: /tmp/bus (byte 0)
    err|   because: a JSON value was expected (byte 0)
    err|   hint: a bus is the line that `ipcm spawn` prints, or short as in messagefiles:/tmp/bus
    ");
    shows!(bench.ipcm(&["peers", "--bus", "pigeon:/tmp/bus"]), @r#"
    exit 9
    err| ipcm: there is no protocol "pigeon"; known are PROTOCOLS
    err|   hint: `ipcm protocols` lists what works here
    "#);
    shows!(bench.ipcm(&["peers", "--bus-file", "none"]), @"
    exit 9
    err| ipcm: the file none of --bus-file cannot be read
    err|   because: No such file or directory (os error 2)
    ");
}

#[test]
fn the_bus_may_be_in_a_file() {
    let bench = Bench::with_bus();
    std::fs::write(bench.dir().join("bus"), format!("{}\n", bench.bus())).unwrap();
    assert_eq!(bench.ipcm(&["peers", "--bus-file", "bus"]).code(), 0);
    std::fs::remove_file(bench.dir().join("bus")).unwrap();
}

#[test]
fn a_name_in_use_is_10() {
    let bench = Bench::with_bus();
    let holder = bench.start(bench.command(&["recv", "--name", "b", "--follow"]));
    bench.await_peer("b", "active");
    let refused = bench.ipcm(&["--json", "recv", "--name", "b"]);
    assert_eq!(refused.code(), 10, "{}", refused.shown());
    assert!(refused.stderr.contains(r#""code":"name_in_use""#), "{}", refused.stderr);
    assert_eq!(bench.ipcm(&["send", "b", "1"]).stdout, "delivered\n");
    holder.signal("INT");
    assert_eq!(holder.finish().code(), 130);
}

#[test]
fn a_protocol_within_one_process_is_refused() {
    let bench = Bench::new();
    shows!(bench.ipcm(&["spawn", "-p", "localmemory"]), @"
    exit 1
    err| ipcm: a bus of the protocol LocalMemory lives within one process, so no other command could join it
    ");
    assert_eq!(bench.left(), [""; 0]);
}

#[test]
fn a_closed_output_is_a_clean_end() {
    let bench = Bench::with_bus();
    for command in ["peers", "info", "protocols", "--help", "man", "completions bash", "stats", "audit", "demo"] {
        let done = bench.shell(&format!("{{ $IPCM {command}; echo $? >&2; }} | true"));
        assert_eq!(done.stderr, "0\n", "{command}");
    }
}

#[test]
fn a_route_in_use_is_told_without_advice_for_names() {
    let bench = Bench::new();
    std::fs::write(bench.dir().join("notes"), "somebody's").unwrap();
    let dir = bench.dir().to_str().unwrap().to_owned();
    let refused = bench.ipcm(&["spawn", "--keep", "-p", "MessageFiles", "--route", &dir]);
    assert_eq!(refused.code(), 10, "{}", refused.stderr);
    assert!(refused.stderr.contains("use an empty or a new one"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("--name"), "{}", refused.stderr);
}
