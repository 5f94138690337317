// SPDX-License-Identifier: MIT OR Apache-2.0
//! What goes out: opening connections, and sending as many frames as possible in one call.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use super::codec::{self, HEADER_BYTES};
use super::link::{Link, Standing};
use super::links::Links;
use super::standing;
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::message::MessageId;
use crate::name::PeerName;
use crate::protocol::directory_store::{Seat, disk_name, is_reserved};
use crate::protocol::{Envelope, PeerState, Receipt};
use crate::system::{datagram, files, stream};

/// Most bytes and frames that go out in one call. The kernel takes 1,024 parts, and a frame is two.
const MOST_BYTES: usize = 256 << 10;
const MOST_FRAMES: usize = 500;
/// How often a connection that broke before it took a frame is replaced, for one frame.
const MOST_ATTEMPTS: usize = 8;
/// How often to look whether a connection still leads to who holds the name.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Links {
    /// Stores messages in order; see [`Connection::deliver`](crate::protocol::Connection::deliver).
    pub(super) fn deliver(
        &mut self,
        seat: &Seat,
        envelopes: &[Envelope<'_>],
        receipts: &mut Vec<Receipt>,
    ) -> Result<()> {
        let mut rest = envelopes;
        while let Some(first) = rest.first() {
            let place = |error: Error, envelope: &Envelope<'_>| {
                let stored = error.stored().unwrap_or(Stored::No);
                let error = error.about_peer(envelope.to().as_str());
                let error = error.about_message(envelope.message().id().as_str());
                seat.store.place(error).with_stored(stored)
            };
            let before = receipts.len();
            let sent = match rest {
                [_] => {
                    let frame = frame(first).map_err(|error| place(error, first))?;
                    self.send(seat, first.to(), &[frame], receipts)
                }
                _ => {
                    let frames = frames(rest).map_err(|error| place(error, first))?;
                    self.send(seat, first.to(), &frames, receipts)
                }
            };
            rest = &rest[receipts.len() - before..];
            sent.map_err(|error| place(error, rest.first().unwrap_or(first)))?;
        }
        Ok(())
    }

    /// Sends frames to one peer, with a receipt for each that is out as a whole.
    fn send(&mut self, seat: &Seat, to: &PeerName, frames: &[Frame<'_>], receipts: &mut Vec<Receipt>) -> Result<()> {
        let mut rest = frames;
        let mut attempts = 0;
        let now = Instant::now();
        while let Some((id, ..)) = rest.first() {
            let carrying = self.carrying_to(seat, to, id, now)?;
            let Some(link) = self.all.get_mut(&carrying) else { continue };
            let sent = link.send(rest);
            if sent.whole > 0 {
                link.used = now;
                receipts.extend(std::iter::repeat_n(Receipt::Delivered, sent.whole));
                rest = rest.get(sent.whole..).unwrap_or_default();
                attempts = 0;
            }
            match sent.error {
                None => {}
                Some(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let is_half_out = link.is_half_out();
                    let error = Error::new(ErrorKind::WouldBlock, "the connection has no room");
                    return Err(error.with_stored(if is_half_out { Stored::Maybe } else { Stored::No }));
                }
                Some(error) if stream::is_broken(&error) && attempts < MOST_ATTEMPTS => {
                    // No whole frame went with it: what is out in part is dropped at the other end.
                    attempts += 1;
                    link.can_send = false;
                    self.stop_carrying(carrying);
                }
                Some(error) if stream::is_broken(&error) => {
                    link.can_send = false;
                    self.stop_carrying(carrying);
                    let detail = "each connection was closed before it took the message";
                    return Err(Error::new(ErrorKind::WouldBlock, detail).with_source(error));
                }
                Some(error) => return Err(Error::system(error, "the connection cannot be written to")),
            }
        }
        Ok(())
    }

    /// Sends one message over an open connection that was looked at just now, as far as there is room.
    pub(super) fn send_payload(&mut self, to: &PeerName, id: &MessageId, payload: &[u8]) -> Option<Receipt> {
        let now = Instant::now();
        let link = self.all.get_mut(self.carrying.get(to)?)?;
        let is_fresh = now.saturating_duration_since(link.checked) < LOOK_AGAIN;
        if !is_fresh || !link.can_send || link.is_half_out() {
            return None;
        }
        let sent = link.send(&[(id, codec::header(payload).ok()?, payload)]);
        if sent.whole == 0 {
            // What is wrong shows again on the long way, which goes on where this stopped.
            return None;
        }
        link.used = now;
        Some(Receipt::Delivered)
    }

    /// The connection that carries what is sent to a name; opened if there is none.
    fn carrying_to(&mut self, seat: &Seat, to: &PeerName, first: &MessageId, now: Instant) -> Result<u64> {
        while let Some(id) = self.carrying.get(to).copied() {
            let Some(link) = self.all.get_mut(&id) else {
                self.carrying.remove(to);
                continue;
            };
            if now.saturating_duration_since(link.checked) >= LOOK_AGAIN {
                link.checked = now;
                link.can_send &= link.is_still_right(seat);
            }
            // Nothing can follow half of a frame but its other half.
            link.can_send &= !link.is_busy_with_another(first);
            if link.can_send {
                return Ok(id);
            }
            self.stop_carrying(id);
        }
        self.open(seat, to)
    }

    /// Opens a connection to a peer that listens. The hello goes out with the first frame.
    fn open(&mut self, seat: &Seat, to: &PeerName) -> Result<u64> {
        let disk = disk_name(&seat.store, to)?;
        let stat = files::stat_at(seat.store.dir(), &disk)
            .map_err(|error| seat.store.failed(&disk, "the recipient's entry cannot be read", error))?;
        let Some(stat) = stat.filter(|stat| !is_reserved(&disk) && super::layout::is_entry(stat)) else {
            return Err(missing(seat));
        };
        if !datagram::is_socket(&stat) {
            return Err(match standing::seen(seat, to, None).is_alive {
                true => Error::new(ErrorKind::NotListening, "the peer does not listen, and has not connected to us"),
                false => gone(),
            });
        }
        let connected = loop {
            match stream::connect_at(seat.store.dir(), Path::new(seat.store.route.as_str()), &disk) {
                Err(error) if stream::is_out_of_descriptors(&error) && self.retire_idlest(seat, None, true) => {}
                connected => break connected,
            }
        };
        let connected = connected.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => missing(seat),
            io::ErrorKind::ConnectionRefused => refused(seat, &disk),
            io::ErrorKind::WouldBlock => Error::new(ErrorKind::WouldBlock, "too many wait to be let in by the peer"),
            _ => seat.store.failed(&disk, "the recipient cannot be connected to", error),
        })?;
        let other = stream::credentials(connected.as_fd())
            .map_err(|error| seat.store.failed(&disk, "who listens cannot be told", error))?;
        if !seat.store.access.trusts(other.uid) {
            let detail = format!("a process of user {} listens under that name", other.uid);
            return Err(Error::new(ErrorKind::Permission, detail));
        }
        let mut link = Link::new(connected, other.pid, Some(to.clone()), self.hello.clone());
        let seen = link.judge(seat);
        if !seen.is_alive {
            // A forked child of its may still have the socket open, and nobody reads there.
            return Err(if seen.standing == Standing::Nobody { missing(seat) } else { gone() });
        }
        let id = self.add(link);
        self.carrying.insert(to.clone(), id);
        self.stay_bounded(seat, id);
        Ok(id)
    }
}

