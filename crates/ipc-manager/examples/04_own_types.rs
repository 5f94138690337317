// SPDX-License-Identifier: MIT OR Apache-2.0
//! Contents of one's own types, and what a content of another shape does.
//!
//! > 3 apples
//! > deserialize: not an order: "pears, please"
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use ipc_manager::Spawn;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    item: String,
    count: u32,
}

fn main() -> Result<(), ipc_manager::Error> {
    let bus = Spawn::builder().protocol("LocalMemory").spawn()?;
    let mut shop = bus.connect("shop")?;
    let mut customer = bus.connect("customer")?;

    customer.typed().send("shop", &Order { item: "apples".into(), count: 3 })?;
    customer.send("shop", "pears, please")?;

    let (_, order) = shop.typed::<Order>().recv()?;
    println!("{} {}", order.count, order.item);
    if let Err(error) = shop.typed::<Order>().recv() {
        // The message is handed back; nothing is lost for having another shape.
        println!("{}: not an order: {}", error.kind(), error.messages()[0].content());
    }
    Ok(())
}
