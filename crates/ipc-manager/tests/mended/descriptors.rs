// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes that have no descriptors left: a refused call has changed nothing.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use ipc_manager::{ErrorKind, PeerState, Result, Spawn, Suspend};
use ipc_manager_testkit::{PATIENCE, Sandbox, Suite, Test};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::play;
use crate::file_bus::contents;

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        a_connect_that_fails_does_not_take_the_name,
        a_reconnect_that_fails_takes_nothing_from_the_name,
        a_receive_that_fails_takes_nothing,
        a_connection_that_cannot_be_accepted_waits,
    ]
}

pub fn add_to(suite: Suite) -> Suite {
    suite
        .act("connects without descriptors", connects)
        .act("reconnects without descriptors", reconnects)
        .act("receives without descriptors", receives)
        .act("accepts without descriptors", accepts)
}

/// Does something while only so many descriptors are free.
fn with_free<T>(count: usize, work: impl FnOnce() -> T) -> T {
    // SAFETY: asking for the flags of a descriptor changes nothing, whether there is one or not.
    let is_free = |number: &i32| unsafe { libc::fcntl(*number, libc::F_GETFD) } == -1;
    let first_refused = (0..).filter(is_free).nth(count).unwrap();
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: u64::try_from(first_refused).ok(), ..before }).unwrap();
    let done = work();
    setrlimit(Resource::Nofile, before).unwrap();
    done
}

/// Tries with no descriptor, one, two, and so on until it succeeds; looks at what is left behind after each failure.
fn until_enough<T>(
    mut attempt: impl FnMut() -> Result<T>,
    mut after_failure: impl FnMut(usize, &ipc_manager::Error),
) -> T {
    for count in 0..64 {
        match with_free(count, &mut attempt) {
            Ok(done) => {
                assert!(count > 0, "it needs no descriptor, so this proves nothing");
                return done;
            }
            Err(error) => after_failure(count, &error),
        }
    }
    panic!("64 descriptors are not enough");
}

fn bus(protocol: &str) -> Spawn {
    Spawn::builder().protocol(protocol).serializer("JSON").spawn().unwrap()
}

fn a_connect_that_fails_does_not_take_the_name(sandbox: &Sandbox) {
    play("connects without descriptors", sandbox);
}

fn connects() -> ExitCode {
    for protocol in ["MessageFiles", "LocalMemory"] {
        let bus = bus(protocol);
        let mut other = bus.connect("other").unwrap();
        let attempt = || bus.connect("a");
        let client = until_enough(attempt, |count, error| {
            assert!(other.peer("a").unwrap().is_none(), "{protocol}, {count} descriptors, {error}");
            assert!(other.peers().unwrap().is_empty() && other.all_peers().unwrap().is_empty());
            drop(bus.connect("a").unwrap_or_else(|then| panic!("{protocol}, {count} descriptors, {error}: {then}")));
        });
        drop(client);
    }
    ExitCode::SUCCESS
}

fn a_reconnect_that_fails_takes_nothing_from_the_name(sandbox: &Sandbox) {
    play("reconnects without descriptors", sandbox);
}

fn reconnects() -> ExitCode {
    for protocol in ["MessageFiles", "LocalMemory"] {
        let bus = bus(protocol);
        let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
        b.send("a", &1).unwrap();
        let taken = a.recv_timeout(PATIENCE).unwrap();
        a.requeue(&[taken]).unwrap();
        a.suspend(Suspend::within(PATIENCE * 100)).unwrap();
        for number in 2..=4 {
            b.send("a", &number).unwrap();
        }
        let put_back = || fs::read(Path::new(bus.route().as_str()).join("a.resume")).ok();
        let (before, state) = (put_back(), b.peer("a").unwrap().unwrap().state);
        assert!(matches!(state, PeerState::Suspended { until: Some(_) }));
        let attempt = || bus.reconnect("a");
        let mut a = until_enough(attempt, |count, error| {
            assert_eq!(b.peer("a").unwrap().unwrap().state, state, "{protocol}, {count} descriptors, {error}");
            assert_eq!(put_back(), before, "{protocol}, {count} descriptors, {error}");
        });
        assert_eq!(contents(&a.get_messages().unwrap()), [1, 2, 3, 4], "{protocol}");
    }
    ExitCode::SUCCESS
}

fn a_receive_that_fails_takes_nothing(sandbox: &Sandbox) {
    play("receives without descriptors", sandbox);
}

fn receives() -> ExitCode {
    let bus = bus("MessageFiles");
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    for number in 1..=4 {
        b.send("a", &number).unwrap();
    }
    let mut failures = 0;
    let got = until_enough(|| a.get_messages(), |_, _| failures += 1);
    assert!(failures > 0);
    assert_eq!(contents(&got), [1, 2, 3, 4]);
    assert!(a.take_damaged().is_empty(), "a lack of descriptors is no damage");
    ExitCode::SUCCESS
}

fn a_connection_that_cannot_be_accepted_waits(sandbox: &Sandbox) {
    play("accepts without descriptors", sandbox);
}

fn accepts() -> ExitCode {
    // What the bus opens has higher numbers, so that not even the descriptor that a reader keeps in reserve serves.
    let low: Vec<fs::File> = (0..32).map(|_| fs::File::open("/dev/null").unwrap()).collect();
    let bus = bus("ConnectionUnix");
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    assert!(a.try_recv().unwrap().is_none(), "whether something was put back is known from here on");
    b.send("a", &1).unwrap();
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(24), ..before }).unwrap();
    let (got, waited) = (a.get_messages(), a.recv_timeout(Duration::from_millis(1)));
    setrlimit(Resource::Nofile, before).unwrap();
    assert!(got.unwrap().is_empty());
    assert_eq!(waited.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(a.take_damaged().is_empty(), "a lack of descriptors is no damage");
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), &1);
    drop(low);
    ExitCode::SUCCESS
}
