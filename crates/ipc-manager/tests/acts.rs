// SPDX-License-Identifier: MIT OR Apache-2.0
//! What needs a process of its own with a single thread: forks, signals, the umask. Each act is this same program
//! started again; the tests beside them start it and judge how it ended.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitCode, Stdio};

use ipc_manager::{Cleaved, Client, ConnectionString, ErrorKind, Spawn};
use ipc_manager_testkit::{PATIENCE, Sandbox, Suite, Test, eventually};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        a24_cli_03_a_forked_copy_of_a_client_does_nothing,
        b17_no_program_that_is_started_inherits_a_descriptor,
        own_07_a_bus_can_be_handed_to_a_background_process,
        t16_an_owner_that_is_terminated_ends_its_bus,
        t22_modes_do_not_depend_on_the_umask,
    ]
}

pub fn add_to(suite: Suite) -> Suite {
    suite
        .act("forks", forks)
        .act("starts programs", starts_programs)
        .act("cleaves", cleaves)
        .act("cleaves a private server", cleaves_a_private_server)
        .act("guards", guards)
        .act("no umask", no_umask)
}

/// A process that plays an act in the test's directory; killed when dropped.
pub struct Actor(pub Child);

impl Actor {
    pub fn start(act: &str, sandbox: &Sandbox) -> Self {
        let mut command = Suite::command(act);
        command.env("TMPDIR", sandbox.dir()).stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// The first line that it prints.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn assert_success(mut self) {
        drop(self.0.stdin.take());
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn bus() -> Spawn {
    Spawn::builder().protocol("MessageFiles").serializer("JSON").spawn().unwrap()
}

/// A bus of every protocol that may be picked where none is asked for.
fn buses() -> Vec<Spawn> {
    buses_of(|_| true)
}

fn buses_of(are_wanted: fn(&ipc_manager::Capabilities) -> bool) -> Vec<Spawn> {
    let registry = ipc_manager::Registry::standard();
    let is_wanted = |capabilities: ipc_manager::Capabilities| capabilities.automatic && are_wanted(&capabilities);
    let automatic = registry.protocols().filter(|protocol| is_wanted(protocol.capabilities()));
    let spawn = |name: String| Spawn::builder().protocol(&name).serializer("JSON").spawn().unwrap();
    let buses: Vec<Spawn> = automatic.map(|protocol| spawn(protocol.name().short())).collect();
    assert!(buses.len() > 1);
    buses
}

fn a24_cli_03_a_forked_copy_of_a_client_does_nothing(sandbox: &Sandbox) {
    Actor::start("forks", sandbox).assert_success();
    assert_eq!(std::fs::read_dir(sandbox.dir()).unwrap().count(), 0, "the bus outlived its owner");
}

/// What a client answers in a forked child.
fn kinds_in_child(client: &mut Client) -> Vec<ErrorKind> {
    vec![
        client.send("b", "from the child").unwrap_err().kind(),
        client.try_send("b", "from the child").unwrap_err().kind(),
        client.get_messages().unwrap_err().kind(),
        client.try_recv().unwrap_err().kind(),
        client.wait(None).unwrap_err().kind(),
        client.peers().unwrap_err().kind(),
        client.write_stats().unwrap_err().kind(),
        client.suspend(ipc_manager::Suspend::open_ended()).unwrap_err().kind(),
        client.disconnect().unwrap_err().kind(),
    ]
}

fn forks() -> ExitCode {
    buses().into_iter().for_each(forks_with_clients_of);
    ExitCode::SUCCESS
}

fn forks_with_clients_of(owner: Spawn) {
    let (mut a, mut b) = (owner.connect("a").unwrap(), owner.connect("b").unwrap());
    let mut full = owner.connect("full").unwrap();
    b.send("a", "for the parent").unwrap();
    // A25: what is held back goes out once, not once more from the child.
    let mut sent = 0;
    while a.can_send_to("full").unwrap() && sent < 5_000 {
        a.try_send("full", &"x".repeat(1_000)).unwrap();
        sent += 1;
    }
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let all_refused = kinds_in_child(&mut a).iter().all(|kind| *kind == ErrorKind::WrongProcess);
        // Dropped here, they must leave everything to the parent.
        drop((a, b, full, owner));
        std::process::exit(if all_refused { 0 } else { 7 });
    }
    let mut status = 0;
    // SAFETY: the child is this process's, and the status is written to a valid place.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((waited, status), (child, 0), "the child was not refused everywhere");
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "for the parent");
    a.send("b", "still here").unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "still here");
    assert!(b.get_messages().unwrap().is_empty(), "the child sent something");
    let mut got = 0;
    eventually("all that was sent", || {
        got += full.get_messages().unwrap().len();
        a.drain_pending().unwrap();
        got >= sent
    });
    a.disconnect().unwrap();
    b.disconnect().unwrap();
    full.disconnect().unwrap();
    assert_eq!(got, sent);
}

fn b17_no_program_that_is_started_inherits_a_descriptor(sandbox: &Sandbox) {
    Actor::start("starts programs", sandbox).assert_success();
}

/// The open descriptors that a program started from here would have, too.
fn inherited() -> Vec<i32> {
    let numbers = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().file_name());
    let numbers: Vec<i32> = numbers.map(|name| name.to_str().unwrap().parse().unwrap()).collect();
    // SAFETY: it only asks, and fails for one that was closed meanwhile, as that of the listing.
    numbers.into_iter().filter(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } == 0).collect()
}

