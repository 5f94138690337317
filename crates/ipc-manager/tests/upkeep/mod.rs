// SPDX-License-Identifier: MIT OR Apache-2.0
//! What dead owners leave, and who may look at what: cleaning up, and other users of the machine.

mod gc;
mod races;
mod strangers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ipc_manager::{ConnectionString, Fate, Gc, GcReport};
use ipc_manager_testkit::{Puppet, Sandbox, Subject, Suite, Test};
use serde_json::json;

pub use strangers::{assert_out_of_reach, can_be_another};

pub fn tests() -> Vec<Test> {
    [gc::tests(), races::tests(), strangers::tests()].concat()
}

pub fn add_to(suite: Suite) -> Suite {
    strangers::add_to(suite)
}

/// Protocols whose buses are files, sockets and FIFOs in the temporary directory.
pub const PROTOCOLS: [&str; 6] = ["AtomicPipe", "UnixSocket", "ConnectionUnix", "MessageFiles", "SQLite", "JSONFile"];

/// A process that owns a fresh guarded bus in a temporary directory.
fn owner(protocol: &str, dir: &Path) -> (Puppet, ConnectionString) {
    let mut owner = Puppet::start(&Subject::new(protocol), "", dir);
    let spawned = owner.must(&json!({"op": "spawn", "protocol": protocol, "guard": true}));
    let info: ConnectionString = spawned["info"].as_str().unwrap().parse().unwrap();
    assert!(Path::new(info.route().as_str()).starts_with(dir), "{info} is not in {}", dir.display());
    (owner, info)
}

/// A process that is on a bus, and was not killed yet.
fn peer(name: &str, info: &ConnectionString, dir: &Path) -> Puppet {
    let mut peer = Puppet::start(&Subject::new(&info.protocol().short()), &info.to_string(), dir);
    peer.try_connect(name).unwrap();
    peer
}

/// The directory of a store in a temporary directory.
fn store_of(info: &ConnectionString, dir: &Path) -> PathBuf {
    let route = Path::new(info.route().as_str());
    let store = route.ancestors().find(|path| path.parent() == Some(dir));
    store.unwrap_or_else(|| panic!("{} is not in {}", route.display(), dir.display())).to_owned()
}

fn gc(dir: &Path) -> GcReport {
    Gc::of_places([dir]).run().unwrap()
}

fn dry(dir: &Path) -> GcReport {
    Gc::of_places([dir]).dry_run(true).run().unwrap()
}

/// What became of what was found.
fn fates(report: &GcReport) -> Vec<&Fate> {
    report.leftovers.iter().map(|left| &left.fate).collect()
}

/// Every path below a directory with the content of what is a file, but for what SQLite makes anew whenever it looks.
fn contents_of(sandbox: &Sandbox) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = sandbox.listing().into_iter().filter(|path| !path.to_string_lossy().ends_with("-shm"));
    paths
        .map(|path| {
            let full = sandbox.dir().join(&path);
            let content = if full.is_file() { std::fs::read(&full).unwrap() } else { Vec::new() };
            (path, content)
        })
        .collect()
}
