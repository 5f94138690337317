// SPDX-License-Identifier: MIT OR Apache-2.0
//! The file under its lock: read whole, written in place, and safe against the death of a writer.
//!
//! Others lock the file itself and watch it, so it is never replaced. A writer that dies while it writes leaves a mix of
//! old and new; so what is about to be written is put beside the file first, and whoever takes the lock next finishes it.
//! What was written last stays there: the last resort against writers that know nothing of this.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::NAME;
use super::copies::Copies;
use super::state::{EMPTY, State};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::protocol::beside::{Beside, check_file};
use crate::route::Route;
use crate::system::access::Access;
use crate::system::{Backoff, Deadline, files, poll};

/// How long another process's change is waited for, which takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest state, in bytes.
pub(super) const LARGEST: usize = 64 << 20;

/// The file of a bus.
#[derive(Debug)]
pub(super) struct StateFile {
    route: Route,
    identity: (u64, u64),
    beside: Option<Beside>,
    /// The copies beside the file, once they were used.
    copies: OnceLock<Copies>,
    /// Whether what was written must outlive a power cut.
    is_lasting: bool,
}

/// What tells that a file may have changed: size and time of its last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    size: i64,
    changed: (i64, u64),
    /// Changed so shortly before it was read that another change may have the same time.
    is_fresh: bool,
}

/// Whether a lock is for reading or for changing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lock {
    Shared,
    Exclusive,
}

impl StateFile {
    pub(super) fn open(route: &Route, access: Access, beside: Option<Beside>, is_lasting: bool) -> Result<Self> {
        let identity = check_file(NAME, route, access)?;
        Ok(Self { route: route.clone(), identity, beside, copies: OnceLock::new(), is_lasting })
    }

    pub(super) fn beside(&self) -> Option<&Beside> {
        self.beside.as_ref()
    }

    /// The copies; without them a writer that dies costs what it wrote over.
    fn copies(&self, make: bool) -> Option<&Copies> {
        if self.copies.get().is_none() {
            let porch = self.beside.as_ref()?.porch();
            let opened = Copies::open(porch.dir(), make, porch.access());
            let opened = opened.inspect_err(|error| log::warn!("{}: no copies of the state: {error}", self.route));
            let _ = self.copies.set(opened.ok()??);
        }
        self.copies.get()
    }

    /// Adds to an error that it happened in this store.
    pub(super) fn place(&self, error: Error) -> Error {
        error.in_protocol(NAME).on_route(self.route.as_str())
    }

    fn failed(&self, detail: &str, error: impl Into<std::io::Error>) -> Error {
        self.place(Error::system(error, detail))
    }

    /// How the file stands now; an error once it was removed.
    pub(super) fn seen(&self) -> Result<Seen> {
        let stat = files::stat_at(rustix::fs::CWD, OsStr::new(self.route.as_str()));
        match stat.map_err(|error| self.failed("the state cannot be looked at", error))? {
            Some(stat) if files::identity(&stat) == self.identity => Ok(seen(&stat)),
            _ => Err(self.removed()),
        }
    }

    fn removed(&self) -> Error {
        self.place(Error::new(ErrorKind::NoSuchBus, "the bus was removed"))
    }

    /// Reads the state as it is.
    pub(super) fn read(&self) -> Result<(State, Seen)> {
        let file = self.lock(Lock::Shared)?;
        if self.copies(false).and_then(Copies::begun).is_none() {
            let stat = rustix::fs::fstat(&file).map_err(|error| self.failed("the state cannot be read", error))?;
            if let Ok(state) = self.read_locked(&file).and_then(State::parse) {
                return Ok((state, seen(&stat)));
            }
        }
        drop(file);
        let file = self.lock(Lock::Exclusive)?;
        let state = self.recover(&file)?;
        let stat = rustix::fs::fstat(&file).map_err(|error| self.failed("the state cannot be read", error))?;
        Ok((state, seen(&stat)))
    }

    /// Changes the state. What the work refuses, or does not change, changes nothing.
    pub(super) fn change<T>(&self, work: impl FnOnce(&mut State) -> Result<Change<T>>) -> Result<T> {
        let file = self.lock(Lock::Exclusive)?;
        let mut state = self.recover(&file)?;
        match work(&mut state)? {
            Change::None(done) => Ok(done),
            Change::Some(done) => {
                let text = state.render()?;
                if text.len() > LARGEST {
                    let detail = format!("the state would have {} bytes, and the limit is {LARGEST}", text.len());
                    return Err(self.place(Error::new(ErrorKind::WouldBlock, detail)));
                }
                self.write(&file, state.text(), &text)?;
                Ok(done)
            }
        }
    }

