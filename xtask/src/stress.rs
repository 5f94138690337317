// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running the conformance clauses again and again, and the load clauses with many messages: what happens once in
//! fifty runs is a bug, too.

use std::path::Path;
use std::process::Command;

/// How often, unless said otherwise.
const RUNS: u32 = 50;

const USAGE: &str =
    "usage: cargo xtask stress [--protocol NAME_IN_SNAKE_CASE] [--clause WORD] [--runs N] [--load MESSAGES]";

/// What was asked for.
struct Asked {
    protocol: String,
    clause: String,
    runs: u32,
    load: Option<String>,
}

pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let asked = parse(arguments)?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let build = |command: &mut Command| {
        command.current_dir(root).args(["test", "--quiet", "--release", "--package", "ipc-manager", "--test", "main"]);
    };
    for run in 1..=asked.runs {
        let mut command = Command::new(&cargo);
        build(&mut command);
        command.args(["--", "--quiet", &format!("{}::{}", asked.protocol, asked.clause)]);
        if let Some(load) = &asked.load {
            command.env("IPC_MANAGER_LOAD", load);
        }
        let output = command.output().map_err(|error| format!("cargo cannot be run: {error}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            return Err(format!("run {run} failed\n{said}\n{}", String::from_utf8_lossy(&output.stderr)));
        }
        let result = said.lines().rev().find(|line| line.starts_with("test result:")).unwrap_or("it said nothing");
        println!("run {run} of {}: {result}", asked.runs);
        let is_told = |line: &&str| line.contains("acked ") || line.starts_with("told of ");
        for counted in said.lines().filter(is_told) {
            println!("  {counted}");
        }
    }
    Ok(())
}

fn parse(arguments: &[String]) -> Result<Asked, String> {
    let mut asked = Asked { protocol: String::new(), clause: String::new(), runs: RUNS, load: None };
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        let value = rest.next().ok_or_else(|| USAGE.to_owned())?.clone();
        match option.as_str() {
            "--protocol" => asked.protocol = value,
            "--clause" => asked.clause = value,
            "--runs" => asked.runs = value.parse().map_err(|_| USAGE.to_owned())?,
            "--load" => asked.load = Some(value.parse::<u64>().map_err(|_| USAGE.to_owned())?.to_string()),
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(asked)
}
