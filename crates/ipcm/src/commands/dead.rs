// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm dead`: messages that were handed out too often without being acknowledged.

use ipc_manager::{Client, ConnectionString};
use serde::Serialize;

use crate::bus_choice::NameChoice;
use crate::commands::seat::Seat;
use crate::context::Context;
use crate::escape::escaped;
use crate::exit_code;
use crate::failure::Outcome;
use crate::message_document::MessageDocument;
use crate::recv_args::{DeadCommand, DeadListArgs, DeadReviveArgs};

/// A dead message, and how often it was handed out.
#[derive(Serialize)]
struct DeadDocument<'a> {
    #[serde(flatten)]
    message: MessageDocument<'a>,
    attempts: u32,
}

#[derive(Serialize)]
struct Revived {
    revived: usize,
}

pub(crate) fn run(context: &mut Context, command: &DeadCommand) -> Outcome {
    match command {
        DeadCommand::List(args) => list(context, args),
        DeadCommand::Revive(args) => revive(context, args),
    }
}

fn list(context: &mut Context, args: &DeadListArgs) -> Outcome {
    let info = context.choose_bus(&args.bus)?;
    let dead = with_client(context, &info, |client| Ok(client.dead(&args.peer)?))?;
    for one in &dead {
        if let Some(message) = MessageDocument::new(&one.message) {
            context.out.document(&DeadDocument { message, attempts: one.attempts })?;
        }
    }
    Ok(if dead.is_empty() { exit_code::NOTHING } else { exit_code::DONE })
}

fn revive(context: &mut Context, args: &DeadReviveArgs) -> Outcome {
    let info = context.choose_bus(&args.bus)?;
    let out = context.out;
    let mut missing = 0;
    let revived = with_client(context, &info, |client| {
        if args.all {
            return Ok(client.revive_all(&args.peer)?);
        }
        for id in &args.ids {
            if !client.revive(&args.peer, id)? {
                out.note(&format!("ipcm: {} has no dead message {}", escaped(&args.peer), escaped(id)));
                missing += 1;
            }
        }
        Ok(args.ids.len() - missing)
    })?;
    context.out.either(&Revived { revived }, || format!("{revived} revived\n"))?;
    Ok(if revived == 0 || missing > 0 { exit_code::NOTHING } else { exit_code::DONE })
}

/// Does something as a peer that comes for it only.
fn with_client<T>(
    context: &Context,
    info: &ConnectionString,
    work: impl FnOnce(&mut Client) -> Outcome<T>,
) -> Outcome<T> {
    let mut seat = Seat::take(context, info, &NameChoice::of_this_process())?;
    let done = work(&mut seat.client);
    seat.leave(context, &[], false)?;
    done
}
