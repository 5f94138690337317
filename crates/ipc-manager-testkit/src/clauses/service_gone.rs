// SPDX-License-Identifier: MIT OR Apache-2.0
//! Services that go away before they have answered: who waits is told, and is not left to its deadline.

use std::time::Duration;

use ipc_manager::{ErrorKind, Handle, Suspend};
use serde_json::{Value, json};

use crate::{Clause, Context, Need, PATIENCE, eventually, watchdog};

/// What those need that let processes die.
const PROCESSES: &[Need] = &[Need::Processes];
/// What those need that let a peer suspend.
const SUSPEND: &[Need] = &[Need::Processes, Need::Suspend];

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "gone.cleanly",
        text: "Who waits for a service that ends without an answer is told that it is gone.",
        source: &["WAI-04", "B9"],
        needs: &[],
        run: |context| dies(context, "cleanly"),
    },
    Clause {
        id: "gone.by_leaving",
        text: "Who waits for a service that leaves its bus and lives on is told that it is gone.",
        source: &["WAI-04", "B9"],
        needs: PROCESSES,
        run: |context| dies(context, "by leaving"),
    },
    Clause {
        id: "gone.by_exit",
        text: "Who waits for a service whose process exits is told that it is gone.",
        source: &["WAI-01"],
        needs: PROCESSES,
        run: |context| dies(context, "by exit"),
    },
    Clause {
        id: "gone.by_panic",
        text: "Who waits for a service that dies by a panic is told that it is gone.",
        source: &["WAI-01"],
        needs: PROCESSES,
        run: |context| dies(context, "by panic"),
    },
    Clause {
        id: "gone.by_abort",
        text: "Who waits for a service that aborts is told that it is gone.",
        source: &["WAI-01"],
        needs: PROCESSES,
        run: |context| dies(context, "by abort"),
    },
    Clause {
        id: "gone.by_kill",
        text: "Who waits for a service that is killed is told that it is gone.",
        source: &["WAI-01"],
        needs: PROCESSES,
        run: |context| dies(context, "by kill"),
    },
    Clause {
        id: "gone.unreaped",
        text: "Who waits for a service that was killed and that nobody has reaped is told that it is gone.",
        source: &["WAI-01", "B8"],
        needs: PROCESSES,
        run: unreaped,
    },
    Clause {
        id: "gone.by_stop_and_kill",
        text: "A stopped service is waited for; once it is killed who waits is told that it is gone.",
        source: &["WAI-01", "T08"],
        needs: PROCESSES,
        run: stopped_and_killed,
    },
    Clause {
        id: "gone.by_exec",
        text: "Who waits for a service whose process became another program is told that it is gone.",
        source: &["WAI-01"],
        needs: PROCESSES,
        run: |context| dies(context, "by exec"),
    },
    Clause {
        id: "gone.suspended_too_long",
        text: "Who waits for a service that is suspended past its deadline is told that it is gone.",
        source: &["SUS-03"],
        needs: SUSPEND,
        run: |context| dies(context, "by suspending"),
    },
    Clause {
        id: "gone.not_while_suspended",
        text: "A suspended peer is waited for, and answers when it is back.",
        source: &["WAI-03", "SUS-04"],
        needs: SUSPEND,
        run: not_while_suspended,
    },
    Clause {
        id: "gone.replaced_at_once",
        text: "Who waits for a killed service whose name another took with an empty mailbox is told that it is gone.",
        source: &["services: peer gone"],
        needs: PROCESSES,
        run: replaced_at_once,
    },
    Clause {
        id: "gone.not_if_continued",
        text: "A killed peer whose mailbox another continues is waited for, and the request is answered.",
        source: &["services: peer gone"],
        needs: SUSPEND,
        run: not_if_continued,
    },
    Clause {
        id: "gone.answered_before",
        text: "An answer that was given before the service ended arrives, also if it is fetched later.",
        source: &["SVC-16"],
        needs: PROCESSES,
        run: answered_before,
    },
    Clause {
        id: "gone.before_it_was_asked",
        text: "Asking nobody, or a dead service, fails at once.",
        source: &["WAI-02"],
        needs: PROCESSES,
        run: before_it_was_asked,
    },
    Clause {
        id: "gone.all_of_them",
        text: "Who waits for several services is told of all that went away, and gets the answers of the others.",
        source: &["services: await_all_responses"],
        needs: PROCESSES,
        run: all_of_them,
    },
    Clause {
        id: "gone.seen_by_services",
        text: "A service that waits for another is told that it is gone, in the callback and in the call that waits.",
        source: &["WAI-01"],
        needs: PROCESSES,
        run: seen_by_services,
    },
];

