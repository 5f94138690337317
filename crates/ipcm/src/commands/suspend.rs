// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm suspend`: leaves a durable name behind.

use std::time::SystemTime;

use ipc_manager::{Client, Error, ErrorKind, Suspend};
use serde::Serialize;

use crate::args::SuspendArgs;
use crate::context::Context;
use crate::escape::escaped;
use crate::exit_code;
use crate::failure::Outcome;

#[derive(Serialize)]
struct Document<'a> {
    name: &'a str,
    state: &'static str,
    until: Option<f64>,
}

pub(crate) fn run(context: &mut Context, args: &SuspendArgs) -> Outcome {
    let info = context.choose_bus(&args.bus)?;
    let protocol = context.registry.find(info.protocol())?;
    if !protocol.capabilities().suspend {
        let detail = format!("the protocol {} cannot keep a mailbox without a process", info.protocol().short());
        return Err(Error::new(ErrorKind::Unsupported, detail).about_peer(&args.peer).into());
    }
    let mut client = Client::builder(&args.peer, &info).registry(context.registry.clone()).join()?;
    let until = args.expires.map(|expires| SystemTime::now() + expires);
    client.suspend(until.map_or_else(Suspend::open_ended, Suspend::until))?;
    let until = until.and_then(|until| until.duration_since(SystemTime::UNIX_EPOCH).ok());
    let document = Document { name: &args.peer, state: "suspended", until: until.map(|since| since.as_secs_f64()) };
    context.out.either(&document, || format!("{} is suspended", escaped(&args.peer)))?;
    Ok(exit_code::DONE)
}
