// SPDX-License-Identifier: MIT OR Apache-2.0
//! Typed requests: a service says what it can be asked, answers with values or errors, and never dies of either.
//!
//! > calculator 1.0 can: add, divide
//! > 2 + 3 = 5.0
//! > 7 / 2 = 3.5
//! > 1 / 0: there is no such number
//! > nonsense: a service error
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use ipc_manager::{Handle, Method, Service, Spawn};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Serialize, Deserialize)]
#[serde(tag = "method", content = "numbers", rename_all = "lowercase")]
enum Question {
    Add(Vec<f64>),
    Divide(f64, f64),
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut bus = Spawn::builder().spawn()?;
    let numbers = json!({"type": "array", "items": {"type": "number"}});
    let calculator = Service::builder("calculator")
        .bus(bus.info())
        .version("1.0")
        .method(Method::new("add").about("adds numbers").request(numbers))
        .method(Method::new("divide").about("divides a number by another"))
        // Who asks is told what went wrong, not only that something did.
        .expose_error_details(true)
        .on_typed_request(|_, question: Question| match question {
            Question::Add(numbers) => Ok(numbers.iter().sum::<f64>()),
            Question::Divide(_, 0.0) => Err("there is no such number".into()),
            Question::Divide(a, b) => Ok(a / b),
        });
    let mut service = calculator.spawn_thread()?;

    let mut asker = Handle::new("calculator", bus.info())?;
    let description = asker.describe("calculator", None)?;
    let methods: Vec<&str> = description.methods.iter().map(|method| method.name.as_str()).collect();
    println!("calculator {} can: {}", description.version.unwrap_or_default(), methods.join(", "));
    println!("2 + 3 = {}", asker.request("calculator", &Question::Add(vec![2.0, 3.0]))?);
    println!("7 / 2 = {}", asker.request("calculator", &Question::Divide(7.0, 2.0))?);
    let response = asker.request_within("calculator", &Question::Divide(1.0, 0.0), None)?;
    println!("1 / 0: {}", response.error().unwrap_or("an answer"));
    match asker.request("calculator", &"nonsense") {
        Err(error) if error.kind() == ipc_manager::ErrorKind::ServiceError => println!("nonsense: a service error"),
        other => println!("nonsense: {other:?}"),
    }
    drop(asker);
    service.terminate()?;
    drop(service);
    bus.shutdown()?;
    Ok(())
}
