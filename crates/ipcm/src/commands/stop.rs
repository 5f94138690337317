// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm stop`: ends a bus.

use std::time::{Duration, Instant};

use ipc_manager::{ConnectionString, ErrorKind, Observer, Spawn};

use crate::args::StopArgs;
use crate::commands::make::{AuditDocument, audit_exit, audit_text, signal};
use crate::context::Context;
use crate::exit_code;
use crate::failure::Outcome;
use crate::signals::{Signals, Woken};

/// How long to wait for mailboxes to be read, unless told.
const DRAIN: Duration = Duration::from_secs(5);
/// How soon to look at the mailboxes again, at first and at last. Nothing tells a bystander that one was read.
const LOOK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

pub(crate) fn run(context: &mut Context, args: &StopArgs) -> Outcome {
    let info = context.choose_bus(&args.bus)?;
    let asked = args.signal.as_deref().map(signal).transpose()?;
    let mut bus = Spawn::adopt_with(&info, context.registry.clone())?;
    bus.set_signal(asked);
    // From here on a signal ends the wait for mailboxes; ending the bus has a time limit of its own.
    let signals = Signals::catch()?;
    if args.drain {
        drain(context, &info, args.timeout.unwrap_or(DRAIN), &signals)?;
    }
    if let Some(signal) = signals.pending() {
        context.out.note("ipcm: interrupted; the bus was left as it is");
        return Ok(exit_code::of_signal(signal));
    }
    if let Some(timeout) = args.timeout {
        bus.set_peer_timeout(timeout);
    }
    let audit = bus.shutdown()?;
    context.out.either(&AuditDocument::new(&audit), || audit_text(&audit))?;
    Ok(audit_exit(&audit))
}

/// Waits until every live peer has read its mailbox, as far as the protocol can tell.
fn drain(context: &Context, info: &ConnectionString, timeout: Duration, signals: &Signals) -> Outcome<()> {
    let deadline = Instant::now() + timeout;
    let mut bus = Observer::with_registry(info, &context.registry)?;
    let mut pause = LOOK.0;
    loop {
        let peers = match bus.peers() {
            Ok(peers) => peers,
            // Its owner ended it meanwhile; the caller's next step says so.
            Err(error) if error.kind() == ErrorKind::NoSuchBus => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let live = peers.iter().filter(|peer| peer.state.is_alive());
        let waiting: u64 = live.filter_map(|peer| peer.unread).sum();
        let left = deadline.saturating_duration_since(Instant::now());
        if waiting == 0 {
            return Ok(());
        }
        if left.is_zero() {
            context.out.note(&format!("ipcm: {waiting} messages were still unread when the time was up"));
            return Ok(());
        }
        if let Woken::Signal(_) = signals.wait(&[], false, Some(pause.min(left)))? {
            return Ok(());
        }
        pause = (pause * 2).min(LOOK.1);
    }
}
