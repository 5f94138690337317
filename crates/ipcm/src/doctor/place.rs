// SPDX-License-Identifier: MIT OR Apache-2.0
//! The temporary directory, where buses without a route are made.

use std::os::unix::fs::MetadataExt;

use super::Severity::{Note, Problem, Warning};
use super::{Finding, Machine, shown};

/// Free bytes below which a bus soon has no room.
const LITTLE_SPACE: u64 = 16 << 20;
/// Free inodes below which MessageFiles soon has no room.
const FEW_INODES: u64 = 1000;
/// What a bus adds to the path: `/ipcm-`, a pid of up to seven digits, `-` and 32 digits.
const STORE_BYTES: usize = 6 + 7 + 1 + 32;
/// Longest path of a socket that all count on, its slash and its end not counted; and the shortest name that must fit.
const SOCKET_BYTES: usize = 104 - 2;
const SHORT_NAME: usize = 42;

pub(super) fn permissions(machine: &Machine) -> Vec<Finding> {
    let place = &machine.temporary;
    let path = shown(place);
    let problem = |what: String, remedy: String| vec![Finding::new(Problem, "temporary_directory", what, remedy)];
    let elsewhere = "set TMPDIR to a directory of your own".to_owned();
    let found = match std::fs::metadata(place) {
        Ok(found) if found.is_dir() => found,
        Ok(_) => return problem(format!("the temporary directory {path} is no directory"), elsewhere),
        Err(error) => {
            return problem(format!("the temporary directory {path} cannot be looked at: {error}"), elsewhere);
        }
    };
    let mode = found.mode();
    if found.uid() != 0 && found.uid() != machine.uid {
        let what = format!("the temporary directory {path} belongs to another user, who can rename what is in it");
        return problem(what, elsewhere);
    }
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        let what = format!(
            "others may write to the temporary directory {path}, and it is not sticky: they can rename and remove buses in it"
        );
        return problem(what, format!("chmod +t {path}"));
    }
    if let Err(error) = rustix::fs::access(place, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
        return problem(format!("nothing can be made in the temporary directory {path}: {error}"), elsewhere);
    }
    Vec::new()
}

pub(super) fn space(machine: &Machine) -> Vec<Finding> {
    let Ok(found) = rustix::fs::statvfs(&machine.temporary) else { return Vec::new() };
    // Some file systems have no fixed number of inodes, and say 0.
    let inodes = (found.f_files > 0).then_some(found.f_favail);
    space_of(&shown(&machine.temporary), found.f_bavail.saturating_mul(found.f_frsize), inodes)
}

fn space_of(path: &str, bytes: u64, inodes: Option<u64>) -> Vec<Finding> {
    let remedy = "remove something there (`ipcm gc` removes dead buses), or set TMPDIR to another place";
    let finding = |severity, what| vec![Finding::new(severity, "temporary_space", what, remedy)];
    if bytes < LITTLE_SPACE {
        let severity = if bytes < 64 << 10 { Problem } else { Warning };
        return finding(severity, format!("{path} has only {} KiB left", bytes >> 10));
    }
    match inodes {
        Some(inodes) if inodes < FEW_INODES => {
            finding(Warning, format!("{path} has room for only {inodes} more files"))
        }
        _ => Vec::new(),
    }
}

pub(super) fn file_system(machine: &Machine) -> Vec<Finding> {
    let Ok(found) = rustix::fs::statfs(&machine.temporary) else { return Vec::new() };
    // A word of 32 bits, whatever the type is that it comes in.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see the comment")]
    file_system_of(&shown(&machine.temporary), found.f_type as u32)
}

