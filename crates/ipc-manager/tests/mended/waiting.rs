// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waits: they end when they should, and cost nothing until then.

use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ipc_manager::{Client, ErrorKind, Limits, Spawn, Suspend, Wait, WaitFor};
use ipc_manager_testkit::{PATIENCE, Puppet, Sandbox, Suite, Test, eventually};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use super::{both, cpu, play};
use crate::file_bus::{FileBus, contents};

pub fn tests() -> Vec<Test> {
    let delayed = ipc_manager_testkit::tests![a_ring_that_another_thread_heard_does_not_ring_for_ever];
    let delayed = delayed.into_iter().map(|test| test.only_if(can_delay)).collect();
    let others = ipc_manager_testkit::tests![
        an_unread_message_keeps_no_other_wait_busy,
        an_empty_mailbox_that_was_continued_keeps_no_wait_busy,
        a_message_to_the_owner_does_not_keep_its_wait_busy,
        the_descriptors_stay_readable_while_a_message_waits,
        what_waits_for_a_continued_name_makes_its_descriptors_readable,
        waits_end_when_the_bus_is_removed,
        a_hundred_that_wait_for_one_keep_nobody_from_joining,
        a_peer_that_no_listing_shows_is_there_all_the_same,
    ];
    [delayed, others].concat()
}

pub fn add_to(suite: Suite) -> Suite {
    suite
        .act("descriptors stay readable", descriptors_stay_readable)
        .act("continues a name", continues_a_name)
        .act("rings", rings)
}

/// How long the waits below last.
const WAIT: Duration = Duration::from_secs(1);
/// Far less than such a wait turning round and round, far more than looking at a directory now and then.
const IDLE: Duration = Duration::from_millis(150);

#[track_caller]
fn assert_idle(what: &str, wait: impl FnOnce()) {
    let before = cpu();
    wait();
    let used = cpu() - before;
    assert!(used < IDLE, "{what} used {used:?} of processor time in {WAIT:?}");
}

fn an_unread_message_keeps_no_other_wait_busy(sandbox: &Sandbox) {
    let waits: [fn(&mut Client); 5] = [
        |client| assert!(!client.wait_for_peer("nobody", Some(WAIT)).unwrap()),
        |client| {
            let gone = WaitFor::nothing().or_gone("other").unwrap().within(WAIT);
            assert_eq!(client.wait_for(&gone).unwrap(), Wait::Timeout);
        },
        |client| {
            let change = WaitFor::nothing().or_peer_change().within(WAIT);
            assert_eq!(client.wait_for(&change).unwrap(), Wait::Timeout);
        },
        |client| assert_eq!(client.wait_for(&WaitFor::nothing().within(WAIT)).unwrap(), Wait::Timeout),
        |client| assert!(!client.wait_for_peer(".nobody", Some(WAIT)).unwrap()),
    ];
    for bus in both(sandbox) {
        let mut other = bus.connect("other").unwrap();
        let mut clients: Vec<Client> =
            (0..waits.len()).map(|number| bus.connect(&format!("waits-{number}")).unwrap()).collect();
        for client in &clients {
            other.send(client.name().as_str(), "unread").unwrap();
        }
        thread::scope(|scope| {
            for (wait, client) in waits.iter().zip(&mut clients) {
                let name = client.name().to_string();
                scope.spawn(move || assert_idle(&name, || wait(client)));
            }
        });
        for client in &mut clients {
            assert_eq!(client.try_recv().unwrap().unwrap().content(), "unread");
        }
    }
}

fn an_empty_mailbox_that_was_continued_keeps_no_wait_busy(sandbox: &Sandbox) {
    for bus in both(sandbox) {
        let mut a = bus.connect("a").unwrap();
        a.suspend(Suspend::open_ended()).unwrap();
        let mut a = bus.reconnect("a").unwrap();
        assert_idle("a continued name", || assert_eq!(a.wait(Some(WAIT)).unwrap(), Wait::Timeout));
    }
}

fn a_message_to_the_owner_does_not_keep_its_wait_busy(sandbox: &Sandbox) {
    let mut bus = FileBus::new(sandbox);
    let mut peer = bus.puppet("peer");
    thread::scope(|scope| {
        scope.spawn(|| eventually("the owner to wait", || peer.send("spawn", "unread").is_ok()));
        assert_idle("the owner's wait", || assert_eq!(bus.owner.wait(Some(WAIT)).unwrap(), ["peer"]));
    });
}

fn the_descriptors_stay_readable_while_a_message_waits(sandbox: &Sandbox) {
    // Alone: another client of the process may make them readable, too.
    play("descriptors stay readable", sandbox);
}

