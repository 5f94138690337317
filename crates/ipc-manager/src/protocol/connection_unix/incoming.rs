// SPDX-License-Identifier: MIT OR Apache-2.0
//! What comes in: accepting connections, learning whose they are, taking messages off them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use super::codec::{self, Front};
use super::link::Link;
use super::links::{Links, MOST_NAMELESS, NAMELESS_DEADLINE};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::name::PeerName;
use crate::protocol::directory_store::Seat;
use crate::system::{poll, stream};

/// Most connections that are accepted in one go; the rest is there the next time.
const MOST_ACCEPTED: usize = 4096;

/// How many looks in a row go to the busiest connection alone.
const QUICK_LOOKS: u8 = 8;

/// The next thing on a connection.
pub(super) enum Taken {
    Message(Message, usize),
    Damaged(Error, usize),
}

impl Links {
    /// Looks for more, without waiting. Returns whether anything waits in this process now.
    pub(super) fn look(&mut self, seat: &Seat) -> Result<bool> {
        if self.look_at_busiest(seat) {
            return Ok(true);
        }
        let failed = |error| seat.failed("the connections cannot be looked at", error);
        let mut ids: Vec<u64> = Vec::with_capacity(self.all.len());
        let mut descriptors: Vec<BorrowedFd<'_>> = Vec::with_capacity(self.all.len() + 3);
        let of_store: Vec<BorrowedFd<'_>> = seat.news_of_store().into_iter().flatten().collect();
        descriptors.extend(&of_store);
        descriptors.extend(self.listener.iter().map(AsFd::as_fd));
        for (id, link) in &self.all {
            if let Some(descriptor) = link.descriptor() {
                ids.push(*id);
                descriptors.push(descriptor);
            }
        }
        let readable =
            if descriptors.is_empty() { vec![] } else { poll::readable_now(&descriptors).map_err(failed)? };
        let (of_store, others) = readable.split_at(of_store.len());
        let (is_called, of_links) = others.split_at(usize::from(self.listener.is_some()));
        self.has_news_of_store |= of_store.is_empty() || of_store.contains(&true);
        let must_accept = is_called.contains(&true);
        for (id, _) in ids.iter().zip(of_links).filter(|(_, is_readable)| **is_readable) {
            self.read_once(seat, *id);
        }
        if must_accept || std::mem::take(&mut self.has_first_answer) {
            self.accept_all(seat)?;
        }
        self.end_nameless(seat);
        self.quick_looks = QUICK_LOOKS;
        Ok(self.is_waiting())
    }

    /// It is most often the same peer that has more to say, and asking it costs less than asking all. Only so many
    /// times in a row, so that nobody else is kept waiting by one that never stops.
    fn look_at_busiest(&mut self, seat: &Seat) -> bool {
        if self.quick_looks == 0 || self.has_first_answer {
            return false;
        }
        self.quick_looks -= 1;
        let Some(id) = self.busiest else { return false };
        self.read_once(seat, id);
        !self.has_first_answer && self.is_waiting()
    }

    /// Accepts all connections that wait, and reads what came with them.
    pub(super) fn accept_all(&mut self, seat: &Seat) -> Result<()> {
        for _ in 0..MOST_ACCEPTED {
            let Some(listener) = &self.listener else { return Ok(()) };
            match stream::accept(listener.as_fd()) {
                Ok(accepted) => {
                    self.is_short = false;
                    let is_one_too_many = self.nameless.len() >= MOST_NAMELESS;
                    self.admit(seat, accepted, is_one_too_many);
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::InvalidInput) => break,
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {
                }
                Err(error)
                    if stream::is_out_of_descriptors(&error)
                        && (self.retire_idlest(seat, None, true) || self.accept_with_reserve(seat)) => {}
                Err(error) if stream::is_out_of_descriptors(&error) => {
                    // Who waits to be let in keeps waiting, and what they said is not lost.
                    if !std::mem::replace(&mut self.is_short, true) {
                        log::warn!("{}", seat.failed("no connection can be accepted for now", error));
                    }
                    break;
                }
                Err(error) => return Err(seat.failed("no connection can be accepted", error)),
            }
        }
        Ok(())
    }

