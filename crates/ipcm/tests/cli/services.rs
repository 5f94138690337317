// SPDX-License-Identifier: MIT OR Apache-2.0
//! Services from a shell: serve, request, ping, ready, describe, exec, wait.

use crate::bench::{Bench, Running, until};
use crate::shows;

/// Starts a service and waits until it is there.
fn serve(bench: &Bench, args: &[&str]) -> Running {
    let mut command = bench.command(&[&["serve"], args].concat());
    command.env("PATH", "/usr/bin:/bin").env("IPCM", env!("CARGO_BIN_EXE_ipcm"));
    let running = bench.start(command);
    assert_eq!(bench.ipcm(&["ready", args[0], "--timeout", "60"]).code(), 0, "{args:?} does not come");
    running
}

#[test]
fn a_script_serves_and_asks() {
    let bench = Bench::with_bus();
    let done = bench.shell(
        r#"$IPCM serve up -- tr a-z A-Z &
        $IPCM request up '"abc"' --wait 60
        $IPCM request up '{"a":["b",1]}'
        $IPCM request up --text abc --raw; echo
        echo '"from a pipe"' | $IPCM request up
        kill $!; wait $!"#,
    );
    shows!(done, @r#"
    exit 143
    out| "ABC"
    out| {"A":["B",1]}
    out| ABC
    out| "FROM A PIPE"
    "#);
}

#[test]
fn a_script_tells_a_failing_a_missing_and_a_killed_service_apart() {
    let bench = Bench::with_bus();
    let done = bench.shell(
        r#"cd "$TMPDIR"
        told() { "$@" 2>err; code=$?; sed 's/^ipcm: //;/hint:/d;s/ (.*//' err; echo "exit $code"; }
        $IPCM serve failing -- sh -c 'echo half; exit 3' & failing=$!
        $IPCM serve slow -- sleep 600 & slow=$!
        told $IPCM request failing '"abc"' --wait 60
        told $IPCM request nobody '"abc"' --wait 0
        told $IPCM ready slow --timeout 60
        $IPCM request slow '"abc"' --timeout 60 2>late & asker=$!
        until $IPCM peers --names | grep -q "ipcm-$asker"; do sleep 0.02; done
        kill -KILL $slow
        wait $asker; code=$?; sed 's/^ipcm: //;s/ (.*//' late; echo "exit $code"
        told $IPCM request slow '"abc"'
        told $IPCM request failing '"abc"'
        $IPCM send failing '{"terminate":1}'
        wait $failing; echo "served to the end: exit $?"
        told $IPCM request failing '"abc"' --wait 0
        rm -f err late"#,
    );
    shows!(done, @"
    exit 0
    out| the command ended with status 3
    out| exit 7
    out| send_timeout: no peer of that name is on the bus
    out| exit 5
    out| slow is ready
    out| exit 0
    out| await_response: the peer went away without an answer: slow
    out| exit 6
    out| send_request: the peer went away without an answer: slow
    out| exit 6
    out| the command ended with status 3
    out| exit 7
    out| delivered
    out| served to the end: exit 0
    out| send_timeout: no peer of that name is on the bus
    out| exit 5
    ");
}

#[test]
fn exit_codes_tell_what_became_of_a_request() {
    let bench = Bench::with_bus();
    let _failing = serve(&bench, &["failing", "--", "sh", "-c", "exit 3"]);
    let slow = serve(&bench, &["slow", "--", "sleep", "600"]);
    shows!(bench.ipcm(&["request", "nobody", "1", "--wait", "0"]), @"
    exit 5
    err| ipcm: send_timeout: no peer of that name is on the bus (protocol MessageFiles, route TMP/BUS, peer nobody, message ID)
    err|   hint: `ipcm peers` lists who is there; --wait 5s waits for it
    ");
    shows!(bench.ipcm(&["request", "failing", "1"]), @"
    exit 7
    err| ipcm: the command ended with status 3 (peer failing)
    ");
    shows!(bench.ipcm(&["--json", "request", "failing", "1"]), @r#"
    exit 7
    err| {"error":{"bus":"[\"IPC::Manager::Client::MessageFiles\",\"IPC::Manager::Serializer::JSON\",\"TMP/BUS\"]","code":"service_error","message":"the command ended with status 3 (peer failing)","peer":"failing"}}
    "#);
    shows!(bench.ipcm(&["request", "slow", "1", "--timeout", "200ms"]), @"
    exit 4
    err| ipcm: request: no response came within 200ms (peer slow)
    ");
    let waiting = bench.start(bench.command(&["request", "slow", "1", "--timeout", "60"]));
    until("the request to be there", || bench.shell("$IPCM peers").stdout.contains("ipcm-"));
    slow.signal("KILL");
    shows!(waiting.finish(), @"
    exit 6
    err| ipcm: await_response: the peer went away without an answer: slow (peer slow)
    ");
    shows!(bench.ipcm(&["request", "slow", "1"]), @"
    exit 6
    err| ipcm: send_request: the peer went away without an answer: slow (peer slow)
    ");
}

#[test]
fn what_a_command_says_is_the_answer() {
    let bench = Bench::with_bus();
    let _text = serve(&bench, &["text", "--", "echo", "plain"]);
    let _nothing = serve(&bench, &["nothing", "--", "true"]);
    let _signal = serve(&bench, &["signal", "--", "sh", "-c", "kill -9 $$"]);
    let _none = serve(&bench, &["none", "--", "/nonexistent/command"]);
    let _raw = serve(&bench, &["raw", "--raw", "--", "cat"]);
    let _who = serve(&bench, &["who", "--", "sh", "-c", "echo \"$IPCM_MSG_FROM\" ${#IPCM_MSG_ID}"]);
    shows!(bench.ipcm(&["request", "text", "1"]), @r#"
    exit 0
    out| "plain"
    "#);
    shows!(bench.ipcm(&["request", "nothing", "1"]), @"
    exit 0
    out| null
    ");
    shows!(bench.ipcm(&["request", "signal", "1"]), @"
    exit 7
    err| ipcm: the command was ended by signal 9 (peer signal)
    ");
    shows!(bench.ipcm(&["request", "none", "1"]), @"
    exit 7
    err| ipcm: the command /nonexistent/command cannot be run: No such file or directory (os error 2) (peer none)
    ");
    shows!(bench.ipcm(&["request", "raw", "--text", "a\nb"]), @r#"
    exit 0
    out| "a\nb"
    "#);
    shows!(bench.ipcm(&["request", "who", "1", "--name", "me"]), @r#"
    exit 0
    out| "me 36"
    "#);
}

#[test]
fn requests_wait_for_their_turn_or_run_at_once() {
    let bench = Bench::with_bus();
    let gate = bench.dir().join("gate").display().to_string();
    let work = format!("while [ ! -e {gate} ]; do sleep 0.02; done; cat");
    let _service = serve(&bench, &["gated", "-j", "2", "--", "sh", "-c", &work]);
    let asking: Vec<Running> =
        (1..=4).map(|n| bench.start(bench.command(&["request", "gated", &n.to_string(), "--timeout", "60"]))).collect();
    // A service whose commands all wait answers all the same.
    until("four to ask", || bench.ipcm(&["peers", "--names"]).stdout.matches("ipcm-").count() == 4);
    assert_eq!(bench.ipcm(&["ping", "gated"]).code(), 0);
    std::fs::write(gate, "").unwrap();
    for (n, running) in asking.into_iter().enumerate() {
        let done = running.finish();
        assert_eq!((done.code(), done.stdout.trim()), (0, (n + 1).to_string().as_str()), "{}", done.shown());
    }
}

#[test]
fn echo_ping_and_describe() {
    let bench = Bench::with_bus();
    let echo = serve(&bench, &["e", "--echo", "--about", "says it again"]);
    shows!(bench.ipcm(&["request", "e", "ping"]), @"
    exit 2
    err| ipcm: the body is not JSON: a JSON value was expected (byte 0)
    err|   hint: --text sends a string as it is
    ");
    shows!(bench.ipcm(&["request", "e", "--text", "ping"]), @r#"
    exit 0
    out| "echo: ping"
    "#);
    shows!(bench.ipcm(&["request", "e", "[1,\"x\"]", "--stream"]), @r#"
    exit 0
    out| "echo: [1,\"x\"]"
    "#);
    let pinged = bench.ipcm(&["ping", "e", "-n", "3"]);
    assert_eq!((pinged.code(), pinged.stdout.lines().count()), (0, 3), "{}", pinged.shown());
    assert!(pinged.stdout.lines().all(|line| line.starts_with("e: ") && line.ends_with(" ms")), "{}", pinged.shown());
    let described: serde_json::Value = serde_json::from_str(&bench.ipcm(&["--json", "describe", "e"]).stdout).unwrap();
    assert_eq!((&described["name"], &described["about"]), (&"e".into(), &"says it again".into()));
    assert_eq!(described["pid"], echo.pid());
    shows!(bench.ipcm(&["ping", "nobody"]), @"
    exit 5
    err| ipcm: send_timeout: no peer of that name is on the bus (protocol MessageFiles, route TMP/BUS, peer nobody, message ID)
    err|   hint: `ipcm peers` lists who is there; --timeout 5s waits for a peer to come
    ");
    assert_eq!(bench.ipcm(&["serve", "e", "--echo"]).code(), 10, "the name is in use");
    shows!(bench.ipcm(&["serve", "e"]), @"
    exit 2
    err| error: the following required arguments were not provided:
    err|   <--echo|CMD>
    err| 
    err| Usage: ipcm serve <--echo|CMD> <SERVICE>
    err| 
    err| For more information, try '--help'.
    ");
    let before = bench.ipcm(&["peers", "--names"]).stdout;
    assert_eq!(before, "e\n", "somebody who asked is still there");
    echo.signal("TERM");
    assert_eq!(echo.finish().code(), 143);
}

#[test]
fn a_terminate_message_ends_a_service_in_good_order() {
    let bench = Bench::with_bus();
    let service = serve(&bench, &["up", "--", "cat"]);
    assert_eq!(bench.ipcm(&["send", "up", "{\"terminate\":1}"]).code(), 0);
    shows!(service.finish(), @"exit 0");
    shows!(bench.ipcm(&["serve", "short", "--echo", "--timeout", "100ms"]), @"exit 0");
}

#[test]
fn exec_runs_a_command_for_each_message() {
    let bench = Bench::with_bus();
    bench.ipcm(&["suspend", "jobs"]);
    for n in 1..=3 {
        bench.ipcm(&["send", "jobs", "--name", "boss", &format!("{{\"n\":{n}}}")]);
    }
    let done = bench.shell("$IPCM exec --name jobs -n 2 -- sh -c 'cat; echo $IPCM_MSG_FROM'");
    shows!(done, @r#"
    exit 0
    out| {"n":1}
    out| boss
    out| {"n":2}
    out| boss
    "#);
    shows!(bench.shell("$IPCM exec --name jobs --drain -- sh -c 'cat; exit 4'"), @r#"
    exit 4
    out| {"n":3}
    err| ipcm: the command ended with status 4; the message ID goes back
    "#);
    shows!(bench.shell("$IPCM exec --name jobs --drain -j 3 -- cat"), @r#"
    exit 0
    out| {"n":3}
    "#);
    shows!(bench.shell("$IPCM exec --name jobs --drain -- cat"), @"exit 3");
    shows!(bench.shell("$IPCM exec --name jobs --timeout 100ms -- cat"), @"
    exit 4
    err| ipcm: no message came in time after 0 of them
    ");
}

#[test]
fn exec_keeps_going_and_puts_back_what_failed() {
    let bench = Bench::with_bus();
    bench.ipcm(&["suspend", "jobs"]);
    for n in 1..=4 {
        bench.ipcm(&["send", "jobs", &n.to_string()]);
    }
    let done = bench.shell("$IPCM exec --name jobs --drain --keep-going -- sh -c 'read n; test $n -gt 2 && echo $n'");
    assert_eq!((done.code(), done.stdout.as_str()), (1, "3\n4\n"), "{}", done.shown());
    shows!(bench.ipcm(&["recv", "--name", "jobs", "--drain", "--content"]), @"
    exit 0
    out| 1
    out| 2
    ");
    let failed = bench.shell("$IPCM send jobs --name x 5 --timeout 0; $IPCM exec --name jobs --drain -- /nonexistent");
    assert_eq!(failed.code(), 1, "{}", failed.shown());
    shows!(bench.ipcm(&["recv", "--name", "jobs", "--drain", "--content"]), @"
    exit 0
    out| 5
    ");
}

#[test]
fn waits_tell_what_happened() {
    let bench = Bench::with_bus();
    shows!(bench.ipcm(&["wait", "--for", "peer=up", "--timeout", "0"]), @"
    exit 4
    err| ipcm: wait: nothing of it happened within 0ns
    ");
    shows!(bench.ipcm(&["wait", "--for", "gone=up", "--timeout", "0"]), @"
    exit 0
    out| up is gone
    ");
    shows!(bench.ipcm(&["--json", "wait", "--for", "peer=up", "--for", "gone=up"]), @r#"
    exit 6
    out| {"peer":"up","reason":"gone"}
    "#);
    let service = serve(&bench, &["up", "--echo"]);
    shows!(bench.ipcm(&["--json", "wait", "--for", "peer=up"]), @r#"
    exit 0
    out| {"peer":"up","reason":"peer"}
    "#);
    let gone = bench.start(bench.command(&["wait", "--for", "gone=up", "--timeout", "60"]));
    service.signal("KILL");
    assert_eq!(gone.finish().code(), 0);
    bench.ipcm(&["suspend", "b"]);
    let message = bench.start(bench.command(&["wait", "--for", "message", "--name", "b", "--timeout", "60"]));
    bench.await_peer("b", "active");
    bench.ipcm(&["send", "b", "1"]);
    shows!(message.finish(), @"
    exit 0
    out| a message is there
    ");
    shows!(bench.ipcm(&["wait", "--for", "message", "--name", "b", "--timeout", "0"]), @"
    exit 0
    out| a message is there
    ");
    shows!(bench.ipcm(&["wait", "--for", "empty", "--timeout", "0"]), @"
    exit 0
    out| every mailbox was read
    ");
    shows!(bench.ipcm(&["wait", "--for", "nonsense"]), @"
    exit 2
    err| error: invalid value 'nonsense' for '--for <WHAT>': it must be message, peer=NAME, gone=NAME or empty
    err| 
    err| For more information, try '--help'.
    ");
}

#[test]
fn the_coprocess_asks_services() {
    let bench = Bench::with_bus();
    let _up = serve(&bench, &["up", "--", "tr", "a-z", "A-Z"]);
    let _failing = serve(&bench, &["failing", "--", "false"]);
    let mut coproc = bench.start(bench.command(&["coproc"]));
    let info = serde_json::to_string(bench.bus()).unwrap();
    let connected = coproc.ask(&format!(r#"{{"op":"connect","name":"me","info":{info}}}"#));
    assert_eq!(connected["ok"], true, "{connected}");
    bench.ipcm(&["send", "me", "\"in between\""]);
    let answer = coproc.ask(r#"{"op":"request","to":"up","content":"abc"}"#);
    assert_eq!((&answer["ok"], &answer["response"]), (&true.into(), &"ABC".into()), "{answer}");
    let kept = coproc.ask(r#"{"op":"recv","timeout":60}"#);
    assert_eq!(kept["messages"][0]["content"], "in between", "{kept}");
    for (request, code) in [
        (r#"{"op":"request","to":"failing","content":null}"#, "service_error"),
        (r#"{"op":"request","to":"nobody","content":1}"#, "no_such_peer"),
        (r#"{"op":"request","to":"me","content":1,"timeout":0.1}"#, "timeout"),
        (r#"{"op":"request","to":"up"}"#, "usage"),
    ] {
        let answer = coproc.ask(request);
        assert_eq!(answer["error"]["code"], code, "{request}: {answer}");
    }
}
