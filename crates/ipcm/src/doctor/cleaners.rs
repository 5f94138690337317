// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that remove what has not been used for a while from temporary directories. An idle bus looks like that.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::Severity::Warning;
use super::{Finding, Machine, shown};

/// Where rules of systemd-tmpfiles are, those that count more first; tmpfiles.d(5).
const RULES: [&str; 3] = ["/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/lib/tmpfiles.d"];
/// Other programs of the kind: what is there if they run, and how to spare buses.
const OTHERS: [(&str, &str, &str); 2] = [
    ("/etc/cron.daily/tmpreaper", "tmpreaper", "add '/tmp/ipcm-*' to TMPREAPER_PROTECT_EXTRA in /etc/tmpreaper.conf"),
    ("/etc/cron.daily/tmpwatch", "tmpwatch", "add -X '/tmp/ipcm-*' to /etc/cron.daily/tmpwatch"),
];

pub(super) fn cleaners(machine: &Machine) -> Vec<Finding> {
    let mut findings = Vec::new();
    let place = &machine.temporary;
    // Rules are there on many machines on which nothing goes by them.
    if machine.at("/run/systemd/system").is_dir()
        && let Some((rule, age)) = aging_rule(machine, place)
    {
        let what = format!(
            "systemd-tmpfiles removes what has not changed for {age} from {}: an idle bus loses its files",
            shown(Path::new(&rule))
        );
        let remedy =
            format!("echo 'x {}/ipcm-*' > /etc/tmpfiles.d/ipcm.conf, or set TMPDIR to another place", shown(place));
        findings.push(Finding::new(Warning, "temporary_cleaners", what, remedy));
    }
    let is_common = ["/tmp", "/var/tmp"].iter().any(|common| place.starts_with(common));
    for (path, program, remedy) in OTHERS.iter().filter(|_| is_common) {
        if machine.at(path).exists() {
            let what = format!("{program} removes what has not been used for a while from {}", shown(place));
            findings.push(Finding::new(Warning, "temporary_cleaners", what, *remedy));
        }
    }
    findings
}

/// The rule that would remove idle buses from a place, if there is one: its path and its age.
fn aging_rule(machine: &Machine, place: &Path) -> Option<(String, String)> {
    let lines = lines(machine);
    let words = |line: &String| line.split_whitespace().map(|word| word.trim_matches('"').to_owned()).collect();
    let rules: Vec<Vec<String>> = lines.iter().map(words).collect();
    // x and X spare what fits their pattern.
    let buses = place.join("ipcm-1-0");
    let is_spared = rules.iter().any(|rule| {
        let spares = rule.first().is_some_and(|kind| kind.starts_with(['x', 'X']));
        spares && rule.get(1).is_some_and(|pattern| fits(pattern, &buses.to_string_lossy()))
    });
    if is_spared {
        return None;
    }
    let ages = rules.into_iter().filter_map(|rule| {
        let kind = rule.first()?;
        let is_of_directories = kind.starts_with(['d', 'D', 'e', 'v', 'q', 'Q', 'C']);
        let (path, age) = (rule.get(1)?.clone(), rule.get(5)?.clone());
        let is_above = place.starts_with(&path);
        (is_of_directories && is_above && age != "-" && age != "0").then_some((path, age))
    });
    // The deepest one counts.
    ages.max_by_key(|(path, _)| path.len())
}

/// The lines of all files of rules; of files of one name only the one that counts most.
fn lines(machine: &Machine) -> Vec<String> {
    let mut files: BTreeMap<OsString, String> = BTreeMap::new();
    for dir in RULES {
        for entry in fs::read_dir(machine.at(dir)).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.ends_with(".conf")) && !files.contains_key(&name) {
                files.insert(name, fs::read_to_string(entry.path()).unwrap_or_default());
            }
        }
    }
    let texts = files.values().flat_map(|text| text.lines()).map(str::trim);
    texts.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// Whether a text fits a pattern in which `*` is any text without a slash.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            let end = rest.find('/').unwrap_or(rest.len());
            (0..=end).any(|at| rest.is_char_boundary(at) && fits(after, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::MadeUp;
    use super::*;

    fn machine(name: &str) -> MadeUp {
        let mut machine = MadeUp::new(name).with("/run/systemd/system/x", "");
        machine.machine.temporary = "/tmp".into();
        machine
    }

    #[test]
    fn rules_that_would_age_a_bus() {
        let rule = "# comment\nq /tmp 1777 root root 10d\nq /var/tmp 1777 root root 30d\n";
        let mut machine = machine("aging").with("/usr/lib/tmpfiles.d/tmp.conf", rule);
        assert_eq!(machine.found(cleaners), [(Warning, "temporary_cleaners")]);
        assert!(cleaners(&machine.machine)[0].what.contains("10d from /tmp"));
        machine.machine.temporary = "/home/me/tmp".into();
        assert_eq!(machine.found(cleaners), []);
        machine.machine.temporary = "/tmp".into();
        // Spared by the administrator.
        let machine = machine.with("/etc/tmpfiles.d/ipcm.conf", "x /tmp/ipcm-*\n");
        assert_eq!(machine.found(cleaners), []);
    }

    #[test]
    fn a_file_of_the_administrator_counts_more() {
        let machine = machine("override")
            .with("/usr/lib/tmpfiles.d/tmp.conf", "q /tmp 1777 root root 10d\n")
            .with("/etc/tmpfiles.d/tmp.conf", "q /tmp 1777 root root -\n");
        assert_eq!(machine.found(cleaners), []);
    }

    #[test]
    fn rules_that_nothing_goes_by() {
        let mut machine = MadeUp::new("rules").with("/usr/lib/tmpfiles.d/tmp.conf", "q /tmp 1777 root root 10d\n");
        machine.machine.temporary = "/tmp".into();
        assert_eq!(machine.found(cleaners), []);
    }

    #[test]
    fn other_programs() {
        let machine = machine("others").with("/etc/cron.daily/tmpreaper", "").with("/etc/cron.daily/tmpwatch", "");
        assert_eq!(machine.found(cleaners), [(Warning, "temporary_cleaners"); 2]);
    }

    #[test]
    fn patterns() {
        assert!(fits("/tmp/ipcm-*", "/tmp/ipcm-1-0") && fits("/tmp/*", "/tmp/ipcm-1-0") && fits("/tmp", "/tmp"));
        assert!(!fits("/tmp/*x", "/tmp/ipcm-1-0") && !fits("/*", "/tmp/ipcm-1-0") && !fits("/tmp", "/tmp/x"));
    }
}
