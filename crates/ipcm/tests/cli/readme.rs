// SPDX-License-Identifier: MIT OR Apache-2.0
//! What README.md shows of the shell is what happens.

use std::path::Path;

use crate::bench::Bench;

/// The shell blocks of the README, each with the output that follows it.
fn examples() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut examples = Vec::new();
    let mut rest = text.as_str();
    while let Some((_, block)) = rest.split_once("```sh\n") {
        let (script, after) = block.split_once("```\n").unwrap();
        let output = after.strip_prefix("```text\n").expect("a shell block is followed by its output");
        let (output, after) = output.split_once("```").unwrap();
        examples.push((script.to_owned(), output.to_owned()));
        rest = after;
    }
    examples
}

#[test]
fn the_shell_lines_of_the_readme_do_what_it_says() {
    let examples = examples();
    assert!(!examples.is_empty());
    for (script, expected) in examples {
        let bench = Bench::new();
        let folder = Path::new(env!("CARGO_BIN_EXE_ipcm")).parent().unwrap().to_str().unwrap();
        let done = bench.shell(&format!("PATH={folder}:$PATH\n{script}"));
        assert_eq!(done.code(), 0, "{}", done.shown());
        assert_eq!(done.stdout, expected, "{script}");
        assert_eq!(bench.left(), [""; 0], "{script}");
    }
}