/// Much longer than it may take: whoever is told by a timeout has failed.
const NEVER: Option<Duration> = Some(Duration::from_secs(60));

fn order(how: &str) -> Value {
    json!({"do": "die", "value": how})
}

#[track_caller]
fn assert_gone(result: ipc_manager::Result<impl std::fmt::Debug>) {
    let error = result.expect_err("nobody answered");
    // By its deadline it would have been a timeout.
    assert_eq!(error.kind(), ErrorKind::PeerGone, "{error:?}");
}

fn dies(context: &Context<'_>, how: &str) {
    let bus = context.bus();
    let mut actor = bus.actor("actor", &json!({"panics": how == "by panic"}));
    // Who started it, and somebody else who asked.
    let mut other = bus.asker("actor");
    assert_eq!(other.request("actor", &json!({"value": 1})).unwrap(), 1);
    let waiting = other.send_request("actor", &json!({"do": "never"})).unwrap();
    assert_eq!(other.request("actor", &json!({"value": 2})).unwrap(), 2);
    assert_gone(actor.request_within("actor", &order(how), NEVER));
    let starter_told = crate::clock();
    assert_gone(other.await_response(&waiting, NEVER));
    let other_told = crate::clock();
    let died = actor.messages().iter().find_map(|message| message.content()["dies_at"].as_u64());
    let died = Duration::from_nanos(died.expect("it said when it would be gone"));
    tell(context, how, &[starter_told.saturating_sub(died), other_told.saturating_sub(died)]);
    end_rest(&actor);
}

/// Prints how long after a death those who waited were told. No test asserts a speed, but that it was no deadline.
fn tell(context: &Context<'_>, how: &str, after: &[Duration]) {
    let shown: Vec<String> = after.iter().map(|after| format!("{:.1} ms", after.as_secs_f64() * 1e3)).collect();
    println!("told of a death {how}, over {}, after {}", context.subject().name(), shown.join(" and "));
    assert!(after.iter().all(|after| *after < NEVER.unwrap_or_default() / 2), "that was no word, that was a deadline");
}

/// Ends a process that is no longer a service.
fn end_rest(actor: &Handle) {
    if let Some(pid) = actor.child_pid() {
        // The handle has not reaped it, so the number is still its own.
        watchdog::kill(pid, rustix::process::Signal::KILL);
    }
}

fn stopped_and_killed(context: &Context<'_>) {
    let bus = context.bus();
    let mut actor = bus.actor("actor", &json!({}));
    let id = actor.send_request("actor", &order("stopped")).unwrap();
    let error = actor.await_response(&id, Some(Duration::from_millis(700))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "a stopped service is alive");
    let died = crate::clock();
    end_rest(&actor);
    assert_gone(actor.await_response(&id, NEVER));
    tell(context, "by stop and kill", &[crate::clock() - died]);
}

fn unreaped(context: &Context<'_>) {
    let bus = context.bus();
    let mut actor = bus.actor("actor", &json!({}));
    let id = actor.send_request("actor", &json!({"do": "never"})).unwrap();
    assert_eq!(actor.request("actor", &json!({"value": 1})).unwrap(), 1);
    let pid = actor.child_pid().expect("a process was started");
    end_rest(&actor);
    let died = crate::clock();
    eventually("it to be a zombie", || is_zombie(pid));
    assert_gone(actor.await_response(&id, NEVER));
    tell(context, "that nobody reaped", &[crate::clock() - died]);
    assert!(is_zombie(pid), "somebody reaped it, so this says nothing");
    let error = actor.request_within("actor", &1, NEVER).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::PeerGone | ErrorKind::NoSuchPeer), "{error:?}");
}

