// SPDX-License-Identifier: MIT OR Apache-2.0
//! Handing a bus to a background process of its own.

use std::io::{self, Read, Write};

use super::Spawn;
use crate::error::{Error, ErrorKind, Result};
use crate::system::process::{self, Forked};

/// Where the caller is after [`Spawn::cleave`].
///
/// ```standalone_crate
/// use std::io::{Read, pipe};
/// use ipc_manager::{Cleaved, Spawn};
/// let mut bus = Spawn::builder().protocol("MessageFiles").spawn()?;
/// let (mut end, held) = pipe().expect("a pipe can be made");
/// // SAFETY: this program has one thread.
/// match unsafe { bus.cleave() }? {
///     Cleaved::Caller { owner } => {
///         assert_ne!(owner, std::process::id());
///         assert!(bus.shutdown().is_err()); // the bus is another's now
///         let mut a = bus.connect("a")?;
///         a.wait_for_peer("owner", None)?;
///         a.send("owner", "end it")?;
///         a.disconnect()?;
///         drop(held);
///         end.read_to_end(&mut vec![]).expect("a pipe can be read"); // until that process has ended, too
///     }
///     Cleaved::Owner => {
///         assert_eq!(bus.connect("owner")?.recv()?.content(), "end it");
///         bus.shutdown()?;
///         std::process::exit(0);
///     }
/// }
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleaved {
    /// In the process that called; the bus belongs to another one now.
    Caller {
        /// The process that the bus belongs to.
        owner: u32,
    },
    /// In the new process, which owns the bus.
    Owner,
}

impl Spawn {
    /// Moves the bus to a new background process, in a session of its own. Returns twice: in the caller, whose `Spawn`
    /// no longer shuts the bus down, and in the new process, whose `Spawn` does.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) if more than one thread runs, [`WrongProcess`](ErrorKind::WrongProcess),
    /// and what the system says; then the bus stays where it was.
    ///
    /// # Safety
    /// It forks. No other thread may run, and the new process inherits open files, buffers not yet flushed, and
    /// everything else that fork(2) copies; what must not be done twice must be prevented by the caller.
    pub unsafe fn cleave(&mut self) -> Result<Cleaved> {
        self.check_process("cleave")?;
        if process::thread_count().is_some_and(|count| count > 1) {
            let detail = "a process with several threads cannot hand a bus to a copy of itself";
            return Err(Error::new(ErrorKind::Unsupported, detail).during("cleave"));
        }
        let failed = |error: io::Error| Error::system(error, "the new process cannot be made").during("cleave");
        let (mut told, teller) = io::pipe().map_err(failed)?;
        // SAFETY: one thread runs, as was just checked.
        match unsafe { process::fork() }.map_err(failed)? {
            Forked::Child => {
                drop(told);
                // SAFETY: this process has one thread, being a fork of one that had one.
                unsafe { self.become_owner(teller) }
            }
            Forked::Parent(middle) => {
                drop(teller);
                let mut answer = String::new();
                let read = told.read_to_string(&mut answer);
                process::reap(middle);
                let owner: Option<u32> = read.ok().and_then(|_| answer.trim().parse().ok());
                let Some(owner) = owner else {
                    return Err(self.refused(&answer));
                };
                self.pid = owner;
                // The record is the new owner's now.
                self.charge().hold = None;
                Ok(Cleaved::Caller { owner })
            }
        }
    }

    /// What the new process could not take the bus over for, in its own words: the kind of error, then the detail.
    fn refused(&self, answer: &str) -> Error {
        let told = answer.split_once(' ').and_then(|(code, detail)| {
            let kind = ErrorKind::ALL.iter().find(|kind| kind.code() == code)?;
            Some(Error::new(*kind, detail))
        });
        let silent = || Error::new(ErrorKind::Store, "the new process ended before it took the bus over");
        let error = told.unwrap_or_else(silent).in_protocol(&self.info().protocol().short());
        error.on_route(self.route().as_str()).during("cleave")
    }

    /// In the first child: starts a session, and goes on as the owner in the second.
    unsafe fn become_owner(&mut self, mut teller: io::PipeWriter) -> Result<Cleaved> {
        // SAFETY: the caller's promise of one thread holds.
        if rustix::process::setsid().is_err() || !matches!(unsafe { process::fork() }, Ok(Forked::Child)) {
            process::exit_now(0);
        }
        self.pid = process::own_pid();
        let mut charge = self.charge();
        if let Err(error) = charge.hold_anew() {
            let _ = write!(teller, "{} {}", error.kind().code(), error.detail());
            process::exit_now(1);
        }
        drop(charge);
        if teller.write_all(self.pid.to_string().as_bytes()).is_err() {
            process::exit_now(1);
        }
        Ok(Cleaved::Owner)
    }
}
