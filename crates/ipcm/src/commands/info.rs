// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm info`: what a connection string says.

use ipc_manager::{ErrorKind, Observer};
use serde::Serialize;

use crate::args::OnlyBus;
use crate::commands::make::BusDocument;
use crate::context::Context;
use crate::escape::escaped;
use crate::exit_code;
use crate::failure::Outcome;
use crate::output::table;

#[derive(Serialize)]
struct Document {
    #[serde(flatten)]
    bus: BusDocument,
    there: bool,
    peers: Option<usize>,
}

pub(crate) fn run(context: &mut Context, args: &OnlyBus) -> Outcome {
    let info = context.choose_bus(&args.bus)?;
    let mut missing = None;
    let peers = match Observer::with_registry(&info, &context.registry).and_then(|mut bus| bus.peers()) {
        Ok(peers) => Some(peers.iter().filter(|peer| peer.state.is_listed()).count()),
        Err(error) if error.kind() == ErrorKind::NoSuchBus => {
            missing = Some(error);
            None
        }
        Err(error) => return Err(error.into()),
    };
    let document = Document { bus: BusDocument::new(&info), there: peers.is_some(), peers };
    context.out.either(&document, || {
        let row = |key: &str, value: &str| vec![key.to_owned(), escaped(value)];
        let there = if peers.is_some() { "yes" } else { "no" };
        table(&[
            row("protocol", &info.protocol().short()),
            row("serializer", &info.serializer().short_name()),
            row("route", info.route().as_str()),
            row("there", there),
            row("peers", &peers.map_or("-".to_owned(), |count| count.to_string())),
        ])
    })?;
    missing.map_or(Ok(exit_code::DONE), |error| Err(error.into()))
}
