// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs every example of the library. What an example prints stands at its top, in lines that begin with `//! > `.

use std::path::Path;
use std::process::Command;

const FOLDER: &str = "crates/ipc-manager/examples";

pub(crate) fn run(root: &Path, _: &[String]) -> Result<(), String> {
    let folder = root.join(FOLDER);
    let listed = std::fs::read_dir(&folder).map_err(|error| format!("{FOLDER} cannot be read: {error}"))?;
    let mut examples: Vec<_> = listed.flatten().map(|entry| entry.path()).collect();
    examples.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    examples.sort();
    for path in &examples {
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        let expected: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("//! > ")).collect();
        if expected.is_empty() {
            return Err(format!(
                "{name}: it does not say at its top what it prints, in lines that begin with `//! > `"
            ));
        }
        let printed = output_of(root, name)?;
        if !printed.lines().eq(expected.iter().copied()) {
            return Err(format!("{name} printed\n{printed}\nand its top says\n{}", expected.join("\n")));
        }
        println!("{name}: as expected");
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
