// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the fuzz targets for longer than a test does.

use std::path::Path;
use std::process::Command;

const USAGE: &str = "usage: cargo xtask fuzz [--minutes M] [PART OF A TARGET'S NAME]";

/// Each target goes on for so many minutes, as many at once as there are processors; one minute unless told otherwise.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let (mut minutes, mut target) = (1.0, String::new());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--minutes" => {
                let given = arguments.next().and_then(|given| given.parse().ok());
                minutes = given.filter(|minutes| (0.01..1e6).contains(minutes)).ok_or(USAGE)?;
            }
            part if target.is_empty() && !part.starts_with('-') => target = part.to_owned(),
            _ => return Err(USAGE.into()),
        }
    }
    let seconds = (minutes * 60.0_f64).ceil().to_string();
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let filter = format!("fuzz::{target}");
    let status = Command::new(cargo)
        .args(["test", "--quiet", "--no-fail-fast", "--package", "ipc-manager", "--lib", "--test", "main", "--"])
        .args(["--nocapture", &filter])
        .env("IPCM_FUZZ_SECONDS", seconds)
        .current_dir(root)
        .status()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    if status.success() { Ok(()) } else { Err("what failed is in crates/ipc-manager/corpus now".into()) }
}
