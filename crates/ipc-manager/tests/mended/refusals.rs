// SPDX-License-Identifier: MIT OR Apache-2.0
//! A system call that is refused once, and would not be the next time: nothing is lost or overtaken for it.

use std::process::{Command, ExitCode, Stdio};

use ipc_manager::{Client, ConnectionString, Spawn, Suspend};
use ipc_manager_testkit::trace::{self, Step, Traced};
use ipc_manager_testkit::{Sandbox, Suite, Test};
use serde_json::{Value, json};

use crate::file_bus::contents;

pub fn tests() -> Vec<Test> {
    let tests = ipc_manager_testkit::tests![
        a_refusal_that_passes_lets_nothing_overtake,
        a_mailbox_that_refuses_once_is_still_handed_over,
        a_name_that_was_taken_is_not_refused,
    ];
    tests.into_iter().map(|test| test.only_if(trace::can)).collect()
}

pub fn add_to(suite: Suite) -> Suite {
    suite.act("is refused once", is_refused_once)
}

/// Tells the act which bus, and what it is to do there.
const BUS: &str = "IPC_MANAGER_TEST_BUS";
const OPERATION: &str = "IPC_MANAGER_TEST_OPERATION";

/// Does it again while it is refused, and prints what came of it.
fn is_refused_once() -> ExitCode {
    let info: ConnectionString = std::env::var(BUS).unwrap().parse().unwrap();
    let mut got: Vec<Value> = Vec::new();
    match std::env::var(OPERATION).unwrap().as_str() {
        "receive" => {
            let mut client = ipc_manager::reconnect("a", &info).unwrap();
            trace::begin().unwrap();
            for _ in 0..5 {
                got.extend(client.get_messages().map(|messages| contents(&messages)).unwrap_or_default());
            }
        }
        "disconnect" => {
            let mut client = ipc_manager::reconnect("a", &info).unwrap();
            trace::begin().unwrap();
            for _ in 0..5 {
                if client.is_connected() {
                    got.extend(client.disconnect().err().map(|error| contents(error.messages())).unwrap_or_default());
                }
            }
        }
        _ => {
            trace::begin().unwrap();
            // A refused call has changed nothing, so the name can be had by the next.
            let client = ipc_manager::connect("a", &info).or_else(|_| ipc_manager::connect("a", &info));
            got.push(json!(client.as_ref().map(Client::name).map_err(ToString::to_string).is_ok()));
        }
    }
    println!("{}", json!(got));
    ExitCode::SUCCESS
}

/// Refuses each look into the store, each opening and each removal in turn, each time on a bus of its own.
fn refusing_each(sandbox: &Sandbox, protocol: &str, operation: &str, expected: &Value) {
    for number in 0.. {
        let builder = Spawn::builder().protocol(protocol).serializer("JSON").guard(false);
        let bus = builder.route(sandbox.dir().join(format!("bus-{number}")).to_str().unwrap()).spawn().unwrap();
        if operation != "connect" {
            let mut sender = bus.connect("b").unwrap();
            bus.connect("a").unwrap().suspend(Suspend::open_ended()).unwrap();
            for number in 1..=3 {
                sender.send("a", &number).unwrap();
            }
            sender.disconnect().unwrap();
        }
        let mut command = Suite::command("is refused once");
        command.env(BUS, bus.info().to_string()).env(OPERATION, operation);
        let Some(said) = refuse(&mut command, number) else {
            assert!(number > 3, "only {number} calls were seen");
            return;
        };
        assert_eq!(&said, expected, "{operation}, refused at call {number}");
    }
}

/// What an act says of which one call was refused; nothing if it makes fewer.
fn refuse(command: &mut Command, number: usize) -> Option<Value> {
    let mut traced = Traced::start(command.stdin(Stdio::null()).stdout(Stdio::piped())).unwrap();
    let mut seen = 0;
    loop {
        match traced.step() {
            Step::Call(call) if !matches!(&*call.to_string(), "open" | "look" | "remove") => {}
            Step::Call(_) if seen < number => seen += 1,
            Step::Call(_) => break,
            Step::Ended(status) => {
                assert!(status.success(), "the act failed: {status}");
                return None;
            }
            other => panic!("{other:?}"),
        }
    }
    traced.fail(libc::EIO).unwrap();
    let done = traced.release().wait_with_output().unwrap();
    assert!(done.status.success(), "refused at call {number}: {}", done.status);
    let said = String::from_utf8(done.stdout).unwrap();
    Some(serde_json::from_str(said.lines().last().unwrap()).unwrap())
}

fn a_refusal_that_passes_lets_nothing_overtake(sandbox: &Sandbox) {
    refusing_each(sandbox, "MessageFiles", "receive", &json!([1, 2, 3]));
}

fn a_mailbox_that_refuses_once_is_still_handed_over(sandbox: &Sandbox) {
    refusing_each(sandbox, "MessageFiles", "disconnect", &json!([1, 2, 3]));
}

fn a_name_that_was_taken_is_not_refused(sandbox: &Sandbox) {
    refusing_each(sandbox, "JSONFile", "connect", &json!([true]));
}
