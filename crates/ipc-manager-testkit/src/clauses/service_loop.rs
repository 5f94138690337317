// SPDX-License-Identifier: MIT OR Apache-2.0
//! The event loop of services: what they notice, what they survive, and how they end.

use std::time::Duration;

use ipc_manager::{Ended, ErrorKind, Handle};
use serde_json::{Value, json};

use crate::{Clause, Context, Need, PATIENCE, eventually, watchdog};

/// What those need that start processes or send signals.
const PROCESSES: &[Need] = &[Need::Processes];

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "service.sees_all_activity",
        text: "A callback for all activity sees requests and the terminate message, in order.",
        source: &["SVC-01"],
        needs: &[],
        run: sees_all_activity,
    },
    Clause {
        id: "service.intervals",
        text: "Interval callbacks come again and again while nothing else happens.",
        source: &["SVC-08"],
        needs: &[],
        run: intervals,
    },
    Clause {
        id: "service.peers_come_and_go",
        text: "A service is told of peers that come, leave, or are killed; those there at its start are no news.",
        source: &["SVC-08", "PRT-09", "D9"],
        needs: &[],
        run: peers_come_and_go,
    },
    Clause {
        id: "service.general_messages",
        text: "A message that is neither request nor response goes to the callback for messages.",
        source: &["SVC-11"],
        needs: &[],
        run: general_messages,
    },
    Clause {
        id: "service.intercepts",
        text: "A service that intercepts errors outlives those of every callback; another ends by the first, with status 255.",
        source: &["SVC-12"],
        needs: PROCESSES,
        run: intercepts,
    },
    Clause {
        id: "service.ends_with_its_value",
        text: "A terminated service cleans up, leaves its bus, and exits with the value it was terminated with.",
        source: &["SVC-08", "PRT-06"],
        needs: PROCESSES,
        run: ends_with_its_value,
    },
    Clause {
        id: "service.signals",
        text: "A signal that a callback is there for reaches it, once for each time that it came.",
        source: &["SVC-10", "C8"],
        needs: PROCESSES,
        run: signals,
    },
    Clause {
        id: "service.children",
        text: "A child that ends is told of with its pid and status; workers are reaped in silence.",
        source: &["SVC-09", "PRT-07", "PRT-08"],
        needs: PROCESSES,
        run: children,
    },
    Clause {
        id: "service.workers_end_with_it",
        text: "Workers are on the list until they end, and are ended with their service.",
        source: &["SVC-07"],
        needs: PROCESSES,
        run: workers_end_with_it,
    },
    Clause {
        id: "service.watched_process",
        text: "A service ends when a process that it watches has ended, and cleans up.",
        source: &["SVC-15"],
        needs: PROCESSES,
        run: watched_process,
    },
    Clause {
        id: "service.ends_with_its_bus",
        text: "A service whose bus was removed ends.",
        source: &["T20"],
        needs: PROCESSES,
        run: ends_with_its_bus,
    },
];

fn notes(handle: &mut Handle, service: &str) -> Vec<Value> {
    let notes = handle.request(service, &json!({"do": "notes"})).unwrap();
    notes.as_array().unwrap().clone()
}

/// Waits until the service has noted what is looked for.
fn eventually_noted(handle: &mut Handle, service: &str, what: &str, is_it: impl Fn(&Value) -> bool) {
    eventually(what, || notes(handle, service).iter().any(&is_it));
}

fn exit_code(handle: &mut Handle) -> Option<i32> {
    match handle.wait(Some(PATIENCE)) {
        Some(Ended::Exited(status)) => status.code(),
        Some(Ended::Returned(value)) => Some(value),
        other => panic!("it did not end by itself: {other:?}"),
    }
}

fn sees_all_activity(context: &Context<'_>) {
    let bus = context.bus();
    let mut actor = bus.actor("actor", &json!({"watch": ["activity"]}));
    let id = actor.send_request("actor", &json!({"value": 1})).unwrap();
    assert_eq!(actor.await_response(&id, Some(PATIENCE)).unwrap().value(), 1);
    eventually_noted(&mut actor, "actor", "the request", |note| {
        note[1].as_array().unwrap().iter().any(|content| content["ipcm_request_id"] == id.to_string())
    });
    actor.terminate().unwrap();
    assert_eq!(exit_code(&mut actor), Some(0));
}

fn intervals(context: &Context<'_>) {
    let bus = context.bus();
    let mut actor = bus.actor("actor", &json!({"watch": ["interval"], "interval": 10}));
    let count = |actor: &mut Handle| notes(actor, "actor").len();
    let before = count(&mut actor);
    eventually("three more intervals", || count(&mut actor) >= before + 3);
}

fn peers_come_and_go(context: &Context<'_>) {
    let bus = context.bus();
    let early = bus.client("early");
    let mut actor = bus.actor("actor", &json!({"watch": ["peers"]}));
    assert_eq!(actor.request("actor", &json!({"value": 1})).unwrap(), 1);
    let (a, mut b) = (bus.client("a"), bus.puppet("b"));
    let has = |key: &'static str, name: &'static str| {
        move |note: &Value| note[1][key].as_array().unwrap().iter().any(|came| came == name)
    };
    eventually_noted(&mut actor, "actor", "a to come", has("came", "a"));
    eventually_noted(&mut actor, "actor", "b to come", has("came", "b"));
    drop(a);
    eventually_noted(&mut actor, "actor", "a to leave", has("left", "a"));
    if context.capabilities().crosses_processes {
        b.kill_unreaped();
        eventually_noted(&mut actor, "actor", "b to be missed", has("left", "b"));
        // What it left is removed.
        let mut early = early;
        eventually("what b left to be removed", || early.peer("b").unwrap().is_none());
    }
    let noted = notes(&mut actor, "actor");
    assert!(!noted.iter().any(|note| has("came", "early")(note)), "{noted:?}");
}

