// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run came to: a row of a table, or JSON.

use serde_json::{Value, json};

/// The columns of the table, and what each shows of a report.
const COLUMNS: [(&str, &str); 17] = [
    ("protocol", "protocol"),
    ("seed", "seed"),
    ("seconds", "seconds"),
    ("faults", "faults"),
    ("kills", "kills"),
    ("stops", "stops"),
    ("acked", "acked"),
    ("once", "once"),
    ("handed out again", "again"),
    ("lost by cause", "excused"),
    ("lost", "lost"),
    ("doubled", "doubled"),
    ("corrupt", "corrupt"),
    ("out of order", "out_of_order"),
    ("hung", "hung"),
    ("answered", "answered"),
    ("leftovers", "leftovers"),
];

/// The head of the table, as Markdown.
pub(super) fn head() -> String {
    let titles: Vec<&str> = COLUMNS.iter().map(|(title, _)| *title).collect();
    format!("| {} |\n|{}", titles.join(" | "), " --- |".repeat(COLUMNS.len()))
}

/// One row.
pub(super) fn row(report: &Value) -> String {
    let cell = |(_, key): &(&str, &str)| match &report[*key] {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.len().to_string(),
        Value::Object(causes) if *key == "excused" => {
            causes.values().filter_map(Value::as_u64).sum::<u64>().to_string()
        }
        other => other.to_string(),
    };
    format!("| {} |", COLUMNS.iter().map(cell).collect::<Vec<_>>().join(" | "))
}

/// What stands below the table for one report: causes, faults by kind, what cannot be injected, what broke.
pub(super) fn remarks(report: &Value) -> Vec<String> {
    let mut remarks = Vec::new();
    let protocol = report["protocol"].as_str().unwrap_or_default();
    for (key, what) in [("excused", "lost by cause"), ("injected", "faults")] {
        if let Some(counts) = report[key].as_object().filter(|counts| !counts.is_empty()) {
            let counts: Vec<String> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
            remarks.push(format!("{protocol}: {what}: {}", counts.join(", ")));
        }
    }
    for (key, what) in [("missing", "not injected here"), ("violations", "VIOLATED"), ("leftovers", "LEFT")] {
        let said = report[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        remarks.extend(said.map(|said| format!("{protocol}: {what}: {said}")));
    }
    remarks
}

/// Whether all held.
pub(super) fn held(report: &Value) -> bool {
    ["violations", "leftovers"].iter().all(|key| report[*key].as_array().is_some_and(Vec::is_empty))
}

/// What a run came to that did not come to its end.
pub(super) fn broken(protocol: &str, seed: u64, what: &str) -> Value {
    json!({"protocol": protocol, "seed": seed, "violations": [what], "leftovers": []})
}
