// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm request`: asks a service and prints what it answers.

use std::time::Instant;

use ipc_manager::{Error, ErrorKind, Response};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::commands::asking::{await_response, await_service, handle};
use crate::commands::body::one;
use crate::context::Context;
use crate::escape::escaped_json;
use crate::exit_code;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::service_args::RequestArgs;
use crate::signals::Signals;

/// A response, as documents tell of it.
#[derive(Serialize)]
struct Document<'a> {
    id: String,
    from: &'a str,
    response: &'a RawValue,
    #[serde(rename = "final")]
    is_final: bool,
}

pub(crate) fn run(context: &mut Context, args: &RequestArgs) -> Outcome {
    let mut handle = handle(context, &args.bus, &args.name, &args.service)?.timeout(args.timeout);
    let signals = Signals::catch()?;
    // What cannot be sent is refused before anything is touched.
    let content = one(&args.body, &signals)?;
    let begun = Instant::now();
    await_service(&mut handle, args.wait.min(args.timeout), &signals)?;
    let sent = match args.stream {
        true => handle.send_stream_request(&args.service, &content),
        false => handle.send_request(&args.service, &content),
    };
    let id = sent.map_err(|error| match error.kind() {
        ErrorKind::NoSuchPeer => Failure::from(error).hint("`ipcm peers` lists who is there; --wait 5s waits for it"),
        _ => Failure::from(error),
    })?;
    // Each of several responses has all the time.
    let mut begun = begun;
    loop {
        let response = await_response(&mut handle, &id, begun, args.timeout, &signals)?;
        begun = Instant::now();
        if let Some(words) = response.error() {
            let words = if words.trim().is_empty() { "the service answered with an error" } else { words.trim_end() };
            let error = Error::new(ErrorKind::ServiceError, words).about_peer(response.from().as_str());
            return Err(error.into());
        }
        print(context.out, args, &response)?;
        if response.is_final() {
            return Ok(exit_code::DONE);
        }
    }
}

fn print(out: Output, args: &RequestArgs, response: &Response) -> Outcome<()> {
    let json = response.as_json();
    if out.json
        && let Ok(value) = serde_json::from_str::<&RawValue>(json)
    {
        let from = response.from().as_str();
        let id = response.id().to_string();
        return out.document(&Document { id, from, response: value, is_final: response.is_final() });
    }
    if args.raw
        && let Some(text) = response.value().as_str()
    {
        return out.bytes(text.as_bytes());
    }
    let json = if out.is_terminal() { escaped_json(json) } else { json.to_owned() };
    out.text(&json)
}
