// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm stats`: the counters that clients have stored.

use std::collections::{BTreeMap, BTreeSet};

use ipc_manager::{Observer, Stats};
use serde::Serialize;

use crate::args::OnlyBus;
use crate::context::Context;
use crate::escape::escaped;
use crate::exit_code;
use crate::failure::Outcome;
use crate::output::table;

#[derive(Serialize)]
struct Document {
    stats: BTreeMap<String, Stats>,
}

pub(crate) fn run(context: &mut Context, args: &OnlyBus) -> Outcome {
    let info = context.choose_bus(&args.bus)?;
    let stats = Observer::with_registry(&info, &context.registry)?.stats()?;
    let document = Document { stats: stats.into_iter().map(|(name, stats)| (name.to_string(), stats)).collect() };
    context.out.either(&document, || text(&document.stats))?;
    if document.stats.is_empty() {
        context.out.banner("no client has stored counters yet; they do when they leave");
    }
    Ok(exit_code::DONE)
}

/// One row per pair: what the one counted as sent, what the other counted as read.
fn text(stats: &BTreeMap<String, Stats>) -> String {
    let mut pairs = BTreeSet::new();
    for (name, counts) in stats {
        pairs.extend(counts.sent.keys().map(|to| (name.as_str(), to.as_str())));
        pairs.extend(counts.read.keys().map(|from| (from.as_str(), name.as_str())));
    }
    if pairs.is_empty() {
        return String::new();
    }
    let mut rows = vec![["from", "to", "sent", "read"].map(str::to_owned).to_vec()];
    for (from, to) in pairs {
        let sent = stats.get(from).and_then(|counts| counts.sent.get(to)).copied().unwrap_or(0);
        let read = stats.get(to).and_then(|counts| counts.read.get(from)).copied().unwrap_or(0);
        rows.push(vec![escaped(from), escaped(to), sent.to_string(), read.to_string()]);
    }
    table(&rows)
}