    fn lock(&self, lock: Lock) -> Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(self.route.as_str(), flags, Mode::empty()).map_err(|error| match error {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => self.removed(),
            error => self.failed("the state cannot be opened", error),
        })?;
        let operation = match lock {
            Lock::Shared => FlockOperation::NonBlockingLockShared,
            Lock::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        let deadline = Deadline::after(PATIENCE);
        let mut backoff = Backoff::new(Duration::from_micros(50), Duration::from_millis(2));
        loop {
            match rustix::fs::flock(&file, operation) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if deadline.has_passed() => {
                    let detail = format!("another process has held the lock of the state for {PATIENCE:?}");
                    return Err(self.place(Error::new(ErrorKind::Timeout, detail)));
                }
                Err(Errno::WOULDBLOCK) => {
                    let _ = poll::readable(&[], deadline.left(backoff.next()));
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.failed("the state cannot be locked", error)),
            }
        }
        let stat = rustix::fs::fstat(&file).map_err(|error| self.failed("the state cannot be looked at", error))?;
        // Removed while the lock was waited for, or replaced.
        if stat.st_nlink == 0 || files::identity(&stat) != self.identity {
            return Err(self.removed());
        }
        Ok(file)
    }

    fn read_locked(&self, file: &OwnedFd) -> Result<String> {
        // Room for what others may have put there; each message has a limit of its own.
        let bytes = files::read_from_start(file, LARGEST * 2)
            .map_err(|error| self.failed("the state cannot be read", error))?
            .ok_or_else(|| self.place(Error::new(ErrorKind::TooLarge, "the state is larger than it may be")))?;
        // What is not ASCII in it is passed on as it is, and read by the rules of messages where it is in one.
        let bytes = match String::from_utf8(bytes) {
            Ok(text) => return Ok(text),
            Err(error) => error.into_bytes(),
        };
        let limits = Limits { decoded_bytes: LARGEST * 2, ..Limits::DEFAULT };
        crate::json::normalise(&bytes, &limits).map(std::borrow::Cow::into_owned).map_err(|error| self.place(error))
    }

    /// Reads the state under the exclusive lock, and mends it first if its last writer died.
    fn recover(&self, file: &OwnedFd) -> Result<State> {
        let text = self.read_locked(file);
        let copies = self.copies(false);
        if let Some((copies, begun)) = copies.and_then(|copies| Some((copies, copies.begun()?))) {
            if let Some(text_to_be) = copies.state(begun)
                && self.is_half_written(text.as_ref().ok(), &text_to_be, &copies.last().unwrap_or_default())
            {
                log::warn!("{}: a writer died; what it was writing was finished", self.route);
                self.put(file, text.as_deref().unwrap_or_default(), &text_to_be)
                    .map_err(|error| self.failed("the state cannot be written", error))?;
                copies.settle(begun);
                return State::parse(text_to_be).map_err(|error| self.place(error));
            }
            copies.settle(begun);
        }
        let text = text?;
        match State::parse(text) {
            Ok(state) => Ok(state),
            Err(error) => match copies.and_then(Copies::last) {
                Some(last) => {
                    log::warn!("{}: the state was destroyed; the last that is known was put back", self.route);
                    self.write(file, "", &last)?;
                    State::parse(last).map_err(|error| self.place(error))
                }
                // Nobody has used it yet.
                None if rustix::fs::fstat(file).is_ok_and(|stat| stat.st_size == 0) => State::parse(EMPTY.to_owned()),
                None => Err(self.place(error)),
            },
        }
    }

    /// Whether a state is what a writer left that died on its way from one state to another: what it wrote of the new
    /// stands in front of what is left of the old.
    fn is_half_written(&self, text: Option<&String>, text_to_be: &str, last: &str) -> bool {
        let Some(text) = text.filter(|text| State::is_one(text)) else { return true };
        let common = text.bytes().zip(text_to_be.bytes()).take_while(|(a, b)| a == b).count();
        text != text_to_be && text != last && text.as_bytes().get(common..) == last.as_bytes().get(common..)
    }

    /// Writes a new state over the old one.
    fn write(&self, file: &OwnedFd, old: &str, new: &str) -> Result<()> {
        let failed = |error: std::io::Error| self.failed("the state cannot be written", error);
        let sync = if self.is_lasting { files::Sync::Disk } else { files::Sync::Kernel };
        let prepared = match self.copies(true).map(|copies| Ok((copies, copies.prepare(new, sync)?))) {
            // Readers must be able to empty a full disk, and what gets shorter needs no room.
            Some(Err(error)) if files::is_full(&error) && new.len() <= old.len() => None,
            prepared => prepared.transpose().map_err(failed)?,
        };
        if let Err(error) = self.put(file, old, new) {
            // The old state has its room still.
            let restored = files::write_in_place(file, b"", old.as_bytes());
            if let (Ok(()), Some((copies, copy))) = (restored, prepared) {
                copies.void(copy);
            }
            return Err(failed(error));
        }
        if let Some((copies, copy)) = prepared {
            copies.settle(copy);
        }
        Ok(())
    }

    /// Writes to the file itself.
    fn put(&self, file: &OwnedFd, old: &str, new: &str) -> std::io::Result<()> {
        files::write_in_place(file, old.as_bytes(), new.as_bytes())?;
        if self.is_lasting { Ok(rustix::fs::fsync(file)?) } else { Ok(()) }
    }
}

/// What some work on the state has come to.
pub(super) enum Change<T> {
    None(T),
    Some(T),
}

#[allow(clippy::unnecessary_cast, reason = "their types differ from system to system")]
fn seen(stat: &rustix::fs::Stat) -> Seen {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let changed = (stat.st_mtime as i64, stat.st_mtime_nsec as u64);
    let then = Duration::new(u64::try_from(changed.0).unwrap_or(0), u32::try_from(changed.1).unwrap_or(0));
    // The clock of files goes by ticks of up to 10 ms.
    Seen { size: stat.st_size as i64, changed, is_fresh: now.saturating_sub(then) < Duration::from_millis(30) }
}

impl Seen {
    /// Whether the file surely is as it was when it was read.
    pub(super) fn is_unchanged(&self, now: &Self) -> bool {
        !self.is_fresh && (self.size, self.changed) == (now.size, now.changed)
    }
}
