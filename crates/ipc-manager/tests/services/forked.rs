// SPDX-License-Identifier: MIT OR Apache-2.0
//! Services and workers that are forked, each scene in a process of its own with one thread.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use ipc_manager::{Ended, ErrorKind, Reply, Service};
use ipc_manager_testkit::{PATIENCE, Sandbox, Suite, Test, eventually};

use super::{bus, double, title_of};
use crate::acts::Actor;

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        svc_18_a_forked_service_is_the_child,
        svc_17_the_hook_after_the_fork_decides_which_process_serves,
        a_forked_service_that_cannot_start_says_why,
        svc_07_forked_workers_end_with_their_service,
        a_service_forked_by_a_service_takes_its_place,
        signals_are_as_they_were_when_a_service_has_ended,
        a_process_with_threads_is_not_forked,
    ]
}

pub fn add_to(suite: Suite) -> Suite {
    let suite = suite.act("service forks", forks).act("service daemonizes", daemonizes).act("service fails", fails);
    let suite = suite.act("service has workers", has_workers).act("service forks a service", forks_a_service);
    suite.act("service gives signals back", gives_signals_back)
}

fn play(act: &str, sandbox: &Sandbox) {
    Actor::start(act, sandbox).assert_success();
    assert_eq!(std::fs::read_dir(sandbox.dir()).unwrap().count(), 0, "something is left");
}

fn svc_18_a_forked_service_is_the_child(sandbox: &Sandbox) {
    play("service forks", sandbox);
}

fn forks() -> ExitCode {
    let hooks = Arc::new(Mutex::new(0));
    let noted = Arc::clone(&hooks);
    let builder = Service::builder("pid").on_typed_request(|service, (): ()| Ok(service.pid()));
    let builder = builder.pre_fork(move || {
        *noted.lock().unwrap() += 1;
        Ok(())
    });
    // SAFETY: this process has one thread.
    let mut handle = unsafe { builder.fork() }.unwrap();
    assert_eq!(*hooks.lock().unwrap(), 1, "the hook before the fork runs here");
    let child = handle.child_pid().unwrap();
    assert_ne!(child, std::process::id());
    assert_eq!(handle.request("pid", &()).unwrap(), child);
    assert_eq!(handle.service_pid().unwrap(), Some(child));
    assert!(title_of(child).ends_with(" pid"), "{:?}", title_of(child));
    assert!(!title_of(std::process::id()).contains("pid"), "the starter is called otherwise");
    handle.terminate().unwrap();
    assert!(matches!(handle.wait(Some(PATIENCE)), Some(Ended::Exited(status)) if status.success()));
    ExitCode::SUCCESS
}

fn svc_17_the_hook_after_the_fork_decides_which_process_serves(sandbox: &Sandbox) {
    play("service daemonizes", sandbox);
}

/// Forks; the parent does what is said, and the child goes on.
fn fork_and(parent: impl FnOnce(i32)) {
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        0 => {}
        child => {
            assert!(child > 0);
            parent(child);
            // SAFETY: it has no preconditions.
            unsafe { libc::_exit(0) }
        }
    }
}

fn daemonizes() -> ExitCode {
    let wait = |child| {
        // SAFETY: no status is asked for.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    };
    for wraps in [false, true] {
        let builder = Service::builder("pid").on_typed_request(|service, (): ()| Ok(service.pid()));
        let builder = builder.outlive_starter(true).watch_pids([std::process::id()]).post_fork(move || {
            fork_and(|child| {
                if wraps {
                    wait(child)
                }
            });
            Ok(())
        });
        // SAFETY: this process has one thread.
        let mut handle = unsafe { builder.fork() }.unwrap();
        let (child, service) = (handle.child_pid().unwrap(), handle.service_pid().unwrap().unwrap());
        assert_ne!(child, service);
        assert_eq!(handle.request("pid", &()).unwrap(), service);
        if !wraps {
            // The one in the middle has ended, the service goes on.
            assert!(matches!(handle.wait(Some(PATIENCE)), Some(Ended::Exited(status)) if status.success()));
            assert_eq!(handle.request("pid", &()).unwrap(), service);
        }
        handle.terminate().unwrap();
        assert!(handle.wait(Some(PATIENCE)).is_some(), "the wrapper waits for the service");
    }
    ExitCode::SUCCESS
}

fn a_forked_service_that_cannot_start_says_why(sandbox: &Sandbox) {
    play("service fails", sandbox);
}

fn fails() -> ExitCode {
    let bus = bus();
    let taken = bus.connect("taken").unwrap();
    // SAFETY: this process has one thread.
    let error = unsafe { double("taken").bus(bus.info()).fork() }.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameInUse, "{error:?}");
    let builder = double("s").bus(bus.info()).post_fork(|| Err("no hook today".into()));
    // SAFETY: as above.
    let error = unsafe { builder.fork() }.unwrap_err();
    assert!(error.kind() == ErrorKind::ServiceError && error.to_string().contains("no hook today"), "{error:?}");
    let builder = double("s").bus(bus.info()).post_fork(|| std::process::exit(3));
    // SAFETY: as above.
    let error = unsafe { builder.fork() }.unwrap_err();
    assert!(error.kind() == ErrorKind::ServiceError && error.to_string().contains("exit status: 3"), "{error:?}");
    drop(taken);
    ExitCode::SUCCESS
}

