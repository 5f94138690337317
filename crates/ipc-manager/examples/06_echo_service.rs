// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service in a process of its own: this program starts itself, and asks.
//!
//! > echo: ping
//! > echo: {"a":[1,2]}
//! > another process answered: true
//! > the service ended: exit status: 0
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use ipc_manager::{Launched, Reply, Service};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    // The started program finds out that it is the service. The callbacks are its own to bring.
    if let Some(launched) = Launched::from_environment()? {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let echo = move |_: &mut Service, request: &ipc_manager::Request| {
            Ok(Reply::new(&format!("echo: {}", text(request.value())))?)
        };
        std::process::exit(launched.builder().on_request(echo).run()?);
    }
    // Without a bus of the caller's it gets a new one, which ends with the handle.
    let mut handle = Service::builder("echo").exec().spawn()?;
    for value in [json!("ping"), json!({"a": [1, 2]})] {
        println!("{}", handle.request("echo", &value)?.as_str().unwrap_or_default());
    }
    println!("another process answered: {}", handle.service_pid()? != Some(std::process::id()));
    handle.terminate()?;
    if let Some(ended) = handle.wait(Some(Duration::from_secs(10))) {
        println!("the service ended: {ended}");
    }
    Ok(())
}
