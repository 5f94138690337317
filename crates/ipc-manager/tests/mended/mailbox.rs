// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is in a mailbox: its order, what is put back into it, and what is in the way.

use std::fs;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use ipc_manager::{Client, ErrorKind, Limits, Message, Spawn, Stored, Suspend};
use ipc_manager_testkit::{PATIENCE, Sandbox, Suite, Test};
use serde_json::Value;

use super::{both, play};
use crate::file_bus::{FileBus, contents};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        what_is_put_back_comes_before_what_waits,
        what_is_put_back_comes_together_with_what_waits,
        messages_that_share_an_id_are_all_put_back,
        a_message_put_back_behind_half_a_record_comes_back,
        a_senders_order_outlives_a_clock_that_steps_back,
        a_file_that_cannot_be_opened_now_costs_itself_only,
        limits_of_nothing_are_refused,
        what_passes_a_high_water_mark_would_block,
        a_limit_on_files_refuses_a_message_and_does_not_end_the_program,
    ]
}

pub fn add_to(suite: Suite) -> Suite {
    suite.act("leases a file", leases_a_file).act("limits the size of files", limits_the_size_of_files)
}

fn all(client: &mut Client) -> Vec<Value> {
    let mut got = Vec::new();
    loop {
        match client.get_messages().unwrap() {
            batch if batch.is_empty() => return got,
            batch => got.extend(contents(&batch)),
        }
    }
}

fn what_is_put_back_comes_before_what_waits(sandbox: &Sandbox) {
    for bus in both(sandbox) {
        let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
        for number in 1..=5 {
            b.send("a", &number).unwrap();
        }
        // In the middle of a backlog that is known already, twice over.
        for _ in 0..2 {
            let taken = a.get_at_most(2).unwrap();
            assert_eq!(contents(&taken), [1, 2]);
            a.requeue(&taken).unwrap();
        }
        b.send("a", &6).unwrap();
        assert_eq!(all(&mut a), (1..=6).map(Value::from).collect::<Vec<_>>(), "{}", bus.protocol());
    }
}

fn what_is_put_back_comes_together_with_what_waits(sandbox: &Sandbox) {
    for bus in both(sandbox) {
        let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
        b.send("a", &1).unwrap();
        let taken = a.get_messages().unwrap();
        a.requeue(&taken).unwrap();
        for number in 2..=3 {
            b.send("a", &number).unwrap();
        }
        assert_eq!(contents(&a.get_messages().unwrap()), [1, 2, 3], "{}", bus.protocol());
    }
}

fn messages_that_share_an_id_are_all_put_back(sandbox: &Sandbox) {
    for bus in both(sandbox) {
        let mut a = bus.connect("a").unwrap();
        let mut taken = Vec::new();
        // Ids are the senders' own choice.
        for name in ["b", "c", "d"] {
            let mut sender = bus.connect(name).unwrap();
            let message = Message::builder(name).to("a").id("order-17").content(name).unwrap().build().unwrap();
            sender.send_message(message).unwrap();
            taken.push(a.recv_timeout(PATIENCE).unwrap());
        }
        a.requeue(&taken).unwrap();
        assert_eq!(all(&mut a), ["b", "c", "d"], "{}", bus.protocol());
        assert!(a.take_damaged().is_empty());
    }
}

fn a_message_put_back_behind_half_a_record_comes_back(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    b.send("a", "precious").unwrap();
    let taken = a.recv_timeout(PATIENCE).unwrap();
    // What a writer leaves that is killed while it puts a large one back.
    fs::write(bus.at_name("a.resume"), [0, 0, 0, 200, b'{']).unwrap();
    a.requeue(&[taken]).unwrap();
    assert_eq!(all(&mut a), ["precious"]);
    assert_eq!(a.take_damaged().len(), 1, "the half record is reported");
}

fn a_senders_order_outlives_a_clock_that_steps_back(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    // A clock that is a minute ahead: it shows in the stamps, and in when files were written.
    let ahead = SystemTime::now() + Duration::from_secs(60);
    let seconds = ahead.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let mut sender = bus.client("sender");
    for number in 1..=3 {
        let message = Message::builder("sender").to("a").stamp(seconds - 1.0 + f64::from(number) / 1e3);
        sender.send_message(message.content(&number).unwrap().build().unwrap()).unwrap();
    }
    sender.suspend(Suspend::open_ended()).unwrap();
    let stats = fs::OpenOptions::new().write(true).open(bus.at_name("sender.stats")).unwrap();
    stats.set_modified(ahead).unwrap();
    // It is put right, and another process goes on under the name.
    let mut again = bus.idle_puppet();
    again.try_reconnect("sender").unwrap();
    for number in 4..=6 {
        again.send("a", number).unwrap();
    }
    assert_eq!(all(&mut a), (1..=6).map(Value::from).collect::<Vec<_>>());
}

fn a_file_that_cannot_be_opened_now_costs_itself_only(sandbox: &Sandbox) {
    play("leases a file", sandbox);
}

