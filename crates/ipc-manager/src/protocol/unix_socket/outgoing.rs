// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sending datagrams to others' sockets: in order, many in one call, never waiting.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result, Stored};
use crate::name::PeerName;
use crate::protocol::directory_store::{Recent, Store, disk_name, is_reserved};
use crate::protocol::{Envelope, PeerState, Receipt};
use crate::system::{datagram, files};

/// What a peer of the reference reads of a datagram; the rest would be lost.
const REFERENCE_READS: usize = 65_536;
/// The largest datagram, as far as the system grants it: with buffers twice the usual size, which any process may ask
/// for. The kernel needs the memory of one in one piece, so much more cannot be relied on.
pub(super) const LARGEST: usize = 2 * 212_992 - 32;
/// Most sockets that are kept open between two sends.
const MOST_OPEN: usize = 32;
/// Most datagrams in one call. A socket holds ten unless the system says otherwise, and while some go out the reader can
/// be at those before.
const MOST_AT_ONCE: usize = 8;
/// For how long an open socket is taken for the one under its name: a reader that leaves shows at once, but one whose
/// descriptors live on in a forked child does not.
const LOOK_AT_NAME: Duration = Duration::from_millis(1);
/// How often to ask whether the reader lives whose socket is full, and stays so.
const ASK_FOR_LIFE: Duration = Duration::from_millis(200);

/// A socket of which all goes to one recipient.
#[derive(Debug)]
struct Line {
    socket: OwnedFd,
    /// Device and inode of the entry that it was opened by.
    identity: (u64, u64),
    looked: Instant,
    asked: Instant,
    /// Whether the recipient is of this implementation, and so reads datagrams of any size.
    is_kin: bool,
    /// The largest datagram that is known to go through.
    largest: usize,
}

/// The sending half of a connection.
#[derive(Debug)]
pub(super) struct Outgoing {
    store: Arc<Store>,
    open: Recent<Line>,
}

impl Outgoing {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, open: Recent::at_most(MOST_OPEN) }
    }

    /// What to wait for until a recipient's socket has room.
    pub(super) fn room(&self, to: &PeerName) -> Option<BorrowedFd<'_>> {
        self.open.peek(to).map(|line| line.socket.as_fd())
    }

    /// Sends messages in order.
    pub(super) fn store_all(&mut self, envelopes: &[Envelope<'_>], receipts: &mut Vec<Receipt>) -> Result<()> {
        let mut rest = envelopes;
        while let Some(first) = rest.first() {
            let run = rest.iter().take_while(|envelope| envelope.to() == first.to()).count();
            let before = receipts.len();
            self.store_run(&rest[..run], receipts).map_err(|error| {
                let failed = rest[..run].get(receipts.len() - before).unwrap_or(first);
                let error = error.about_peer(first.to().as_str()).about_message(failed.message().id().as_str());
                // A datagram is sent whole or not at all.
                self.store.place(error).with_stored(Stored::No)
            })?;
            rest = &rest[run..];
        }
        Ok(())
    }

    /// Sends messages to one recipient.
    fn store_run(&mut self, envelopes: &[Envelope<'_>], receipts: &mut Vec<Receipt>) -> Result<()> {
        let to = envelopes[0].to();
        let mut rest = envelopes;
        let mut is_reopened = false;
        while !rest.is_empty() {
            // Encoded before anything is opened: what cannot be sent at all says so first.
            let size = rest[0].payload()?.len();
            let line = self.line(to)?;
            line.make_room_for(size)?;
            match send_some(line, rest) {
                Ok(count) => {
                    receipts.extend(std::iter::repeat_n(Receipt::Delivered, count));
                    rest = &rest[count..];
                    is_reopened = false;
                }
                Err(error) => self.refused(to, size, error, &mut is_reopened)?,
            }
        }
        Ok(())
    }

    /// Sends one message through an open socket that was looked at just now, if there is room.
    pub(super) fn send_payload(&mut self, to: &PeerName, payload: &[u8]) -> Option<Receipt> {
        let line = self.open.used(to).filter(|line| line.looked.elapsed() < LOOK_AT_NAME)?;
        if payload.len() > line.largest {
            return None;
        }
        datagram::send(line.socket.as_fd(), payload).ok()?;
        Some(Receipt::Delivered)
    }

    /// What a refusal means. Returns where the same message is to be tried again.
    fn refused(&mut self, to: &PeerName, size: usize, error: io::Error, is_reopened: &mut bool) -> Result<()> {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED | libc::EPIPE | libc::ENOTCONN | libc::ECONNRESET) => {
                // Its reader left. Somebody else may have the name by now.
                self.open.remove(to);
                if std::mem::replace(is_reopened, true) { Err(gone()) } else { Ok(()) }
            }
            Some(libc::EAGAIN) => {
                if self.has_died(to)? {
                    self.open.remove(to);
                    return Err(gone());
                }
                Err(Error::new(ErrorKind::WouldBlock, "the recipient's socket is full"))
            }
            Some(libc::EMSGSIZE) => match self.open.used(to) {
                Some(line) => line.was_too_small_for(size),
                None => Ok(()),
            },
            Some(libc::ENOBUFS | libc::ENOMEM) => {
                let detail = format!("the system has no memory for a datagram of {size} bytes");
                Err(Error::system(error, detail).with_retryable(true))
            }
            _ => Err(self.store.failed(&disk_name(&self.store, to)?, "the recipient's socket takes nothing", error)),
        }
    }

    /// Whether the reader of a full socket is known to be dead. Asked now and then: a forked child may have it open, too.
    fn has_died(&mut self, to: &PeerName) -> Result<bool> {
        let Some(line) = self.open.used(to) else { return Ok(false) };
        let now = Instant::now();
        if now.duration_since(line.asked) < ASK_FOR_LIFE {
            return Ok(false);
        }
        line.asked = now;
        let entry = self.store.state(&disk_name(&self.store, to)?)?;
        Ok(entry.is_some_and(|entry| entry.state == PeerState::Dead))
    }

    /// The open socket for a recipient, and the one that has its name now.
    fn line(&mut self, to: &PeerName) -> Result<&mut Line> {
        let now = Instant::now();
        let is_current = match self.open.used(to) {
            Some(line) if now.duration_since(line.looked) < LOOK_AT_NAME => true,
            Some(line) => {
                line.looked = now;
                let there = files::stat_at(self.store.dir(), &disk_name(&self.store, to)?).ok().flatten();
                there.is_some_and(|stat| files::identity(&stat) == line.identity)
            }
            None => false,
        };
        if !is_current {
            let line = self.connect(to)?;
            return Ok(self.open.insert(to.clone(), line, |_| true));
        }
        self.open.used(to).ok_or_else(|| Error::new(ErrorKind::Store, "an open socket was lost"))
    }

    fn connect(&self, to: &PeerName) -> Result<Line> {
        let disk = disk_name(&self.store, to)?;
        if is_reserved(&disk) {
            return Err(no_such_peer());
        }
        let failed = |error| self.store.failed(&disk, "the recipient's socket cannot be opened", error);
        // Looked at before it is opened: whoever takes the name in between is noticed at the next look.
        let stat = match files::stat_at(self.store.dir(), &disk).map_err(failed)? {
            Some(stat) if datagram::is_socket(&stat) => stat,
            _ => return Err(self.missing()),
        };
        let connected = datagram::connect_at(self.store.dir(), Path::new(self.store.route.as_str()), &disk);
        let socket = connected.map_err(|error| match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => gone(),
            Some(libc::ENOENT) => self.missing(),
            // A socket of another kind.
            Some(libc::EPROTOTYPE) => no_such_peer(),
            _ => failed(error),
        })?;
        let entry = self.store.state(&disk)?;
        let is_kin = entry.is_some_and(|entry| entry.identity.is_some());
        let (identity, now) = (files::identity(&stat), Instant::now());
        Ok(Line { socket, identity, looked: now, asked: now, is_kin, largest: REFERENCE_READS })
    }

    fn missing(&self) -> Error {
        if self.store.is_gone() { self.store.removed() } else { no_such_peer() }
    }
}

