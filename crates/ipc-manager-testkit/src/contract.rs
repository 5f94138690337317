// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of what each protocol guarantees, made from the clauses and the capabilities.

use std::fmt::Write as _;
use std::path::Path;

use ipc_manager::Durability;

use crate::{Subject, clauses};

/// Asks for the contract to be written or printed instead of compared.
const MODE: &str = "IPC_MANAGER_CONTRACT";

/// The contract as Markdown: capabilities, then clause by clause what each subject holds.
///
/// ```
/// use ipc_manager_testkit::{Subject, contract};
/// assert!(contract(&[Subject::new("MessageFiles")]).contains("order.per_sender"));
/// ```
#[must_use]
pub fn contract(subjects: &[Subject]) -> String {
    let mut text = String::from(
        "# What each protocol guarantees\n\n\
         Made from the conformance clauses by `cargo xtask contract`; do not edit. Each sentence below is a test that\n\
         runs over every protocol that it applies to: `cargo test --test main <clause>`.\n\n## Capabilities\n\n",
    );
    let protocols: Vec<String> = subjects.iter().map(|subject| subject.protocol_name().short()).collect();
    let rule = "| --- ".repeat(protocols.len());
    let _ = writeln!(text, "| | {} |\n| --- {rule}|", protocols.join(" | "));
    for (what, value) in CAPABILITIES {
        let values: Vec<String> = subjects.iter().map(|subject| value(&subject.capabilities())).collect();
        let _ = writeln!(text, "| {what} | {} |", values.join(" | "));
    }
    let mut theme = "";
    for clause in clauses() {
        let of = clause.id.split_once('.').map_or(clause.id, |(theme, _)| theme);
        if of != theme {
            theme = of;
            let _ = write!(text, "\n## {}\n\n| Clause | What holds | {} |\n", of, protocols.join(" | "));
            let _ = writeln!(text, "| --- | --- {rule}|");
        }
        let holds = |subject: &Subject| clause.not_applicable(&subject.capabilities()).unwrap_or("holds");
        let cells: Vec<&str> = subjects.iter().map(holds).collect();
        let _ = writeln!(text, "| `{}` | {} | {} |", clause.id, clause.text, cells.join(" | "));
    }
    text
}

type Row = (&'static str, fn(&ipc_manager::Capabilities) -> String);

const CAPABILITIES: [Row; 11] = [
    ("picked when nothing is asked for", |has| yes(has.automatic)),
    ("peers in different processes", |has| yes(has.crosses_processes)),
    ("suspend", |has| yes(has.suspend)),
    ("can be looked at without joining", |has| yes(has.observable)),
    ("largest payload", |has| has.largest_payload.map_or("as the bus".into(), |size| format!("{size} bytes"))),
    ("most unread messages of a peer", |has| match has.most_unread {
        // How much that is depends on the machine.
        _ if has.queues => "as the kernel has room".into(),
        Some(count) => count.to_string(),
        None => "no limit".into(),
    }),
    ("a message without room is held back", |has| yes(has.queues)),
    ("a message can stay until its reader acknowledges it", |has| yes(has.acknowledges)),
    ("a bus can be for a group of users", |has| yes(has.groups)),
    ("an acknowledged message can be made to outlive", |has| match has.durability {
        Durability::Process => "nothing".into(),
        Durability::Kernel => "every process".into(),
        _ => "a power cut; without asking, every process".into(),
    }),
    ("a reader is woken by", |has| has.wait.to_string()),
];

fn yes(claim: bool) -> String {
    if claim { "yes" } else { "no" }.into()
}

/// Compares the contract with a file, or writes or prints it if the environment says so.
pub(crate) fn check(subjects: &[Subject], file: &Path) -> Result<(), String> {
    let now = contract(subjects);
    match std::env::var(MODE).as_deref() {
        Ok("write") => std::fs::write(file, now).map_err(|error| format!("cannot write {}: {error}", file.display())),
        Ok("print") => {
            println!("{now}");
            Ok(())
        }
        _ => match std::fs::read_to_string(file) {
            Ok(there) if there == now => Ok(()),
            Ok(_) => Err(format!("{} is stale; `cargo xtask contract` makes it anew", file.display())),
            Err(error) => Err(format!("cannot read {}: {error}; `cargo xtask contract` makes it", file.display())),
        },
    }
}
