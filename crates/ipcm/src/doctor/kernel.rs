// SPDX-License-Identifier: MIT OR Apache-2.0
//! Limits of the kernel, and of the process.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::Severity::{Note, Problem, Warning};
use super::{Finding, Machine};

/// Descriptors below which a busy client runs out, and below which little works at all.
const FEW_DESCRIPTORS: u64 = 256;
const TOO_FEW_DESCRIPTORS: u64 = 32;
/// Instances of inotify that should be left: each process that waits on files needs one.
const SPARE_INSTANCES: u64 = 16;
/// Watches below which a bus of some hundred peers runs out.
const FEW_WATCHES: u64 = 1024;
/// Pages of a pipe as it is made: 64 KiB; pipe(7).
const PAGES_OF_A_PIPE: u64 = 16;
/// Mailboxes of full size that a user should be able to have.
const SOME_MAILBOXES: u64 = 64;
/// Unread datagrams below which senders wait all the time.
const SHORT_QUEUE: u64 = 64;

pub(super) fn descriptors(machine: &Machine) -> Vec<Finding> {
    let (Some(now), most) = machine.descriptors else { return Vec::new() };
    if now >= FEW_DESCRIPTORS {
        return Vec::new();
    }
    let severity = if now < TOO_FEW_DESCRIPTORS { Problem } else { Warning };
    let what =
        format!("a process may have only {now} open files; a client keeps one or more for each peer it sends to");
    let remedy = match most {
        Some(most) if most <= now => "raise `nofile` for this user in /etc/security/limits.conf".to_owned(),
        most => format!("ulimit -n {}", most.unwrap_or(4096).min(4096)),
    };
    vec![Finding::new(severity, "descriptors", what, remedy)]
}

pub(super) fn inotify_instances(machine: &Machine) -> Vec<Finding> {
    let Some(most) = machine.number("/proc/sys/fs/inotify/max_user_instances") else { return Vec::new() };
    let used = instances_in_use(machine);
    let left = most.saturating_sub(used);
    if left >= SPARE_INSTANCES {
        return Vec::new();
    }
    let severity = if left == 0 { Problem } else { Warning };
    let what = format!(
        "{used} of the {most} inotify instances that a user may have are in use; a process without one looks at its \
         mailbox again and again"
    );
    let remedy = format!("sysctl fs.inotify.max_user_instances={}", (most * 4).max(512));
    vec![Finding::new(severity, "inotify_instances", what, remedy)]
}

/// How many inotify instances this user's processes have, as far as they can be looked at.
fn instances_in_use(machine: &Machine) -> u64 {
    let Ok(processes) = fs::read_dir(machine.at("/proc")) else { return 0 };
    let is_process = |entry: &fs::DirEntry| {
        let is_number = entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        is_number && entry.metadata().is_ok_and(|found| found.uid() == machine.uid)
    };
    let mut count = 0;
    for process in processes.flatten().filter(is_process) {
        let Ok(open) = fs::read_dir(process.path().join("fd")) else { continue };
        let links = open.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        count += links.filter(|link| link.as_os_str() == "anon_inode:inotify").count() as u64;
    }
    count
}

pub(super) fn inotify_watches(machine: &Machine) -> Vec<Finding> {
    let Some(most) = machine.number("/proc/sys/fs/inotify/max_user_watches") else { return Vec::new() };
    if most >= FEW_WATCHES {
        return Vec::new();
    }
    let what = format!("a user may watch only {most} files; each client on files watches one or two directories");
    vec![Finding::new(Warning, "inotify_watches", what, "sysctl fs.inotify.max_user_watches=65536")]
}

pub(super) fn pipe_pages(machine: &Machine) -> Vec<Finding> {
    // Root has no such limits; pipe(7).
    if machine.uid == 0 {
        return Vec::new();
    }
    let mut findings = Vec::new();
    // Zero is without limit.
    let number = |path| machine.number(path).filter(|pages| *pages != 0);
    if let Some(hard) = number("/proc/sys/fs/pipe-user-pages-hard").filter(|hard| *hard < SOME_MAILBOXES) {
        let what = format!("all pipes of a user may have only {hard} pages together; past that no mailbox can be made");
        findings.push(Finding::new(Problem, "pipe_pages", what, "sysctl fs.pipe-user-pages-hard=0"));
    }
    let enough = SOME_MAILBOXES * PAGES_OF_A_PIPE;
    if let Some(soft) = number("/proc/sys/fs/pipe-user-pages-soft").filter(|soft| *soft < enough) {
        let what = format!(
            "only the first {} pipes of a user get their full 64 KiB; later mailboxes of AtomicPipe take one or two pages",
            soft / PAGES_OF_A_PIPE
        );
        findings.push(Finding::new(Warning, "pipe_pages", what, "sysctl fs.pipe-user-pages-soft=16384"));
    }
    findings
}

