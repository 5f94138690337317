// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each public type has an example that the documentation tests run, and that can fail. Found by reading the text.

/// Types whose example only compiles, since running it takes seconds: each starts a database server, as tests do.
const SLOW: [&str; 3] = ["PrivateServer", "Server", "Database"];

/// What is wrong with the examples of the types in one source file, a sentence for each type.
pub(crate) fn lacking(text: &str) -> Vec<String> {
    let mut lacking = Vec::new();
    let mut documentation = Vec::new();
    for line in text.lines() {
        if let Some(said) = line.strip_prefix("///") {
            documentation.push(said.strip_prefix(' ').unwrap_or(said));
        } else if let Some(name) = type_name(line) {
            if let Err(what) = judge(&documentation, name) {
                lacking.push(format!("the public type {name} {what}"));
            }
            documentation.clear();
        } else if !["#[", " ", ")]"].iter().any(|start| line.starts_with(start)) {
            // What stands between the documentation and its type are attributes, which may go over several lines.
            documentation.clear();
        }
    }
    lacking
}

fn type_name(line: &str) -> Option<&str> {
    let rest =
        ["pub struct ", "pub enum ", "pub trait ", "pub type "].iter().find_map(|kind| line.strip_prefix(kind))?;
    rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// One good example is enough.
fn judge(documentation: &[&str], name: &str) -> Result<(), String> {
    let mut verdict = Err("has no example".to_owned());
    let mut lines = documentation.iter();
    while let Some(opening) = lines.find_map(|line| line.strip_prefix("```")) {
        let code: Vec<&str> = lines.by_ref().take_while(|line| **line != "```").copied().collect();
        verdict = judge_example(opening, &code, name);
        if verdict.is_ok() {
            break;
        }
    }
    verdict
}

fn judge_example(attributes: &str, code: &[&str], name: &str) -> Result<(), String> {
    let runs = attributes.split(',').all(|it| ["", "rust", "standalone_crate", "should_panic"].contains(&it));
    let is_slow = SLOW.contains(&name);
    if !runs && (attributes != "no_run" || !is_slow) {
        return Err(format!("has an example that is not run: ```{attributes}"));
    }
    let code: Vec<&str> = code.iter().map(|line| line.strip_prefix("# ").unwrap_or(line)).collect();
    let whole = code.join("\n");
    let functions = code.iter().filter_map(|line| line.strip_prefix("fn ")?.split(['(', '<']).next());
    if let Some(idle) = functions.filter(|name| *name != "main").find(|name| !is_used(&whole, name)) {
        return Err(format!("has an example with a function that nobody calls: {idle}"));
    }
    let can_fail = ["assert", "panic!", "fn main() -> std::process::ExitCode"].iter().any(|it| whole.contains(it));
    if !can_fail && !is_slow {
        return Err("has an example that asserts nothing".into());
    }
    Ok(())
}

/// Whether a function is named elsewhere than where it is defined.
fn is_used(code: &str, function: &str) -> bool {
    let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.by_ref().filter(|word| *word == function).count() > 1
}

#[cfg(test)]
mod tests {
    use super::lacking;

    fn of(documentation: &str) -> Vec<String> {
        let documentation: String = documentation.lines().map(|line| format!("/// {line}\n")).collect();
        lacking(&format!("{documentation}#[derive(\n    Debug,\n)]\npub struct Bus(u8);\n"))
    }

    #[test]
    fn an_example_that_runs_and_asserts_is_one() {
        for good in [
            "```\nassert!(true);\n```",
            "```standalone_crate\nfn f() {}\nassert_eq!(f(), ());\n```",
            "```no_run\nassert!(true);\n```\n\n```\nimpl A {\n    fn f() {}\n}\nassert!(true);\n```",
        ] {
            assert!(of(good).is_empty(), "{good}: {:?}", of(good));
        }
    }

    #[test]
    fn what_is_none_is_told() {
        for (bad, why) in [
            ("Text.", "has no example"),
            ("```no_run\nassert!(true);\n```", "is not run"),
            ("```ignore\nassert!(true);\n```", "is not run"),
            ("```\nfn idle() { assert!(true); }\n```", "nobody calls: idle"),
            ("```\n# fn idle<T>(_: T) {\nassert!(true);\n# }\n```", "nobody calls: idle"),
            ("```\nlet bus = 1;\n```", "asserts nothing"),
        ] {
            let found = of(bad);
            assert!(matches!(&found[..], [one] if one.contains(why) && one.contains("Bus")), "{bad}: {found:?}");
        }
    }

    #[test]
    fn an_example_belongs_to_the_type_that_follows_it() {
        let text = "/// ```\n/// assert!(true);\n/// ```\npub fn f() {}\n\npub enum Lone {}\n";
        assert_eq!(lacking(text), ["the public type Lone has no example"]);
    }
}
