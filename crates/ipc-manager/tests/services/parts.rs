// SPDX-License-Identifier: MIT OR Apache-2.0
//! Single parts of services: what is refused, callbacks and their order, the value that a service ends with.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipc_manager::{Callback, ErrorKind, Handle, Reply, Request, Service, Spawn, When};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test, eventually};

use super::{bus, double};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        prt_01_a_service_without_a_handler_is_refused,
        svc_01_a_callback_for_everything_answers_by_hand,
        prt_04_callbacks_run_in_the_order_that_was_made,
        prt_04_callbacks_change_while_one_of_them_runs,
        prt_05_any_yes_ends_the_service,
        prt_06_the_first_value_that_is_not_zero_stays,
        prt_14_a_handle_needs_a_name_that_can_be,
        an_answer_is_given_once,
        an_answer_that_is_too_large_is_an_error_response,
        responses_that_nobody_waits_for_go_to_the_handler,
        a_service_that_is_not_polled_sleeps,
        the_interval_is_kept_under_load,
        a_panic_that_is_to_go_on_ends_the_service,
        other_threads_have_things_done,
        a_start_hook_that_fails_ends_it,
        peers_that_cannot_be_are_refused,
        who_joined_again_in_its_process_answers_nothing_from_before,
    ]
}

fn prt_01_a_service_without_a_handler_is_refused(_: &Sandbox) {
    let bus = bus();
    assert_eq!(Service::builder("s").bus(bus.info()).run().unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(double("s").run().unwrap_err().kind(), ErrorKind::Usage, "it has no bus");
    assert_eq!(double("").bus(bus.info()).run().unwrap_err().kind(), ErrorKind::InvalidName);
    assert_eq!(double("_s").bus(bus.info()).spawn_thread().unwrap_err().kind(), ErrorKind::InvalidName);
    let both = double("s").bus(bus.info()).new_bus(ipc_manager::Spawn::builder());
    assert_eq!(both.spawn_thread().unwrap_err().kind(), ErrorKind::Usage);
    let exec = double("s").bus(bus.info()).exec();
    assert_eq!(exec.spawn().unwrap_err().kind(), ErrorKind::Usage, "callbacks cannot pass to another program");
    // With a callback for everything there need not be a handler.
    let all = Service::builder("s").bus(bus.info()).on_activity(|service, _| {
        service.terminate(3);
        Ok(())
    });
    assert_eq!(all.run().unwrap(), 3);
}

fn svc_01_a_callback_for_everything_answers_by_hand(_: &Sandbox) {
    let bus = bus();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let builder = Service::builder("s").bus(bus.info()).on_activity(move |service, activity| {
        for message in &activity.messages {
            match Request::of(message) {
                Some(request) => {
                    noted.lock().unwrap().push("request");
                    let answer = (request.value(), "by hand");
                    service.send_response(request.from().as_str(), request.id(), &answer, None)?;
                }
                None if message.is_terminate() => noted.lock().unwrap().push("terminate"),
                None => noted.lock().unwrap().push("another"),
            }
        }
        Ok(())
    });
    let mut handle = builder.spawn_thread().unwrap();
    let got = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&got);
    let callback = move |response: ipc_manager::Result<_>| *keep.lock().unwrap() = Some(response);
    handle.send_request_with("s", &7, callback).unwrap();
    handle.await_all_responses(Some(PATIENCE)).unwrap();
    let response: ipc_manager::Response = got.lock().unwrap().take().unwrap().unwrap();
    assert_eq!(response.value(), &serde_json::json!([7, "by hand"]));
    handle.terminate().unwrap();
    assert!(matches!(handle.wait(Some(PATIENCE)), Some(ipc_manager::Ended::Returned(0))));
    assert_eq!(*seen.lock().unwrap(), ["request", "terminate"]);
}

type Log = Arc<Mutex<Vec<&'static str>>>;

fn noting(log: &Log, what: &'static str) -> Callback {
    let log = Arc::clone(log);
    Callback::start(move |_| {
        log.lock().unwrap().push(what);
        Ok(())
    })
}

fn prt_04_callbacks_run_in_the_order_that_was_made(_: &Sandbox) {
    let (bus, log) = (bus(), Log::default());
    let end = |service: &mut Service| {
        service.terminate(0);
        Ok(())
    };
    let builder = double("s").bus(bus.info()).append(noting(&log, "gone")).clear(When::Start);
    let builder = builder.append(noting(&log, "b")).append(noting(&log, "c")).prepend(noting(&log, "a"));
    builder.on_start(end).run().unwrap();
    assert_eq!(*log.lock().unwrap(), ["a", "b", "c"]);
}

