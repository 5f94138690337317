// SPDX-License-Identifier: MIT OR Apache-2.0
//! One turn of a service's loop: what is handled in which order, and what comes at the end.

use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ipc_manager::{Client, ErrorKind, Reply, Service, ServiceBuilder, Signal, Spawn};
use ipc_manager_testkit::{PATIENCE, Sandbox, Suite, Test, eventually};

use super::{bus, double};
use crate::acts::Actor;

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        one_turn_handles_all_that_it_found_in_order,
        nothing_below_the_end_of_a_watched_process_is_handled,
        a_batch_is_handled_to_its_end_also_after_a_terminate_message,
        what_nobody_handles_is_left_to_the_last_callback,
        svc_05_a_service_starts_others_at_its_start,
        what_is_held_back_goes_out_before_a_service_ends,
        nobody_who_does_not_read_is_waited_for_without_end,
        workers_that_do_not_listen_are_killed,
        exit_handlers_run_unless_they_are_not_to,
    ]
}

pub fn add_to(suite: Suite) -> Suite {
    let suite = suite.act("service has a full turn", full_turn).act("service has deaf workers", deaf_workers);
    suite.act("service exits", || leaves(false)).act("service exits at once", || leaves(true))
}

type Log = Arc<Mutex<Vec<&'static str>>>;

fn note(log: &Log, what: &'static str) {
    log.lock().unwrap().push(what);
}

/// With a callback of each kind that notes itself, once the log is there to be written to.
fn noting(mut builder: ServiceBuilder, log: &Log) -> ServiceBuilder {
    let notes = |what| {
        let log = Arc::clone(log);
        move || note(&log, what)
    };
    let (activity, signal, child, interval) = (notes("activity"), notes("signal"), notes("child"), notes("interval"));
    builder = builder.on_activity(move |_, _| {
        activity();
        Ok(())
    });
    builder = builder.on_signal(Signal::USR1, move |_, _| {
        signal();
        Ok(())
    });
    builder = builder.on_child(move |_, _, _| {
        child();
        Ok(())
    });
    builder = builder.on_interval(move |_| {
        interval();
        Ok(())
    });
    let (peers, end, cleanup) = (notes("peers"), notes("should end"), notes("cleanup"));
    builder = builder.on_peers(move |_, _| {
        peers();
        Ok(())
    });
    builder = builder.should_end(move |_| {
        end();
        Ok(false)
    });
    builder.on_cleanup(move |_| {
        cleanup();
        Ok(())
    })
}

fn one_turn_handles_all_that_it_found_in_order(sandbox: &Sandbox) {
    Actor::start("service has a full turn", sandbox).assert_success();
}

/// The first message makes everything happen at once, so that the next turn finds all of it.
fn full_turn() -> ExitCode {
    let (bus, log) = (bus(), Log::default());
    let mut sender = bus.connect("sender").unwrap();
    let (info, written, mut latecomers) = (bus.info().clone(), Arc::clone(&log), Vec::new());
    let builder = noting(double("s").bus(bus.info()).interval(Duration::from_millis(20)), &log);
    let builder = builder.on_message(move |service, message| {
        if message.content() != "begin" {
            note(&written, "message");
            service.terminate(0);
            return Ok(());
        }
        // It is the service's to reap.
        let pid = Command::new("true").spawn()?.id();
        eventually("the child's end", || is_zombie(pid));
        // SAFETY: a handler is there.
        assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
        let mut late = Client::builder("late", &info).connect()?;
        late.send("s", "end")?;
        latecomers.push(late);
        let begun = Instant::now();
        eventually("the interval", || begun.elapsed() > Duration::from_millis(20));
        written.lock().unwrap().clear();
        Ok(())
    });
    let builder = builder.on_start(move |service| Ok(sender.send(service.name().as_str(), "begin").map(drop)?));
    assert_eq!(builder.run().unwrap(), 0);
    let log = log.lock().unwrap();
    let turn: Vec<_> = log.iter().copied().skip_while(|what| *what != "activity").collect();
    let wanted = ["activity", "signal", "child", "interval", "peers", "message", "should end", "cleanup"];
    assert_eq!(turn, wanted);
    ExitCode::SUCCESS
}

fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}

