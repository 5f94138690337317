// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two peers and one message.
//!
//! > b got {"hello":"world"} from a
//! > 1 sent, 1 read, nothing lost
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use ipc_manager::{Spawn, connect};

fn main() -> Result<(), ipc_manager::Error> {
    let mut bus = Spawn::builder().protocol("MessageFiles").spawn()?;
    let mut a = connect("a", bus.info())?;
    let mut b = connect("b", bus.info())?;

    a.send("b", &serde_json::json!({"hello": "world"}))?;
    let message = b.recv()?;
    println!("b got {} from {}", message.content(), message.from());

    drop((a, b));
    println!("{}", bus.shutdown()?);
    Ok(())
}
