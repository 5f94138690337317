// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask torture`: real processes over one protocol or all, killed, stopped and starved as a seed says; then a
//! table of what became of every acknowledged message.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const USAGE: &str = "usage: cargo xtask torture [--protocol NAME]... [--all] [--seed N] [--seconds S | --minutes M] \
                     [--json] [--plan] [--keep DIRECTORY]\n\n\
                     Without --protocol all are tortured, one after the other, for a minute each. --plan prints the \
                     faults of a seed instead. --keep keeps the journals.";

/// What was asked for, as the suite is told it.
struct Asked {
    protocols: Vec<String>,
    seed: Option<u64>,
    seconds: u64,
    json: bool,
    plan: bool,
    keep: Option<String>,
}

pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let asked = parse(arguments)?;
    let random = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_secs() % 1_000_000);
    let protocols: Vec<String> = asked.protocols.iter().map(|name| quoted(name)).collect();
    let told = format!(
        "{{\"protocols\":[{}],\"seed\":{},\"seconds\":{},\"json\":{},\"plan\":{},\"keep\":{}}}",
        protocols.join(","),
        asked.seed.unwrap_or_else(random),
        asked.seconds,
        asked.json,
        asked.plan,
        asked.keep.as_deref().map_or("null".into(), quoted)
    );
    let status = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args(["test", "--quiet", "--package", "ipc-manager", "--test", "main"])
        .env("IPC_MANAGER_TORTURE", told)
        .current_dir(root)
        .status()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    if status.success() { Ok(()) } else { Err("a promise was broken, or the run could not be made".into()) }
}

/// As a JSON string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn parse(arguments: &[String]) -> Result<Asked, String> {
    let mut asked = Asked { protocols: Vec::new(), seed: None, seconds: 60, json: false, plan: false, keep: None };
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        let mut value = || rest.next().cloned().ok_or_else(|| USAGE.to_owned());
        let number = |text: String| text.parse::<u64>().map_err(|_| USAGE.to_owned());
        match option.as_str() {
            "--protocol" => asked.protocols.push(value()?),
            "--all" => asked.protocols.clear(),
            "--seed" => asked.seed = Some(number(value()?)?),
            "--seconds" => asked.seconds = number(value()?)?,
            "--minutes" => asked.seconds = number(value()?)? * 60,
            "--json" => asked.json = true,
            "--plan" => asked.plan = true,
            "--keep" => asked.keep = Some(value()?),
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(asked)
}
