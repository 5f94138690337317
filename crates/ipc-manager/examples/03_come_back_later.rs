// SPDX-License-Identifier: MIT OR Apache-2.0
//! A peer leaves for a while, and its mail waits.
//!
//! > stored
//! > stored
//! > read later: "first"
//! > read later: "second"
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use ipc_manager::{Spawn, Suspend};

fn main() -> Result<(), ipc_manager::Error> {
    let bus = Spawn::builder().protocol("MessageFiles").spawn()?;
    let mut sender = bus.connect("sender")?;
    let mut reader = bus.connect("reader")?;
    reader.suspend(Suspend::within(Duration::from_secs(60)))?;

    // The receipt says that nobody is there to read them now.
    println!("{}", sender.send("reader", "first")?);
    println!("{}", sender.send("reader", "second")?);

    let mut reader = bus.reconnect("reader")?;
    while let Some(message) = reader.try_recv()? {
        println!("read later: {}", message.content());
    }
    Ok(())
}
