// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real processes: this program starts itself three times, and hands the bus on in the environment.
//!
//! > the squares add up to 385
//! > 20 sent, 20 read, nothing lost
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::process::{Child, Command};
use std::time::Duration;

use ipc_manager::{Spawn, connect};

type AnyResult = Result<(), Box<dyn std::error::Error>>;

fn main() -> AnyResult {
    match std::env::var("WORKER_BUS") {
        Ok(info) => work(&std::env::var("WORKER_NAME")?, &info),
        Err(_) => lead(),
    }
}

fn lead() -> AnyResult {
    let mut bus = Spawn::builder().spawn()?;
    let mut boss = bus.connect("boss")?;
    let names = ["one", "two", "three"];
    let mut workers: Vec<Child> = Vec::new();
    for name in names {
        let program = std::env::current_exe()?;
        let environment = [("WORKER_BUS", bus.to_string()), ("WORKER_NAME", name.into())];
        workers.push(Command::new(program).envs(environment).spawn()?);
        assert!(boss.wait_for_peer(name, Some(Duration::from_secs(10)))?, "{name} did not come");
    }
    for number in 1..=10_u64 {
        boss.send(names[usize::try_from(number)? % names.len()], &number)?;
    }
    let mut sum = 0;
    for _ in 1..=10 {
        sum += boss.recv_timeout(Duration::from_secs(10))?.parse::<u64>()?;
    }
    println!("the squares add up to {sum}");
    drop(boss);
    println!("{}", bus.shutdown()?);
    for mut worker in workers {
        worker.wait()?;
    }
    Ok(())
}

fn work(name: &str, info: &str) -> AnyResult {
    let mut worker = connect(name, &info.parse()?)?;
    loop {
        let message = worker.recv()?;
        if message.is_terminate() {
            return Ok(worker.disconnect()?);
        }
        let number: u64 = message.parse()?;
        worker.send(message.from().as_str(), &(number * number))?;
    }
}
