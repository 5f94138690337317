// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm wait`: the one primitive that blocks. What ended the wait is in the exit status and in the document.

use std::time::{Duration, SystemTime};

use ipc_manager::{Client, Error, ErrorKind, Observer, PeerRecord, PeerState};
use serde_json::json;

use crate::bus_choice;
use crate::commands::seat::Seat;
use crate::commands::watching::{Watched, watch};
use crate::context::Context;
use crate::escape::escaped;
use crate::exit_code;
use crate::failure::{Failure, Outcome};
use crate::service_args::{Reason, WaitArgs};
use crate::signals::Signals;

/// How often to look where nothing tells: at peers, and at mailboxes.
const LOOK: Duration = Duration::from_secs(1);
/// The same, for messages, which tell an observer nothing.
const LOOK_INTO_MAILBOXES: Duration = Duration::from_millis(50);

pub(crate) fn run(context: &mut Context, args: &WaitArgs) -> Outcome {
    let info = context.choose_bus(&args.bus)?;
    let choice = bus_choice::name(&args.name)?;
    let signals = Signals::catch()?;
    let mut bus = Observer::with_registry(&info, &context.registry)?;
    // Only who waits for a message needs a mailbox.
    let wants_message = args.reasons.contains(&Reason::Message);
    let mut seat = if wants_message { Some(Seat::take(context, &info, &choice)?) } else { None };
    let every = if wants_message || args.reasons.contains(&Reason::Empty) { LOOK_INTO_MAILBOXES } else { LOOK };
    let waited = watch(&mut bus, &signals, args.timeout, every, |bus| {
        for reason in &args.reasons {
            if holds(reason, bus, seat.as_mut().map(|seat| &mut seat.client))? {
                return Ok(Some(reason.clone()));
            }
        }
        Ok(None)
    });
    let left = seat.map_or(Ok(()), |seat| seat.leave(context, &[], true));
    let waited = waited?;
    left?;
    match waited {
        Watched::Seen(reason) => {
            context.out.either(&document(&reason), || text(&reason))?;
            // Who waited for something else as well did not get it.
            let is_gone = matches!(reason, Reason::Gone(_)) && args.reasons.iter().any(|other| !is_gone(other));
            Ok(if is_gone { exit_code::PEER_GONE } else { exit_code::DONE })
        }
        Watched::Signal(signal) => Ok(exit_code::of_signal(signal)),
        Watched::TimedOut => {
            let detail = format!("nothing of it happened within {:?}", args.timeout.unwrap_or_default());
            Err(Failure::from(Error::new(ErrorKind::Timeout, detail).during("wait")))
        }
    }
}

fn is_gone(reason: &Reason) -> bool {
    matches!(reason, Reason::Gone(_))
}

fn holds(reason: &Reason, bus: &mut Observer, client: Option<&mut Client>) -> ipc_manager::Result<bool> {
    Ok(match reason {
        Reason::Message => client.map_or(Ok(false), Client::is_ready)?,
        Reason::Peer(name) => bus.peer(name)?.is_some_and(|record| record.state == PeerState::Active),
        Reason::Gone(name) => bus.peer(name)?.is_none_or(|record| is_away(&record)),
        Reason::Empty => {
            let live = bus.peers()?.into_iter().filter(|peer| peer.state.is_alive());
            live.filter_map(|peer| peer.unread).sum::<u64>() == 0
        }
    })
}

/// Whether a peer is dead, or suspended past its deadline.
fn is_away(record: &PeerRecord) -> bool {
    match record.state {
        PeerState::Dead => true,
        PeerState::Suspended { until } => until.is_some_and(|until| until <= SystemTime::now()),
        _ => false,
    }
}

fn document(reason: &Reason) -> serde_json::Value {
    match reason {
        Reason::Message => json!({"reason": "message", "peer": null}),
        Reason::Peer(name) => json!({"reason": "peer", "peer": name}),
        Reason::Gone(name) => json!({"reason": "gone", "peer": name}),
        Reason::Empty => json!({"reason": "empty", "peer": null}),
    }
}

fn text(reason: &Reason) -> String {
    match reason {
        Reason::Message => "a message is there".into(),
        Reason::Peer(name) => format!("{} is there", escaped(name)),
        Reason::Gone(name) => format!("{} is gone", escaped(name)),
        Reason::Empty => "every mailbox was read".into(),
    }
}
