// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm audit`: what was sent against what was read, as far as clients have stored their counters.

use ipc_manager::Observer;

use crate::args::OnlyBus;
use crate::commands::make::{AuditDocument, audit_text};
use crate::context::Context;
use crate::exit_code;
use crate::failure::Outcome;

pub(crate) fn run(context: &mut Context, args: &OnlyBus) -> Outcome {
    let info = context.choose_bus(&args.bus)?;
    let audit = Observer::with_registry(&info, &context.registry)?.audit()?;
    context.out.either(&AuditDocument::new(&audit), || audit_text(&audit))?;
    Ok(if audit.is_balanced() { exit_code::DONE } else { exit_code::AUDIT })
}
