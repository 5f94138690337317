// SPDX-License-Identifier: MIT OR Apache-2.0
//! Services that are asked: answers now, later, in parts, taken back, and wrong ones.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipc_manager::{ErrorKind, Response};
use serde_json::{Value, json};

use crate::{Clause, Context, Need, PATIENCE, eventually};

/// What those need that compare processes.
const PROCESSES: &[Need] = &[Need::Processes];

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "service.answers",
        text: "A request is answered once, to who asked, with any value, null too.",
        source: &["SVC-02", "SVC-03", "SVC-06", "PRT-11"],
        needs: &[],
        run: answers,
    },
    Clause {
        id: "service.callbacks_of_the_asker",
        text: "A callback of the asker is called once with the answer, and its request cannot be fetched.",
        source: &["SVC-01", "SVC-03", "PRT-12"],
        needs: &[],
        run: callbacks_of_the_asker,
    },
    Clause {
        id: "service.buffers_the_rest",
        text: "What comes to an asker and is no response is kept for it, once.",
        source: &["SVC-04"],
        needs: &[],
        run: buffers_the_rest,
    },
    Clause {
        id: "service.errors_are_answers",
        text: "A handler that fails or panics answers with an error, with details only if the service exposes them, and goes on.",
        source: &["SVC-12", "SVC-13", "SVC-14", "C11"],
        needs: &[],
        run: errors_are_answers,
    },
    Clause {
        id: "service.answers_later",
        text: "A service may answer later, from any callback; meanwhile it answers others.",
        source: &["PRT-10"],
        needs: &[],
        run: answers_later,
    },
    Clause {
        id: "service.unexpected_responses",
        text: "Late, double and unknown responses are reported, and cost no other message.",
        source: &["PRT-13", "C10"],
        needs: &[],
        run: unexpected_responses,
    },
    Clause {
        id: "service.timeout",
        text: "A request to a live service that does not answer ends at its deadline; without one it waits on.",
        source: &["WAI-05", "WAI-06"],
        needs: &[],
        run: timeout,
    },
    Clause {
        id: "service.streams",
        text: "An asker that takes several responses gets each as it comes; another gets all as one array.",
        source: &["services: streaming"],
        needs: &[],
        run: streams,
    },
    Clause {
        id: "service.cancel",
        text: "A request can be taken back: the handler sees it, and nothing more comes.",
        source: &["services: cancel"],
        needs: &[],
        run: cancel,
    },
    Clause {
        id: "service.describes_itself",
        text: "A service says what it is and answers a ping, whatever its handler does.",
        source: &["services: describe"],
        needs: &[],
        run: describes_itself,
    },
    Clause {
        id: "service.asks_services",
        text: "A service passes a request on to one that it started itself, waiting for it or not.",
        source: &["SVC-05", "C9"],
        needs: &[],
        run: asks_services,
    },
    Clause {
        id: "service.two_handles",
        text: "Two services that one process started on one bus are each asked through a handle of its own.",
        source: &["C7", "A1"],
        needs: &[],
        run: two_handles,
    },
    Clause {
        id: "service.is_another_process",
        text: "A service that was started afresh is the process that was started, and its handle says which.",
        source: &["SVC-06", "SVC-18"],
        needs: PROCESSES,
        run: is_another_process,
    },
    Clause {
        id: "service.right_requester",
        text: "Many who ask at once each get their own answers, all of them.",
        source: &["services: 8 requesters"],
        needs: PROCESSES,
        run: right_requester,
    },
];

fn answers(context: &Context<'_>) {
    let bus = context.bus();
    let mut actor = bus.actor("actor", &json!({}));
    for value in [json!(null), json!("text"), json!({"list": [1, null, "\u{263a}"]}), json!(0), json!(false)] {
        assert_eq!(actor.request("actor", &json!({"do": "echo", "value": value})).unwrap(), value);
    }
    let ids: Vec<_> = (0..5).map(|n| actor.send_request("actor", &json!({"value": n})).unwrap()).collect();
    for (n, id) in ids.iter().enumerate().rev() {
        assert_eq!(actor.await_response(id, Some(PATIENCE)).unwrap().value(), &json!(n));
        assert_eq!(actor.get_response(id).unwrap_err().kind(), ErrorKind::Usage, "it is fetched once");
    }
    assert!(!actor.has_pending_responses() && actor.take_unexpected().is_empty());
}

fn callbacks_of_the_asker(context: &Context<'_>) {
    let bus = context.bus();
    let mut actor = bus.actor("actor", &json!({}));
    let got = Arc::new(Mutex::new(Vec::new()));
    for n in 0..5 {
        let got = Arc::clone(&got);
        let keep = move |response: ipc_manager::Result<Response>| got.lock().unwrap().push((n, response));
        let id = actor.send_request_with("actor", &json!({"value": n}), keep).unwrap();
        assert_eq!(actor.get_response(&id).unwrap_err().kind(), ErrorKind::Usage);
    }
    assert!(actor.has_pending_responses());
    actor.await_all_responses(Some(PATIENCE)).unwrap();
    let got = got.lock().unwrap();
    let got: Vec<_> = got.iter().map(|(n, response)| (*n, response.as_ref().unwrap().value().clone())).collect();
    assert_eq!(got, (0..5).map(|n| (n, json!(n))).collect::<Vec<_>>());
}

