// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask rows`: the table of faults, each with the clauses and tests that prove it, run now, and their counts.

use std::path::Path;
use std::process::Command;

const USAGE: &str = "usage: cargo xtask rows [--protocol NAME]... [--row T01]... [--json]";

pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let (mut protocols, mut rows, mut json) = (Vec::new(), Vec::new(), false);
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        match option.as_str() {
            "--json" => json = true,
            "--protocol" | "--row" => {
                let value = format!("{:?}", rest.next().ok_or(USAGE)?);
                if option == "--row" { rows.push(value) } else { protocols.push(value) }
            }
            _ => return Err(USAGE.into()),
        }
    }
    let told = format!("{{\"protocols\":[{}],\"rows\":[{}],\"json\":{json}}}", protocols.join(","), rows.join(","));
    let status = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(["test", "--quiet", "--package", "ipc-manager", "--test", "main"])
        .env("IPC_MANAGER_ROWS", told)
        .current_dir(root)
        .status()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    if status.success() { Ok(()) } else { Err("a row is broken, or the table could not be made".into()) }
}
