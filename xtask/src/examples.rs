// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs every example: programs of the library, and scripts of the command. What an example prints stands at its top,
//! in lines that begin with `//! > `, or `# > ` in a script.

use std::path::Path;
use std::process::Command;

const FOLDER: &str = "crates/ipc-manager/examples";
const SCRIPTS: &str = "crates/ipcm/examples";

pub(crate) fn run(root: &Path, _: &[String]) -> Result<(), String> {
    programs(root)?;
    scripts(root)
}

fn programs(root: &Path) -> Result<(), String> {
    let folder = root.join(FOLDER);
    let listed = std::fs::read_dir(&folder).map_err(|error| format!("{FOLDER} cannot be read: {error}"))?;
    let mut examples: Vec<_> = listed.flatten().map(|entry| entry.path()).collect();
    examples.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    examples.sort();
    for path in &examples {
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        compare(name, &text, "//! > ", &output_of(root, name)?)?;
        println!("{name}: as expected");
    }
    Ok(())
}

/// Runs the scripts with the command built from this tree.
fn scripts(root: &Path) -> Result<(), String> {
    let folder = root.join(SCRIPTS);
    let listed = std::fs::read_dir(&folder).map_err(|error| format!("{SCRIPTS} cannot be read: {error}"))?;
    let mut scripts: Vec<_> = listed.flatten().map(|entry| entry.path()).collect();
    scripts.sort();
    let ipcm = command_of(root)?;
    for path in &scripts {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        let output = Command::new(path).env("IPCM", &ipcm).env_remove("IPCM_BUS").current_dir(root).output();
        let output = output.map_err(|error| format!("{name} cannot be run: {error}"))?;
        if !output.status.success() {
            return Err(format!("{name} failed: {}", String::from_utf8_lossy(&output.stderr)));
        }
        compare(name, &text, "# > ", &String::from_utf8_lossy(&output.stdout))?;
        println!("{name}: as expected");
    }
    Ok(())
}

/// Builds the command, and says where it is.
fn command_of(root: &Path) -> Result<String, String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--package", "ipcm", "--message-format", "json"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let executable = |line: &str| {
        let rest = line.split_once(r#""executable":""#)?.1;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let found = said.lines().filter_map(executable).next_back();
    found.ok_or_else(|| format!("ipcm cannot be built: {}", String::from_utf8_lossy(&output.stderr)))
}

fn compare(name: &str, text: &str, mark: &str, printed: &str) -> Result<(), String> {
    let expected: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(mark)).collect();
    if expected.is_empty() {
        return Err(format!("{name}: it does not say at its top what it prints, in lines that begin with `{mark}`"));
    }
    if !printed.lines().eq(expected.iter().copied()) {
        return Err(format!("{name} printed\n{printed}\nand its top says\n{}", expected.join("\n")));
    }
    Ok(())
}

fn output_of(root: &Path, name: &str) -> Result<String, String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["run", "--quiet", "--package", "ipc-manager", "--example", name])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name} failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
