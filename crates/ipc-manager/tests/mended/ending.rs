// SPDX-License-Identifier: MIT OR Apache-2.0
//! A signal ends a bus at whatever step its owner is.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ipc_manager::{
    Capabilities, Cleaning, ConnectionString, CreateOptions, Credentials, Directory, Hold, NotViable, OpenOptions,
    Opened, Protocol, ProtocolName, Registry, Result, Route, Serializer, Spawn,
};
use ipc_manager_testkit::{PATIENCE, Sandbox, Suite, Test};
use rustix::process::Signal;

use crate::acts::Actor;

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![a_signal_ends_a_bus_whose_owner_is_just_joining_it]
}

pub fn add_to(suite: Suite) -> Suite {
    suite.act("is interrupted while joining", is_interrupted_while_joining)
}

/// How often the owner was in the store while the call that joined it had not returned.
static JOINED: AtomicUsize = AtomicUsize::new(0);

/// MessageFiles, interrupted when its owner is in the store and nobody in this process knows of it yet.
#[derive(Debug)]
struct Interrupted(Arc<dyn Protocol>);

impl Protocol for Interrupted {
    fn name(&self) -> ProtocolName {
        self.0.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn viable(&self) -> std::result::Result<(), NotViable> {
        self.0.viable()
    }

    fn create(&self, options: &CreateOptions) -> Result<Route> {
        self.0.create(options)
    }

    fn hold(&self, route: &Route, credentials: &Credentials, guarded: bool, instead_of: Option<Hold>) -> Result<Hold> {
        self.0.hold(route, credentials, guarded, instead_of)
    }

    fn open(&self, route: &Route, options: OpenOptions) -> Result<Opened> {
        let opened = self.0.open(route, options);
        if JOINED.fetch_add(1, Ordering::SeqCst) == 0 {
            rustix::process::kill_process(rustix::process::getpid(), Signal::TERM).unwrap();
            // Time for the other thread to do what it must not do yet; it need not use it.
            let deadline = Instant::now() + Duration::from_millis(500);
            while JOINED.load(Ordering::SeqCst) < 2 && Instant::now() < deadline {
                thread::yield_now();
            }
        }
        opened
    }

    fn observe(
        &self,
        route: &Route,
        credentials: &Credentials,
        serializer: Arc<dyn Serializer>,
    ) -> Result<Box<dyn Directory>> {
        self.0.observe(route, credentials, serializer)
    }

    fn clean(&self, cleaning: &mut Cleaning) {
        self.0.clean(cleaning);
    }

    fn destroy(&self, route: &Route, credentials: &Credentials) -> Result<()> {
        self.0.destroy(route, credentials)
    }
}

fn a_signal_ends_a_bus_whose_owner_is_just_joining_it(sandbox: &Sandbox) {
    let mut actor = Actor::start("is interrupted while joining", sandbox);
    let info: ConnectionString = actor.line().parse().unwrap();
    let mut a = ipc_manager::connect("a", &info).unwrap();
    drop(actor.0.stdin.take());
    assert!(a.recv_timeout(PATIENCE).unwrap().is_terminate());
    a.disconnect().unwrap();
    let status = actor.0.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()), "{status}");
    assert_eq!(std::fs::read_dir(sandbox.dir()).unwrap().count(), 0, "the bus was left behind");
}

fn is_interrupted_while_joining() -> ExitCode {
    let standard = Registry::standard();
    let files = Arc::clone(standard.get("MessageFiles").unwrap());
    let registry = standard.with(Arc::new(Interrupted(files)));
    let builder = Spawn::builder().registry(registry).protocol("MessageFiles").guard_on_signals(true);
    let mut bus = builder.peer_timeout(PATIENCE).spawn().unwrap();
    println!("{bus}");
    // Closed when somebody has joined.
    let _ = std::io::read_to_string(std::io::stdin());
    let _ = bus.wait(Some(PATIENCE));
    loop {
        thread::park();
    }
}