fn buffers_the_rest(context: &Context<'_>) {
    let bus = context.bus();
    let mut actor = bus.actor("actor", &json!({}));
    let answer = actor.request("actor", &json!({"do": "extra", "value": {"x": 1}})).unwrap();
    assert_eq!(answer, "answer");
    let extra: Vec<Value> = actor.messages().iter().map(|message| message.content().clone()).collect();
    assert_eq!(extra, [json!({"x": 1})]);
    assert!(actor.messages().is_empty());
    assert_eq!(actor.poll(Some(Duration::ZERO)).unwrap(), 0);
}

fn errors_are_answers(context: &Context<'_>) {
    let bus = context.bus();
    let (mut closed, mut open) = (bus.actor("closed", &json!({})), bus.actor("open", &json!({"details": true})));
    for what in ["fail", "panic", "no such thing"] {
        let order = json!({"do": what});
        let response = closed.request_within("closed", &order, Some(PATIENCE)).unwrap();
        assert_eq!((response.error(), response.value()), (Some("Internal service error"), &Value::Null));
        assert!(open.request_within("open", &order, Some(PATIENCE)).unwrap().error().is_some());
    }
    let response = open.request_within("open", &json!({"do": "fail"}), Some(PATIENCE)).unwrap();
    assert_eq!(response.error(), Some("on purpose \u{263a}\n"));
    let error = open.request("open", &json!({"do": "panic"})).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ServiceError);
    assert!(error.to_string().contains("on purpose"), "{error}");
    assert_eq!(closed.request("closed", &json!({"value": 1})).unwrap(), 1);
    assert_eq!(open.request("open", &json!({"value": 2})).unwrap(), 2);
}

fn answers_later(context: &Context<'_>) {
    let bus = context.bus();
    let mut actor = bus.actor("actor", &json!({}));
    let later = actor.send_request("actor", &json!({"do": "later", "value": "later"})).unwrap();
    assert_eq!(actor.request("actor", &json!({"value": "now"})).unwrap(), "now");
    assert_eq!(actor.await_response(&later, Some(PATIENCE)).unwrap().value(), "later");
}

fn unexpected_responses(context: &Context<'_>) {
    let bus = context.bus();
    let mut actor = bus.actor("actor", &json!({}));
    let mut stranger = bus.client("stranger");
    assert_eq!(actor.request("actor", &json!({"do": "double", "value": 1})).unwrap(), 1);
    let name = actor.client().unwrap().name().to_string();
    stranger.send(&name, &json!({"ipcm_response_id": "nobody's", "response": 1})).unwrap();
    stranger.send(&name, "a message").unwrap();
    // The next answer has passed the second response to the first request.
    assert_eq!(actor.request("actor", &json!({"value": 2})).unwrap(), 2);
    let mut reports = actor.take_unexpected();
    eventually("both reports", || {
        actor.poll(Some(Duration::ZERO)).unwrap();
        reports.extend(actor.take_unexpected());
        reports.len() == 2
    });
    assert!(reports.iter().all(|report| report.kind() == ErrorKind::UnexpectedResponse), "{reports:?}");
    assert_eq!(actor.messages().len(), 1);
}

