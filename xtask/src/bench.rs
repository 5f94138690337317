// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask bench`: `ipcm bench`, with the same bytes over the bare transports in turns with it.

use std::path::Path;
use std::process::Command;

/// Builds both programs for speed, wherever this one was built, and lets the one measure itself against the other.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<(), String> {
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--release", "--package", "ipcm", "--package", "xtask"])
        .current_dir(root)
        .status()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    if !built.success() {
        return Err("the programs cannot be built".into());
    }
    let own = std::env::current_exe().map_err(|error| format!("this program cannot be found: {error}"))?;
    let target = own.parent().and_then(Path::parent).ok_or("this program is in no target directory")?;
    let programs = target.join("release");
    if let Some((_, rest)) = arguments.split_first().filter(|(first, _)| *first == "--waiting") {
        let ended = Command::new(programs.join("xtask")).arg("waiting").args(rest).status();
        let ended = ended.map_err(|error| format!("the program for it cannot be run: {error}"))?;
        return if ended.success() { Ok(()) } else { Err(format!("{ended}")) };
    }
    let mut bench = Command::new(programs.join("ipcm"));
    bench.arg("bench").arg("--floor").arg(programs.join("xtask"));
    let chosen = |argument: &String| argument == "--all" || argument.starts_with("-p") || argument.starts_with("--pr");
    if !arguments.iter().any(chosen) {
        bench.arg("--all");
    }
    let ended = bench.args(arguments).status().map_err(|error| format!("ipcm cannot be run: {error}"))?;
    if ended.success() { Ok(()) } else { Err(format!("ipcm bench: {ended}")) }
}
