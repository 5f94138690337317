// SPDX-License-Identifier: MIT OR Apache-2.0
//! The coprocess: whole conversations.

use serde_json::{Value, json};

use crate::bench::{Bench, Running};

fn coproc(bench: &Bench) -> Running {
    bench.start(bench.command(&["coproc"]))
}

/// The answer to a request, which must be a yes.
fn yes(coproc: &mut Running, request: Value) -> Value {
    let answer = coproc.ask(&request.to_string());
    assert_eq!(answer["ok"], true, "{request} {answer}");
    answer
}

/// The error code of the answer to a request, which must be a no.
fn no(coproc: &mut Running, request: Value) -> String {
    let answer = coproc.ask(&request.to_string());
    assert_eq!(answer["ok"], false, "{request} {answer}");
    answer["error"]["code"].as_str().unwrap().to_owned()
}

fn contents(answer: &Value) -> Vec<Value> {
    answer["messages"].as_array().unwrap().iter().map(|message| message["content"].clone()).collect()
}

#[test]
fn a_conversation_of_two() {
    let bench = Bench::new();
    let mut co = coproc(&bench);
    let version = yes(&mut co, json!({"op": "version", "rid": [1, "x"]}));
    assert_eq!((&version["rid"], &version["pid"]), (&json!([1, "x"]), &json!(co.pid())));
    let bus = yes(&mut co, json!({"op": "spawn", "protocol": "MessageFiles", "serializer": "JSON"}));
    assert_eq!(
        (&bus["bus"], &bus["protocol"], &bus["serializer"]),
        (&json!("b1"), &json!("MessageFiles"), &json!("JSON"))
    );
    let info: Value = serde_json::from_str(bus["info"].as_str().unwrap()).unwrap();
    assert_eq!(info[2], bus["route"]);
    let a = yes(&mut co, json!({"op": "connect", "name": "a"}));
    assert_eq!((&a["client"], &a["name"]), (&json!("c1"), &json!("a")));
    // The string, or the array that it holds.
    yes(&mut co, json!({"op": "connect", "name": "b", "info": info}));

    let sent = yes(&mut co, json!({"op": "send", "client": "c1", "to": "b", "content": {"k": "\u{e9}"}}));
    assert_eq!(sent["receipt"], "delivered");
    assert_eq!(yes(&mut co, json!({"op": "ready", "client": "c2"}))["value"], true);
    let got = yes(&mut co, json!({"op": "recv", "client": "c2", "timeout": 5}));
    let message = &got["messages"][0];
    assert_eq!((&message["id"], &message["from"], &message["to"]), (&sent["id"], &json!("a"), &json!("b")));
    assert_eq!((&message["content"], &message["broadcast"]), (&json!({"k": "\u{e9}"}), &json!(false)));
    assert!(message["stamp"].is_f64());
    assert_eq!(contents(&yes(&mut co, json!({"op": "recv", "client": "c2"}))), [json!(null); 0]);

    yes(&mut co, json!({"op": "requeue", "client": "c2", "message": message}));
    yes(&mut co, json!({"op": "try_send", "client": "c1", "to": "b", "content": 2}));
    let again = yes(&mut co, json!({"op": "recv", "client": "c2", "max": 1}));
    assert_eq!(again["messages"][0]["id"], sent["id"]);
    yes(&mut co, json!({"op": "suspend", "client": "c2", "expires_in": 3600}));
    let peer = yes(&mut co, json!({"op": "peer", "client": "c1", "name": "b"}));
    let expected = json!({"ok": true, "exists": true, "active": false, "suspended": true, "pid": null});
    assert_eq!(peer, expected);
    // One client has left, so the other is the one that is meant.
    assert_eq!(yes(&mut co, json!({"op": "send", "to": "b", "content": 3}))["receipt"], "stored");
    assert_eq!(yes(&mut co, json!({"op": "broadcast", "content": 4}))["results"], json!({"b": {"sent": true}}));
    assert_eq!(no(&mut co, json!({"op": "connect", "name": "b"})), "name_in_use");
    yes(&mut co, json!({"op": "reconnect", "name": "b"}));
    let all = yes(&mut co, json!({"op": "recv", "client": "c3"}));
    assert_eq!(contents(&all), [json!(2), json!(3), json!(4)]);
    assert_eq!(all["messages"][2]["broadcast"], true);
    assert_eq!(yes(&mut co, json!({"op": "audit"}))["delta"], json!({}));

    let stats = yes(&mut co, json!({"op": "stats", "client": "c3"}));
    assert_eq!(stats["stats"], json!({"read": {"a": 4}, "sent": {}}));
    yes(&mut co, json!({"op": "write_stats", "client": "c1"}));
    assert_eq!(yes(&mut co, json!({"op": "read_stats", "client": "c1"}))["stats"]["sent"], json!({"b": 4}));
    assert_eq!(yes(&mut co, json!({"op": "all_stats", "client": "c1"}))["stats"]["b"]["read"], json!({"a": 4}));
    unread_messages_at_the_end(&mut co);
    assert_eq!(yes(&mut co, json!({"op": "shutdown"}))["delta"], json!({"a -> b": 2}));
    assert_eq!(no(&mut co, json!({"op": "audit", "bus": "b1"})), "no_such_bus");
    let done = co.finish();
    assert_eq!((done.code(), done.stderr.as_str()), (0, ""));
    assert_eq!(bench.left(), [""; 0]);
}

