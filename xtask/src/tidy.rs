// SPDX-License-Identifier: MIT OR Apache-2.0
//! House rules as a program: what is broken is listed, all of it at once.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::type_examples;

/// Longest file, in lines without its tests.
const FILE_LINES: usize = 400;
/// Most `macro_rules!` in the library.
const MACROS: usize = 3;
/// The layers of the library, lowest first. A module may import from its own layer and from lower ones.
const LAYERS: [&[&str]; 8] = [
    &["system"],
    &["error", "group", "json", "limits", "message", "name", "route", "stats"],
    &["serializer"],
    &["connection_string"],
    &["protocol"],
    &["client"],
    &["bus"],
    &["service"],
];
/// Names of files that say nothing.
const VAGUE: [&str; 5] = ["util", "common", "misc", "helpers", "types"];
/// What reads and writes the formats that `docs/formats.md` describes.
const CODECS: &[&str] = &[
    "crates/ipc-manager/src/connection_string.rs",
    "crates/ipc-manager/src/json/read.rs",
    "crates/ipc-manager/src/json/write.rs",
    "crates/ipc-manager/src/message/canonical.rs",
    "crates/ipc-manager/src/message/wire.rs",
    "crates/ipc-manager/src/protocol/atomic_pipe/codec.rs",
    "crates/ipc-manager/src/protocol/connection_unix/codec.rs",
    "crates/ipc-manager/src/protocol/directory_store/mod.rs",
    "crates/ipc-manager/src/protocol/directory_store/owner.rs",
    "crates/ipc-manager/src/protocol/directory_store/sidecars.rs",
    "crates/ipc-manager/src/protocol/beside/holder.rs",
    "crates/ipc-manager/src/protocol/beside/owner.rs",
    "crates/ipc-manager/src/protocol/json_file/dead.rs",
    "crates/ipc-manager/src/protocol/json_file/state.rs",
    "crates/ipc-manager/src/protocol/message_files/layout.rs",
    "crates/ipc-manager/src/protocol/directory_store/place.rs",
    "crates/ipc-manager/src/protocol/unix_socket/outgoing.rs",
    "crates/ipc-manager/src/protocol/sql/delivery.rs",
    "crates/ipc-manager/src/protocol/sql/message_row.rs",
    "crates/ipc-manager/src/protocol/sql/statements.rs",
    "crates/ipc-manager/src/serializer/json_zstd.rs",
    "crates/ipc-manager/src/serializer/spec.rs",
    "crates/ipc-manager/src/service/envelope.rs",
];
const FORMATS: &str = "docs/formats.md";
const FORMATS_MARK: &str = "<!-- fits the code with the digest ";

pub(crate) fn check(root: &Path, _: &[String]) -> Result<(), String> {
    let mut broken = Vec::new();
    let mut macros = 0;
    for path in sources(root)? {
        let text = std::fs::read_to_string(root.join(&path)).map_err(|error| format!("{}: {error}", path.display()))?;
        check_file(&path, &text, &mut broken);
        if path.starts_with("crates") && path.components().any(|part| part.as_os_str() == "src") {
            let lacking = type_examples::lacking(without_tests(&text));
            broken.extend(lacking.iter().map(|what| format!("{}: {what}", path.display())));
        }
        if let Ok(module) = path.strip_prefix("crates/ipc-manager/src") {
            macros += text.matches("macro_rules!").count();
            check_layers(&path, module, &text, &mut broken);
            check_protocol_names(&path, module, &text, &mut broken);
        }
    }
    if macros > MACROS {
        broken.push(format!("the library has {macros} macros; {MACROS} are enough"));
    }
    check_tests_are_listed(root, &mut broken)?;
    let formats = std::fs::read_to_string(root.join(FORMATS)).map_err(|error| format!("{FORMATS}: {error}"))?;
    if !formats.contains(&mark(root)?) {
        broken.push(format!("{FORMATS}: the code changed; review it, then run `cargo xtask formats-reviewed`"));
    }
    if broken.is_empty() {
        println!("tidy");
        return Ok(());
    }
    Err(broken.iter().fold(String::from("these house rules are broken:"), |mut all, one| {
        let _ = write!(all, "\n  {one}");
        all
    }))
}