fn nothing_below_the_end_of_a_watched_process_is_handled(_: &Sandbox) {
    let (bus, log) = (bus(), Log::default());
    let mut watched = Command::new("true").spawn().unwrap();
    let mut sender = bus.connect("sender").unwrap();
    let (written, pid) = (Arc::clone(&log), watched.id());
    let builder = double("s").bus(bus.info()).watch_pids([pid]).on_message(move |_, _| {
        note(&written, "message");
        Ok(())
    });
    let (activity, cleanup) = (Arc::clone(&log), Arc::clone(&log));
    let builder = builder.on_activity(move |_, activities| {
        assert_eq!(activities.messages.len(), 1, "the message was found in the same turn");
        note(&activity, "activity");
        Ok(())
    });
    let builder = builder.on_cleanup(move |_| {
        note(&cleanup, "cleanup");
        Ok(())
    });
    let builder = builder.on_start(move |service| {
        sender.send(service.name().as_str(), "never handled")?;
        eventually("the watched process's end", || is_zombie(pid));
        Ok(())
    });
    assert_eq!(builder.run().unwrap(), 0);
    watched.wait().unwrap();
    assert_eq!(*log.lock().unwrap(), ["activity", "cleanup"]);
}

fn a_batch_is_handled_to_its_end_also_after_a_terminate_message(_: &Sandbox) {
    let bus = bus();
    let mut sender = bus.connect("sender").unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let builder = double("s").bus(bus.info()).on_message(move |service, message| {
        noted.lock().unwrap().push((message.content().clone(), service.termination()));
        Ok(())
    });
    let terminate = serde_json::json!({"terminate": 1});
    let content = terminate.clone();
    let builder = builder.on_start(move |service| {
        for content in [&"before".into(), &content, &"after".into()] {
            sender.send(service.name().as_str(), content)?;
        }
        Ok(())
    });
    assert_eq!(builder.run().unwrap(), 0);
    let wanted = [("before".into(), None), (terminate, Some(0)), ("after".into(), Some(0))];
    assert_eq!(*seen.lock().unwrap(), wanted);
}

fn what_nobody_handles_is_left_to_the_last_callback(_: &Sandbox) {
    let bus = bus();
    let left = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&left);
    // Peers are watched for its sake, and nobody else handles them.
    let builder = double("s").bus(bus.info()).on_unhandled(move |service, activity| {
        noted.lock().unwrap().extend(activity.peers.came.iter().map(ToString::to_string));
        if !activity.peers.left.is_empty() {
            service.terminate(0);
        }
        Ok(())
    });
    let mut handle = builder.spawn_thread().unwrap();
    assert_eq!(handle.request("s", &4).unwrap(), 8);
    let passer_by = bus.connect("passer-by").unwrap();
    eventually("the one who came", || left.lock().unwrap().iter().any(|name| name == "passer-by"));
    drop(passer_by);
    assert!(matches!(handle.wait(Some(PATIENCE)), Some(ipc_manager::Ended::Returned(0))));
}

fn svc_05_a_service_starts_others_at_its_start(_: &Sandbox) {
    let bus = bus();
    let elsewhere = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&elsewhere);
    let builder = Service::builder("outer").bus(bus.info()).on_start(move |service| {
        service.start_thread(double("inner"))?;
        // One on a bus of its own is asked with a handle, as from anywhere.
        *kept.lock().unwrap() = Some(double("apart").spawn_thread()?);
        assert_eq!(service.start_thread(double("x").bus(service.info())).unwrap_err().kind(), ErrorKind::Usage);
        Ok(())
    });
    let apart = Arc::clone(&elsewhere);
    let builder = builder.on_typed_request(move |service, number: i64| {
        let once = service.peer("inner")?.request(&number)?;
        Ok(apart.lock().unwrap().as_mut().unwrap().request("apart", &once)?)
    });
    let mut handle = builder.spawn_thread().unwrap();
    assert_eq!(handle.request("outer", &5).unwrap(), 20);
    assert_eq!(handle.request("inner", &5).unwrap(), 10);
    let own = handle.client().unwrap().name().to_string();
    assert!(own.starts_with(&format!("service_parent_{}", std::process::id())), "{own}");
    let mut apart = elsewhere.lock().unwrap().take().unwrap();
    assert_ne!(apart.info(), bus.info());
    apart.terminate().unwrap();
    for service in ["inner", "outer"] {
        handle.client().unwrap().send(service, &serde_json::json!({"terminate": 1})).unwrap();
    }
}

/// A service on a bus with mailboxes of limited room, which sends more than fits to who asks, and ends.
fn talks_too_much(bus: &Spawn, drain: Duration) -> ServiceBuilder {
    let builder = Service::builder("s").bus(bus.info()).drain_timeout(drain);
    builder.on_request(|service, request| {
        for number in 0..MANY {
            service.send(request.from().as_str(), &(number, "x".repeat(4_000)))?;
        }
        service.terminate(0);
        Ok(Reply::Later)
    })
}

