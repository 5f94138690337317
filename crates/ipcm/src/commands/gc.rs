// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm gc`: removes what dead owners and dead peers left.

use ipc_manager::{Fate, Gc, GcReport, Leftover};
use serde::Serialize;

use crate::bus_choice;
use crate::context::Context;
use crate::escape::escaped;
use crate::exit_code;
use crate::failure::Outcome;
use crate::upkeep_args::GcArgs;

#[derive(Serialize)]
struct Document {
    dry_run: bool,
    leftovers: Vec<LeftoverDocument>,
    peers: Vec<String>,
}

#[derive(Serialize)]
struct LeftoverDocument {
    kind: String,
    protocol: Option<String>,
    path: String,
    fate: String,
    reason: Option<String>,
}

impl LeftoverDocument {
    fn new(left: &Leftover) -> Self {
        let reason = match &left.fate {
            Fate::Kept(reason) => Some(reason.clone()),
            _ => None,
        };
        Self {
            kind: left.kind.to_string(),
            protocol: left.protocol.clone(),
            path: left.path.to_string_lossy().into_owned(),
            fate: left.fate.to_string(),
            reason,
        }
    }
}

pub(crate) fn run(context: &mut Context, args: &GcArgs) -> Outcome {
    let info = if bus_choice::is_chosen(&args.bus) { Some(context.choose_bus(&args.bus)?) } else { None };
    let clean = |gc: Gc| gc.registry(context.registry.clone()).dry_run(args.dry_run).run();
    let places = if args.places.is_empty() { Gc::everywhere() } else { Gc::of_places(&args.places) };
    let GcReport { mut leftovers, mut peers } = clean(places)?;
    if let Some(info) = info {
        let report = clean(Gc::of_bus(&info));
        // That the bus is gone now is fine where it was found in a place before.
        let was_found =
            || leftovers.iter().any(|left| info.route().as_str().starts_with(&*left.path.to_string_lossy()));
        match report {
            Err(error) if error.kind() == ipc_manager::ErrorKind::NoSuchBus && was_found() => {}
            report => {
                let report = report?;
                peers.extend(report.peers);
                let is_new = |left: &Leftover| leftovers.iter().all(|known| known.path != left.path);
                let new: Vec<_> = report.leftovers.into_iter().filter(is_new).collect();
                leftovers.extend(new);
            }
        }
    }
    let is_kept = leftovers.iter().any(|left| matches!(left.fate, Fate::Kept(_)));
    let document = Document {
        dry_run: args.dry_run,
        leftovers: leftovers.iter().map(LeftoverDocument::new).collect(),
        peers: peers.iter().map(ToString::to_string).collect(),
    };
    context.out.either(&document, || text(&document))?;
    Ok(if is_kept { exit_code::FAILURE } else { exit_code::DONE })
}

fn text(document: &Document) -> String {
    let mut lines = Vec::new();
    for left in &document.leftovers {
        let protocol = left.protocol.as_ref().map(|protocol| format!(" of {protocol}")).unwrap_or_default();
        let reason = left.reason.as_ref().map(|reason| format!(": {}", escaped(reason))).unwrap_or_default();
        lines.push(format!("{}: {}{protocol} in {}{reason}\n", left.fate, left.kind, escaped(&left.path)));
    }
    let fate = if document.dry_run { "found" } else { "removed" };
    lines.extend(document.peers.iter().map(|peer| format!("{fate}: dead peer {}\n", escaped(peer))));
    if lines.is_empty() { "nothing was left\n".to_owned() } else { lines.concat() }
}