/// A message, and its frame as header and payload.
type Frame<'a> = (&'a MessageId, [u8; HEADER_BYTES], &'a [u8]);

fn frame<'a>(envelope: &'a Envelope<'_>) -> Result<Frame<'a>> {
    let payload = envelope.payload()?;
    Ok((envelope.message().id(), codec::header(payload)?, payload))
}

/// The frames of the first messages that go to one peer and fit in one call; at least one, or why there is none.
fn frames<'a>(envelopes: &'a [Envelope<'_>]) -> Result<Vec<Frame<'a>>> {
    let mut frames = Vec::with_capacity(envelopes.len().min(MOST_FRAMES));
    let mut bytes = 0;
    let to = envelopes.first().map(Envelope::to);
    for envelope in envelopes.iter().take(MOST_FRAMES).take_while(|envelope| Some(envelope.to()) == to) {
        match frame(envelope) {
            // The others go first; it is the first of the next call.
            Err(_) if !frames.is_empty() => break,
            Err(error) => return Err(error),
            Ok((_, _, payload)) if !frames.is_empty() && bytes + payload.len() > MOST_BYTES => break,
            Ok(frame) => {
                bytes += HEADER_BYTES + frame.2.len();
                frames.push(frame);
            }
        }
    }
    Ok(frames)
}

fn missing(seat: &Seat) -> Error {
    if seat.store.is_gone() {
        return seat.store.removed();
    }
    Error::new(ErrorKind::NoSuchPeer, "no peer of that name is on the bus")
}

fn gone() -> Error {
    Error::new(ErrorKind::PeerGone, "the peer's process is gone, and what it had not read with it")
}

/// What it means that nobody listens at a peer's socket.
fn refused(seat: &Seat, disk: &std::ffi::OsStr) -> Error {
    match seat.store.state(disk) {
        Err(error) => error,
        Ok(None) => missing(seat),
        Ok(Some(entry)) => match entry.state {
            PeerState::Leaving => missing(seat),
            // It has a socket, and will listen in a moment.
            PeerState::Starting => Error::new(ErrorKind::WouldBlock, "the peer does not listen yet"),
            _ => gone(),
        },
    }
}
