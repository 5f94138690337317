// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the commands that ask a service share.

use std::time::{Duration, Instant};

use ipc_manager::{Error, ErrorKind, Handle, RequestId, Response, Result};

use crate::args::{BusArgs, NameArgs};
use crate::bus_choice;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::signals::Signals;

/// How often a wait looks whether a signal came.
const SIGNAL_LOOK: Duration = Duration::from_millis(200);

/// Prepares to ask a service.
pub(crate) fn handle(context: &mut Context, bus: &BusArgs, name: &NameArgs, service: &str) -> Outcome<Handle> {
    let info = context.choose_bus(bus)?;
    let choice = bus_choice::name(name)?;
    Ok(Handle::with_registry(service, &info, context.registry.clone())?.named(&choice.name))
}

/// Waits a little for a service that is not there yet. That it does not come is found out by who asks it.
pub(crate) fn await_service(handle: &mut Handle, timeout: Duration, signals: &Signals) -> Result<()> {
    let name = handle.service_name().to_string();
    let deadline = Instant::now() + timeout;
    while handle.client()?.peer(&name)?.is_none() && signals.pending().is_none() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        handle.ready(Some(left.min(SIGNAL_LOOK)))?;
    }
    Ok(())
}

/// Waits for a response; a signal takes the request back.
pub(crate) fn await_response(
    handle: &mut Handle,
    id: &RequestId,
    since: Instant,
    timeout: Duration,
    signals: &Signals,
) -> Outcome<Response> {
    let deadline = since + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match handle.await_response(id, Some(left.min(SIGNAL_LOOK))) {
            Err(error) if error.kind() == ErrorKind::Timeout => {
                if let Some(signal) = signals.pending() {
                    handle.cancel(id)?;
                    let exit = crate::exit_code::of_signal(signal);
                    return Err(Failure::told("timeout", exit, "interrupted while waiting for the response"));
                }
                if Instant::now() >= deadline {
                    handle.cancel(id)?;
                    let detail = format!("no response came within {timeout:?}");
                    let service = handle.service_name().to_string();
                    return Err(Error::new(ErrorKind::Timeout, detail).during("request").about_peer(&service).into());
                }
            }
            response => return Ok(response?),
        }
    }
}
