// SPDX-License-Identifier: MIT OR Apache-2.0
//! The worker processes of a measurement, and the orders that they are given; see `worker.rs`.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use ipc_manager::ErrorKind;

use crate::exit_code;
use crate::failure::{Failure, Outcome};
use crate::signals::{Signals, Woken};

/// How long a worker may take to end by itself.
const END: Duration = Duration::from_secs(2);
/// Bytes that are read of an answer at once.
const PIECE: usize = 64 << 10;

/// Why a worker could not do what it was told.
#[derive(Debug)]
pub(super) struct Refusal {
    kind: Option<ErrorKind>,
    words: String,
}

impl Refusal {
    /// Whether a protocol may well refuse such a message, so that the rest can be measured all the same.
    pub(super) fn is_of_size(&self) -> bool {
        self.kind == Some(ErrorKind::TooLarge)
    }

    /// Why, in words.
    pub(super) fn words(&self) -> &str {
        &self.words
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let (code, exit) =
            refusal.kind.map_or(("store", exit_code::FAILURE), |kind| (kind.code(), exit_code::of(kind)));
        Failure::told(code, exit, refusal.words)
    }
}

struct Worker {
    child: Child,
    orders: Option<ChildStdin>,
    answers: ChildStdout,
    unread: Vec<u8>,
}

/// Workers that were started together: the reader first, then the senders.
pub(super) struct Crew<'a> {
    workers: Vec<Worker>,
    signals: &'a Signals,
    timeout: Duration,
    /// Whether something went wrong, so that nobody can be relied on to end by itself.
    is_broken: bool,
}

impl<'a> Crew<'a> {
    /// Starts processes and waits until each has said its first line, which is handed out.
    pub(super) fn start(
        commands: impl Iterator<Item = Command>,
        signals: &'a Signals,
        timeout: Duration,
    ) -> Outcome<(Self, Vec<String>)> {
        let mut crew = Self { workers: Vec::new(), signals, timeout, is_broken: true };
        for mut command in commands {
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
            let mut child = command.spawn().map_err(|error| Failure::io("a worker cannot be started", &error))?;
            let (orders, answers) = (child.stdin.take(), child.stdout.take());
            let Some(answers) = answers else {
                return Err(Failure::told("store", exit_code::FAILURE, "a worker has no standard output"));
            };
            crew.workers.push(Worker { child, orders, answers, unread: Vec::new() });
        }
        let everybody: Vec<usize> = (0..crew.workers.len()).collect();
        let first = crew.lines(&everybody)?;
        crew.is_broken = false;
        Ok((crew, first))
    }

    /// Gives orders, and waits until all are carried out or one is refused.
    pub(super) fn tell(&mut self, orders: &[(usize, String)]) -> Outcome<Result<Vec<Vec<u64>>, Refusal>> {
        self.is_broken = true;
        for (index, order) in orders {
            let Some(orders) = self.workers.get_mut(*index).and_then(|worker| worker.orders.as_mut()) else { continue };
            orders.write_all(format!("{order}\n").as_bytes()).map_err(|_| gone())?;
        }
        let whom: Vec<usize> = orders.iter().map(|(index, _)| *index).collect();
        let answers: Result<Vec<_>, Refusal> = self.lines(&whom)?.iter().map(|line| understood(line)).collect();
        self.is_broken = answers.is_err();
        Ok(answers)
    }

    /// The next line of each of these workers; or of fewer, if one of them was a refusal.
    fn lines(&mut self, whom: &[usize]) -> Outcome<Vec<String>> {
        let deadline = Instant::now() + self.timeout;
        let mut lines: Vec<Option<String>> = vec![None; whom.len()];
        loop {
            let waiting: Vec<usize> = (0..whom.len()).filter(|place| lines[*place].is_none()).collect();
            if waiting.is_empty() {
                return Ok(lines.into_iter().flatten().collect());
            }
            let descriptors: Vec<_> = waiting.iter().map(|at| self.workers[whom[*at]].answers.as_fd()).collect();
            let left = deadline.saturating_duration_since(Instant::now());
            match self.signals.wait(&descriptors, false, Some(left))? {
                Woken::Signal(_) => return Err(Failure::told("interrupted", exit_code::FAILURE, "interrupted")),
                Woken::Deadline => {
                    let message = format!("a round did not end within {:?}", self.timeout);
                    return Err(Failure::told("timeout", exit_code::TIMEOUT, message));
                }
                _ => {}
            }
            for at in waiting {
                lines[at] = self.workers[whom[at]].line()?;
                if lines[at].as_deref().is_some_and(|line| line.starts_with("failed ")) {
                    // The others may wait for ever for what this one did not do.
                    return Ok(lines.swap_remove(at).into_iter().collect());
                }
            }
        }
    }
}

fn gone() -> Failure {
    Failure::told("peer_gone", exit_code::PEER_GONE, "a worker ended before its work was done")
}

fn understood(line: &str) -> Result<Vec<u64>, Refusal> {
    let mut words = line.split(' ');
    match words.next() {
        Some("done") => Ok(words.filter_map(|word| word.parse().ok()).collect()),
        _ => {
            let (code, rest) = line.trim_start_matches("failed ").split_once(' ').unwrap_or(("", line));
            let kind = ErrorKind::ALL.iter().copied().find(|kind| kind.code() == code);
            Err(Refusal { kind, words: rest.to_owned() })
        }
    }
}

impl Worker {
    /// Reads what there is, if there is anything, and takes a line if it is whole.
    fn line(&mut self) -> Outcome<Option<String>> {
        let mut ready = [rustix::event::PollFd::new(&self.answers, rustix::event::PollFlags::IN)];
        if rustix::event::poll(&mut ready, Some(&rustix::event::Timespec::default())).unwrap_or(0) == 0 {
            return Ok(None);
        }
        let mut piece = vec![0; PIECE];
        let count =
            self.answers.read(&mut piece).map_err(|error| Failure::io("a worker's answer cannot be read", &error))?;
        if count == 0 {
            return Err(gone());
        }
        self.unread.extend_from_slice(&piece[..count]);
        if self.unread.last() != Some(&b'\n') {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&self.unread).trim_end().to_owned();
        self.unread.clear();
        Ok(Some(line))
    }
}

/// Lets the workers end by themselves if all went well, ends them if not, and waits for every one.
impl Drop for Crew<'_> {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            worker.orders = None;
        }
        let deadline = Instant::now() + END;
        let is_running = |worker: &mut Worker| matches!(worker.child.try_wait(), Ok(None));
        while !self.is_broken && self.workers.iter_mut().any(is_running) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.signals.pending().is_some() || self.signals.wait_for_child(left).is_err() {
                break;
            }
        }
        for worker in &mut self.workers {
            if is_running(worker) {
                let _ = worker.child.kill();
            }
            let _ = worker.child.wait();
        }
    }
}
