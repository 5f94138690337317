// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm broadcast`: one message to every peer.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::args::BroadcastArgs;
use crate::bus_choice;
use crate::commands::body::one;
use crate::commands::seat::Seat;
use crate::context::Context;
use crate::escape::escaped;
use crate::exit_code;
use crate::failure::Outcome;
use crate::output::table;
use crate::signals::Signals;

#[derive(Serialize)]
struct Part {
    sent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<PartError>,
}

#[derive(Serialize)]
struct PartError {
    code: &'static str,
    message: String,
}

#[derive(Serialize)]
struct Document {
    results: BTreeMap<String, Part>,
}

pub(crate) fn run(context: &mut Context, args: &BroadcastArgs) -> Outcome {
    let info = context.choose_bus(&args.bus)?;
    let choice = bus_choice::name(&args.name)?;
    let signals = Signals::catch()?;
    let content = one(&args.body, &signals)?;
    let mut seat = Seat::take(context, &info, &choice)?;
    let sent = seat.client.broadcast(&content);
    let left = seat.leave(context, &[], false);
    let mut results = BTreeMap::new();
    let mut exit = exit_code::NOTHING;
    for (name, result) in sent? {
        let failed = result.as_ref().err().map(|error| exit_code::of(error.kind()));
        exit = if exit == exit_code::NOTHING || exit == exit_code::DONE {
            failed.unwrap_or(exit_code::DONE)
        } else {
            exit
        };
        let part = match result {
            Ok(receipt) => Part { sent: true, receipt: Some(receipt.to_string()), error: None },
            Err(error) => {
                let error = PartError { code: error.code(), message: error.to_string() };
                Part { sent: false, receipt: None, error: Some(error) }
            }
        };
        results.insert(name.to_string(), part);
    }
    let document = Document { results };
    context.out.either(&document, || text(&document.results))?;
    if document.results.is_empty() {
        context.out.banner("nobody else is on the bus");
    }
    left?;
    Ok(exit)
}

fn text(results: &BTreeMap<String, Part>) -> String {
    let told = |part: &Part| match (&part.receipt, &part.error) {
        (Some(receipt), _) => receipt.clone(),
        (None, Some(error)) => escaped(&error.message),
        (None, None) => String::new(),
    };
    table(&results.iter().map(|(name, part)| vec![escaped(name), told(part)]).collect::<Vec<_>>())
}