/// Three ways to leave with unread messages: two of them leave those for the audit to tell.
fn unread_messages_at_the_end(co: &mut Running) {
    for (handle, unread) in [("c3", "error"), ("c4", "return"), ("c5", "discard")] {
        yes(co, json!({"op": "send", "client": "c1", "to": "b", "content": unread}));
        let leave = json!({"op": "disconnect", "client": handle, "unread": unread});
        match unread {
            "error" => {
                let answer = co.ask(&leave.to_string());
                assert_eq!(answer["error"]["code"], "unread_messages");
                assert_eq!(contents(&answer), ["error"]);
            }
            "return" => assert_eq!(contents(&yes(co, leave)), ["return"]),
            _ => assert_eq!(contents(&yes(co, leave)), [json!(null); 0]),
        }
        assert_eq!(no(co, json!({"op": "recv", "client": handle})), "disconnected");
        yes(co, json!({"op": "disconnect", "client": handle}));
        if handle != "c5" {
            yes(co, json!({"op": "connect", "name": "b", "bus": "b1"}));
        }
    }
}

#[test]
fn a_whole_message_keeps_what_it_says() {
    let bench = Bench::new();
    let mut co = coproc(&bench);
    yes(&mut co, json!({"op": "spawn"}));
    yes(&mut co, json!({"op": "connect", "name": "a"}));
    yes(&mut co, json!({"op": "connect", "name": "b"}));
    let message = json!({"from": "somebody", "to": "b", "id": "order-17", "stamp": 12.5, "content": [1], "trace": "t"});
    let sent = yes(&mut co, json!({"op": "send", "client": "c1", "message": message}));
    assert_eq!(sent["id"], "order-17");
    let got = yes(&mut co, json!({"op": "recv", "client": "c2", "timeout": 5}));
    let expected = json!({"id": "order-17", "from": "a", "to": "b", "stamp": 12.5, "broadcast": false, "content": [1]});
    assert_eq!(got["messages"][0], expected);
    yes(&mut co, json!({"op": "send", "client": "c1", "to": "b", "content": 0, "broadcast": 1}));
    assert_eq!(yes(&mut co, json!({"op": "recv", "client": "c2"}))["messages"][0]["broadcast"], true);
}