/// Sends as many messages as go in one call; returns how many went. An error is that of the first.
fn send_some(line: &Line, envelopes: &[Envelope<'_>]) -> io::Result<usize> {
    let payloads = envelopes.iter().take(MOST_AT_ONCE).map_while(|envelope| envelope.payload().ok());
    let mut fitting = payloads.take_while(|payload| payload.len() <= line.largest);
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => datagram::send(line.socket.as_fd(), only).map(|()| 1),
        (first, second) => {
            let all: Vec<&[u8]> = first.into_iter().chain(second).chain(fitting).collect();
            datagram::send_many(line.socket.as_fd(), &all)
        }
    }
}

impl Line {
    /// Sees to it that a datagram of this size can go through.
    fn make_room_for(&mut self, size: usize) -> Result<()> {
        if size <= self.largest {
            return Ok(());
        }
        if !self.is_kin {
            return Err(too_large(size, self.largest, "all that a peer of that kind is sure to read"));
        }
        if size <= LARGEST {
            self.largest = datagram::enlarge(self.socket.as_fd(), LARGEST)
                .map_err(|error| Error::system(error, "the send buffer cannot be enlarged"))?
                .min(LARGEST);
        }
        if size <= self.largest { Ok(()) } else { Err(too_large(size, self.largest, "all that the system grants")) }
    }

    /// Takes note that a datagram of this size was refused as too large. An error if there is nothing to be done.
    fn was_too_small_for(&mut self, size: usize) -> Result<()> {
        let granted = datagram::enlarge(self.socket.as_fd(), LARGEST)
            .map_err(|error| Error::system(error, "the send buffer cannot be enlarged"))?;
        let is_tried = self.largest == granted.min(LARGEST);
        self.largest = granted.min(if self.is_kin { LARGEST } else { REFERENCE_READS });
        if size <= self.largest && !is_tried {
            return Ok(());
        }
        Err(too_large(size, self.largest, "all that the system grants"))
    }
}

fn too_large(size: usize, limit: usize, why: &str) -> Error {
    Error::new(ErrorKind::TooLarge, format!("the encoded message has {size} bytes, and the limit is {limit}: {why}"))
}

fn no_such_peer() -> Error {
    Error::new(ErrorKind::NoSuchPeer, "no peer of that name is on the bus")
}

fn gone() -> Error {
    Error::new(ErrorKind::PeerGone, "nobody reads that peer's socket any more")
}