/// More messages of 4 kB than a FIFO has room for.
const MANY: u64 = 600;

fn what_is_held_back_goes_out_before_a_service_ends(_: &Sandbox) {
    let bus = Spawn::builder().protocol("AtomicPipe").serializer("JSON").spawn().unwrap();
    let mut handle = talks_too_much(&bus, PATIENCE).spawn_thread().unwrap();
    let mut reader = bus.connect("reader").unwrap();
    reader.send("s", &serde_json::json!({"ipcm_request_id": "1", "request": null})).unwrap();
    for number in 0..MANY {
        assert_eq!(reader.recv_timeout(PATIENCE).unwrap().content()[0], number);
    }
    assert!(matches!(handle.wait(Some(PATIENCE)), Some(ipc_manager::Ended::Returned(0))));
}

fn nobody_who_does_not_read_is_waited_for_without_end(_: &Sandbox) {
    let bus = Spawn::builder().protocol("AtomicPipe").serializer("JSON").spawn().unwrap();
    let mut handle = talks_too_much(&bus, Duration::from_millis(50)).spawn_thread().unwrap();
    let mut sleeper = bus.connect("sleeper").unwrap();
    sleeper.send("s", &serde_json::json!({"ipcm_request_id": "1", "request": null})).unwrap();
    assert!(matches!(handle.wait(Some(PATIENCE)), Some(ipc_manager::Ended::Returned(0))));
    let arrived = sleeper.get_messages().unwrap().len() as u64;
    assert!(arrived > 0 && arrived < MANY, "{arrived} fitted, so nothing was held back");
}

fn workers_that_do_not_listen_are_killed(sandbox: &Sandbox) {
    Actor::start("service has deaf workers", sandbox).assert_success();
}

fn deaf_workers() -> ExitCode {
    let (bus, pids) = (bus(), Arc::new(Mutex::new(Vec::new())));
    let noted = Arc::clone(&pids);
    let grace = Duration::from_millis(100);
    let builder = double("s").bus(bus.info()).worker_grace(grace).on_start(move |service| {
        let mut deaf = Command::new("sh");
        deaf.args(["-c", "trap '' TERM; exec sleep 600"]);
        let pid = service.worker("deaf", deaf)?;
        eventually("it to be deaf", || ignores_term(pid));
        noted.lock().unwrap().push(pid);
        service.terminate(0);
        Ok(())
    });
    let begun = Instant::now();
    assert_eq!(builder.run().unwrap(), 0);
    assert!(begun.elapsed() >= grace, "it was not asked first");
    let pid = pids.lock().unwrap()[0];
    assert!(!std::path::Path::new(&format!("/proc/{pid}/stat")).exists(), "the worker outlived its service");
    ExitCode::SUCCESS
}

/// Whether a process is the program `sleep`, and does not care for TERM.
fn ignores_term(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or("0").trim();
    status.starts_with("Name:\tsleep") && u64::from_str_radix(ignored, 16).is_ok_and(|signals| signals & 1 << 14 != 0)
}

fn exit_handlers_run_unless_they_are_not_to(sandbox: &Sandbox) {
    for (act, runs) in [("service exits", true), ("service exits at once", false)] {
        Actor::start(act, sandbox).assert_success();
        let mark = sandbox.dir().join("exit-handler-ran");
        assert_eq!(mark.exists(), runs, "{act}");
        let _ = std::fs::remove_file(mark);
    }
}

/// Leaves a mark in the directory of the test.
extern "C" fn exit_handler() {
    let mark = std::env::temp_dir().join("exit-handler-ran");
    let _ = std::fs::write(mark, "");
}

fn leaves(at_once: bool) -> ExitCode {
    let builder = Service::builder("s").posix_exit(at_once).on_start(|service| {
        // SAFETY: the handler touches nothing that is gone by then.
        assert_eq!(unsafe { libc::atexit(exit_handler) }, 0);
        service.terminate(0);
        Ok(())
    });
    // SAFETY: this process has one thread.
    let mut handle = unsafe { builder.on_activity(|_, _| Ok(())).fork() }.unwrap();
    assert!(matches!(handle.wait(Some(PATIENCE)), Some(ipc_manager::Ended::Exited(status)) if status.success()));
    drop(handle);
    // The starter has no such handler, and leaves none of its own either.
    ExitCode::SUCCESS
}
