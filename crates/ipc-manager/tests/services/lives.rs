// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who outlives whom: services and workers die with who started them, also when that is killed.

use std::process::{Command, ExitCode, Stdio};

use ipc_manager::{ConnectionString, Ended, Handle, Launched, Reply, Service};
use ipc_manager_testkit::{PATIENCE, Sandbox, Suite, Test, eventually};

use super::{bus, title_of};
use crate::acts::Actor;

/// Says that this program is to be a service as any program would be, without the harness, which binds lives itself.
const PLAIN: &str = "IPC_MANAGER_TEST_PLAIN_SERVICE";

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        services_die_with_a_starter_that_is_killed,
        a_service_may_outlive_its_starter,
        a_program_that_a_service_starts_is_no_service,
        a_program_that_does_not_become_a_service_is_told_of,
    ]
}

pub fn add_to(suite: Suite) -> Suite {
    let suite = suite.act("starts a service", || starts(false)).act("starts a survivor", || starts(true));
    suite.act("starts nothing else", starts_nothing_else).act("starts what is no service", starts_no_service)
}

/// Plays the service, if that is what this program was started as.
pub fn play() -> Option<ExitCode> {
    match std::env::var(PLAIN).ok()?.as_str() {
        "ask" => {
            println!("{}", Launched::from_environment().unwrap().is_some());
            Some(ExitCode::SUCCESS)
        }
        "fail" => Some(ExitCode::from(3)),
        _ => Some(serve()),
    }
}

fn serve() -> ExitCode {
    let launched = Launched::from_environment().unwrap().expect("it was started as a service");
    assert_eq!(launched.settings::<String>().unwrap(), "a setting");
    let builder = launched.builder().on_request(|service, request| match request.value().as_str() {
        Some("hang") => loop {
            std::thread::park();
        },
        Some("ask") => {
            let output = Command::new(std::env::current_exe()?).env(PLAIN, "ask").output()?;
            Ok(Reply::new(&String::from_utf8(output.stdout)?.trim())?)
        }
        _ => {
            let mut worker = Command::new("sleep");
            worker.arg("600");
            let worker = service.worker("sleeper", worker)?;
            let sleep = || {
                let mut command = Command::new("sleep");
                command.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                command
            };
            let (mut bound, mut free) = (sleep(), sleep());
            service.bind(&mut bound);
            Ok(Reply::new(&[service.pid(), worker, bound.spawn()?.id(), free.spawn()?.id()])?)
        }
    });
    builder.main()
}

fn start(survives: bool, info: &ConnectionString, how: &str) -> ipc_manager::Result<Handle> {
    let builder = Service::builder("s").bus(info).outlive_starter(survives);
    builder.exec().env(PLAIN, how).settings("a setting").unwrap().spawn()
}

/// Starts a service that has a worker and is busy for ever, says who is who, and waits to be killed.
fn starts(survives: bool) -> ExitCode {
    let mut bus = bus();
    bus.set_guard(false).unwrap();
    let mut handle = start(survives, bus.info(), "serve").unwrap();
    let pids = handle.request("s", &"pids").unwrap();
    if !survives {
        handle.send_request("s", &"hang").unwrap();
    }
    println!("{} {} {} {} {}", pids[0], pids[1], pids[2], pids[3], bus.info());
    loop {
        std::thread::park();
    }
}

/// What a starter that was killed left.
struct Left {
    service: u32,
    worker: u32,
    /// A program that the service started and bound to its life.
    bound: u32,
    /// One that it did not bind; ended with the test.
    free: Free,
    info: ConnectionString,
}

struct Free(u32);

impl Drop for Free {
    fn drop(&mut self) {
        if is_running(self.0) {
            // SAFETY: it has no preconditions.
            unsafe { libc::kill(self.0.cast_signed(), libc::SIGKILL) };
        }
    }
}

/// Starts the act, kills it, and says which processes it left.
fn kill_starter(act: &str, sandbox: &Sandbox) -> Left {
    let mut actor = Actor::start(act, sandbox);
    let line = actor.line();
    let mut parts = line.splitn(5, ' ');
    let mut next = || parts.next().unwrap_or_else(|| panic!("{line:?}"));
    let mut pid = || next().parse().unwrap();
    let (service, worker, bound, free) = (pid(), pid(), pid(), Free(pid()));
    let info = next().parse().unwrap();
    assert!(title_of(service).ends_with(" s"), "{:?}", title_of(service));
    actor.0.kill().unwrap();
    actor.0.wait().unwrap();
    Left { service, worker, bound, free, info }
}

fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn services_die_with_a_starter_that_is_killed(sandbox: &Sandbox) {
    let left = kill_starter("starts a service", sandbox);
    eventually("the busy service to die", || !is_running(left.service));
    eventually("its worker to die", || !is_running(left.worker));
    eventually("the program that it bound to die", || !is_running(left.bound));
    assert!(is_running(left.free.0), "a program that was not bound is nobody's to end");
}

fn a_service_may_outlive_its_starter(sandbox: &Sandbox) {
    let left = kill_starter("starts a survivor", sandbox);
    let mut handle = Handle::new("s", &left.info).unwrap();
    let more = handle.request("s", &"pids").unwrap();
    assert_eq!(more[0], left.service);
    let _more = Free(u32::try_from(more[3].as_u64().unwrap()).unwrap());
    assert!(is_running(left.worker) && is_running(left.bound));
    handle.terminate().unwrap();
    eventually("the service to end", || !is_running(left.service));
    assert!(!is_running(left.worker), "a worker outlived its service");
    eventually("the program that it bound to die", || !is_running(left.bound));
}

fn a_program_that_a_service_starts_is_no_service(sandbox: &Sandbox) {
    Actor::start("starts nothing else", sandbox).assert_success();
}

fn starts_nothing_else() -> ExitCode {
    let bus = bus();
    let mut handle = start(false, bus.info(), "serve").unwrap();
    assert_eq!(handle.request("s", &"ask").unwrap(), "false");
    handle.terminate().unwrap();
    assert!(matches!(handle.wait(Some(PATIENCE)), Some(Ended::Exited(status)) if status.success()));
    ExitCode::SUCCESS
}

fn a_program_that_does_not_become_a_service_is_told_of(sandbox: &Sandbox) {
    Actor::start("starts what is no service", sandbox).assert_success();
}

fn starts_no_service() -> ExitCode {
    let bus = bus();
    let error = start(false, bus.info(), "fail").unwrap_err();
    assert!(error.to_string().contains("exit status: 3"), "{error:?}");
    let missing = Service::builder("s").bus(bus.info()).exec().program("/nonexistent/program").spawn().unwrap_err();
    assert_eq!(missing.place().path(), Some(std::path::Path::new("/nonexistent/program")));
    let silent = Service::builder("s").bus(bus.info()).timeout(std::time::Duration::from_millis(300));
    let error = silent.exec().program("sleep").arg("600").spawn().unwrap_err();
    assert_eq!(error.kind(), ipc_manager::ErrorKind::Timeout, "{error:?}");
    ExitCode::SUCCESS
}
