// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chores of this repository: `cargo xtask` lists them.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a chore does")]

mod bench;
mod contract;
mod examples;
mod floor;
mod fuzz;
mod rows;
mod stress;
mod tidy;
mod torture;
mod type_examples;
#[cfg(feature = "databases")]
mod waiting;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A chore: its name, what it does, and how.
type Chore = (&'static str, &'static str, fn(&Path, &[String]) -> Result<(), String>);

const CHORES: &[Chore] = &[
    ("tidy", "check the house rules that no compiler checks", tidy::check),
    ("formats-reviewed", "note in docs/formats.md that it fits the code that reads and writes", tidy::note_formats),
    ("contract", "write docs/contract.md anew from the conformance clauses", contract::write),
    ("examples", "run every example and compare what it prints with what its first lines say", examples::run),
    ("fuzz", "go on with each fuzz target for `--minutes M`; what fails is put into the corpus", fuzz::run),
    ("stress", "run conformance clauses many times, or with many messages; stops at the first failure", stress::run),
    ("rows", "the table of faults: what proves each row over each protocol, run now, and its counts", rows::run),
    ("torture", "injure real processes as a seed says, and account for every acknowledged message", torture::run),
    (
        "bench",
        "run `ipcm bench` beside the same bytes over the bare transports; takes its options, or `--waiting`",
        bench::run,
    ),
    #[cfg(feature = "databases")]
    ("waiting", "what `bench --waiting` runs once it is built for speed", waiting::run),
    ("floor-worker", "move bytes over the transport under a protocol, as `ipcm bench` orders", floor::work),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let wanted = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let Some((_, _, chore)) = CHORES.iter().find(|(name, ..)| *name == wanted) else {
        eprintln!("usage: cargo xtask CHORE\n");
        for (name, what, _) in CHORES {
            eprintln!("  {name:<18} {what}");
        }
        return ExitCode::from(2);
    };
    match chore(&root(), &rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{wanted}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The top of the repository.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_path_buf()
}