fn leases_a_file() -> ExitCode {
    let bus = Spawn::builder().protocol("MessageFiles").serializer("JSON").spawn().unwrap();
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    for number in 0..5 {
        let message = Message::builder("b").to("a").id(&format!("id-{number}")).content(&number).unwrap();
        b.send_message(message.build().unwrap()).unwrap();
    }
    // While somebody has a lease on a file it can be opened only by whoever waits for its end; fcntl(2).
    let path = std::path::Path::new(bus.route().as_str()).join("a/id-2.ready");
    let leased = fs::OpenOptions::new().write(true).open(path).unwrap();
    // SAFETY: a descriptor of this process's, which is told of who wants the file by a signal that it ignores.
    let got = unsafe {
        libc::signal(libc::SIGIO, libc::SIG_IGN);
        libc::fcntl(leased.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK)
    };
    assert_eq!(got, 0, "{}", std::io::Error::last_os_error());
    assert_eq!(all(&mut a), [0, 1, 3, 4]);
    assert!(all(&mut a).is_empty());
    assert_eq!(a.take_damaged().len(), 1, "reported, and once");
    b.send("a", &5).unwrap();
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), 5);
    // Whoever has it lets go of it: it was not lost.
    drop(leased);
    b.send("a", &6).unwrap();
    let mut got = vec![a.recv_timeout(PATIENCE).unwrap().content().clone()];
    got.extend(all(&mut a));
    assert_eq!(got, [2, 6]);
    a.disconnect().unwrap();
    ExitCode::SUCCESS
}

fn what_passes_a_high_water_mark_would_block(sandbox: &Sandbox) {
    const MOST: usize = 100;
    for bus in both(sandbox) {
        let limits = Limits { unread_messages: Some(MOST), ..Limits::DEFAULT };
        let (mut a, mut free) = (bus.connect("a").unwrap(), bus.connect("free").unwrap());
        let mut b = Client::builder("b", bus.info()).limits(limits).connect().unwrap();
        for number in 0..MOST {
            b.try_send("a", &number).unwrap_or_else(|error| panic!("{number}: {error:?}"));
        }
        let error = b.try_send("a", "too many").unwrap_err();
        assert_eq!((error.kind(), error.stored()), (ErrorKind::WouldBlock, Some(Stored::No)));
        assert_eq!(error.into_message().unwrap().content(), "too many");
        let moment = Duration::from_millis(20);
        assert_eq!(b.send_timeout("a", "too many", moment).unwrap_err().kind(), ErrorKind::Timeout);
        b.send("free", "another mailbox").unwrap();
        free.send("a", "it is the sender's own mark").unwrap();
        assert_eq!(a.get_at_most(2).unwrap().len(), 2);
        b.send_timeout("a", "there is room", PATIENCE).unwrap();
        assert_eq!(b.try_send("a", "and no more").unwrap_err().kind(), ErrorKind::WouldBlock);
        // What was not there at the last look comes with the next.
        let mut rest = contents(&a.get_messages().unwrap());
        rest.extend(contents(&a.get_messages().unwrap()));
        assert_eq!(rest.len(), MOST);
        assert_eq!(rest.last().unwrap(), "there is room");
    }
}

fn limits_of_nothing_are_refused(sandbox: &Sandbox) {
    let nothing: [fn(&mut Limits) -> &mut usize; 6] = [
        |limits| &mut limits.encoded_bytes,
        |limits| &mut limits.decoded_bytes,
        |limits| &mut limits.json_depth,
        |limits| &mut limits.json_elements,
        |limits| &mut limits.batch_messages,
        |limits| &mut limits.batch_bytes,
    ];
    for bus in both(sandbox) {
        let limits = Limits { unread_messages: Some(0), ..Limits::DEFAULT };
        let refused = Client::builder("a", bus.info()).limits(limits).connect();
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Usage);
        for limit in nothing {
            let mut limits = Limits::DEFAULT;
            *limit(&mut limits) = 0;
            let builder = Client::builder("a", bus.info()).limits(limits);
            for refused in [builder.connect(), builder.reconnect(), builder.join()] {
                assert_eq!(refused.unwrap_err().kind(), ErrorKind::Usage);
            }
        }
        // The smallest there are work, as far as they go: nothing hangs.
        let limits = Limits { batch_messages: 1, batch_bytes: 1, json_depth: 1, json_elements: 1, ..Limits::DEFAULT };
        let mut a = Client::builder("a", bus.info()).limits(limits).connect().unwrap();
        let mut b = bus.connect("b").unwrap();
        for number in 0..3 {
            b.send("a", &number).unwrap();
        }
        let _ = a.send("b", "deep");
        let _ = a.disconnect();
        assert!(!a.is_connected());
    }
}

fn a_limit_on_files_refuses_a_message_and_does_not_end_the_program(sandbox: &Sandbox) {
    play("limits the size of files", sandbox);
}

fn limits_the_size_of_files() -> ExitCode {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let bus = Spawn::builder().protocol("MessageFiles").serializer("JSON").spawn().unwrap();
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    let before = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(4096), ..before }).unwrap();
    let refused = b.send("a", &"x".repeat(10_000)).unwrap_err();
    assert_eq!(refused.stored(), Some(Stored::No), "{refused}");
    assert_eq!(refused.messages().len(), 1);
    b.send("a", "small").unwrap();
    assert_eq!(all(&mut a), ["small"]);
    // Putting back is a write, too, and to a file that grows.
    for _ in 0..20 {
        b.send("a", &"y".repeat(1_000)).unwrap();
    }
    let taken = a.get_messages().unwrap();
    assert!(a.requeue(&taken).is_err());
    setrlimit(Resource::Fsize, before).unwrap();
    a.requeue(&taken).unwrap();
    assert_eq!(a.get_messages().unwrap(), taken);
    b.send("a", &"x".repeat(10_000)).unwrap();
    assert_eq!(all(&mut a).len(), 1);
    ExitCode::SUCCESS
}