pub(super) fn pipe_size(machine: &Machine) -> Vec<Finding> {
    let Some(most) = machine.number("/proc/sys/fs/pipe-max-size").filter(|most| *most < 64 << 10) else {
        return Vec::new();
    };
    let what = format!("a pipe may have only {most} bytes, so senders of AtomicPipe wait early");
    vec![Finding::new(Warning, "pipe_size", what, "sysctl fs.pipe-max-size=1048576")]
}

pub(super) fn datagram_queue(machine: &Machine) -> Vec<Finding> {
    let Some(most) = machine.number("/proc/sys/net/unix/max_dgram_qlen").filter(|most| *most < SHORT_QUEUE) else {
        return Vec::new();
    };
    let what = format!("a peer of UnixSocket has at most {} unread messages; then its senders wait", most + 1);
    vec![Finding::new(Note, "datagram_queue", what, "sysctl net.unix.max_dgram_qlen=512, before the bus is made")]
}

#[cfg(test)]
mod tests {
    use super::super::made_up::MadeUp;
    use super::*;

    #[test]
    fn a_machine_that_tells_nothing_has_no_findings() {
        let machine = MadeUp::new("silent");
        for check in [descriptors, inotify_instances, inotify_watches, pipe_pages, pipe_size, datagram_queue] {
            assert_eq!(machine.found(check), []);
        }
    }

    #[test]
    fn few_descriptors() {
        let mut machine = MadeUp::new("descriptors");
        for (limits, expected) in [
            ((Some(64), Some(4096)), vec![(Warning, "descriptors")]),
            ((Some(31), Some(31)), vec![(Problem, "descriptors")]),
            ((Some(256), None), vec![]),
            ((None, None), vec![]),
        ] {
            machine.machine.descriptors = limits;
            assert_eq!(machine.found(descriptors), expected, "{limits:?}");
        }
        machine.machine.descriptors = (Some(64), Some(1024));
        assert_eq!(descriptors(&machine.machine)[0].remedy, "ulimit -n 1024");
    }

    #[test]
    fn inotify_instances_that_are_used_up() {
        let path = "/proc/sys/fs/inotify/max_user_instances";
        let machine = MadeUp::new("inotify").with(path, "18\n").with("/proc/self/comm", "x");
        let open = machine.machine.at("/proc/7/fd");
        fs::create_dir_all(&open).unwrap();
        assert_eq!(machine.found(inotify_instances), []);
        for number in 0..18 {
            std::os::unix::fs::symlink("anon_inode:inotify", open.join(number.to_string())).unwrap();
            let expected = match number {
                0..2 => vec![],
                17 => vec![(Problem, "inotify_instances")],
                _ => vec![(Warning, "inotify_instances")],
            };
            assert_eq!(machine.found(inotify_instances), expected, "{number}");
        }
        // Another user's are not this one's.
        let mut other = machine;
        other.machine.uid += 1;
        assert_eq!(other.found(inotify_instances), []);
    }

    #[test]
    fn small_numbers_of_the_kernel() {
        let machine = MadeUp::new("numbers")
            .with("/proc/sys/fs/inotify/max_user_watches", "1023\n")
            .with("/proc/sys/fs/pipe-max-size", "4096\n")
            .with("/proc/sys/net/unix/max_dgram_qlen", "10\n");
        assert_eq!(machine.found(inotify_watches), [(Warning, "inotify_watches")]);
        assert_eq!(machine.found(pipe_size), [(Warning, "pipe_size")]);
        assert_eq!(machine.found(datagram_queue), [(Note, "datagram_queue")]);
        assert!(datagram_queue(&machine.machine)[0].what.contains("11 unread"));
    }

    #[test]
    fn pages_of_pipes_are_no_matter_for_root() {
        let mut machine = MadeUp::new("pages")
            .with("/proc/sys/fs/pipe-user-pages-soft", "160\n")
            .with("/proc/sys/fs/pipe-user-pages-hard", "0\n");
        machine.machine.uid = 0;
        assert_eq!(machine.found(pipe_pages), []);
        machine.machine.uid = 1000;
        assert_eq!(machine.found(pipe_pages), [(Warning, "pipe_pages")]);
        assert!(pipe_pages(&machine.machine)[0].what.contains("first 10 pipes"));
        let machine = machine.with("/proc/sys/fs/pipe-user-pages-hard", "32\n");
        assert_eq!(machine.found(pipe_pages), [(Problem, "pipe_pages"), (Warning, "pipe_pages")]);
    }
}
