// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm protocols`: every protocol, and what it promises.

use ipc_manager::Limits;
use serde::Serialize;

use crate::context::Context;
use crate::escape::escaped;
use crate::exit_code;
use crate::failure::Outcome;
use crate::output::table;

/// Every protocol keeps the order of each sender to each receiver; the client sees to it.
const ORDER: &str = "per sender";

#[derive(Serialize)]
struct Row {
    name: String,
    viable: bool,
    reason: Option<String>,
    automatic: bool,
    across_processes: bool,
    order: &'static str,
    suspend: bool,
    acknowledges: bool,
    groups: bool,
    wait: String,
    largest_message_bytes: usize,
    most_unread: Option<usize>,
    durability: String,
}

#[derive(Serialize)]
struct Document {
    protocols: Vec<Row>,
}

pub(crate) fn run(context: &mut Context) -> Outcome {
    let rows: Vec<Row> = context
        .registry
        .protocols()
        .map(|protocol| {
            let can = protocol.capabilities();
            let reason = protocol.viable().err().map(|reason| reason.to_string());
            Row {
                name: protocol.name().short(),
                viable: reason.is_none(),
                reason,
                automatic: can.automatic,
                across_processes: can.crosses_processes,
                order: ORDER,
                suspend: can.suspend,
                acknowledges: can.acknowledges,
                groups: can.groups,
                wait: can.wait.to_string(),
                largest_message_bytes: can.largest_payload.unwrap_or(usize::MAX).min(Limits::DEFAULT.encoded_bytes),
                most_unread: can.most_unread,
                durability: can.durability.to_string(),
            }
        })
        .collect();
    let document = Document { protocols: rows };
    context.out.either(&document, || text(&document.protocols))?;
    Ok(exit_code::DONE)
}

fn text(rows: &[Row]) -> String {
    let head = ["protocol", "viable", "processes", "order", "suspend", "acknowledge", "wait", "largest", "durability"];
    let mut cells = vec![head.map(str::to_owned).to_vec()];
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    for row in rows {
        cells.push(vec![
            row.name.clone(),
            row.reason.as_deref().map_or_else(|| "yes".to_owned(), |reason| format!("no: {}", escaped(reason))),
            if row.across_processes { "many" } else { "one" }.to_owned(),
            row.order.to_owned(),
            yes(row.suspend),
            yes(row.acknowledges),
            row.wait.clone(),
            format!("{} B", row.largest_message_bytes),
            row.durability.clone(),
        ]);
    }
    table(&cells)
}
