// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm ready`: waits until a peer is there. Looking does not join the bus.

use std::time::Duration;

use ipc_manager::{Error, ErrorKind, Observer, PeerState};
use serde_json::json;

use crate::commands::watching::{Watched, watch};
use crate::context::Context;
use crate::escape::escaped;
use crate::exit_code;
use crate::failure::Outcome;
use crate::service_args::ReadyArgs;
use crate::signals::Signals;

/// How often to look all the same.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) fn run(context: &mut Context, args: &ReadyArgs) -> Outcome {
    let info = context.choose_bus(&args.bus)?;
    let signals = Signals::catch()?;
    let mut bus = Observer::with_registry(&info, &context.registry)?;
    let look = |bus: &mut Observer| {
        Ok(bus.peer(&args.peer)?.filter(|record| record.state == PeerState::Active).map(|record| record.pid))
    };
    match watch(&mut bus, &signals, args.timeout, LOOK, look)? {
        Watched::Seen(pid) => {
            let document = json!({"peer": args.peer, "ready": true, "pid": pid});
            context.out.either(&document, || format!("{} is ready", escaped(&args.peer)))?;
            Ok(exit_code::DONE)
        }
        Watched::Signal(signal) => Ok(exit_code::of_signal(signal)),
        Watched::TimedOut => {
            let waited = args.timeout.unwrap_or_default();
            let error = Error::new(ErrorKind::Timeout, format!("it was not there within {waited:?}"));
            Err(error.during("ready").about_peer(&args.peer).into())
        }
    }
}
