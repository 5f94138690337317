// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests of which every system call is injured in turn, at the side of who asks and at that of the service: whoever
//! asked has an answer or an error, without waiting for its deadline, and the name serves on.

use std::thread::{JoinHandle, spawn};

use ipc_manager::{Client, Error, ErrorKind, Handle, RequestId, Response};
use serde_json::{Value, json};

use crate::context::Bus;
use crate::steps::asked::{SERVICE, service};
use crate::steps::{End, Injury, Points, Stepper, errors_each};
use crate::{Clause, Context, Need, PATIENCE, eventually_some, trace};

const ANY: &[Need] = &[Need::Processes];
/// Calls of the driver of a server do not fail one by one; as with the other operations.
const ANY_HERE: &[Need] = &[Need::Processes, Need::NoCredentials];

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "steps.killed_request",
        text: "Who is killed at any system call of a request leaves a service that answers everybody else.",
        source: &["T03", "services: peer gone"],
        needs: ANY,
        run: |context| of_who_asks(context, true),
    },
    Clause {
        id: "steps.failing_request",
        text: "Where any system call of a request fails, who asks has the answer or an error without waiting for its \
               deadline, and can ask again at once.",
        source: &["T12", "services: peer gone"],
        needs: ANY_HERE,
        run: |context| of_who_asks(context, false),
    },
    Clause {
        id: "steps.killed_answer",
        text: "Where a service is killed at any system call with which it takes and answers a request, who asked has the \
               answer or is told that it is gone, and another one can take its place.",
        source: &["T03", "services: peer gone"],
        needs: ANY,
        run: |context| of_the_service(context, true),
    },
    Clause {
        id: "steps.failing_answer",
        text: "Where any system call fails with which a service takes and answers a request, who asked has the answer or \
               an error without waiting for its deadline, and the service or the next of its name serves on.",
        source: &["T12", "services: peer gone"],
        needs: ANY_HERE,
        run: |context| of_the_service(context, false),
    },
];

/// What is done to an operation, and to what of it, call by call.
fn injure(operation: &str, kills: bool, mut once: impl FnMut(usize, usize, Injury) -> End) {
    trace::can().unwrap();
    let End::Complete(calls) = once(0, usize::MAX, Injury::Killed) else { panic!("it is not injured") };
    let mut points = Points::of(calls);
    let mut number = 0;
    for at in points.by_ref() {
        for which in 0..if kills { 1 } else { errors_each() } {
            number += 1;
            let injury = if kills { Injury::Killed } else { Injury::Fails(at + which) };
            match once(number, at, injury) {
                End::Killed(call) => println!("{operation}, killed at call {at}, {call}"),
                End::Failed(call, errno, said) => {
                    let error = std::io::Error::from_raw_os_error(errno);
                    println!("{operation}, call {at}, {call}, failed: {error}: {said}");
                }
                End::Complete(_) | End::LeftAlone => {}
            }
        }
    }
    let what = if kills { "killed" } else { "failed" };
    println!("{operation}: {what} at {} of {calls} system calls", points.done);
    assert!(calls > 0, "no system call was seen");
}

fn orders(bus: &Bus<'_>, operation: &str, name: &str) -> Value {
    json!({"operation": operation, "name": name, "info": bus.info().to_string()})
}

/// Nothing is left of those who died but what a sweep finds.
fn assert_clean(b: &mut Client, expected: &[&str]) {
    b.reap().unwrap();
    let left: Vec<String> = b.all_peers().unwrap().iter().map(|peer| peer.name.to_string()).collect();
    assert_eq!(left, expected, "after a sweep");
}

fn of_who_asks(context: &Context<'_>, kills: bool) {
    let bus = context.bus();
    let (mut b, mut other) = (bus.client("b"), bus.asker(SERVICE).named("other"));
    let served = service().bus(bus.info()).registry(context.subject().registry()).spawn_thread().unwrap();
    injure("request", kills, |number, at, injury| {
        let orders = orders(&bus, "request", &format!("a-{number}"));
        let end = Stepper::start(context.subject(), &orders).injure(at, injury);
        if let End::Failed(_, _, said) = &end {
            assert!(said["again"] == "ok" && said["first"] != "timeout", "{said}");
            assert!(said["later"] == "ok" && said["left"] == "ok", "{said}");
            assert!(said["late answers"].as_u64().is_some_and(|late| late <= 1), "{said}");
        }
        assert_eq!(other.request(SERVICE, "other").unwrap(), "other", "the service does not serve on");
        let starter = format!("service_parent_{}", std::process::id());
        b.reap().unwrap();
        let left = b.all_peers().unwrap().into_iter().map(|peer| peer.name.to_string());
        let left: Vec<_> = left.filter(|name| !name.starts_with(&starter)).collect();
        assert_eq!(left, ["other", SERVICE], "after a sweep");
        end
    });
    let mut served = served;
    served.terminate().unwrap();
    served.wait(Some(PATIENCE));
}

/// What became of a request, and of another one that whoever has the name by then was asked.
struct Asked {
    first: Result<Response, Error>,
    handle: Handle,
}

/// Waits for an answer, then asks until somebody answers, and has that service end.
fn asks_on(mut handle: Handle, id: RequestId) -> JoinHandle<Asked> {
    spawn(move || {
        let first = handle.await_response(&id, Some(PATIENCE));
        let later = eventually_some("somebody to serve on", || match handle.request(SERVICE, "later") {
            Err(error) if matches!(error.kind(), ErrorKind::NoSuchPeer | ErrorKind::PeerGone) => None,
            done => Some(done),
        });
        assert_eq!(later.unwrap(), "later", "who has the name does not serve");
        handle.terminate().unwrap();
        Asked { first, handle }
    })
}

fn of_the_service(context: &Context<'_>, kills: bool) {
    let bus = context.bus();
    let mut b = bus.client("b");
    injure("answer", kills, |_, at, injury| {
        let stepper = Stepper::start(context.subject(), &orders(&bus, "answer", SERVICE));
        let mut handle = bus.asker(SERVICE).named("asker").timeout(PATIENCE);
        let id = handle.send_request(SERVICE, "asked").unwrap();
        let asking = asks_on(handle, id);
        let end = stepper.injure(at, injury);
        let next = matches!(end, End::Killed(_) | End::LeftAlone)
            .then(|| service().bus(bus.info()).registry(context.subject().registry()).run().unwrap());
        let Asked { first, handle } = asking.join().unwrap();
        match first {
            Ok(response) => assert!(response.error().is_some() || response.value() == "asked", "{response:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::PeerGone, "at call {at} of {end:?}: {error:?}"),
        }
        if let End::Failed(_, _, said) = &end {
            assert_eq!(said["again"], "ok", "the next one does not end in good order: {said}");
        }
        assert!(next.is_none_or(|value| value == 0));
        drop(handle);
        assert_clean(&mut b, &[]);
        end
    });
}
