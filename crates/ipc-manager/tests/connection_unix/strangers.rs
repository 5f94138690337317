// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who claims to be another: the process at the other end is compared with the one that holds the name.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use ipc_manager::{ErrorKind, Origin, Stored};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test};
use rustix::process::Uid;
use serde_json::json;

use super::{StreamBus, message, read_json, reports};
use crate::file_bus::dead_pid;

pub fn tests() -> Vec<Test> {
    let mut tests = ipc_manager_testkit::tests![
        d4_a_stranger_takes_over_no_name,
        a_claim_in_a_message_is_compared_too,
        b17_a_socket_that_outlived_its_holder_gets_nothing,
        a_name_that_changed_hands_is_not_sent_to_its_former_holder,
    ];
    let other_user = ipc_manager_testkit::tests![t22_another_user_is_not_let_in].remove(0);
    tests.push(other_user.only_if(|| match rustix::process::geteuid().is_root() {
        true => Ok(()),
        false => Err("only root can become another user".into()),
    }));
    tests
}

fn d4_a_stranger_takes_over_no_name(sandbox: &Sandbox) {
    let bus = StreamBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
    for was_connected in [false, true] {
        let mut stranger = bus.dial_as("b", "a");
        stranger.write_all(&message("b", "a", &json!("I am b"))).unwrap();
        let claimed = a.recv_timeout(PATIENCE).unwrap();
        assert_eq!(claimed.origin(), Origin::Mismatch { pid: std::process::id() });
        assert_eq!(a.has_connection("b").unwrap(), was_connected);
        a.send("b", "for b alone").unwrap();
        assert_eq!(b.recv_count(1)[0].content, "for b alone");
        b.send("a", "I really am").unwrap();
        let confirmed = a.recv_timeout(PATIENCE).unwrap();
        assert_eq!(
            (confirmed.content().as_str(), confirmed.origin()),
            (Some("I really am"), Origin::Confirmed { pid: b.pid() })
        );
        a.send("b", "again").unwrap();
        assert_eq!(b.recv_count(1)[0].content, "again");
        stranger.set_nonblocking(true).unwrap();
        let nothing = std::io::Read::read(&mut stranger, &mut [0]).unwrap_err();
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock, "the stranger was answered");
    }
}

fn a_claim_in_a_message_is_compared_too(sandbox: &Sandbox) {
    let bus = StreamBus::new(sandbox);
    let (mut a, b) = (bus.client("a"), bus.puppet("b"));
    bus.register_quiet("perl");
    let mut stream = bus.dial_as("perl", "a");
    let here = std::process::id();
    for (from, origin) in [
        ("perl", Origin::Confirmed { pid: here }),
        ("b", Origin::Mismatch { pid: here }),
        ("a", Origin::Confirmed { pid: here }),
        ("nobody", Origin::Unknown),
        ("b", Origin::Mismatch { pid: here }),
    ] {
        stream.write_all(&message(from, "a", &json!(1))).unwrap();
        assert_eq!(a.recv_timeout(PATIENCE).unwrap().origin(), origin, "{from}");
    }
    drop(b);
}

/// As with a worker that was forked off and has the socket open still.
fn b17_a_socket_that_outlived_its_holder_gets_nothing(sandbox: &Sandbox) {
    let bus = StreamBus::new(sandbox);
    let mut a = bus.client("a");
    let _listener = bus.register_listener("perl");
    a.send("perl", "alive").unwrap();
    assert!(a.disconnect_connection("perl").unwrap());
    std::fs::write(bus.at("perl.pid"), dead_pid().to_string()).unwrap();
    for error in [a.send("perl", "x").unwrap_err(), a.try_send("perl", "x").unwrap_err()] {
        assert_eq!((error.kind(), error.stored()), (ErrorKind::PeerGone, Some(Stored::No)), "{error:?}");
    }
}

fn a_name_that_changed_hands_is_not_sent_to_its_former_holder(sandbox: &Sandbox) {
    let bus = StreamBus::new(sandbox);
    let mut a = bus.client("a");
    bus.register_quiet("perl");
    let mut former = bus.dial_as("perl", "a");
    former.write_all(&message("perl", "a", &json!("hi"))).unwrap();
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "hi");
    a.send("perl", "first").unwrap();
    assert_eq!(read_json(&mut former)["content"], "first");
    // It leaves, and keeps its connection open.
    std::fs::remove_file(bus.at("perl")).unwrap();
    std::fs::remove_file(bus.at("perl.pid")).unwrap();
    let mut now = bus.puppet("perl");
    ipc_manager_testkit::eventually("the new holder to be reached", || {
        a.send("perl", "second").unwrap();
        !now.recv_now().is_empty()
    });
}

fn t22_another_user_is_not_let_in(sandbox: &Sandbox) {
    let bus = StreamBus::new(sandbox);
    let mut a = bus.client("a");
    // Only such a careless owner lets others get so far.
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(sandbox.dir(), 0o711);
    open(&bus.route, 0o711);
    open(&bus.at("a"), 0o777);
    let path = bus.at("a");
    let mut stream = thread::spawn(move || {
        let other = Uid::from_raw(65_534);
        // Of this thread alone; the thread ends with it.
        rustix::thread::set_thread_res_uid(other, other, other).unwrap();
        super::dial(&path)
    })
    .join()
    .unwrap();
    let _ = stream.write_all(&super::frame(br#"{"hello":"a"}"#));
    let texts = reports(&mut a, 1);
    assert!(texts[0].contains("65534"), "{texts:?}");
    super::read_to_end(&mut stream, &mut a);
    let mut b = bus.client("b");
    b.send("a", "sound").unwrap();
    assert_eq!(a.recv_timeout(PATIENCE).unwrap().content(), "sound");
}
