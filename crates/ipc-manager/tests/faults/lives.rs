// SPDX-License-Identifier: MIT OR Apache-2.0
//! Suspended and continued names, contested names, and the end of an owner.

use std::path::Path;
use std::sync::Mutex;

use ipc_manager::{ConnectionString, ErrorKind};
use ipc_manager_testkit::{PATIENCE, Puppet, Sandbox, Subject, Tally, Test};
use serde_json::{Value, json};

use super::{book_seen, send_many};
use crate::file_bus::{FileBus, contents, names_in};

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![
        t14_before_during_and_after_a_suspension,
        t15_two_processes_after_one_name,
        t15_a_live_name_cannot_be_had,
        t16_an_owner_that_is_killed,
        t16_an_owner_that_ends_in_good_order,
    ]
}

fn t14_before_during_and_after_a_suspension(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut sender, mut sleeper) = (bus.puppet("sender"), bus.puppet("sleeper"));
    let tally = Mutex::new(Tally::default());
    send_many(&mut sender, "sleeper", 0..5, 64, &tally);
    sleeper.suspend().unwrap();
    sleeper.end();
    send_many(&mut sender, "sleeper", 5..55, 64, &tally);
    let mut other = bus.idle_puppet();
    other.try_reconnect("sleeper").unwrap();
    send_many(&mut sender, "sleeper", 55..60, 64, &tally);
    let mut tally = tally.into_inner().unwrap();
    other.recv_count(60).iter().for_each(|seen| book_seen(&mut tally, seen, 64));
    tally.assert_clean("T14");
    assert_eq!(tally.acknowledged(), 60);
}

fn t15_two_processes_after_one_name(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let mut a = bus.client("a");
    let mut pair = [bus.idle_puppet(), bus.idle_puppet()];
    let (mut won, mut worked) = (0, 0);
    for round in 0..20 {
        let name = format!("name-{round}");
        for puppet in &mut pair {
            puppet.post(&json!({"op": "connect", "name": name, "info": bus.info().to_string()}));
        }
        let winners: Vec<(usize, Value)> = pair
            .iter_mut()
            .enumerate()
            .filter_map(|(number, puppet)| Some((number, puppet.answer().ok()?["client"].clone())))
            .collect();
        won += winners.len();
        for (number, client) in winners {
            a.send(&name, &round).unwrap();
            let recv = json!({"op": "recv", "client": client, "timeout": PATIENCE.as_secs()});
            worked += usize::from(pair[number].must(&recv)["messages"][0]["content"] == round);
        }
    }
    println!("T15: 20 races, {won} won, {worked} of the winners work");
    assert_eq!((won, worked), (20, 20));
}

fn t15_a_live_name_cannot_be_had(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut owner, mut sender) = (bus.client("owner"), bus.client("sender"));
    for number in 0..5 {
        sender.send("owner", &number).unwrap();
    }
    for _ in 0..20 {
        assert_eq!(bus.try_client("owner").unwrap_err().kind(), ErrorKind::NameInUse);
        assert_eq!(bus.try_reconnect("owner").unwrap_err().kind(), ErrorKind::NameInUse);
    }
    let got = contents(&owner.get_messages().unwrap());
    println!("T15: the owner keeps {} of 5", got.len());
    assert_eq!(got, (0..5).map(Value::from).collect::<Vec<_>>());
}

/// Starts an owner of a bus in a temporary directory of the test's; returns its bus.
fn owner_in(dir: &Path) -> (Puppet, ConnectionString) {
    let mut owner = Puppet::start(&Subject::new("MessageFiles"), "", dir);
    let bus = owner.must(&json!({"op": "spawn", "protocol": "MessageFiles", "guard": true}));
    let info: ConnectionString = bus["info"].as_str().unwrap().parse().unwrap();
    assert!(Path::new(info.route().as_str()).starts_with(dir), "{info} is not in {}", dir.display());
    (owner, info)
}

fn t16_an_owner_that_is_killed(sandbox: &Sandbox) {
    let (mut owner, info) = owner_in(sandbox.dir());
    let route = info.route().as_str();
    let (mut a, mut b) = (ipc_manager::connect("a", &info).unwrap(), ipc_manager::connect("b", &info).unwrap());
    owner.kill();
    a.send("b", "x").unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "x", "peers work without the owner");
    let (second, other) = owner_in(sandbox.dir());
    assert!(Path::new(route).is_dir(), "a store that peers live on was removed");
    a.send("b", "y").unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "y");
    a.disconnect().unwrap();
    b.disconnect().unwrap();
    let (third, last) = owner_in(sandbox.dir());
    assert!(!Path::new(route).exists(), "the next spawn leaves an abandoned store");
    assert!(Path::new(other.route().as_str()).is_dir() && Path::new(last.route().as_str()).is_dir());
    second.end();
    third.end();
    let left = names_in(sandbox.dir());
    println!("T16: {} stores left after a kill and two orderly ends", left.len());
    assert!(left.is_empty(), "{left:?}");
}

fn t16_an_owner_that_ends_in_good_order(sandbox: &Sandbox) {
    let (owner, info) = owner_in(sandbox.dir());
    owner.end();
    assert!(names_in(sandbox.dir()).is_empty(), "something is left");
    assert_eq!(ipc_manager::connect("a", &info).unwrap_err().kind(), ErrorKind::NoSuchBus);
}