/// Writes the digest of the code into `docs/formats.md`.
pub(crate) fn note_formats(root: &Path, _: &[String]) -> Result<(), String> {
    let path = root.join(FORMATS);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{FORMATS}: {error}"))?;
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with(FORMATS_MARK)).collect();
    let text = format!("{}\n{}\n", kept.join("\n").trim_end(), mark(root)?);
    std::fs::write(path, text).map_err(|error| format!("{FORMATS}: {error}"))
}

fn mark(root: &Path) -> Result<String, String> {
    let mut digest = Sha256::new();
    for codec in CODECS {
        let text = std::fs::read_to_string(root.join(codec)).map_err(|error| format!("{codec}: {error}"))?;
        digest.update(without_tests(&text).as_bytes());
    }
    let hex = digest.finalize().iter().take(8).fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    Ok(format!("{FORMATS_MARK}{hex} -->"))
}

/// Every source file of the repository, by its path from the top.
fn sources(root: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("crates"), PathBuf::from("xtask")];
    while let Some(folder) = folders.pop() {
        let listed = std::fs::read_dir(root.join(&folder)).map_err(|error| format!("{}: {error}", folder.display()))?;
        for entry in listed.flatten() {
            let path = folder.join(entry.file_name());
            if root.join(&path).is_dir() {
                if entry.file_name() != "target" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The part of a file before the tests beside the code.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text)
}

fn check_file(path: &Path, text: &str, broken: &mut Vec<String>) {
    let mut say = |what: String| broken.push(format!("{}: {what}", path.display()));
    if !text.starts_with("// SPDX-License-Identifier: MIT OR Apache-2.0\n") {
        say("the first line must be the SPDX line".into());
    }
    let lines = without_tests(text).lines().count();
    if lines > FILE_LINES && !text.contains("// Long because ") {
        say(format!("{lines} lines; more than {FILE_LINES} need a reason in a line `// Long because ...`"));
    }
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if VAGUE.contains(&stem) {
        say("the name says nothing".into());
    }
    for (number, line) in text.lines().enumerate() {
        // Split, so that this file does not find itself.
        if line.contains(concat!("TO", "DO")) || line.contains(concat!("FIX", "ME")) {
            say(format!("line {}: an open end; decide it or file it", number + 1));
        }
        if line.contains(concat!("thread::", "sleep")) && !line.contains("//") {
            say(format!("line {}: a fixed sleep; wait for a condition, with a deadline", number + 1));
        }
    }
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn check_layers(path: &Path, module: &Path, text: &str, broken: &mut Vec<String>) {
    let first = module.iter().next().and_then(|first| first.to_str()).unwrap_or_default();
    let Some(own) = layer_of(first.trim_end_matches(".rs")) else { return };
    for (number, line) in
        without_tests(text).lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
    {
        for imported in line.split("crate::").skip(1) {
            let name: String = imported.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if layer_of(&name).is_some_and(|layer| layer > own) {
                broken.push(format!("{}: line {}: imports upwards, from {name}", path.display(), number + 1));
            }
        }
    }
}

/// Nothing outside a protocol's folder and the list of protocols names it.
fn check_protocol_names(path: &Path, module: &Path, text: &str, broken: &mut Vec<String>) {
    if module.starts_with("protocol") || module.ends_with("tests.rs") || module.ends_with("fuzz.rs") {
        return;
    }
    for (number, line) in without_tests(text).lines().enumerate() {
        let is_code = !line.trim_start().starts_with("//");
        for name in [
            "atomic_pipe",
            "connection_unix",
            "unix_socket",
            "message_files",
            "local_memory",
            "AtomicPipe",
            "ConnectionUnix",
            "UnixSocket",
            "MessageFiles",
            "LocalMemory",
        ] {
            if is_code && line.contains(name) {
                broken.push(format!("{}: line {}: names the protocol {name}", path.display(), number + 1));
            }
        }
    }
}

/// Every file of an integration test is part of it.
fn check_tests_are_listed(root: &Path, broken: &mut Vec<String>) -> Result<(), String> {
    for path in sources(root)? {
        let Some(folder) = path.parent() else { continue };
        let main = folder.join("main.rs");
        let is_test = path.components().any(|part| part.as_os_str() == "tests");
        if !is_test || path == main || !root.join(&main).exists() {
            continue;
        }
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let text = std::fs::read_to_string(root.join(&main)).map_err(|error| format!("{}: {error}", main.display()))?;
        if !text.lines().any(|line| line.trim() == format!("mod {stem};")) {
            broken.push(format!("{}: not part of {}", path.display(), main.display()));
        }
    }
    Ok(())
}
