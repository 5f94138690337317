// SPDX-License-Identifier: MIT OR Apache-2.0
//! Servers that are stopped, killed and started again.

use ipc_manager_servers::{Engine, PrivateServer};
use ipc_manager_testkit::{Sandbox, eventually};
use rustix::process::{Pid, Signal, kill_process};

use crate::starts::{ask, ask_as, start};

crate::over_engines![
    "ends":
    what_was_committed_survives_a_stop_and_a_kill,
    a_server_that_died_is_noticed_and_removed,
];

fn what_was_committed_survives_a_stop_and_a_kill(engine: Engine, sandbox: &Sandbox) {
    let mut server = start(engine, sandbox);
    let socket = server.socket();
    ask(&server, "CREATE TABLE t (n INTEGER)");
    let ends: [fn(&mut PrivateServer); 2] = [|server| server.stop().unwrap(), |server| server.kill().unwrap()];
    for (round, end) in ends.into_iter().enumerate() {
        ask(&server, &format!("INSERT INTO t VALUES ({round})"));
        end(&mut server);
        assert!(!server.is_running());
        assert_eq!(server.pid(), None);
        assert!(ask_as(&server.user(), &server, "SELECT 1").is_err());
        server.start_again().unwrap();
        assert_eq!(server.socket(), socket);
        assert_eq!(ask(&server, "SELECT count(*) FROM t"), (round + 1).to_string());
    }
    // It runs already.
    let pid = server.pid();
    server.start_again().unwrap();
    assert_eq!(server.pid(), pid);
    server.close().unwrap();
    assert!(sandbox.listing().is_empty());
}

fn a_server_that_died_is_noticed_and_removed(engine: Engine, sandbox: &Sandbox) {
    let mut server = start(engine, sandbox);
    let pid = Pid::from_raw(server.pid().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    eventually("the server's end to be noticed", || !server.is_running());
    server.close().unwrap();
    assert!(sandbox.listing().is_empty());
}
