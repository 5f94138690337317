// SPDX-License-Identifier: MIT OR Apache-2.0
//! Servers that belong to whoever holds a lock.

use std::fs::File;
use std::time::Duration;

use ipc_manager_servers::Engine;
use ipc_manager_testkit::{Sandbox, eventually, servers};

use crate::owners::sweep;
use crate::starts::start;

crate::over_engines![
    "sharing":
    it_lives_as_long_as_a_lock_is_held,
    tests_share_a_server_and_have_databases_of_their_own,
];

fn it_lives_as_long_as_a_lock_is_held(engine: Engine, sandbox: &Sandbox) {
    let outside = Sandbox::new();
    let path = outside.dir().join("a lock");
    let (first, second) = (File::create(&path).unwrap(), File::open(&path).unwrap());
    first.lock_shared().unwrap();
    let server = start(engine, sandbox);
    let dir = server.dir().to_owned();
    let socket = server.socket();
    server.share(&path, Duration::from_secs(4)).unwrap();
    second.lock_shared().unwrap();
    drop(first);
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    assert!(dir.exists());
    drop(second);
    assert!(sweep(sandbox).is_empty(), "what may yet be taken up again is no leftover");
    eventually("the server to end", || sandbox.listing().is_empty());
}

fn tests_share_a_server_and_have_databases_of_their_own(engine: Engine, _: &Sandbox) {
    let server = servers::shared(engine).unwrap();
    assert_eq!(servers::shared(engine).unwrap().socket(), server.socket());
    let (one, other) = (server.fresh_database().unwrap(), server.fresh_database().unwrap());
    one.execute("CREATE TABLE t (n INTEGER)").unwrap();
    assert!(other.execute("SELECT n FROM t").is_err());
    assert_eq!(one.execute("SELECT count(*) FROM t").unwrap().trim(), "0");
    let name = one.name().to_owned();
    drop(one);
    assert!(server.execute(&name, "SELECT 1").is_err());
}