fn prt_04_callbacks_change_while_one_of_them_runs(_: &Sandbox) {
    let (bus, log) = (bus(), Log::default());
    let removed = noting(&log, "removed");
    let id = removed.id();
    let later = Arc::clone(&log);
    let change = move |service: &mut Service| {
        assert!(service.remove(id) && !service.remove(id));
        service.append(noting(&later, "too late for this event"));
        let (log, mut times) = (Arc::clone(&later), 0);
        let callback = Callback::interval(move |service| {
            times += 1;
            log.lock().unwrap().push("interval");
            if times == 2 {
                service.clear(When::Interval);
                service.terminate(0);
            }
            Ok(())
        });
        service.prepend(callback);
        Ok(())
    };
    let builder = double("s").bus(bus.info()).interval(Duration::from_millis(5));
    builder.on_start(change).append(removed).append(noting(&log, "kept")).run().unwrap();
    assert_eq!(*log.lock().unwrap(), ["kept", "interval", "interval"]);
}

fn prt_05_any_yes_ends_the_service(_: &Sandbox) {
    let bus = bus();
    let mut asked = 0;
    let builder = double("s").bus(bus.info()).cycle(Duration::from_millis(5)).should_end(|_| Ok(false));
    let builder = builder.should_end(move |_| {
        asked += 1;
        Ok(asked == 4)
    });
    assert_eq!(builder.run().unwrap(), 0);
}

fn prt_06_the_first_value_that_is_not_zero_stays(_: &Sandbox) {
    let bus = bus();
    let builder = double("s").bus(bus.info()).on_start(|service| {
        assert_eq!(service.termination(), None);
        for value in [0, 42, 99, 0] {
            service.terminate(value);
        }
        assert_eq!(service.termination(), Some(42));
        Ok(())
    });
    assert_eq!(builder.run().unwrap(), 42);
}

fn prt_14_a_handle_needs_a_name_that_can_be(_: &Sandbox) {
    let bus = bus();
    assert_eq!(Handle::new("", bus.info()).unwrap_err().kind(), ErrorKind::InvalidName);
    let mut handle = Handle::new("nobody", bus.info()).unwrap();
    assert!(!handle.ready(Some(Duration::ZERO)).unwrap());
    assert_eq!((handle.service_pid().unwrap(), handle.child_pid()), (None, None));
    handle.terminate().unwrap();
    let mut named = Handle::new("nobody", bus.info()).unwrap().named("me");
    assert_eq!(named.client().unwrap().name(), &"me");
}

fn an_answer_is_given_once(_: &Sandbox) {
    let bus = bus();
    let kinds = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&kinds);
    let builder = Service::builder("s").bus(bus.info()).on_request(move |service, request| {
        service.respond(&request.ticket(), &"first")?;
        let again = [
            service.respond(&request.ticket(), &"second"),
            service.respond_part(&request.ticket(), &"third"),
            service.respond_error(&request.ticket(), "fourth"),
        ];
        seen.lock().unwrap().extend(again.map(|again| again.unwrap_err().kind()));
        Ok(Reply::new("fifth")?)
    });
    let mut handle = builder.spawn_thread().unwrap();
    assert_eq!(handle.request("s", &1).unwrap(), "first");
    assert_eq!(handle.request("s", &2).unwrap(), "first");
    eventually("six refusals", || kinds.lock().unwrap().len() == 6);
    assert_eq!(*kinds.lock().unwrap(), [ErrorKind::Usage; 6]);
    assert!(handle.take_unexpected().is_empty());
    handle.terminate().unwrap();
}

fn an_answer_that_is_too_large_is_an_error_response(_: &Sandbox) {
    let bus = bus();
    let builder = Service::builder("s").bus(bus.info()).on_typed_request(|_, size: usize| Ok("x".repeat(size)));
    let mut handle = builder.spawn_thread().unwrap();
    let response = handle.request_within("s", &(65 << 20), Some(PATIENCE)).unwrap();
    assert!(response.error().is_some());
    assert_eq!(handle.request("s", &3).unwrap(), "xxx");
    handle.terminate().unwrap();
}

fn responses_that_nobody_waits_for_go_to_the_handler(_: &Sandbox) {
    let bus = bus();
    let builder = double("s").bus(bus.info()).on_response(|service, response| {
        let from = response.from().to_string();
        Ok(service.send(&from, &("a response", response.value()))?)
    });
    let mut handle = builder.spawn_thread().unwrap();
    let mut plain = double("plain").bus(bus.info()).spawn_thread().unwrap();
    let mut a = bus.connect("a").unwrap();
    for service in ["s", "plain"] {
        a.send(service, &serde_json::json!({"ipcm_response_id": "x", "response": 7})).unwrap();
    }
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), &serde_json::json!(["a response", 7]));
    // Without a handler it is reported, and the service goes on.
    assert_eq!(plain.request("plain", &1).unwrap(), 2);
    handle.terminate().unwrap();
    plain.terminate().unwrap();
}

