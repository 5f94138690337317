// SPDX-License-Identifier: MIT OR Apache-2.0
//! What dead owners left.

use ipc_manager::{Fate, Gc, Leftover, Registry};

use super::Severity::Warning;
use super::{Finding, shown};

pub(super) fn leftovers(registry: &Registry) -> Vec<Finding> {
    let found = Gc::everywhere().registry(registry.clone()).dry_run(true).run();
    found.map_or_else(|_| Vec::new(), |report| report.leftovers.iter().map(finding).collect())
}

fn finding(left: &Leftover) -> Finding {
    let (kind, path) = (left.kind, shown(&left.path));
    match &left.fate {
        Fate::Kept(reason) => {
            let what = format!("somebody died and left a {kind} in {path}, which stays: {reason}");
            Finding::new(Warning, "leftovers", what, "look at it, and remove it by hand")
        }
        _ => Finding::new(Warning, "leftovers", format!("somebody died and left a {kind} in {path}"), "ipcm gc"),
    }
}

#[cfg(test)]
mod tests {
    use ipc_manager::LeftoverKind;

    use super::*;

    #[test]
    fn each_has_its_remedy() {
        let left = |fate| Leftover { kind: LeftoverKind::Bus, protocol: None, path: "/x".into(), fate };
        assert_eq!(finding(&left(Fate::Found)).remedy, "ipcm gc");
        let kept = finding(&left(Fate::Kept("it holds `y`".into())));
        assert!(kept.remedy.contains("by hand") && kept.what.contains("it holds `y`"));
    }
}