    /// Accepts one connection where there is no descriptor but the one in reserve: what came over it is kept, and then
    /// it is closed. Returns whether one was accepted.
    fn accept_with_reserve(&mut self, seat: &Seat) -> bool {
        if self.reserve.take().is_none() {
            return false;
        }
        let accepted = self.listener.as_ref().and_then(|listener| stream::accept(listener.as_fd()).ok());
        let has_accepted = accepted.is_some();
        if let Some(accepted) = accepted {
            self.admit(seat, accepted, true);
        }
        self.reserve = seat.store.dir().try_clone_to_owned().ok();
        has_accepted
    }

    /// Takes a connection in if it is of this user, or of a bus that a group shares: only members can reach its sockets. One too many is closed at once, without loss.
    fn admit(&mut self, seat: &Seat, accepted: OwnedFd, is_one_too_many: bool) {
        let pid = match stream::credentials(accepted.as_fd()) {
            Ok(other) if seat.store.access.trusts(other.uid) => other.pid,
            Ok(other) => {
                let detail = format!("a process of user {} connected; it was not let in", other.uid);
                return self.report(seat, Error::new(ErrorKind::Permission, detail));
            }
            Err(error) => return self.report(seat, Error::system(error, "who connected cannot be told")),
        };
        let id = self.add(Link::new(accepted, pid, None, vec![]));
        if is_one_too_many {
            self.retire(seat, id);
        } else {
            self.read_once(seat, id);
        }
    }

    /// Learns from the first frame of a connection whose it is, if that is there.
    pub(super) fn greet(&mut self, seat: &Seat, id: u64) {
        let Some(link) = self.all.get_mut(&id) else { return };
        let size = match link.incoming.front(codec::HELLO_BYTES) {
            Front::Whole(size) => size,
            Front::Empty | Front::Part => return,
            Front::TooLong(size) => {
                let detail = format!("a connection begins with a frame of {size} bytes, which cannot be a hello");
                return self.cut_off(seat, id, Error::new(ErrorKind::Corrupt, detail));
            }
        };
        let name = match codec::name_in_hello(link.incoming.payload(size), &*seat.serializer) {
            Ok(name) => name,
            Err(error) => return self.cut_off(seat, id, error.with_kind(ErrorKind::Corrupt)),
        };
        link.incoming.advance(size);
        link.name = Some(name.clone());
        link.used = Instant::now();
        link.judge(seat);
        let (may_carry, pid) = (link.may_carry(), link.pid);
        self.nameless.remove(&id);
        if may_carry {
            self.carrying.entry(name.clone()).or_insert(id);
        }
        let is_other = |(other, link): (&u64, &Link)| {
            *other != id && link.name.as_ref() == Some(&name) && (link.pid == pid || link.pid.is_none())
        };
        if self.all.iter().any(is_other) {
            self.merge(seat, &name, pid);
        }
        self.line_up(seat, id);
        self.stay_bounded(seat, id);
    }

    /// Puts what came over several connections of one peer in the order in which it was sent: when it opened the newest,
    /// it may have said things on the older ones, and the other way round where both sides opened one at once.
    fn merge(&mut self, seat: &Seat, name: &PeerName, pid: Option<u32>) {
        let of_peer = |link: &Link| link.name.as_ref() == Some(name) && (link.pid == pid || link.pid.is_none());
        let ids: Vec<u64> = self.all.iter().filter(|(_, link)| of_peer(link)).map(|(id, _)| *id).collect();
        let mut messages = Vec::new();
        for id in ids {
            self.read_all(seat, id);
            while let Some(taken) = self.take_from(seat, id) {
                match taken {
                    Taken::Message(message, _) => messages.push(message),
                    Taken::Damaged(error, _) => self.report(seat, error),
                }
            }
            self.is_used_up(seat, id);
        }
        messages.sort_by_key(Message::order_key);
        self.merged.extend(messages);
    }