/// The time that this thread's process has had on a processor does not grow while its service sleeps.
fn a_service_that_is_not_polled_sleeps(_: &Sandbox) {
    let bus = bus();
    let turns = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&turns);
    let builder = double("s").bus(bus.info()).on_message(|_, _| Ok(())).on_peers(move |_, _| {
        *counted.lock().unwrap() += 1;
        Ok(())
    });
    let mut handle = builder.spawn_thread().unwrap();
    assert_eq!(handle.request("s", &1).unwrap(), 2);
    let before = *turns.lock().unwrap();
    for n in 0..20 {
        assert_eq!(handle.request("s", &n).unwrap(), n * 2);
    }
    assert_eq!(*turns.lock().unwrap(), before, "peers were told of though nobody came or went");
    handle.terminate().unwrap();
}

fn the_interval_is_kept_under_load(_: &Sandbox) {
    let bus = bus();
    let count = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&count);
    let builder = double("s").bus(bus.info()).interval(Duration::from_millis(5)).on_interval(move |_| {
        *counted.lock().unwrap() += 1;
        Ok(())
    });
    let mut handle = builder.spawn_thread().unwrap();
    eventually("intervals beside requests", || {
        assert_eq!(handle.request("s", &1).unwrap(), 2);
        *count.lock().unwrap() >= 5
    });
    handle.terminate().unwrap();
}

fn a_panic_that_is_to_go_on_ends_the_service(_: &Sandbox) {
    let bus = bus();
    let builder = Service::builder("s").bus(bus.info()).catch_panics(false);
    let mut handle = builder.on_request(|_, _| panic!("on purpose")).spawn_thread().unwrap();
    let error = handle.request_within("s", &1, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PeerGone);
    assert!(matches!(handle.wait(Some(PATIENCE)), Some(ipc_manager::Ended::Failed(_))));
}

fn other_threads_have_things_done(_: &Sandbox) {
    let bus = bus();
    let remotes = Arc::new(Mutex::new(None));
    let given = Arc::clone(&remotes);
    let builder = double("s").bus(bus.info()).on_start(move |service| {
        *given.lock().unwrap() = Some(service.remote());
        Ok(())
    });
    let mut handle = builder.spawn_thread().unwrap();
    assert_eq!(handle.request("s", &1).unwrap(), 2);
    let remote = remotes.lock().unwrap().take().unwrap();
    remote
        .call(|service| {
            service.terminate(7);
            Ok(())
        })
        .unwrap();
    assert!(matches!(handle.wait(Some(PATIENCE)), Some(ipc_manager::Ended::Returned(7))));
    assert_eq!(remote.call(|_| Ok(())).unwrap_err().kind(), ErrorKind::Disconnected);
}

fn a_start_hook_that_fails_ends_it(_: &Sandbox) {
    let bus = bus();
    let error = double("s").bus(bus.info()).on_start(|_| Err("not today".into())).run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ServiceError);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "not today");
    assert!(bus.connect("a").unwrap().peer("s").unwrap().is_none(), "it did not leave");
    // One that is told to survive does, until it is told to end.
    let tough = double("s").bus(bus.info()).intercept_errors(true).on_start(|_| Err("not today".into()));
    assert_eq!(
        tough
            .on_start(|service| {
                service.terminate(0);
                Ok(())
            })
            .run()
            .unwrap(),
        0
    );
}

fn peers_that_cannot_be_are_refused(_: &Sandbox) {
    let bus = bus();
    let builder = double("s").bus(bus.info()).on_start(|service| {
        assert_eq!(service.peer("").unwrap_err().kind(), ErrorKind::InvalidName);
        let mut nobody = service.peer("nobody")?;
        assert_eq!(nobody.request(&1).unwrap_err().kind(), ErrorKind::NoSuchPeer);
        assert_eq!((nobody.child_pid(), nobody.ready(Some(Duration::ZERO))?), (None, false));
        service.terminate(0);
        Ok(())
    });
    assert_eq!(builder.run().unwrap(), 0);
}

fn who_joined_again_in_its_process_answers_nothing_from_before(_: &Sandbox) {
    for protocol in ["MessageFiles", "JSONFile", "LocalMemory", "AtomicPipe", "UnixSocket", "ConnectionUnix"] {
        let bus = Spawn::builder().protocol(protocol).serializer("JSON").spawn().unwrap();
        let mut asked = bus.connect("asked").unwrap();
        let mut asker = Handle::new("asked", bus.info()).unwrap();
        let id = asker.send_request("asked", "never answered").unwrap();
        // Nobody looks meanwhile, so there is only the new holder of the name to be seen.
        assert_eq!(asked.disconnect().unwrap_err().kind(), ErrorKind::UnreadMessages);
        let _again = bus.connect("asked").unwrap();
        let error = asker.await_response(&id, Some(PATIENCE)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PeerGone, "{protocol}: {error}");
    }
}
