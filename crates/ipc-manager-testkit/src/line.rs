// SPDX-License-Identifier: MIT OR Apache-2.0
//! One JSON object per line, over a pair of pipes, with a deadline on every answer.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

/// Two ends of pipes, and what was read but not used yet.
#[derive(Debug)]
pub(crate) struct Line {
    /// `None` once it was closed.
    input: Option<std::fs::File>,
    output: OwnedFd,
    unread: Vec<u8>,
    /// How much of `unread` was searched for the end of a line already.
    searched: usize,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The other side has ended.
    Ended,
    /// Nothing came in time.
    Silent(Duration),
}

impl Line {
    pub(crate) fn new(input: OwnedFd, output: OwnedFd) -> Self {
        Self { input: Some(input.into()), output, unread: Vec::new(), searched: 0 }
    }

    /// Ends the other side's input.
    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    pub(crate) fn write(&mut self, request: &Value) -> Result<(), Broken> {
        let mut line = request.to_string();
        line.push('\n');
        let input = self.input.as_mut().ok_or(Broken::Ended)?;
        input.write_all(line.as_bytes()).map_err(|_| Broken::Ended)
    }

    /// Reads the next line, waiting for it at most so long.
    ///
    /// # Panics
    /// If it is not JSON: the other side is one of ours.
    pub(crate) fn read(&mut self, patience: Duration) -> Result<Value, Broken> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(end) = self.unread[self.searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.unread.split_off(self.searched + end + 1);
                let line = std::mem::replace(&mut self.unread, rest);
                self.searched = 0;
                return Ok(serde_json::from_slice(&line).unwrap_or_else(|error| {
                    panic!("a puppet answered with something that is not JSON: {error}: {}", line.escape_ascii())
                }));
            }
            self.searched = self.unread.len();
            if !self.readable(deadline) {
                return Err(Broken::Silent(patience));
            }
            let mut buffer = [0_u8; 64 << 10];
            match rustix::io::read(&self.output, &mut buffer) {
                Ok(0) => return Err(Broken::Ended),
                Ok(size) => self.unread.extend_from_slice(&buffer[..size]),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Err(Broken::Ended),
            }
        }
    }

    fn readable(&self, deadline: Instant) -> bool {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout =
                Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::from_borrowed_fd(self.output.as_fd(), PollFlags::IN)], Some(&timeout)) {
                Ok(0) if Instant::now() >= deadline => return false,
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => return true,
            }
        }
    }
}

/// A pipe whose ends are closed in programs that are started.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}