fn starts_programs() -> ExitCode {
    let before = inherited();
    let registry = ipc_manager::Registry::standard();
    // Of every protocol that works here, while one client waits for peers and another has a message.
    let buses: Vec<Spawn> =
        registry.names().iter().filter_map(|name| Spawn::builder().protocol(name).spawn().ok()).collect();
    assert!(buses.len() > 1);
    let mut clients = Vec::new();
    for bus in &buses {
        let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
        a.send("b", "x").unwrap();
        b.wait(Some(PATIENCE)).unwrap();
        clients.extend([a, b]);
    }
    assert_eq!(inherited(), before, "{}", std::process::id());
    for mut client in clients {
        client.disconnect_with(|_| ()).unwrap();
    }
    ExitCode::SUCCESS
}

fn own_07_a_bus_can_be_handed_to_a_background_process(sandbox: &Sandbox) {
    let mut actor = Actor::start("cleaves", sandbox);
    let line = actor.line();
    let (owner, info) = line.split_once(' ').unwrap_or_else(|| panic!("{line:?}"));
    let (owner, info): (u32, ConnectionString) = (owner.parse().unwrap(), info.parse().unwrap());
    let caller = actor.0.id();
    actor.assert_success();
    assert_ne!(owner, caller);
    // The caller has ended, and the bus works.
    let (mut a, mut b) = (ipc_manager::connect("a", &info).unwrap(), ipc_manager::connect("b", &info).unwrap());
    a.send("b", "x").unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "x");
    b.disconnect().unwrap();
    a.send("owner", "that is all").unwrap();
    a.disconnect().unwrap();
    let route = std::path::Path::new(info.route().as_str());
    eventually("the new owner to end the bus", || !route.exists());
}

pub fn a_private_server_is_not_handed_on(sandbox: &Sandbox) {
    Actor::start("cleaves a private server", sandbox).assert_success();
}

fn cleaves_a_private_server() -> ExitCode {
    let mut bus = Spawn::builder().protocol("PostgreSQL").spawn().unwrap();
    // SAFETY: this process has one thread, and nothing is buffered.
    let refused = unsafe { bus.cleave() }.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused:?}");
    assert!(refused.to_string().contains("a private server cannot be handed to another process"), "{refused}");
    // It stays where it was, and works.
    assert_eq!(bus.pid(), std::process::id());
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    a.send("b", "x").unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "x");
    drop((a, b));
    assert!(bus.shutdown().unwrap().is_balanced());
    ExitCode::SUCCESS
}

fn cleaves() -> ExitCode {
    let mut bus = bus();
    let before = bus.pid();
    // SAFETY: this process has one thread, and nothing is buffered.
    match unsafe { bus.cleave() }.unwrap() {
        Cleaved::Caller { owner } => {
            assert!(owner != std::process::id() && bus.pid() == owner && before == std::process::id());
            let waited = eventually_client(&bus);
            println!("{owner} {}", bus.info());
            drop(bus);
            if waited { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Cleaved::Owner => {
            assert!(bus.pid() == std::process::id() && before != bus.pid());
            let mut client = bus.connect("owner").unwrap();
            let asked = client.recv_timeout(PATIENCE);
            drop(client);
            bus.shutdown().unwrap();
            if asked.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

/// Waits until the new owner has joined its bus.
fn eventually_client(bus: &Spawn) -> bool {
    let mut caller = bus.connect("caller").unwrap();
    let there = caller.wait_for_peer("owner", Some(PATIENCE)).unwrap();
    caller.disconnect().unwrap();
    there
}

fn t16_an_owner_that_is_terminated_ends_its_bus(sandbox: &Sandbox) {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let mut actor = Actor::start("guards", sandbox);
        let info: ConnectionString = actor.line().parse().unwrap();
        let mut a = ipc_manager::connect("a", &info).unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(actor.0.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        assert!(a.recv_timeout(PATIENCE).unwrap().is_terminate(), "peers are asked to end");
        a.disconnect().unwrap();
        let status = actor.0.wait().unwrap();
        assert_eq!(status.signal(), Some(signal.as_raw()), "it ends as it would have: {status}");
        assert_eq!(std::fs::read_dir(sandbox.dir()).unwrap().count(), 0, "something is left after {signal:?}");
    }
}

fn guards() -> ExitCode {
    let bus = Spawn::builder().protocol("MessageFiles").guard_on_signals(true).peer_timeout(PATIENCE).spawn().unwrap();
    println!("{}", bus.info());
    loop {
        std::thread::park();
    }
}

fn t22_modes_do_not_depend_on_the_umask(sandbox: &Sandbox) {
    Actor::start("no umask", sandbox).assert_success();
}

fn no_umask() -> ExitCode {
    for mask in [0o000, 0o777] {
        rustix::process::umask(rustix::fs::Mode::from_bits_truncate(mask));
        // Programs of others, such as database servers, may need a umask that lets them work.
        let mut buses = buses_of(|capabilities| !capabilities.credentials);
        buses.push(Spawn::builder().protocol("JSONFile").spawn().unwrap());
        buses.iter().for_each(|bus| modes_of(bus, mask));
    }
    ExitCode::SUCCESS
}

fn modes_of(bus: &Spawn, mask: u32) {
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect(&"L".repeat(270)).unwrap());
    b.send("a", "x").unwrap();
    let taken = a.recv_timeout(PATIENCE).unwrap();
    a.requeue(&[taken]).unwrap();
    b.send("a", "y").unwrap();
    if let Err(error) = b.suspend(ipc_manager::Suspend::within(PATIENCE)) {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
    let route = std::path::PathBuf::from(bus.route().as_str());
    // What goes with a file is beside it, in the directory that was made for it.
    let made = if route.is_file() { route.parent().unwrap().to_owned() } else { route };
    let mut open = vec![made];
    while let Some(path) = open.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let expected = if metadata.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(metadata.permissions().mode() & 0o777, expected, "{}, umask {mask:03o}", path.display());
        if metadata.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "x");
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "y");
}
