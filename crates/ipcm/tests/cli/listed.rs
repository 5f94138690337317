// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must not be forgotten: a test file in the list, a word of help for everything.

use std::fs;
use std::path::Path;

use crate::bench::Bench;

#[test]
fn every_test_file_is_listed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    let main = fs::read_to_string(dir.join("main.rs")).unwrap();
    for entry in fs::read_dir(&dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "main") else { continue };
        assert!(main.lines().any(|line| line == format!("mod {module};")), "{name} is not in main.rs");
    }
}

const COMMANDS: [&str; 27] = [
    "demo",
    "run",
    "spawn",
    "info",
    "protocols",
    "peers",
    "send",
    "broadcast",
    "recv",
    "dead",
    "request",
    "serve",
    "ping",
    "ready",
    "describe",
    "exec",
    "wait",
    "stats",
    "audit",
    "suspend",
    "stop",
    "bench",
    "gc",
    "doctor",
    "coproc",
    "completions",
    "man",
];

#[test]
fn help_leads_with_examples() {
    let bench = Bench::new();
    let help = bench.ipcm(&["--help"]);
    assert!(help.stdout.starts_with("Examples:\n"), "{}", help.shown());
    for command in COMMANDS {
        assert!(help.stdout.contains(&format!("\n  {command} ")), "{command}");
        let help = bench.ipcm(&[command, "--help"]);
        assert_eq!(help.code(), 0);
        assert!(help.stdout.contains("Usage: ipcm"), "{}", help.shown());
        // A line that only names an option has its explanation on the next; one without any would be followed by another.
        for line in help.stdout.lines().map(str::trim).filter(|line| line.starts_with('-')) {
            assert!(line.contains("  "), "{command}: {line} is not explained");
        }
    }
    assert!(!help.stdout.contains("-worker"));
}

#[test]
fn man_pages_and_completions_come_from_the_definition() {
    let bench = Bench::new();
    assert!(bench.ipcm(&["man"]).stdout.contains(".TH ipcm 1"));
    for command in COMMANDS {
        let page = bench.ipcm(&["man", command]);
        assert!(page.code() == 0 && page.stdout.contains(command), "{}", page.shown());
        assert!(!page.stdout.contains("-worker"));
    }
    assert_eq!(bench.ipcm(&["man", "nonsense"]).code(), 2);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = bench.ipcm(&["completions", shell]);
        assert!(script.code() == 0 && script.stdout.contains("broadcast"), "{shell}");
        let live = matches!(shell, "bash" | "zsh" | "fish");
        assert_eq!(script.stdout.contains("ipcm peers --names"), live, "{shell}");
    }
    assert_eq!(bench.ipcm(&["--version"]).stdout, format!("ipcm {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn bash_completes_live_names() {
    if !Path::new("/bin/bash").exists() {
        return;
    }
    let bench = Bench::with_bus();
    bench.ipcm(&["suspend", "reader-1"]);
    bench.ipcm(&["suspend", "other"]);
    let script = r#"
        eval "$($IPCM completions bash)"
        ipcm() { "$IPCM" "$@"; }
        COMP_WORDS=(ipcm send re) COMP_CWORD=2
        _ipcm_with_peers ipcm re send
        echo "${COMPREPLY[@]}"
    "#;
    let mut command = std::process::Command::new("/bin/bash");
    command.args(["-c", script]);
    bench.prepare(&mut command);
    command.env("IPCM", env!("CARGO_BIN_EXE_ipcm"));
    assert_eq!(bench.start(command).finish().stdout, "reader-1\n");
}
