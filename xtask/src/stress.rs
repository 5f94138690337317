// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running the conformance clauses again and again, and the load clauses with many messages: what happens once in
//! fifty runs is a bug, too.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// How often, unless said otherwise.
const RUNS: u32 = 50;

const USAGE: &str = "usage: cargo xtask stress [--protocol NAME] [--clause WORD] [--runs N] [--load MESSAGES]";

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
    let mut list = Command::new(&cargo);
    build(&mut list);
    let listed = list.args(["--", "--list"]).output().map_err(|error| format!("cargo cannot be run: {error}"))?;
    if !listed.status.success() {
        return Err(format!("the tests cannot be built\n{}", String::from_utf8_lossy(&listed.stderr)));
    }
    let filter = chosen(&asked, &String::from_utf8_lossy(&listed.stdout))?;
    for run in 1..=asked.runs {
        let mut command = Command::new(&cargo);
        build(&mut command);
        command.args(["--", "--quiet", &filter]);
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

/// What the names of the tests that were asked for have in common. Asking for none is an error that says what there is.
fn chosen(asked: &Asked, listed: &str) -> Result<String, String> {
    // A clause is `protocol::theme::name`, and each protocol has this one.
    let known: BTreeSet<&str> = listed.lines().filter_map(|line| Some(line.split_once("::order::")?.0)).collect();
    let plain = |name: &str| name.replace('_', "").to_lowercase();
    let protocol = match &*asked.protocol {
        "" => "",
        wanted => known.iter().find(|name| plain(name) == plain(wanted)).copied().ok_or_else(|| {
            let known: Vec<&str> = known.iter().copied().collect();
            format!("there is no protocol {wanted}; there are {}", known.join(", "))
        })?,
    };
    let filter = format!("{protocol}::{}", asked.clause);
    if listed.lines().any(|line| line.ends_with(": test") && line.contains(&filter)) {
        return Ok(filter);
    }
    let of_protocol =
        |line: &&str| line.split_once("::").is_some_and(|(first, _)| first == protocol || protocol.is_empty());
    let themes = listed.lines().filter(of_protocol).filter(|line| line.matches("::").count() == 2);
    let themes: BTreeSet<&str> = themes.filter_map(|line| line.split("::").nth(1)).collect();
    let themes: Vec<&str> = themes.into_iter().collect();
    Err(format!("no clause is called {}; they begin with one of {}", asked.clause, themes.join(", ")))
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

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "message_files::order::per_sender: test\nsqlite::order::per_sender: test\n\
                          sqlite::wait::wakes: test\nother: test\n";

    fn chosen_of(protocol: &str, clause: &str) -> Result<String, String> {
        chosen(&Asked { protocol: protocol.into(), clause: clause.into(), runs: 1, load: None }, LISTED)
    }

    #[test]
    fn asking_for_what_is_not_there_says_what_is() {
        assert_eq!(chosen_of("message_files", "order"), Ok("message_files::order".into()));
        assert_eq!(chosen_of("MessageFiles", ""), Ok("message_files::".into()));
        assert_eq!(chosen_of("", "wait::wakes"), Ok("::wait::wakes".into()));
        let error = chosen_of("atomic", "").unwrap_err();
        assert!(error.contains("message_files, sqlite"), "{error}");
        let error = chosen_of("sqlite", "wake").unwrap_err();
        assert!(error.contains("order, wait"), "{error}");
    }
}