/// File systems that are not on this machine, or not known to be, by their magic number; statfs(2).
const REMOTE: [(u32, &str); 9] = [
    (0x6969, "NFS"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB2"),
    (0x517B, "SMB"),
    (0x0102_1997, "9P"),
    (0x6573_5546, "FUSE"),
    (0x00C3_6400, "Ceph"),
    (0x0BD0_0BD0, "Lustre"),
    (0x5346_414F, "AFS"),
];

fn file_system_of(path: &str, kind: u32) -> Vec<Finding> {
    let Some((_, name)) = REMOTE.iter().find(|(magic, _)| *magic == kind) else { return Vec::new() };
    let what = format!(
        "{path} is on a file system of the kind {name}: SQLite's write-ahead log and locks are not safe there, FIFOs and \
         sockets reach no other machine, and changes by others may not be told of"
    );
    vec![Finding::new(
        Problem,
        "temporary_file_system",
        what,
        "set TMPDIR to a directory on a disk of this machine, or on tmpfs",
    )]
}

pub(super) fn socket_paths(machine: &Machine) -> Vec<Finding> {
    let length = machine.temporary.as_os_str().len() + STORE_BYTES;
    let room = SOCKET_BYTES.saturating_sub(length);
    if room >= SHORT_NAME {
        return Vec::new();
    }
    let what = format!(
        "the path of the temporary directory has {} bytes, so sockets in a bus there could have names of {room} bytes at \
         most, and {SHORT_NAME} are needed: buses of UnixSocket and ConnectionUnix are made in XDG_RUNTIME_DIR or /tmp instead",
        machine.temporary.as_os_str().len()
    );
    let remedy = format!("set TMPDIR to a path of at most {} bytes", SOCKET_BYTES - SHORT_NAME - STORE_BYTES);
    vec![Finding::new(Note, "socket_paths", what, remedy)]
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::super::made_up::MadeUp;
    use super::*;

    #[test]
    fn permissions_of_the_temporary_directory() {
        let mut machine = MadeUp::new("permissions");
        let found = [(Problem, "temporary_directory")];
        let temporary = machine.machine.temporary.clone();
        for (mode, expected) in [(0o700, &[][..]), (0o755, &[]), (0o1777, &[]), (0o777, &found), (0o770, &found)] {
            set_permissions(&temporary, Permissions::from_mode(mode)).unwrap();
            assert_eq!(machine.found(permissions), expected, "{mode:o}");
        }
        set_permissions(&temporary, Permissions::from_mode(0o700)).unwrap();
        let own = machine.machine.uid;
        // Root's is anybody's; another user's is not.
        machine.machine.uid = own + 1;
        assert_eq!(machine.found(permissions), if own == 0 { &[][..] } else { &found });
        machine.machine.uid = own;
        machine.machine.temporary.push("missing");
        assert_eq!(machine.found(permissions), found);
        std::fs::write(&machine.machine.temporary, "").unwrap();
        assert_eq!(machine.found(permissions), found);
    }

    #[test]
    fn little_space() {
        let found = |bytes, inodes| space_of("/x", bytes, inodes).first().map(|finding| finding.severity);
        assert_eq!(found(1 << 40, None), None);
        assert_eq!(found(1 << 40, Some(10)), Some(Warning));
        assert_eq!(found(1 << 20, Some(100_000)), Some(Warning));
        assert_eq!(found(0, None), Some(Problem));
    }

    #[test]
    fn file_systems_of_other_machines() {
        assert_eq!(file_system_of("/x", 0x6969)[0].severity, Problem);
        assert!(file_system_of("/x", 0xFF53_4D42)[0].what.contains("CIFS"));
        for local in [0xEF53, 0x0102_1994, 0x9123_683E, 0x5846_5342, 0x794C_7630] {
            assert_eq!(file_system_of("/x", local), [], "{local:x}");
        }
    }

    #[test]
    fn long_paths() {
        let mut machine = MadeUp::new("paths");
        machine.machine.temporary = "/tmp".into();
        assert_eq!(machine.found(socket_paths), []);
        machine.machine.temporary = "/".repeat(14).into();
        assert_eq!(machine.found(socket_paths), []);
        machine.machine.temporary = "/".repeat(15).into();
        assert_eq!(machine.found(socket_paths), [(Note, "socket_paths")]);
    }
}
