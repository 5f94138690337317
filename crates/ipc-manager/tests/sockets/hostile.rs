// SPDX-License-Identifier: MIT OR Apache-2.0
//! Datagrams that are no messages, senders that are not who they say, readers that are not there, entries that are
//! something else.

use std::fs;
use std::io::{IoSlice, Read};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use ipc_manager::{ErrorKind, Limits, Message, Origin, Stored};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test, eventually};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde_json::json;

use super::{SocketBus, contents, sound};

pub fn tests() -> Vec<Test> {
    let mut tests = ipc_manager_testkit::tests![
        t11_junk_costs_itself_and_is_reported_once,
        c23_an_empty_datagram_does_not_end_the_look,
        a15_a_datagram_that_another_reader_would_cut_is_not_sent,
        what_one_of_ours_reads_may_be_as_large_as_the_kernel_delivers,
        who_really_sent_a_message_is_told,
        descriptors_that_come_along_are_closed,
        a_socket_that_nobody_has_open_is_told_at_once,
        b3_a_socket_that_was_replaced_is_opened_anew,
        an_entry_that_is_something_else_is_no_peer,
        sockets_of_others_in_a_directory_of_theirs_stay,
    ];
    tests.extend(
        ipc_manager_testkit::tests![a_datagram_of_another_user_is_dropped]
            .into_iter()
            .map(|test| test.only_if(is_root)),
    );
    tests
}

fn t11_junk_costs_itself_and_is_reported_once(sandbox: &Sandbox) {
    let bus = SocketBus::new(sandbox);
    let (mut b, sender) = (bus.client("b"), bus.sender_to("b"));
    let cut = sound(1)[..10].to_vec();
    let deep = format!("{}1{}", "[".repeat(30_000), "]".repeat(30_000));
    let deep = format!("{{\"from\":\"x\",\"to\":\"b\",\"content\":{deep}}}");
    let to_another = json!({"from": "x", "to": "c", "content": 1}).to_string();
    let all: Vec<(&str, Vec<u8>)> = vec![
        ("random", (0..3000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()),
        ("empty", Vec::new()),
        ("cut", cut),
        ("array", b"[1,2]".to_vec()),
        ("scalar", b"1".to_vec()),
        ("no from", b"{\"to\":\"b\",\"content\":1}".to_vec()),
        ("null content", b"{\"from\":\"x\",\"to\":\"b\",\"content\":null}".to_vec()),
        ("deep", deep.into_bytes()),
        ("to another", to_another.into_bytes()),
        ("two", [sound(1), sound(2)].concat()),
    ];
    for (kind, junk) in &all {
        for datagram in [&sound(1), junk, &sound(2), &sound(3)] {
            sender.send(datagram).unwrap();
        }
        assert!(b.is_ready().unwrap());
        assert_eq!(contents(&b.get_messages().unwrap()), [1, 2, 3], "{kind}");
        let damaged = b.take_damaged();
        assert_eq!(damaged.len(), 1, "{kind}: {damaged:?}");
        assert_eq!(damaged[0].error().place().path(), Some(bus.at("b").as_path()), "{kind}");
        assert!(b.get_messages().unwrap().is_empty() && b.take_damaged().is_empty());
    }
    // One by one, too, and with nothing but junk there.
    for datagram in [&all[0].1, &sound(1), &all[3].1] {
        sender.send(datagram).unwrap();
    }
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), 1);
    assert!(b.try_recv().unwrap().is_none());
    assert_eq!(b.take_damaged().len(), 2);
    assert_eq!(b.stats().read["x"], i64::try_from(all.len() * 3 + 1).unwrap());
    b.disconnect().unwrap();
}

fn c23_an_empty_datagram_does_not_end_the_look(sandbox: &Sandbox) {
    let bus = SocketBus::new(sandbox);
    let (mut b, sender) = (bus.client("b"), bus.sender_to("b"));
    sender.send(&[]).unwrap();
    sender.send(&sound(1)).unwrap();
    // Nothing else wakes it: the message is behind the empty one.
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), 1);
    sender.send(&[]).unwrap();
    sender.send(&sound(2)).unwrap();
    let mut unread = Vec::new();
    b.disconnect_with(|messages| unread.extend(messages)).unwrap();
    assert_eq!(contents(&unread), [2]);
}

/// A message whose payload has so many bytes.
fn of_size(from: &ipc_manager::Client, to: &str, size: usize) -> Message {
    let empty = from.message(to, "").unwrap();
    let overhead = empty.to_json(&Limits::DEFAULT).unwrap().len();
    let message = Message::builder("a").to(to).content(&"x".repeat(size - overhead)).unwrap();
    message.id(empty.id().as_str()).stamp(empty.stamp().as_seconds()).build().unwrap()
}

