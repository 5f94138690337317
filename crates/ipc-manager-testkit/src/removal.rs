// SPDX-License-Identifier: MIT OR Apache-2.0
//! Removing directories of tests, whatever the tests did to them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Every path below a directory, relative to it. What goes away while it is looked at is left out.
pub(crate) fn listing(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten().flatten() {
            let path = entry.path();
            if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
                open.push(path.clone());
            }
            found.insert(path.strip_prefix(dir).expect("it was found below").to_owned());
        }
    }
    found
}

/// Removes a test's directory; a test may have taken rights away from what is in it.
pub(crate) fn remove(dir: &Path) {
    for _ in 0..3 {
        if fs::remove_dir_all(dir).is_ok() || !dir.exists() {
            return;
        }
        for path in listing(dir).iter().map(|path| dir.join(path)).filter(|path| path.is_dir()) {
            if fs::metadata(&path).is_ok_and(|metadata| metadata.mode() & 0o700 != 0o700) {
                let _ = fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700));
            }
        }
    }
    eprintln!("could not remove {}", dir.display());
}
