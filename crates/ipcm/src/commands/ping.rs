// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm ping`: how long a service takes to answer.

use serde_json::json;

use crate::commands::asking::handle;
use crate::context::Context;
use crate::escape::escaped;
use crate::exit_code;
use crate::failure::Outcome;
use crate::service_args::PingArgs;
use crate::signals::Signals;

pub(crate) fn run(context: &mut Context, args: &PingArgs) -> Outcome {
    let mut handle = handle(context, &args.bus, &args.name, &args.service)?;
    let signals = Signals::catch()?;
    for _ in 0..args.count {
        let took = handle.ping(&args.service, Some(args.timeout))?.as_secs_f64();
        let document = json!({"peer": args.service, "seconds": took});
        context.out.either(&document, || format!("{}: {:.3} ms", escaped(&args.service), took * 1e3))?;
        if let Some(signal) = signals.pending() {
            return Ok(exit_code::of_signal(signal));
        }
    }
    Ok(exit_code::DONE)
}
