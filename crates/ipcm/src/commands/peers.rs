// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm peers`: who is on the bus. Looking does not join it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ipc_manager::{Observer, PeerRecord, PeerState};
use serde::Serialize;

use crate::args::PeersArgs;
use crate::context::Context;
use crate::escape::escaped;
use crate::exit_code;
use crate::failure::Outcome;
use crate::output::table;

#[derive(Serialize, PartialEq)]
struct Row {
    name: String,
    pid: Option<u32>,
    state: String,
    until: Option<f64>,
    unread: Option<u64>,
}

#[derive(Serialize, PartialEq)]
struct Document {
    peers: Vec<Row>,
}

impl Document {
    fn of(records: &[PeerRecord]) -> Self {
        let row = |record: &PeerRecord| Row {
            name: record.name.to_string(),
            pid: record.pid,
            state: record.state.to_string(),
            until: until(record.state).map(seconds),
            unread: record.unread,
        };
        Self { peers: records.iter().map(row).collect() }
    }

    fn text(&self) -> String {
        if self.peers.is_empty() {
            return String::new();
        }
        let mut rows = vec![["name", "pid", "state", "unread"].map(str::to_owned).to_vec()];
        let shown = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        for peer in &self.peers {
            let left = peer.until.map(|until| until - seconds(SystemTime::now()));
            let state = match left {
                None => peer.state.clone(),
                Some(left) if left > 0.0 => format!("{}, {left:.0} s left", peer.state),
                Some(_) => format!("{}, overdue", peer.state),
            };
            rows.push(vec![escaped(&peer.name), shown(peer.pid.map(u64::from)), state, shown(peer.unread)]);
        }
        table(&rows)
    }
}

pub(crate) fn run(context: &mut Context, args: &PeersArgs) -> Outcome {
    let info = context.choose_bus(&args.bus)?;
    let mut bus = Observer::with_registry(&info, &context.registry)?;
    if args.names {
        let peers = bus.peers()?;
        let names: Vec<String> =
            peers.iter().filter(|peer| peer.state.is_listed()).map(|peer| escaped(peer.name.as_str()) + "\n").collect();
        context.out.bytes(names.concat().as_bytes())?;
        return Ok(exit_code::DONE);
    }
    let mut shown = Document::of(&bus.peers()?);
    context.out.either(&shown, || shown.text())?;
    if shown.peers.is_empty() {
        context.out.banner("nobody is on the bus");
    }
    if !args.watch {
        return Ok(exit_code::DONE);
    }
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let changed = bus.wait_for_change(left)?;
        let now = Document::of(&bus.peers()?);
        if now != shown {
            shown = now;
            context.out.either(&shown, || format!("\n{}", shown.text()))?;
        }
        if !changed && deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(exit_code::DONE);
        }
    }
}

/// Until when others wait for a suspended peer.
fn until(state: PeerState) -> Option<SystemTime> {
    match state {
        PeerState::Suspended { until } => until,
        _ => None,
    }
}

/// A time as seconds since the epoch; one before it counts as the epoch.
fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
