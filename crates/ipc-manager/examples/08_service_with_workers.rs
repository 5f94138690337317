// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service that has its work done by worker processes. It hands requests out and answers when they are done; while
//! they work it goes on. The workers end with it.
//!
//! > primes below 1000: 168
//! > primes below 2000: 303
//! > primes below 3000: 430
//! > primes below 4000: 550
//! > two workers, and none is left: true
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::process::Command;
use std::time::Duration;

use ipc_manager::{Launched, Reply, Request, Service, ServiceResult};

const WORKERS: [&str; 2] = ["worker-1", "worker-2"];

fn main() -> Result<(), Box<dyn Error>> {
    if let Ok(info) = std::env::var("WORKER_BUS") {
        let worker = Service::builder(&std::env::var("WORKER_NAME")?).bus(&info.parse()?);
        std::process::exit(worker.on_typed_request(|_, below: u32| Ok(primes(below))).run()?);
    }
    if let Some(launched) = Launched::from_environment()? {
        let mut next = WORKERS.into_iter().cycle();
        let hand_out = move |service: &mut Service, request: &Request| {
            let (worker, ticket) = (next.next().unwrap_or(WORKERS[0]), request.ticket());
            service.peer(worker)?.send_request_with(request.value(), move |service, answer| {
                Ok(service.respond(&ticket, &answer?.into_value()?)?)
            })?;
            Ok(Reply::Later)
        };
        std::process::exit(launched.builder().on_start(start_workers).on_request(hand_out).run()?);
    }
    let mut handle = Service::builder("primes").exec().spawn()?;
    let asked: Vec<_> =
        [1000, 2000, 3000, 4000].into_iter().map(|below| (below, handle.send_request("primes", &below))).collect();
    for (below, id) in asked {
        println!("primes below {below}: {}", handle.await_response(&id?, None)?.value());
    }
    handle.terminate()?;
    handle.wait(Some(Duration::from_secs(30)));
    let left = handle.client()?.peers()?;
    println!("two workers, and none is left: {}", !left.iter().any(|peer| WORKERS.contains(&peer.as_str())));
    Ok(())
}

fn start_workers(service: &mut Service) -> ServiceResult {
    for name in WORKERS {
        let mut command = Command::new(std::env::current_exe()?);
        command.env("WORKER_BUS", service.info().to_string()).env("WORKER_NAME", name);
        service.worker(name, command)?;
        service.peer(name)?.ready(Some(Duration::from_secs(10)))?;
    }
    Ok(())
}

fn primes(below: u32) -> usize {
    (2..below).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0)).count()
}