fn timeout(context: &Context<'_>) {
    let bus = context.bus();
    let mut actor = bus.actor("actor", &json!({}));
    let begun = std::time::Instant::now();
    let error = actor.request_within("actor", &json!({"do": "never"}), Some(Duration::from_millis(300))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(begun.elapsed() >= Duration::from_millis(300), "it gave up before its deadline");
    let id = actor.send_request("actor", &json!({"do": "never"})).unwrap();
    for _ in 0..3 {
        let error = actor.await_response(&id, Some(Duration::from_millis(300))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "it can be waited for again");
    }
    assert_eq!(actor.await_all_responses(Some(Duration::ZERO)).unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(actor.request("actor", &json!({"value": 1})).unwrap(), 1);
}

fn streams(context: &Context<'_>) {
    let bus = context.bus();
    let mut actor = bus.actor("actor", &json!({}));
    let order = json!({"do": "stream", "value": 3});
    let id = actor.send_stream_request("actor", &order).unwrap();
    let mut parts = Vec::new();
    loop {
        let part = actor.await_response(&id, Some(PATIENCE)).unwrap();
        parts.push(part.value().clone());
        if part.is_final() {
            break;
        }
    }
    assert_eq!(parts, [json!(0), json!(1), json!(2), json!("done")]);
    assert_eq!(actor.get_response(&id).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(actor.request("actor", &order).unwrap(), json!([0, 1, 2, "done"]));
    let id = actor.send_stream_request("actor", &json!({"value": "only one"})).unwrap();
    assert!(actor.await_response(&id, Some(PATIENCE)).unwrap().is_final());
}

fn cancel(context: &Context<'_>) {
    let bus = context.bus();
    let mut actor = bus.actor("actor", &json!({"watch": ["cancelled"]}));
    let mut third = bus.client("third");
    // While the handler works on it.
    let id = actor.send_request("actor", &json!({"do": "until cancelled", "value": "third"})).unwrap();
    actor.cancel(&id).unwrap();
    assert_eq!(third.recv_timeout(PATIENCE).unwrap().content(), "cancelled");
    // While it waits to be answered later.
    let id = actor.send_request("actor", &json!({"do": "never"})).unwrap();
    assert_eq!(actor.request("actor", &json!({"value": 1})).unwrap(), 1);
    actor.cancel(&id).unwrap();
    let notes = actor.request("actor", &json!({"do": "notes"})).unwrap();
    let noted: Vec<&Value> = notes.as_array().unwrap().iter().filter(|note| note[1] == id.to_string()).collect();
    assert_eq!(noted, [&json!(["cancelled", id.to_string()])]);
    assert!(!actor.has_pending_responses() && actor.take_unexpected().is_empty());
    assert_eq!(actor.get_response(&id).unwrap_err().kind(), ErrorKind::Usage);
}

fn describes_itself(context: &Context<'_>) {
    let bus = context.bus();
    let mut actor = bus.actor("actor", &json!({}));
    let description = actor.describe("actor", Some(PATIENCE)).unwrap();
    assert_eq!((description.name.as_str(), description.version.as_deref()), ("actor", Some("7")));
    assert_eq!(Some(description.pid), actor.service_pid().unwrap());
    actor.ping("actor", Some(PATIENCE)).unwrap();
    assert_eq!(actor.ping("nobody", Some(PATIENCE)).unwrap_err().kind(), ErrorKind::NoSuchPeer);
}

fn asks_services(context: &Context<'_>) {
    let bus = context.bus();
    let mut outer = bus.actor("outer", &json!({}));
    outer.request("outer", &json!({"do": "nest", "value": "inner"})).unwrap();
    for wait in [false, true] {
        let inner = json!({"do": "echo", "value": ["through both", wait]});
        let order = json!({"do": "forward", "value": {"to": "inner", "wait": wait, "request": inner}});
        assert_eq!(outer.request("outer", &order).unwrap(), json!(["through both", wait]));
    }
    assert_eq!(bus.asker("inner").request("inner", &json!({"value": 1})).unwrap(), 1);
    outer.request("inner", &json!({"do": "end"})).unwrap();
}

fn two_handles(context: &Context<'_>) {
    let bus = context.bus();
    let (mut one, mut two) = (bus.actor("one", &json!({})), bus.actor("two", &json!({})));
    assert_eq!(one.request("one", &json!({"value": 1})).unwrap(), 1);
    assert_eq!(two.request("two", &json!({"value": 2})).unwrap(), 2);
    assert_eq!(one.request("two", &json!({"value": 3})).unwrap(), 3);
    assert_ne!(one.client().unwrap().name(), two.client().unwrap().name());
    assert_eq!(bus.try_actor("one", &json!({})).unwrap_err().kind(), ErrorKind::NameInUse);
    assert_eq!(one.request("one", &json!({"value": 4})).unwrap(), 4, "the first one still answers");
}

fn is_another_process(context: &Context<'_>) {
    let bus = context.bus();
    let mut actor = bus.actor("actor", &json!({}));
    let pid = actor.request("actor", &json!({"do": "pid"})).unwrap();
    assert_ne!(pid, std::process::id());
    assert_eq!(pid, json!(actor.child_pid()));
    assert_eq!(actor.service_pid().unwrap(), actor.child_pid());
    assert_eq!(bus.asker("actor").child_pid(), None);
}

fn right_requester(context: &Context<'_>) {
    const ASKERS: usize = 8;
    // `cargo xtask stress` asks for more.
    let requests = super::load::asked_for().unwrap_or(100);
    let bus = context.bus();
    let _actor = bus.actor("actor", &json!({}));
    let begun = std::time::Instant::now();
    std::thread::scope(|scope| {
        for asker in 0..ASKERS {
            let bus = &bus;
            scope.spawn(move || {
                let mut handle = bus.asker("actor");
                // Several are under way at a time, and all in all many more than a mailbox may hold.
                for batch in 0..requests / 10 {
                    let ask = |n| (n, handle.send_request("actor", &json!({"value": [asker, batch, n]})).unwrap());
                    let ids: Vec<_> = (0..10).map(ask).collect();
                    for (n, id) in ids {
                        let response = handle.await_response(&id, Some(PATIENCE)).unwrap();
                        assert_eq!(response.value(), &json!([asker, batch, n]));
                    }
                }
                assert!(handle.take_unexpected().is_empty() && handle.messages().is_empty());
            });
        }
    });
    let (took, all) = (begun.elapsed().as_secs_f64(), ASKERS as u64 * (requests / 10) * 10);
    println!("{ASKERS} requesters: acked {all} requests, each to who asked, none twice, in {took:.1} s");
}
