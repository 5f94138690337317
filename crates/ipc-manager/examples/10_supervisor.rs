// SPDX-License-Identifier: MIT OR Apache-2.0
//! A supervisor: starts a service again whenever it crashes. Who asked the crashed one is told at once that it is gone.
//!
//! > 10 / 2 = 5
//! > 1 / 0: peer_gone
//! > the service ended (exit status: 101); starting it again
//! > 9 / 3 = 3
//! > crashes: 1
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use ipc_manager::{ConnectionString, ErrorKind, Handle, Launched, Service, Spawn};

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(launched) = Launched::from_environment()? {
        // A panic is an error response, unless it is to end the service, as a crash would.
        let divide = launched.builder().catch_panics(false).on_typed_request(|_, (a, b): (i32, i32)| Ok(a / b));
        std::panic::set_hook(Box::new(|_| {}));
        std::process::exit(divide.run()?);
    }
    let mut bus = Spawn::builder().spawn()?;
    let mut asker = Handle::new("divide", bus.info())?;
    let mut service = start(bus.info())?;
    let mut crashes = 0;
    for (a, b) in [(10, 2), (1, 0), (9, 3)] {
        match asker.request("divide", &(a, b)) {
            Ok(answer) => println!("{a} / {b} = {answer}"),
            Err(error) if error.kind() == ErrorKind::PeerGone => {
                println!("{a} / {b}: {}", error.code());
                if let Some(ended) = service.wait(Some(Duration::from_secs(10))) {
                    crashes += 1;
                    println!("the service ended ({ended}); starting it again");
                    service = start(bus.info())?;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    println!("crashes: {crashes}");
    drop((asker, service));
    bus.shutdown()?;
    Ok(())
}

fn start(info: &ConnectionString) -> ipc_manager::Result<Handle> {
    Service::builder("divide").bus(info).exec().spawn()
}