fn general_messages(context: &Context<'_>) {
    let bus = context.bus();
    let (mut actor, mut a) = (bus.actor("actor", &json!({"watch": ["message"]})), bus.client("a"));
    a.send("actor", &json!({"plain": true})).unwrap();
    eventually_noted(&mut actor, "actor", "the message", |note| note[1] == json!({"plain": true}));
}

fn intercepts(context: &Context<'_>) {
    let bus = context.bus();
    let watch = json!(["interval", "peers", "message"]);
    let options = json!({"watch": watch, "raises": true, "intercept": true, "details": true, "interval": 20});
    let mut tough = bus.actor("tough", &options);
    // Peers count from when its loop runs.
    assert_eq!(tough.request("tough", &json!({"value": 1})).unwrap(), 1);
    let mut a = bus.client("a");
    a.send("tough", "plain").unwrap();
    for what in ["interval", "peers", "message"] {
        eventually_noted(&mut tough, "tough", what, |note| note[0] == what);
    }
    let response = tough.request_within("tough", &json!({"do": "fail"}), Some(PATIENCE)).unwrap();
    assert_eq!((response.error(), response.value()), (Some("on purpose \u{263a}\n"), &Value::Null));

    let mut frail = bus.actor("frail", &json!({"watch": ["message", "cleanup"], "raises": true}));
    a.send("frail", "plain").unwrap();
    assert_eq!(exit_code(&mut frail), Some(255));
    assert!(context.sandbox().dir().join("cleaned-frail").exists(), "it did not clean up");
    let error = frail.request("frail", &1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchPeer, "{error:?}");
}

fn ends_with_its_value(context: &Context<'_>) {
    let bus = context.bus();
    let mut actor = bus.actor("actor", &json!({"watch": ["cleanup"]}));
    assert_eq!(actor.request("actor", &json!({"do": "end", "value": 42})).unwrap(), Value::Null);
    assert_eq!(exit_code(&mut actor), Some(42));
    assert!(context.sandbox().dir().join("cleaned-actor").exists(), "it did not clean up");
    assert!(bus.client("a").peer("actor").unwrap().is_none(), "it did not leave its bus");
}

fn signals(context: &Context<'_>) {
    let bus = context.bus();
    let mut actor = bus.actor("actor", &json!({"watch": ["signal"]}));
    for count in 1..=3 {
        watchdog::kill(actor.child_pid().unwrap(), rustix::process::Signal::USR1);
        eventually("the signal to be noted", || notes(&mut actor, "actor").len() == count);
    }
    assert_eq!(notes(&mut actor, "actor"), vec![json!(["signal", "USR1"]); 3]);
}

fn children(context: &Context<'_>) {
    let bus = context.bus();
    let mut actor = bus.actor("actor", &json!({"watch": ["child"]}));
    let worker = actor.request("actor", &json!({"do": "worker", "value": "0"})).unwrap();
    let child = actor.request("actor", &json!({"do": "child", "value": 5})).unwrap();
    eventually_noted(&mut actor, "actor", "the child's end", |note| note[1] == json!([child, 5]));
    eventually("the worker to be off the list", || {
        actor.request("actor", &json!({"do": "workers"})).unwrap().as_array().unwrap().is_empty()
    });
    let noted = notes(&mut actor, "actor");
    assert!(!noted.iter().any(|note| note[1][0] == worker), "a worker was told of: {noted:?}");
}

fn workers_end_with_it(context: &Context<'_>) {
    let bus = context.bus();
    let mut actor = bus.actor("actor", &json!({}));
    actor.request("actor", &json!({"do": "worker", "value": "0"})).unwrap();
    let long = actor.request("actor", &json!({"do": "worker", "value": "600"})).unwrap();
    eventually("only the long worker to be left", || {
        actor.request("actor", &json!({"do": "workers"})).unwrap() == json!([long])
    });
    actor.terminate().unwrap();
    assert_eq!(exit_code(&mut actor), Some(0));
    let stat = format!("/proc/{long}/stat");
    if cfg!(target_os = "linux") {
        assert!(!std::path::Path::new(&stat).exists(), "the worker outlived its service");
    }
}

fn watched_process(context: &Context<'_>) {
    let bus = context.bus();
    let mut watched = bus.puppet("watched");
    let mut actor = bus.actor("actor", &json!({"watch": ["cleanup"], "watch_pids": [watched.pid()]}));
    assert_eq!(actor.request("actor", &json!({"value": 1})).unwrap(), 1);
    watched.kill();
    assert_eq!(exit_code(&mut actor), Some(0));
    assert!(context.sandbox().dir().join("cleaned-actor").exists(), "it did not clean up");
}

fn ends_with_its_bus(context: &Context<'_>) {
    let mut bus = context.bus();
    let mut actor = bus.actor("actor", &json!({}));
    assert_eq!(actor.request("actor", &json!({"value": 1})).unwrap(), 1);
    bus.take_owner().unspawn().unwrap();
    assert!(actor.wait(Some(PATIENCE + Duration::from_secs(1))).is_some(), "it goes on without a bus");
}