#[test]
fn a_peer_that_does_not_listen_is_answered_over_its_own_connection() {
    let bench = Bench::new();
    let mut co = coproc(&bench);
    yes(&mut co, json!({"op": "spawn", "protocol": "ConnectionUnix"}));
    yes(&mut co, json!({"op": "connect", "name": "server"}));
    yes(&mut co, json!({"op": "connect", "name": "quiet", "listen": false}));
    assert_eq!(no(&mut co, json!({"op": "send", "client": "c1", "to": "quiet", "content": 1})), "not_listening");
    yes(&mut co, json!({"op": "send", "client": "c2", "to": "server", "content": "question"}));
    let question = yes(&mut co, json!({"op": "recv", "client": "c1", "timeout": 5}));
    assert_eq!(question["messages"][0]["content"], "question");
    yes(&mut co, json!({"op": "send", "client": "c1", "to": "quiet", "content": "answer"}));
    let answer = yes(&mut co, json!({"op": "recv", "client": "c2", "timeout": 5}));
    assert_eq!(answer["messages"][0]["content"], "answer");
}

#[test]
fn refusals_say_why_and_change_nothing() {
    let bench = Bench::new();
    let mut co = coproc(&bench);
    for line in ["not json", "[1]", "", "{}", "{\"op\":1}", "{\"op\":\"exec\"}", "{\"op\":\"request\",\"to\":\"x\"}"] {
        let answer = co.ask(line);
        assert_eq!((&answer["ok"], &answer["error"]["code"]), (&json!(false), &json!("usage")), "{line}: {answer}");
    }
    assert_eq!(no(&mut co, json!({"op": "recv"})), "usage");
    assert_eq!(no(&mut co, json!({"op": "connect", "name": "a"})), "usage");
    assert_eq!(no(&mut co, json!({"op": "connect", "name": "a", "info": "nonsense"})), "invalid_info");
    assert_eq!(no(&mut co, json!({"op": "spawn", "protocol": "Pigeon"})), "unknown_protocol");
    assert_eq!(no(&mut co, json!({"op": "spawn", "serializer": "Pigeon"})), "unknown_serializer");
    yes(&mut co, json!({"op": "spawn"}));
    assert_eq!(no(&mut co, json!({"op": "connect", "name": "../x"})), "invalid_name");
    assert_eq!(no(&mut co, json!({"op": "connect", "name": "a", "listen": false})), "unsupported");
    assert_eq!(no(&mut co, json!({"op": "connect", "name": "a", "user": "u"})), "unsupported");
    yes(&mut co, json!({"op": "connect", "name": "a", "listen": true, "user": null}));
    let answer = co.ask(r#"{"op":"send","to":"x","content":1,"colour":"red","rid":9}"#);
    assert_eq!(answer["rid"], 9);
    assert!(answer["error"]["message"].as_str().unwrap().contains("\"colour\""), "{answer}");
    assert_eq!(answer["error"]["stored"], false, "a message that was refused for its form will not arrive either");
    let answer = co.ask(r#"{"op":"send","to":"nobody","content":1}"#);
    assert_eq!((&answer["error"]["code"], &answer["error"]["stored"]), (&json!("no_such_peer"), &json!(false)));
    let answer = co.ask(r#"{"op":"send","to":"nobody","content":null}"#);
    assert_eq!((&answer["error"]["code"], &answer["error"]["stored"]), (&json!("serialize"), &json!(false)));
    assert_eq!(no(&mut co, json!({"op": "recv", "client": "c2"})), "usage");
    assert_eq!(no(&mut co, json!({"op": "recv", "timeout": -1})), "usage");
    assert_eq!(no(&mut co, json!({"op": "disconnect", "unread": "keep"})), "usage");
    assert_eq!(yes(&mut co, json!({"op": "stats"}))["stats"], json!({"read": {}, "sent": {}}));
}

#[test]
fn the_rest_of_the_operations() {
    let bench = Bench::new();
    let mut co = coproc(&bench);
    let bus = yes(&mut co, json!({"op": "spawn", "protocols": ["MessageFiles"], "signal": "TERM", "audit": true}));
    yes(&mut co, json!({"op": "connect", "name": "a"}));
    assert_eq!(yes(&mut co, json!({"op": "peers"}))["peers"], json!([]));
    let mut other = coproc(&bench);
    yes(&mut other, json!({"op": "connect", "name": "b", "info": bus["info"]}));
    assert_eq!(yes(&mut co, json!({"op": "peers"}))["peers"], json!(["b"]));
    let peer = yes(&mut co, json!({"op": "peer", "name": "b", "timeout": 5}));
    assert_eq!((&peer["active"], &peer["pid"]), (&json!(true), &json!(other.pid())));
    let none = yes(&mut co, json!({"op": "peer", "name": "nobody", "timeout": 0.01}));
    assert_eq!((&none["exists"], &none["pid"]), (&json!(false), &json!(null)));
    assert_eq!(yes(&mut co, json!({"op": "pending"}))["value"], false);
    assert_eq!(yes(&mut co, json!({"op": "drain_pending"}))["delivered"], 0);
    assert_eq!(yes(&mut co, json!({"op": "pending_sends"}))["pending"], 0);
    yes(&mut co, json!({"op": "set_blocking", "value": false}));
    assert!(!yes(&mut co, json!({"op": "fds"}))["readable"].as_array().unwrap().is_empty());
    other.signal("KILL");
    assert_eq!(other.finish().code(), 137);
    assert_eq!(yes(&mut co, json!({"op": "reap"}))["removed"], 1);
    yes(&mut co, json!({"op": "terminate"}));
    assert_eq!(yes(&mut co, json!({"op": "wait", "timeout": 0.1}))["remaining"], json!([]));
    assert_eq!(yes(&mut co, json!({"op": "unspawn"}))["delta"], json!({}));
    assert_eq!(bench.left(), [""; 0]);
}

#[test]
fn a_full_mailbox_is_refused() {
    let bench = Bench::new();
    let mut co = coproc(&bench);
    yes(&mut co, json!({"op": "spawn", "protocol": "LocalMemory"}));
    yes(&mut co, json!({"op": "connect", "name": "a"}));
    yes(&mut co, json!({"op": "connect", "name": "b"}));
    let request = json!({"op": "try_send", "client": "c1", "to": "b", "content": 1}).to_string();
    let refused = (0..100_000).map(|_| co.ask(&request)).find(|answer| answer["ok"] == false).unwrap();
    assert_eq!((&refused["error"]["code"], &refused["error"]["stored"]), (&json!("would_block"), &json!(false)));
    assert_eq!(refused["receipt"], "refused");
}

#[test]
fn the_end_of_input_cleans_up() {
    let bench = Bench::new();
    let mut kept = String::new();
    for end in ["input", "signal"] {
        let mut co = coproc(&bench);
        yes(&mut co, json!({"op": "spawn"}));
        kept = yes(&mut co, json!({"op": "spawn", "guard": false}))["info"].as_str().unwrap().to_owned();
        yes(&mut co, json!({"op": "connect", "name": "a", "bus": "b1"}));
        yes(&mut co, json!({"op": "connect", "name": "a", "bus": "b2"}));
        if end == "signal" {
            co.signal("TERM");
            assert_eq!(co.finish().code(), 143);
        } else {
            assert_eq!(co.finish().code(), 0);
        }
        assert_eq!(bench.left().len(), 1, "only the one without a guard is left");
        assert_eq!(bench.ipcm(&["peers", "--bus", &kept]).stdout, "");
        assert_eq!(bench.ipcm(&["stop", "--bus", &kept]).code(), 0);
    }
    assert_eq!(bench.ipcm(&["peers", "--bus", &kept]).code(), 9);
}

#[test]
fn a_waiting_recv_is_woken_by_another_process() {
    let bench = Bench::with_bus();
    let mut co = coproc(&bench);
    yes(&mut co, json!({"op": "connect", "name": "b", "info": bench.bus()}));
    co.write("{\"op\":\"recv\",\"timeout\":50}\n");
    assert_eq!(bench.ipcm(&["send", "b", "1"]).stdout, "delivered\n");
    let answer: Value = serde_json::from_str(&co.line()).unwrap();
    assert_eq!(contents(&answer), [json!(1)]);
}