fn a15_a_datagram_that_another_reader_would_cut_is_not_sent(sandbox: &Sandbox) {
    let bus = SocketBus::new(sandbox);
    let (mut a, other) = (bus.client("a"), bus.foreign("other"));
    let mut bytes = vec![0; 1 << 20];
    a.send_message(of_size(&a, "other", 65_536)).unwrap();
    assert_eq!(other.recv(&mut bytes).unwrap(), 65_536);
    let error = a.send_message(of_size(&a, "other", 65_537)).unwrap_err();
    assert_eq!((error.kind(), error.stored()), (ErrorKind::TooLarge, Some(Stored::No)));
    let text = error.to_string();
    assert!(text.contains("65537") && text.contains("65536"), "{text}");
    assert!(error.into_message().is_some());
    // In the middle of many it costs itself and what comes behind it.
    let many = [of_size(&a, "other", 300), of_size(&a, "other", 65_537), of_size(&a, "other", 300)];
    let error = a.send_all(many).unwrap_err();
    assert_eq!((error.kind(), error.messages().len()), (ErrorKind::TooLarge, 2));
    assert_eq!(other.recv(&mut bytes).unwrap(), 300);
    assert!(other.recv(&mut bytes).is_err(), "more was sent");
}

fn what_one_of_ours_reads_may_be_as_large_as_the_kernel_delivers(sandbox: &Sandbox) {
    let bus = SocketBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("b"));
    let largest = ipc_manager::Registry::standard().get("UnixSocket").unwrap().capabilities().largest_payload.unwrap();
    for size in [65_537, 212_960, 212_961, largest] {
        a.send_message(of_size(&a, "b", size)).unwrap();
        let got = b.recv_timeout(PATIENCE).unwrap();
        assert!(got.content().as_str().is_some_and(|text| text.bytes().all(|byte| byte == b'x')), "{size}");
        assert_eq!(got.to_json(&Limits::DEFAULT).unwrap().len(), size);
    }
    let error = a.send_message(of_size(&a, "b", largest + 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    // From a sender that asks for more than we do.
    let sender = bus.sender_to("b");
    rustix::net::sockopt::set_socket_send_buffer_size(&sender, 1 << 20).unwrap();
    let size = rustix::net::sockopt::socket_send_buffer_size(&sender).unwrap().min(1 << 20) - 32;
    sender.send(of_size(&a, "b", size).to_json(&Limits::DEFAULT).unwrap().as_bytes()).unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().to_json(&Limits::DEFAULT).unwrap().len(), size);
    assert!(b.take_damaged().is_empty());
}

fn who_really_sent_a_message_is_told(sandbox: &Sandbox) {
    let bus = SocketBus::new(sandbox);
    let (mut b, mut x) = (bus.client("b"), bus.puppet("x"));
    x.send("b", 1).unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().origin(), Origin::Confirmed { pid: x.pid() });
    let sender = bus.sender_to("b");
    let own = std::process::id();
    for _ in 0..2 {
        sender.send(&sound(2)).unwrap();
        assert_eq!(b.recv_timeout(PATIENCE).unwrap().origin(), Origin::Mismatch { pid: own });
        x.send("b", 3).unwrap();
        assert_eq!(b.recv_timeout(PATIENCE).unwrap().origin(), Origin::Confirmed { pid: x.pid() });
    }
    sender.send(json!({"from": "nobody", "to": "b", "content": 4}).to_string().as_bytes()).unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().origin(), Origin::Unknown);
}

fn is_root() -> Result<(), String> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err("only root can become another user".into()) }
}

fn a_datagram_of_another_user_is_dropped(sandbox: &Sandbox) {
    let bus = SocketBus::new(sandbox);
    let (mut b, sender) = (bus.client("b"), bus.sender_to("b"));
    let mut stranger = Command::new("sh");
    stranger.args(["-c", "printf %s \"$0\" >&0"]).arg(String::from_utf8(sound(1)).unwrap());
    stranger.stdin(Stdio::from(std::os::fd::OwnedFd::from(sender.try_clone().unwrap()))).current_dir("/").uid(65_534);
    assert!(stranger.status().unwrap().success());
    sender.send(&sound(2)).unwrap();
    assert_eq!(contents(&b.get_messages().unwrap()), [2]);
    let damaged = b.take_damaged();
    assert_eq!(damaged.len(), 1);
    assert_eq!(damaged[0].error().kind(), ErrorKind::Permission);
    assert!(damaged[0].error().to_string().contains("65534"), "{}", damaged[0].error());
}

