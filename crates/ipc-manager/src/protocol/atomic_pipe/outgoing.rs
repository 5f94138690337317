// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writing frames into others' FIFOs: in order, in as few writes as fit, never waiting.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::codec::{HEADER_BYTES, PART_BYTES, Writer, part_count, write_part};
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::message::MessageId;
use crate::name::PeerName;
use crate::protocol::directory_store::{Recent, Store, disk_name, is_reserved};
use crate::protocol::{Envelope, Receipt};
use crate::system::{files, pipe, process};

/// Most FIFOs that are kept open between two sends.
const MOST_OPEN: usize = 32;
/// For how long an open FIFO is taken for the one under its name: a reader that leaves shows at once, but one whose
/// descriptors live on in a forked child does not.
const LOOK_AT_NAME: Duration = Duration::from_millis(1);

/// A recipient's FIFO.
#[derive(Debug)]
struct Fifo {
    descriptor: OwnedFd,
    identity: (u64, u64),
    looked: Instant,
    /// A message of which so many parts are in the FIFO already.
    begun: Option<(MessageId, usize)>,
}

/// The sending half of a connection.
#[derive(Debug)]
pub(super) struct Outgoing {
    store: Arc<Store>,
    writer: Writer,
    open: Recent<Fifo>,
    frames: Vec<u8>,
}

impl Outgoing {
    pub(super) fn new(store: Arc<Store>) -> Self {
        // Random, so that two clients of one process do not mix up their parts; the reference takes any.
        let (low, _) = uuid::Uuid::new_v4().as_u64_pair();
        let tid = i32::from_ne_bytes((low as u32 | 1).to_ne_bytes());
        let pid = i32::try_from(process::own_pid()).unwrap_or(i32::MAX);
        let frames = Vec::with_capacity(pipe::ATOMIC_BYTES);
        Self { store, writer: Writer { pid, tid }, open: Recent::at_most(MOST_OPEN), frames }
    }

