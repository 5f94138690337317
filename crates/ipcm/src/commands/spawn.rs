// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm spawn`: makes a bus, and guards it.

use ipc_manager::Observer;
use serde_json::json;

use crate::args::SpawnArgs;
use crate::commands::make::{AuditDocument, BusDocument, Making, audit_exit, audit_text, make};
use crate::context::Context;
use crate::exit_code;
use crate::failure::{Failure, Outcome};
use crate::signals::Signals;

pub(crate) fn run(context: &mut Context, args: &SpawnArgs) -> Outcome {
    // Before the bus is there, so that no signal can come in between and leave it behind.
    let signals = if args.keep { None } else { Some(Signals::catch()?) };
    context.share(args.group.as_deref())?;
    let making = Making {
        route: args.route.as_deref(),
        guard: !args.keep,
        signal: args.signal.as_deref(),
        timeout: args.timeout,
    };
    let mut bus = make(context, &args.make, &making)?;
    let info = bus.info().clone();
    if let Err(failure) = context.out.either(&BusDocument::new(&info), || info.to_string()) {
        // Nobody learnt of the bus, so nobody could ever end it.
        bus.unspawn()?;
        return Err(failure);
    }
    let Some(signals) = signals else { return Ok(exit_code::DONE) };
    context.out.banner("The bus stays until INT or TERM (Ctrl-C).");
    let end = Observer::with_registry(&info, &context.registry)
        .map_err(Failure::from)
        .and_then(|mut observer| signals.wait_for_end(&mut observer));
    if matches!(end, Ok(None)) {
        bus.unspawn()?;
        context.out.note_either(&json!({"removed": true}), || "the bus was removed by somebody else".into());
        return Ok(exit_code::DONE);
    }
    let audit = bus.shutdown()?;
    context.out.note_either(&AuditDocument::new(&audit), || audit_text(&audit));
    end?;
    Ok(audit_exit(&audit))
}