    /// Takes the next thing that waits in this process.
    pub(super) fn take(&mut self, seat: &Seat) -> Option<Taken> {
        if let Some(message) = self.merged.pop_front() {
            let size = message.raw_content().as_json().len();
            return Some(Taken::Message(message, size));
        }
        while let Some(id) = self.ready.front().copied() {
            let taken = self.take_from(seat, id);
            // At once, so that nothing is said to wait that does not.
            if !self.all.get(&id).is_some_and(|link| link.has_whole_frame(seat.limits.encoded_bytes)) {
                self.is_used_up(seat, id);
            }
            if taken.is_some() {
                return taken;
            }
        }
        None
    }

    /// How many bytes the next thing has.
    pub(super) fn next_size(&self, seat: &Seat) -> Option<usize> {
        if let Some(message) = self.merged.front() {
            return Some(message.raw_content().as_json().len());
        }
        match self.all.get(self.ready.front()?)?.incoming.front(seat.limits.encoded_bytes) {
            Front::Whole(size) => Some(size),
            _ => Some(0),
        }
    }

    /// Takes the next thing off one connection. `None` if no whole frame waits.
    fn take_from(&mut self, seat: &Seat, id: u64) -> Option<Taken> {
        loop {
            let limit = seat.limits.encoded_bytes;
            let link = self.all.get_mut(&id)?;
            let size = match link.incoming.front(limit) {
                Front::Whole(size) => size,
                Front::Empty | Front::Part => return None,
                Front::TooLong(size) => {
                    let detail = format!(
                        "a frame of {size} bytes was announced, and the limit is {limit}; the connection was closed"
                    );
                    self.cut_off(seat, id, Error::new(ErrorKind::TooLarge, detail));
                    return None;
                }
            };
            let decoded = seat.decode(link.incoming.payload(size));
            let is_hello = decoded.is_err() && codec::is_bare_hello(link.incoming.payload(size), &*seat.serializer);
            link.incoming.advance(size);
            if is_hello {
                continue;
            }
            let checked = decoded.and_then(|message| match message.to() {
                Some(to) if *to != seat.name => {
                    let detail = format!("a message that came for {} is addressed to somebody else", seat.name);
                    Err(Error::new(ErrorKind::Corrupt, detail))
                }
                _ => Ok(message),
            });
            return Some(match checked {
                Ok(message) => {
                    let origin = link.origin(seat, message.from());
                    Taken::Message(message.with_origin(origin), size)
                }
                Err(error) => {
                    let name = link.name.as_ref().map(ToString::to_string);
                    Taken::Damaged(error.about_peer(name.as_deref().unwrap_or_default()), size)
                }
            });
        }
    }

    /// Takes a connection out of the line once it has no whole frame any more.
    fn is_used_up(&mut self, seat: &Seat, id: u64) {
        self.ready.retain(|ready| *ready != id);
        let Some(link) = self.all.get_mut(&id) else { return };
        link.used = Instant::now();
        link.incoming.give_away(&mut self.spare);
        if link.descriptor().is_none() {
            self.ended(seat, id);
        }
    }

    /// Closes connections that did not say whose they are in time.
    fn end_nameless(&mut self, seat: &Seat) {
        while let Some(id) = self.nameless.first().copied() {
            let is_late = self.all.get(&id).is_none_or(|link| link.made.elapsed() >= NAMELESS_DEADLINE);
            if !is_late {
                break;
            }
            let detail = format!("a connection did not say whose it is within {NAMELESS_DEADLINE:?}");
            self.cut_off(seat, id, Error::new(ErrorKind::Corrupt, detail));
        }
    }

    /// Lets nothing in any more, and takes in all that was let in before.
    pub(super) fn seal(&mut self, seat: &Seat) -> Result<()> {
        if let Some(listener) = &self.listener {
            stream::refuse_more(listener);
        }
        let accepted = loop {
            let before = self.next;
            match self.accept_all(seat) {
                Ok(()) if self.next != before => {}
                accepted => break accepted,
            }
        };
        self.listener = None;
        for id in self.all.keys().copied().collect::<Vec<_>>() {
            self.retire(seat, id);
        }
        accepted
    }
}