/// Whether a process has ended and was not reaped; elsewhere than on Linux it is taken to be.
fn is_zombie(pid: u32) -> bool {
    if !cfg!(target_os = "linux") {
        return true;
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}

fn not_while_suspended(context: &Context<'_>) {
    let bus = context.bus();
    let mut peer = bus.client("peer");
    let mut asker = bus.asker("peer");
    let id = asker.send_request("peer", &"later").unwrap();
    let request = peer.recv_timeout(PATIENCE).unwrap();
    peer.suspend(Suspend::within(PATIENCE * 10)).unwrap();
    let error = asker.await_response(&id, Some(Duration::from_millis(700))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "a suspended peer may come back");
    let mut peer = bus.reconnect("peer");
    let response = json!({"ipcm_response_id": request.content()["ipcm_request_id"], "response": "here"});
    peer.send(request.from().as_str(), &response).unwrap();
    assert_eq!(asker.await_response(&id, NEVER).unwrap().value(), "here");
}

fn replaced_at_once(context: &Context<'_>) {
    let bus = context.bus();
    let mut first = bus.puppet("peer");
    let mut asker = bus.asker("peer");
    let id = asker.send_request("peer", &"never answered").unwrap();
    first.kill();
    let died = crate::clock();
    // Nobody looked meanwhile, so there is only the new holder to be seen.
    let _second = bus.puppet("peer");
    assert_gone(asker.await_response(&id, NEVER));
    tell(context, "of one that was replaced at once", &[crate::clock() - died]);
}

fn not_if_continued(context: &Context<'_>) {
    let bus = context.bus();
    let mut first = bus.puppet("peer");
    let mut asker = bus.asker("peer");
    let id = asker.send_request("peer", &"later").unwrap();
    first.kill();
    let mut second = bus.reconnect("peer");
    let error = asker.await_response(&id, Some(Duration::from_millis(700))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "the request is still there to be answered");
    let request = second.recv_timeout(PATIENCE).unwrap();
    let response = json!({"ipcm_response_id": request.content()["ipcm_request_id"], "response": "here"});
    second.send(request.from().as_str(), &response).unwrap();
    assert_eq!(asker.await_response(&id, NEVER).unwrap().value(), "here");
}

fn answered_before(context: &Context<'_>) {
    let bus = context.bus();
    for round in 0..5 {
        let mut actor = bus.actor("actor", &json!({}));
        let id = actor.send_request("actor", &json!({"do": "answer and end", "value": round})).unwrap();
        assert!(actor.wait(Some(PATIENCE)).is_some());
        assert_eq!(actor.await_response(&id, NEVER).unwrap().value(), round);
    }
}

fn before_it_was_asked(context: &Context<'_>) {
    let bus = context.bus();
    let mut actor = bus.actor("actor", &json!({}));
    assert_eq!(actor.request("nobody", &1).unwrap_err().kind(), ErrorKind::NoSuchPeer);
    end_rest(&actor);
    assert!(actor.wait(Some(PATIENCE)).is_some());
    // Where nothing is left of a dead peer it is not known either.
    let error = actor.request_within("actor", &1, NEVER).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::PeerGone | ErrorKind::NoSuchPeer), "{error:?}");
    assert!(!actor.has_pending_responses());
}

fn all_of_them(context: &Context<'_>) {
    let bus = context.bus();
    let mut actors = ["a", "b", "c"].map(|name| bus.actor(name, &json!({})));
    let mut asker = bus.asker("c");
    let first = asker.send_request("a", &order("by kill")).unwrap();
    let second = asker.send_request("b", &order("by exit")).unwrap();
    let third = asker.send_request("c", &json!({"value": "here"})).unwrap();
    let error = asker.await_all_responses(NEVER).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PeerGone);
    assert!(error.to_string().contains("a, b"), "{error}");
    assert!(!asker.has_pending_responses());
    assert_gone(asker.get_response(&first));
    assert_gone(asker.get_response(&second));
    assert_eq!(asker.get_response(&third).unwrap().unwrap().value(), "here");
    actors.iter_mut().for_each(|actor| end_rest(actor));
}

fn seen_by_services(context: &Context<'_>) {
    let bus = context.bus();
    let mut outer = bus.actor("outer", &json!({"details": true}));
    for (wait, how) in [(false, "by kill"), (false, "cleanly"), (true, "by kill"), (true, "cleanly")] {
        outer.request("outer", &json!({"do": "nest", "value": "inner"})).unwrap();
        let forward = json!({"to": "inner", "wait": wait, "request": order(how)});
        let response = outer.request_within("outer", &json!({"do": "forward", "value": forward}), NEVER).unwrap();
        let words = response.error().expect("nobody answered");
        assert!(words.contains("peer_gone") || words.contains("went away"), "{words}");
    }
}
