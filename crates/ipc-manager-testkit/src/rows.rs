// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of faults: each row with the clauses and tests that prove it, run now, and what they counted.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::watchdog::Watched;
use crate::{Clause, Context, Sandbox, Subject, Test, clauses, tally};

/// Asks the suite for the table instead of tests, as JSON: `protocols`, `rows`, `json`.
const ASKED: &str = "IPC_MANAGER_ROWS";

/// A row: its number, the fault, and tests that prove it beside the clauses and tests that have its number.
struct Row {
    id: &'static str,
    fault: &'static str,
    also: &'static [&'static str],
}

const fn row(id: &'static str, fault: &'static str, also: &'static [&'static str]) -> Row {
    Row { id, fault, also }
}

const ROWS: [Row; 23] = [
    row("T01", "none: four senders at once, small and large", &[]),
    row("T02", "two peers send to each other before either reads", &[]),
    row("T03", "senders are killed at random, and at every system call", &[]),
    row("T04", "a receiver is killed with messages unread", &[]),
    row("T05", "a receiver is killed under load and replaced", &[]),
    row("T06", "a sender is killed with messages unread, a third peer sweeps", &[]),
    row("T07", "sends to a peer that was killed, left, or never was", &[]),
    row("T08", "a receiver is stopped under load, goes on, is killed", &[]),
    row("T09", "sizes up to the limit and past it", &[]),
    row("T10", "names of every kind", &[]),
    row("T11", "junk among good messages", &["hostile::"]),
    row("T12", "a full disk, drained, filled again", &["full_disk::"]),
    row("T13", "hundreds of clients", &[]),
    row("T14", "before, during and after a suspension", &[]),
    row("T15", "several after one name at once", &[]),
    row("T16", "an owner is killed, terminated, or ends in good order", &["owning::"]),
    row("T17", "signals 500 times a second", &[]),
    row("T18", "a dead peer's pid is another program's", &["a_strangers_pid"]),
    row("T19", "power is cut after the last acknowledgement", &[]),
    row("T20", "the store is removed under live clients", &[]),
    row("T21", "the server is restarted under load", &[]),
    row("T22", "another user tries everything; any umask", &["strangers::", "groups::"]),
    row("T23", "a mixed bus", &["foreign::"]),
];

/// Prints the table if the environment asks for it.
pub(crate) fn command(subjects: &[Subject], tests: &[Test]) -> Option<ExitCode> {
    let asked: Value = serde_json::from_str(&std::env::var(ASKED).ok()?).expect("what is asked for is JSON");
    let list = |key: &str| serde_json::from_value::<Vec<String>>(asked[key].clone()).unwrap_or_default();
    let (protocols, rows) = (list("protocols"), list("rows"));
    let mut proofs = Vec::new();
    let is_wanted = |of: &[String], names: &[&str]| of.is_empty() || of.iter().any(|one| names.contains(&one.as_str()));
    for row in ROWS.iter().filter(|row| is_wanted(&rows, &[row.id])) {
        let before = proofs.len();
        for subject in subjects.iter().filter(|subject| is_wanted(&protocols, &[subject.name(), subject.protocol()])) {
            proofs.extend(clauses().into_iter().filter_map(|clause| prove(row, subject, clause)));
        }
        if protocols.is_empty() {
            proofs.extend(tests.iter().filter_map(|test| prove_by_test(row, test)));
        }
        if proofs.len() == before {
            // Tests of no single protocol run only where none is named.
            let is_elsewhere = tests.iter().any(|test| is_of(row, test));
            let result = if is_elsewhere { "not asked for: run it without a protocol" } else { "NOT PROVEN" };
            proofs.push(json!({"row": row.id, "fault": row.fault, "protocol": "", "proof": "", "result": result}));
        }
    }
    let all_hold = proofs.iter().all(|proof| proof["result"] != "BROKEN");
    if asked["json"] == true {
        println!("{}", Value::from(proofs));
    } else {
        print(&proofs);
    }
    Some(if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn prove(row: &Row, subject: &Subject, clause: &Clause) -> Option<Value> {
    let applies = clause.source.contains(&row.id) && clause.not_applicable(&subject.capabilities()).is_none();
    let result = applies.then(|| match subject.can_run() {
        Err(reason) => (format!("skipped: {reason}"), [0; 7]),
        Ok(()) => run(clause.id, || (clause.run)(&Context::new(subject))),
    })?;
    Some(proof(row, subject.protocol(), clause.id, &result))
}

fn is_of(row: &Row, test: &Test) -> bool {
    let own = test.name.rsplit("::").next().unwrap_or_default();
    own.starts_with(&format!("{}_", row.id.to_lowercase())) || row.also.iter().any(|also| test.name.contains(also))
}

fn prove_by_test(row: &Row, test: &Test) -> Option<Value> {
    let result = is_of(row, test).then(|| match (test.can)() {
        Err(reason) => (format!("skipped: {reason}"), [0; 7]),
        Ok(()) => run(&test.name, || (test.run)(&Sandbox::new())),
    })?;
    Some(proof(row, "", &test.name, &result))
}

/// Runs it, and says whether it holds and what it counted.
fn run(name: &str, prove: impl FnOnce()) -> (String, tally::Counts) {
    eprintln!("{name}");
    let _watched = Watched::new(name);
    tally::take();
    let held = catch_unwind(AssertUnwindSafe(prove)).is_ok();
    (if held { "holds" } else { "BROKEN" }.into(), tally::take())
}

fn proof(row: &Row, protocol: &str, name: &str, (result, counts): &(String, tally::Counts)) -> Value {
    let mut proof = json!({"row": row.id, "fault": row.fault, "protocol": protocol, "proof": name, "result": result});
    // Many proofs count nothing: they compare.
    if counts.iter().any(|count| *count > 0) {
        proof["counts"] = counts.to_vec().into();
    }
    proof
}

fn print(proofs: &[Value]) {
    println!(
        "| row | fault | protocol | proof | result | acked | once | lost | twice | corrupt | out of order | hung |\n|{}",
        " --- |".repeat(12)
    );
    for proof in proofs {
        let text = |key: &str| proof[key].as_str().unwrap_or_default().to_owned();
        let count = |at: usize| proof["counts"].get(at).map_or(String::new(), Value::to_string);
        let counts: Vec<String> = (0..7).map(count).collect();
        let known = ["row", "fault", "protocol", "proof", "result"].map(text).join(" | ");
        println!("| {known} | {} |", counts.join(" | "));
    }
}
