// SPDX-License-Identifier: MIT OR Apache-2.0
//! Protocols that do not work here, and the programs that private servers lack.

use ipc_manager::Registry;

use super::Finding;
use super::Severity::{Note, Problem};

pub(super) fn protocols(registry: &Registry) -> Vec<Finding> {
    let asked = registry.protocols().map(|protocol| {
        let needs_server = protocol.capabilities().credentials;
        (protocol.name().short(), needs_server, protocol.viable().err().map(|reason| reason.to_string()))
    });
    asked.filter_map(|(name, needs_server, reason)| Some(finding(&name, needs_server, &reason?))).collect()
}

fn finding(name: &str, needs_server: bool, reason: &str) -> Finding {
    if needs_server {
        let what = format!("no private server can be started for a bus of {name}: {reason}");
        let remedy = format!("install the server of {name}, or give the bus a route to one that runs");
        return Finding::new(Note, "protocols", what, remedy);
    }
    let what = format!("buses of {name} cannot be made here: {reason}");
    Finding::new(Problem, "protocols", what, "mend what the reason names, or use another protocol")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_as_bad_as_it_is() {
        let missing = finding("MySQL", true, "mysqld of MySQL is not in PATH");
        assert!(missing.severity == Note && missing.what.contains("mysqld of MySQL"));
        assert_eq!(finding("SQLite", false, "read-only").severity, Problem);
    }
}