    /// What to wait for until a recipient's FIFO has room.
    pub(super) fn room(&self, to: &PeerName) -> Option<BorrowedFd<'_>> {
        self.open.peek(to).map(|fifo| fifo.descriptor.as_fd())
    }

    /// Stores messages in order.
    pub(super) fn store_all(&mut self, envelopes: &[Envelope<'_>], receipts: &mut Vec<Receipt>) -> Result<()> {
        let mut rest = envelopes;
        while let Some(first) = rest.first() {
            let run = rest.iter().take_while(|envelope| envelope.to() == first.to()).count();
            let before = receipts.len();
            self.store_run(&rest[..run], receipts).map_err(|error| {
                let failed = rest[..run].get(receipts.len() - before).unwrap_or(first);
                let stored = error.stored().unwrap_or(Stored::No);
                let error = error.about_peer(first.to().as_str()).about_message(failed.message().id().as_str());
                self.store.place(error).with_stored(stored)
            })?;
            rest = &rest[run..];
        }
        Ok(())
    }

    /// Stores messages to one recipient.
    fn store_run(&mut self, envelopes: &[Envelope<'_>], receipts: &mut Vec<Receipt>) -> Result<()> {
        let to = envelopes[0].to();
        let mut rest = envelopes;
        // Encoded before anything is opened: what cannot be sent at all says so first.
        envelopes[0].payload()?;
        let mut is_reopened = false;
        while !rest.is_empty() {
            self.make_sure_of(to)?;
            let (written, count) = self.write_some(to, rest);
            receipts.extend(std::iter::repeat_n(Receipt::Delivered, count));
            rest = &rest[count..];
            match written {
                Ok(()) => is_reopened = false,
                Err(Refused::Broken) if !is_reopened => {
                    // Its reader left. Somebody else may have the name by now.
                    self.open.remove(to);
                    is_reopened = true;
                }
                Err(Refused::Broken) => {
                    self.open.remove(to);
                    return Err(gone());
                }
                Err(Refused::Full { has_begun }) => {
                    let error = Error::new(ErrorKind::WouldBlock, "the recipient's FIFO is full");
                    return Err(error.with_stored(if has_begun { Stored::Maybe } else { Stored::No }));
                }
                Err(Refused::Other(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes one message into an open FIFO that was looked at just now, if there is room.
    pub(super) fn write_payload(&mut self, to: &PeerName, payload: &[u8]) -> Option<Receipt> {
        let fifo = self.open.used(to).filter(|fifo| fifo.looked.elapsed() < LOOK_AT_NAME && fifo.begun.is_none())?;
        if payload.len() > PART_BYTES {
            return None;
        }
        self.frames.clear();
        write_part(self.writer, payload, 0, &mut self.frames);
        pipe::write(fifo.descriptor.as_fd(), &self.frames).ok()?;
        Some(Receipt::Delivered)
    }

    /// Has the recipient's FIFO open, and the one that has its name now.
    fn make_sure_of(&mut self, to: &PeerName) -> Result<()> {
        if let Some(fifo) = self.open.used(to) {
            let now = Instant::now();
            if now.duration_since(fifo.looked) < LOOK_AT_NAME {
                return Ok(());
            }
            fifo.looked = now;
            let there = files::stat_at(self.store.dir(), &disk_name(&self.store, to)?).ok().flatten();
            if there.is_some_and(|stat| files::identity(&stat) == fifo.identity) {
                return Ok(());
            }
            self.open.remove(to);
        }
        let fifo = self.open_fifo(to)?;
        // One with half a message in it stays: the other half must go the same way.
        self.open.insert(to.clone(), fifo, |fifo| fifo.begun.is_none());
        Ok(())
    }

    fn open_fifo(&self, to: &PeerName) -> Result<Fifo> {
        let disk = disk_name(&self.store, to)?;
        if is_reserved(&disk) {
            return Err(no_such_peer());
        }
        let descriptor = pipe::open_writer_at(self.store.dir(), &disk).map_err(|error| match error.raw_os_error() {
            Some(libc::ENXIO) => gone(),
            Some(libc::ENOENT) if self.store.is_gone() => self.store.removed(),
            Some(libc::ENOENT | libc::ELOOP | libc::EISDIR) => no_such_peer(),
            _ => self.store.failed(&disk, "the recipient's FIFO cannot be opened", error),
        })?;
        let stat = rustix::fs::fstat(&descriptor)
            .map_err(|error| self.store.failed(&disk, "the recipient's FIFO cannot be read", error.into()))?;
        if !pipe::is_fifo(&stat) {
            return Err(no_such_peer());
        }
        let identity = files::identity(&stat);
        Ok(Fifo { descriptor, identity, looked: Instant::now(), begun: None })
    }

    /// Writes as many messages as fit into one write, or one that has more parts than that. Returns how many are out.
    fn write_some(&mut self, to: &PeerName, envelopes: &[Envelope<'_>]) -> (std::result::Result<(), Refused>, usize) {
        let Some(fifo) = self.open.used(to) else { return (Err(Refused::Broken), 0) };
        let frames = &mut self.frames;
        frames.clear();
        let mut count = 0;
        for envelope in envelopes {
            let payload = match envelope.payload() {
                Ok(payload) => payload,
                Err(error) if count == 0 => return (Err(Refused::Other(error)), 0),
                // What comes before it goes out first.
                Err(_) => break,
            };
            if payload.len() > PART_BYTES {
                if count == 0 {
                    let written = write_parts(fifo, self.writer, envelope.message().id(), payload, frames);
                    let is_out = usize::from(written.is_ok());
                    return (written, is_out);
                }
                break;
            }
            if frames.len() + HEADER_BYTES + payload.len() > pipe::ATOMIC_BYTES {
                break;
            }
            write_part(self.writer, payload, 0, frames);
            count += 1;
        }
        match pipe::write(fifo.descriptor.as_fd(), frames) {
            Ok(()) => (Ok(()), count),
            Err(error) => (Err(Refused::of(error, false)), 0),
        }
    }
}

/// Writes a message of several parts, going on where an earlier attempt stopped.
fn write_parts(
    fifo: &mut Fifo,
    writer: Writer,
    id: &MessageId,
    payload: &[u8],
    frame: &mut Vec<u8>,
) -> std::result::Result<(), Refused> {
    let done = fifo.begun.take().filter(|(begun, _)| begun == id).map_or(0, |(_, done)| done);
    for index in done..part_count(payload) {
        frame.clear();
        write_part(writer, payload, index, frame);
        if let Err(error) = pipe::write(fifo.descriptor.as_fd(), frame) {
            if index > 0 {
                fifo.begun = Some((id.clone(), index));
            }
            return Err(Refused::of(error, index > 0));
        }
    }
    Ok(())
}

/// Why a write was refused.
enum Refused {
    /// Nobody reads it any more.
    Broken,
    Full {
        has_begun: bool,
    },
    Other(Error),
}

impl Refused {
    fn of(error: io::Error, has_begun: bool) -> Self {
        match error.raw_os_error() {
            Some(libc::EPIPE) => Self::Broken,
            _ if error.kind() == io::ErrorKind::WouldBlock => Self::Full { has_begun },
            _ => {
                let stored = if has_begun { Stored::Maybe } else { Stored::No };
                Self::Other(Error::system(error, "the recipient's FIFO cannot be written to").with_stored(stored))
            }
        }
    }
}

fn no_such_peer() -> Error {
    Error::new(ErrorKind::NoSuchPeer, "no peer of that name is on the bus")
}

fn gone() -> Error {
    Error::new(ErrorKind::PeerGone, "nobody reads that peer's FIFO any more")
}