fn is_readable(client: &Client) -> bool {
    let wake = client.wake().unwrap();
    let mut polled: Vec<_> = wake.descriptors.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
}

fn descriptors_stay_readable() -> ExitCode {
    let files = Spawn::builder().protocol("MessageFiles").serializer("JSON").spawn().unwrap();
    let memory = Spawn::builder().protocol("LocalMemory").serializer("JSON").spawn().unwrap();
    for bus in [&files, &memory] {
        let few = Limits { batch_messages: 7, ..Limits::DEFAULT };
        let mut a = Client::builder("a", bus.info()).limits(few).connect().unwrap();
        let mut b = bus.connect("b").unwrap();
        let send = |b: &mut Client, count: u32| {
            for number in 0..count {
                b.send("a", &number).unwrap();
            }
        };
        assert!(a.try_recv().unwrap().is_none() && !is_readable(&a), "nothing is there");
        send(&mut b, 50);
        assert!(is_readable(&a));
        let first = a.try_recv().unwrap().unwrap();
        assert!(is_readable(&a), "49 of 50 wait");
        assert!(a.is_ready().unwrap() && is_readable(&a), "looking takes nothing");
        assert_eq!(a.wait(Some(Duration::ZERO)).unwrap(), Wait::Message);
        assert!(is_readable(&a), "waiting takes nothing");
        // As an event loop does: it asks for messages when the descriptors say so, and not otherwise.
        let mut got = 1;
        while is_readable(&a) {
            got += a.get_messages().unwrap().len();
        }
        assert_eq!(got, 50);
        a.requeue(&[first]).unwrap();
        assert!(is_readable(&a), "one was put back");
        assert_eq!(a.get_messages().unwrap().len(), 1);
        a.suspend(Suspend::open_ended()).unwrap();
        send(&mut b, 3);
        let mut a = bus.reconnect("a").unwrap();
        assert!(is_readable(&a) && a.is_ready().unwrap() && is_readable(&a), "3 came while it was away");
        assert_eq!(a.get_messages().unwrap().len(), 3);
        assert!(a.try_recv().unwrap().is_none() && !is_readable(&a), "all was taken");
    }
    ExitCode::SUCCESS
}

fn waits_end_when_the_bus_is_removed(sandbox: &Sandbox) {
    // Shorter than the time after which a mailbox is looked at all the same.
    const LONG: Duration = Duration::from_secs(10);
    let mut bus = FileBus::new(sandbox);
    let (mut receives, mut expects, mut waits) = (bus.puppet("receives"), bus.puppet("expects"), bus.client("waits"));
    thread::scope(|scope| {
        let waited = scope.spawn(|| waits.wait(Some(LONG)).unwrap());
        receives.post(&json!({"op": "recv", "timeout": LONG.as_secs()}));
        expects.post(&json!({"op": "peer", "name": "nobody", "timeout": LONG.as_secs()}));
        receives.wait_until_asleep();
        bus.owner.unspawn().unwrap();
        for puppet in [&mut receives, &mut expects] {
            assert_eq!(puppet.answer().unwrap_err().code(), ErrorKind::NoSuchBus.code());
        }
        assert_eq!(waited.join().unwrap(), Wait::BusClosed);
    });
    assert!(!bus.route().exists());
}

fn a_hundred_that_wait_for_one_keep_nobody_from_joining(sandbox: &Sandbox) {
    const PEERS: usize = 100;
    let bus = FileBus::new(sandbox);
    let mut peers: Vec<Puppet> = (0..PEERS).map(|_| bus.idle_puppet()).collect();
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.post(&json!({"op": "connect", "name": format!("peer-{number}"), "info": bus.info().to_string()}));
        peer.post(&json!({"op": "peer", "client": "c1", "name": "hub", "timeout": PATIENCE.as_secs()}));
    }
    let joined = peers.iter_mut().filter_map(|peer| peer.answer().ok()).count();
    let _hub = bus.client("hub");
    let answers = peers.iter_mut().map(Puppet::answer);
    let found = answers.filter(|answer| answer.as_ref().is_ok_and(|answer| answer["active"] == true)).count();
    println!("{joined} of {PEERS} joined, {found} found the one that they waited for");
    assert_eq!((joined, found), (PEERS, PEERS));
}

