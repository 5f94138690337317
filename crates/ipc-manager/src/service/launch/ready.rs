// SPDX-License-Identifier: MIT OR Apache-2.0
//! The handshake: a service tells its starter that it is on its bus, or why it is not.

use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::started::Started;
use crate::error::{Error, ErrorKind, Result};
use crate::service::handle::Handle;
use crate::system::{Backoff, Deadline, pipe, poll, process};

/// Longest word of a service that is believed, in bytes.
const WORD_BYTES: usize = 8 << 10;
/// Longest reason that a service gives, in characters: it goes through the pipe in one piece.
const WORD_CHARS: usize = 300;
/// How often to look at the bus for a program that does not speak: one that does is given the time to.
const LOOKS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));

/// Whom to tell.
#[derive(Debug)]
pub(in crate::service) enum Ready {
    /// Nobody waits.
    Nobody,
    /// A thread of this process.
    Thread(SyncSender<Result<(), Word>>),
    /// The process that started this one.
    Pipe(OwnedFd),
}

/// What a service says, as one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::service) enum Word {
    /// It is on its bus, in this process.
    Ready(u32),
    /// It is not, for this reason.
    Failed { code: String, message: String },
}

impl Ready {
    /// Tells whoever waits. That nobody listens any more is the starter's concern.
    pub(in crate::service) fn tell(self, ready: Result<(), &Error>) {
        let word = match ready {
            Ok(()) => Word::Ready(process::own_pid()),
            Err(error) => {
                let message = super::with_causes(error).chars().take(WORD_CHARS).collect();
                Word::Failed { code: error.code().to_owned(), message }
            }
        };
        match self {
            Self::Nobody => {}
            Self::Thread(sender) => {
                let failed = matches!(word, Word::Failed { .. });
                let _ = sender.send(if failed { Err(word) } else { Ok(()) });
            }
            Self::Pipe(descriptor) => {
                let mut line = serde_json::to_vec(&word).unwrap_or_default();
                line.push(b'\n');
                // A starter that is gone must not take the service with it by a signal.
                let _ = pipe::write(descriptor.as_fd(), &line);
            }
        }
    }
}

impl Word {
    /// What it means for the starter.
    pub(super) fn into_result(self) -> Result<()> {
        match self {
            Self::Ready(_) => Ok(()),
            Self::Failed { code, message } => {
                let known = ErrorKind::ALL.iter().find(|kind| kind.code() == code);
                let kind = known.copied().unwrap_or(ErrorKind::ServiceError);
                Err(Error::new(kind, format!("the service could not start: {message}")))
            }
        }
    }
}

/// Waits until a process says that it is on its bus, ends, or is found there without a word.
pub(super) fn wait_for(handle: &mut Handle, mut told: PipeReader, timeout: Duration) -> Result<()> {
    let deadline = Deadline::after(timeout);
    let mut looks = Backoff::new(LOOKS.0, LOOKS.1);
    let mut said = Vec::new();
    loop {
        let woken = poll::readable(&[told.as_fd()], deadline.left(looks.next()))
            .map_err(|error| Error::system(error, "waiting failed"))?;
        if woken == poll::Woken::Ready {
            let mut buffer = [0; 4096];
            // Not up to the end: a process between the two may keep the pipe open for as long as the service lives.
            let length = told.read(&mut buffer).unwrap_or(0);
            said.extend_from_slice(&buffer[..length]);
            if let Some(end) = said.iter().position(|byte| *byte == b'\n')
                && let Ok(word) = serde_json::from_slice::<Word>(&said[..end])
            {
                return word.into_result();
            }
            if length == 0 || said.len() > WORD_BYTES {
                return Err(ended_early(handle));
            }
            continue;
        }
        if is_there(handle)? {
            return Ok(());
        }
        if deadline.has_passed() {
            let detail = format!("the service was not on its bus within {timeout:?}");
            return Err(Error::new(ErrorKind::Timeout, detail));
        }
    }
}

/// Everybody who could have spoken has ended.
fn ended_early(handle: &mut Handle) -> Error {
    let how = handle.started.end_within(Duration::from_secs(1));
    let how = how.map_or("it let go of its starter".to_owned(), |how| how.to_string());
    Error::new(ErrorKind::ServiceError, format!("the service ended before it was on its bus: {how}"))
}

/// Whether the very process that was started is on the bus under the service's name: a program that knows nothing of
/// the handshake.
fn is_there(handle: &mut Handle) -> Result<bool> {
    let Started::Process(started) = &handle.started else { return Ok(false) };
    let pid = started.pid();
    let name = handle.service_name().to_string();
    let record = handle.client()?.peer(&name)?;
    Ok(record.is_some_and(|record| record.state == crate::protocol::PeerState::Active && record.pid == Some(pid)))
}