fn svc_07_forked_workers_end_with_their_service(sandbox: &Sandbox) {
    play("service has workers", sandbox);
}

fn has_workers() -> ExitCode {
    let bus = bus();
    let builder = Service::builder("s").bus(bus.info()).on_start(|service| {
        // SAFETY: this process has one thread.
        unsafe { service.fork_worker("short", || 3) }?;
        // SAFETY: as above.
        unsafe {
            service.fork_worker("long", || {
                loop {
                    std::thread::park();
                }
            })
        }?;
        Ok(())
    });
    let builder = builder.on_typed_request(|service, (): ()| Ok(service.workers()));
    // SAFETY: as above.
    let mut handle = unsafe { builder.fork() }.unwrap();
    let mut workers = serde_json::Value::Null;
    eventually("the short worker to be reaped", || {
        workers = handle.request("s", &()).unwrap();
        workers.as_object().unwrap().len() == 1
    });
    let (pid, name) = workers.as_object().unwrap().iter().next().unwrap();
    assert_eq!(name, "long");
    let pid: u32 = pid.parse().unwrap();
    eventually("the worker to be called so", || title_of(pid).ends_with(" long"));
    handle.terminate().unwrap();
    assert!(matches!(handle.wait(Some(PATIENCE)), Some(Ended::Exited(status)) if status.success()));
    assert!(!std::path::Path::new(&format!("/proc/{pid}/stat")).exists(), "a worker outlived its service");
    ExitCode::SUCCESS
}

fn a_service_forked_by_a_service_takes_its_place(sandbox: &Sandbox) {
    play("service forks a service", sandbox);
}

fn forks_a_service() -> ExitCode {
    let outer = Service::builder("outer").on_request(|service, request| {
        if request.value() == "start" {
            // SAFETY: this process has one thread.
            let peer = unsafe { service.start_fork(double("inner")) }?;
            return Ok(Reply::new(&peer.child_pid())?);
        }
        Ok(Reply::new(&service.peer("inner")?.request(request.value())?)?)
    });
    // SAFETY: as above.
    let mut handle = unsafe { outer.fork() }.unwrap();
    let inner = handle.request("outer", &"start").unwrap();
    assert_ne!(inner, handle.child_pid().unwrap());
    assert_eq!(handle.request("outer", &21).unwrap(), 42);
    assert_eq!(handle.request("inner", &4).unwrap(), 8);
    ExitCode::SUCCESS
}

fn signals_are_as_they_were_when_a_service_has_ended(sandbox: &Sandbox) {
    play("service gives signals back", sandbox);
}

fn disposition(signal: i32) -> usize {
    // SAFETY: nothing is changed, and the structure is valid when zeroed.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        assert_eq!(libc::sigaction(signal, std::ptr::null(), &raw mut now), 0);
        now.sa_sigaction
    }
}

fn gives_signals_back() -> ExitCode {
    let bus = bus();
    let signals = [libc::SIGUSR1, libc::SIGTERM, libc::SIGCHLD, libc::SIGINT, libc::SIGPIPE];
    let before = signals.map(disposition);
    let counts = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&counts);
    let during = Arc::new(Mutex::new([0; 5]));
    let seen = Arc::clone(&during);
    let builder = double("s").bus(bus.info()).on_start(move |_| {
        *seen.lock().unwrap() = signals.map(disposition);
        for _ in 0..3 {
            // SAFETY: a handler is there.
            assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
        }
        Ok(())
    });
    let builder = builder.on_signal(ipc_manager::Signal::USR1, move |service, _| {
        let mut counts = counted.lock().unwrap();
        *counts += 1;
        if *counts == 3 {
            service.terminate(0);
        }
        Ok(())
    });
    assert_eq!(builder.run().unwrap(), 0);
    assert_eq!(*counts.lock().unwrap(), 3);
    assert_eq!(signals.map(disposition), before, "a signal is not as it was");
    let during = *during.lock().unwrap();
    assert_ne!(during[0], before[0]);
    assert_eq!(during[1..], before[1..], "a signal was caught that nobody asked for");
    ExitCode::SUCCESS
}

fn a_process_with_threads_is_not_forked(_: &Sandbox) {
    // The watchdog is a thread, and so is this.
    // SAFETY: it is refused.
    let error = unsafe { double("s").fork() }.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