fn a_peer_that_no_listing_shows_is_there_all_the_same(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    // Names that another implementation allows, and that its listings and ours leave out.
    for name in [".x", "x.pid"] {
        bus.foreign_entry(name, Some(std::process::id()));
        let gone = |timeout| WaitFor::nothing().or_gone(name).unwrap().within(timeout);
        assert_eq!(a.wait_for(&gone(Duration::ZERO)).unwrap(), Wait::Timeout, "{name}");
        assert!(a.wait_for_peer(name, Some(Duration::ZERO)).unwrap(), "{name}");
        std::fs::write(bus.at_name(&format!("{name}.pid")), crate::file_bus::dead_pid().to_string()).unwrap();
        assert!(matches!(a.wait_for(&gone(PATIENCE)), Ok(Wait::PeerGone(_))), "{name}");
    }
}

fn what_waits_for_a_continued_name_makes_its_descriptors_readable(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    for put_back in [false, true] {
        b.send("a", "came before").unwrap();
        if put_back {
            let taken = a.get_messages().unwrap();
            a.requeue(&taken).unwrap();
        }
        a.suspend(Suspend::open_ended()).unwrap();
        b.send("a", "came meanwhile").unwrap();
        // In a process that has seen no event yet.
        let mut command = Suite::command("continues a name");
        command.env("IPC_MANAGER_TEST_BUS", bus.info().to_string());
        assert!(command.status().unwrap().success());
        a = bus.reconnect("a");
        assert!(a.try_recv().unwrap().is_none());
    }
}

fn continues_a_name() -> ExitCode {
    let info = std::env::var("IPC_MANAGER_TEST_BUS").unwrap().parse().unwrap();
    let mut a = ipc_manager::reconnect("a", &info).unwrap();
    let mut got = Vec::new();
    while is_readable(&a) {
        got.extend(a.get_messages().unwrap());
    }
    assert_eq!(contents(&got), ["came before", "came meanwhile"]);
    a.suspend(Suspend::open_ended()).unwrap();
    ExitCode::SUCCESS
}

/// Runs a program with each of its writes delayed, which opens a window between two threads that is narrow otherwise.
fn delayed(program: &str) -> Command {
    let mut command = Command::new("strace");
    // Beside it, not above it: the program stays a child of this process.
    command.args(["-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null"]);
    command.args(["-e", "trace=write", "-e", "inject=write:delay_enter=3000", program]);
    command
}

fn can_delay() -> Result<(), String> {
    match delayed("true").stderr(Stdio::piped()).output() {
        Ok(tried) if tried.status.success() => Ok(()),
        Ok(tried) => Err(format!("strace cannot delay: {}", String::from_utf8_lossy(&tried.stderr).trim())),
        Err(error) => Err(format!("there is no strace: {error}")),
    }
}

fn a_ring_that_another_thread_heard_does_not_ring_for_ever(sandbox: &Sandbox) {
    let act = Suite::command("rings");
    let mut command = delayed(act.get_program().to_str().unwrap());
    command.envs(act.get_envs().filter_map(|(key, value)| Some((key, value?)))).env("TMPDIR", sandbox.dir());
    assert!(command.status().unwrap().success());
}

/// Several threads of one process that wait; whichever hears of a message first tells the others.
fn rings() -> ExitCode {
    const THREADS: usize = 6;
    const ROUNDS: usize = 80;
    const MOMENT: Duration = Duration::from_millis(10);
    let bus = Spawn::builder().protocol("MessageFiles").serializer("JSON").spawn().unwrap();
    let received = Arc::new(AtomicUsize::new(0));
    for number in 0..THREADS {
        let (mut client, received) = (bus.connect(&format!("waits-{number}")).unwrap(), Arc::clone(&received));
        // It ends with the process.
        thread::spawn(move || {
            while client.recv().is_ok() {
                received.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut sender = bus.connect("sender").unwrap();
    for round in 1..=ROUNDS {
        for number in 0..THREADS * 2 {
            sender.send(&format!("waits-{}", (number + round) % THREADS), &number).unwrap();
        }
        eventually("all to be received", || received.load(Ordering::Relaxed) == round * THREADS * 2);
        let mut busy = |moment| {
            let before = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
            sender.recv_timeout(moment).unwrap_err();
            let after = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
            let used = (after.tv_sec - before.tv_sec) * 1_000_000_000 + after.tv_nsec - before.tv_nsec;
            u128::from(used.unsigned_abs()) > moment.as_nanos() / 4
        };
        // What looks busy may have something left to do; what stays so has nothing.
        let turns = busy(MOMENT) && busy(MOMENT * 20) && busy(MOMENT * 20);
        assert!(!turns, "round {round}: a thread with nothing to do keeps a processor busy");
    }
    // SAFETY: it has no preconditions. The store is in the test's directory.
    unsafe { libc::_exit(0) }
}
