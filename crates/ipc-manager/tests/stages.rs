// SPDX-License-Identifier: MIT OR Apache-2.0
//! The directory listings that were captured step by step: our clients go through the same steps, and leave the same
//! names of the same kinds.
//!
//! Two differences are meant. We remove our `.pid` and `.name` when we leave in good order, so that nothing points at
//! a process that is not there; and what we make is accessible to its user only. Our own files begin with a dot, which
//! others pass over.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use ipc_manager::Suspend;
use ipc_manager_testkit::{PATIENCE, Sandbox, Test};
use serde_json::{Value, json};

use crate::file_bus::FileBus;
use crate::vectors::manifest;

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![the_same_steps_leave_the_same_names, what_we_make_is_for_its_user_only]
}

/// Names and kinds of a captured stage.
fn captured(stage: &str) -> BTreeMap<String, String> {
    let manifest = manifest("messagefiles");
    let stages = manifest["stages"].as_array().unwrap();
    let stage = stages.iter().find(|known| known["stage"] == stage).unwrap_or_else(|| panic!("no stage {stage:?}"));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    stage["tree"].as_array().unwrap().iter().map(|entry| (text(&entry["name"]), text(&entry["type"]))).collect()
}

/// Names and kinds in the route.
fn ours(bus: &FileBus) -> BTreeMap<String, String> {
    let kind = |name: &str| {
        let metadata = fs::symlink_metadata(bus.at_name(name)).unwrap();
        if metadata.is_dir() { "directory" } else { "file" }.to_owned()
    };
    bus.names().into_iter().map(|name| (name.clone(), kind(&name))).collect()
}

/// What is captured, without what an orderly leave of ours removes.
fn without(mut stage: BTreeMap<String, String>, removed: &[&str]) -> BTreeMap<String, String> {
    for name in removed {
        assert!(stage.remove(*name).is_some(), "{name} is not in the captured stage");
    }
    stage
}

fn the_same_steps_leave_the_same_names(sandbox: &Sandbox) {
    let mut bus = FileBus::new(sandbox);
    assert!(ours(&bus).is_empty(), "a fresh store shows others nothing");
    let (mut receiver, mut sender, mut third) = (bus.client("receiver"), bus.client("sender"), bus.client("third"));
    assert_eq!(ours(&bus), captured("three clients connected, nothing sent"));

    bus.owner.terminate().unwrap();
    sender.send("receiver", &json!({"n": 1})).unwrap();
    let batch = receiver.get_messages().unwrap();
    receiver.requeue(&batch[..1]).unwrap();
    assert_eq!(receiver.get_messages().unwrap().len(), 1);
    receiver.write_stats().unwrap();
    sender.write_stats().unwrap();
    let written = captured("stats written by hand, resume consumed");
    assert_eq!(ours(&bus), without(written, &["spawn.pid"]));

    while third.try_recv().unwrap().is_some() {}
    let deadline = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_900_000_000_250);
    third.suspend(Suspend::until(deadline)).unwrap();
    assert_eq!(ours(&bus), without(captured("third suspended with a deadline"), &["spawn.pid"]));
    let mut third = bus.reconnect("third");
    assert_eq!(ours(&bus), without(captured("third reconnected"), &["spawn.pid"]));

    let name = manifest("messagefiles")["name_sidecar"]["peer"].as_str().unwrap().to_owned();
    let mut long = bus.client(&name);
    let with_long = captured("client with a 270-character name connected");
    assert_eq!(ours(&bus), without(with_long, &["spawn.pid"]));
    sender.send(&name, "x").unwrap();
    long.recv_timeout(PATIENCE).unwrap();
    let mut slash = bus.client("with/slash");

    for client in [&mut receiver, &mut sender, &mut third, &mut long, &mut slash] {
        while client.try_recv().unwrap().is_some() {}
        client.disconnect().unwrap();
    }
    let left: Vec<String> = captured("all clients disconnected")
        .into_keys()
        .filter(|name| name.ends_with(".stats") || name.ends_with(".name"))
        .collect();
    let remain: Vec<String> = ours(&bus).into_keys().collect();
    let statistics =
        |names: &[String]| -> Vec<String> { names.iter().filter(|name| name.ends_with(".stats")).cloned().collect() };
    assert_eq!(statistics(&remain), statistics(&left));
    assert!(remain.iter().all(|name| left.contains(name)), "more is left than the other leaves: {remain:?}");
}

fn what_we_make_is_for_its_user_only(sandbox: &Sandbox) {
    let bus = FileBus::new(sandbox);
    let (mut a, mut b) = (bus.client("a"), bus.client("L".repeat(270).as_str()));
    b.send("a", "x").unwrap();
    a.write_stats().unwrap();
    let taken = a.recv_timeout(PATIENCE).unwrap();
    b.send("a", "y").unwrap();
    a.requeue(&[taken]).unwrap();
    b.suspend(Suspend::within(PATIENCE)).unwrap();
    let mode = |path: &std::path::Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(bus.route()), 0o700);
    for path in bus.tree() {
        let at = bus.route().join(&path);
        let expected = if at.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&at), expected, "{}", path.display());
    }
}
