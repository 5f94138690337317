// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service that starts another on its own bus, and passes on what it is asked: once waiting for the answer, and once
//! not.
//!
//! > inner says "HELLO", outer passes it on
//! > in parts: "h" "e" "l" "l" "o"
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use ipc_manager::{Launched, Reply, Request, Service, ServiceResult};

fn main() -> Result<(), Box<dyn Error>> {
    match Launched::from_environment()? {
        Some(launched) if launched.name() == "outer" => {
            let outer = launched.builder().on_start(|service| {
                service.start_exec(Service::builder("inner").exec())?;
                Ok(())
            });
            std::process::exit(outer.on_request(pass_on).run()?);
        }
        Some(launched) => std::process::exit(launched.builder().on_request(shout).run()?),
        None => {}
    }
    let mut handle = Service::builder("outer").exec().spawn()?;
    println!("inner says {}, outer passes it on", handle.request("outer", &"hello")?);
    let id = handle.send_stream_request("inner", &"hello")?;
    let mut parts = Vec::new();
    loop {
        let part = handle.await_response(&id, None)?;
        if part.is_final() {
            break;
        }
        parts.push(part.value().to_string());
    }
    println!("in parts: {}", parts.join(" "));
    Ok(())
}

/// Asks the inner service; the answer comes to a callback, and this service goes on meanwhile.
fn pass_on(service: &mut Service, request: &Request) -> ServiceResult<Reply> {
    let ticket = request.ticket();
    service.peer("inner")?.send_request_with(request.value(), move |service, answer| {
        Ok(service.respond(&ticket, &answer?.into_value()?)?)
    })?;
    Ok(Reply::Later)
}

/// Answers in capitals; who takes an answer in parts is given its letters.
fn shout(service: &mut Service, request: &Request) -> ServiceResult<Reply> {
    let text: String = request.parse()?;
    if !request.takes_many() {
        return Ok(Reply::new(&text.to_uppercase())?);
    }
    for letter in text.chars() {
        service.respond_part(&request.ticket(), &letter)?;
    }
    Ok(Reply::null())
}