fn descriptors_that_come_along_are_closed(sandbox: &Sandbox) {
    let bus = SocketBus::new(sandbox);
    let (mut b, sender) = (bus.client("b"), bus.sender_to("b"));
    let (mut reader, writer) = std::io::pipe().unwrap();
    let descriptors = [writer.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    rustix::net::sendmsg(&sender, &[IoSlice::new(&sound(1))], &mut control, SendFlags::empty()).unwrap();
    drop(writer);
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), 1);
    // At its end, since nobody has the other side open any more.
    let (fd, timeout) = (reader.as_fd(), rustix::event::Timespec { tv_sec: 30, tv_nsec: 0 });
    let mut polled = [rustix::event::PollFd::from_borrowed_fd(fd, rustix::event::PollFlags::IN)];
    assert_eq!(rustix::event::poll(&mut polled, Some(&timeout)).unwrap(), 1, "the descriptor is open");
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

fn a_socket_that_nobody_has_open_is_told_at_once(sandbox: &Sandbox) {
    let bus = SocketBus::new(sandbox);
    let mut a = bus.client("a");
    drop(bus.foreign("b"));
    for _ in 0..2 {
        let error = a.send("b", "x").unwrap_err();
        assert_eq!((error.kind(), error.stored()), (ErrorKind::PeerGone, Some(Stored::No)), "{error}");
        assert_eq!(error.into_message().unwrap().content(), "x");
    }
    // While it was open, it was sent to.
    let c = bus.foreign("c");
    a.send("c", "x").unwrap();
    drop(c);
    assert_eq!(a.send("c", "x").unwrap_err().kind(), ErrorKind::PeerGone);
}

fn b3_a_socket_that_was_replaced_is_opened_anew(sandbox: &Sandbox) {
    let bus = SocketBus::new(sandbox);
    let mut a = bus.client("a");
    // An old reader that lives on, as one does whose descriptors a forked child inherited.
    let old = bus.foreign("b");
    a.send("b", "old").unwrap();
    fs::remove_file(bus.at("b")).unwrap();
    fs::remove_file(bus.at("b.pid")).unwrap();
    let mut b = bus.client("b");
    let mut number = 0;
    eventually("the new reader gets something", || {
        number += 1;
        a.send("b", &number).unwrap();
        b.is_ready().unwrap()
    });
    drop(old);
    // One that is gone for good is answered at once by the kernel: the very next message goes to the new one.
    let c = bus.foreign("c");
    a.send("c", "old").unwrap();
    drop(c);
    fs::remove_file(bus.at("c")).unwrap();
    fs::remove_file(bus.at("c.pid")).unwrap();
    let mut c = bus.client("c");
    a.send("c", "new").unwrap();
    assert_eq!(contents(&c.get_messages().unwrap()), ["new"]);
}

fn an_entry_that_is_something_else_is_no_peer(sandbox: &Sandbox) {
    let bus = SocketBus::new(sandbox);
    let mut a = bus.client("a");
    let elsewhere = UnixDatagram::bind(sandbox.dir().join("elsewhere")).unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    fs::create_dir(bus.at("dir")).unwrap();
    fs::write(bus.at("file"), "somebody's").unwrap();
    std::os::unix::fs::symlink(sandbox.dir().join("elsewhere"), bus.at("link")).unwrap();
    let listener = UnixListener::bind(bus.at("stream")).unwrap();
    for name in ["dir", "file", "link", "stream"] {
        let error = a.send(name, "x").unwrap_err();
        assert_eq!((error.kind(), error.stored()), (ErrorKind::NoSuchPeer, Some(Stored::No)), "{name}: {error}");
    }
    assert!(elsewhere.recv(&mut [0; 100]).is_err(), "a link was followed");
    assert_eq!(fs::read_to_string(bus.at("file")).unwrap(), "somebody's");
    // What stands in the way of a name stays.
    assert_eq!(ipc_manager::connect("file", bus.owner.info()).unwrap_err().kind(), ErrorKind::NameInUse);
    assert_eq!(fs::read_to_string(bus.at("file")).unwrap(), "somebody's");
    drop(listener);
}

fn sockets_of_others_in_a_directory_of_theirs_stay(sandbox: &Sandbox) {
    let dir = sandbox.dir().join("theirs");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let theirs = UnixListener::bind(dir.join("S.agent")).unwrap();
    let spawned = ipc_manager::Spawn::builder().protocol("UnixSocket").route(dir.to_str().unwrap()).spawn();
    assert_eq!(spawned.unwrap_err().kind(), ErrorKind::NameInUse);
    // Also where a bus was before they came.
    fs::remove_file(dir.join("S.agent")).unwrap();
    let mut owner =
        ipc_manager::Spawn::builder().protocol("UnixSocket").guard(false).route(dir.to_str().unwrap()).spawn().unwrap();
    let mut a = owner.connect("a").unwrap();
    drop(theirs);
    let theirs = UnixListener::bind(dir.join("S.agent")).unwrap();
    assert!(a.reap().unwrap().is_empty() && a.peers().unwrap().is_empty());
    a.disconnect().unwrap();
    owner.unspawn().unwrap();
    assert!(dir.join("S.agent").exists(), "a socket of another program was removed");
    drop(theirs);
}
