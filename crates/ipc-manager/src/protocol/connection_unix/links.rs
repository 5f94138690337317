// SPDX-License-Identifier: MIT OR Apache-2.0
//! All connections of one peer. Each is read to its end, whatever else there is with the same peer; one of them carries
//! what is sent.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::codec::Front;
use super::link::{Link, Read};
use crate::error::{Error, ErrorKind};
use crate::message::Message;
use crate::name::PeerName;
use crate::protocol::Damaged;
use crate::protocol::directory_store::Seat;

/// How many connections are held at most where others can be closed without loss.
const MOST_LINKS: usize = 64;
/// How many connections without a name are held at most.
pub(super) const MOST_NAMELESS: usize = 1024;
/// How long a connection may be without a name.
pub(super) const NAMELESS_DEADLINE: Duration = Duration::from_secs(5);
/// Most reports of damage that are kept until somebody collects.
const MOST_REPORTS: usize = 1_000;
/// Most reads of one connection in a row: what the kernel holds for it is far less.
const MOST_READS: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Links {
    /// By age.
    pub(super) all: BTreeMap<u64, Link>,
    pub(super) next: u64,
    /// The connection that carries what is sent to a name. It is kept to until it breaks: the other side reads each
    /// connection in order, but two of them in none.
    pub(super) carrying: BTreeMap<PeerName, u64>,
    pub(super) nameless: BTreeSet<u64>,
    /// Connections with a whole frame in their buffer, in the order in which they are handed out.
    pub(super) ready: VecDeque<u64>,
    /// Messages of peers with several connections, put in order; they come before all others.
    pub(super) merged: VecDeque<Message>,
    pub(super) reports: Vec<Damaged>,
    /// Whether the first answer came on a connection that was opened here. The same peer may have said something before
    /// on one that it opened at the same time.
    pub(super) has_first_answer: bool,
    /// Whether the end of the store may have been told.
    pub(super) has_news_of_store: bool,
    /// Whether there was no descriptor for a connection that waits to be accepted.
    pub(super) is_short: bool,
    /// How many looks may go to the connection over which something came last, before all are looked at again.
    pub(super) quick_looks: u8,
    /// The connection over which something came last.
    pub(super) busiest: Option<u64>,
    /// `None` for a peer that does not listen, or not any more.
    pub(super) listener: Option<OwnedFd>,
    /// Given up to accept a connection where no other descriptor is to be had.
    pub(super) reserve: Option<OwnedFd>,
    pub(super) spare: Vec<Vec<u8>>,
    pub(super) hello: Vec<u8>,
}

impl Links {
    pub(super) fn new(listener: Option<OwnedFd>, reserve: Option<OwnedFd>, hello: Vec<u8>) -> Self {
        Self {
            all: BTreeMap::new(),
            next: 0,
            carrying: BTreeMap::new(),
            nameless: BTreeSet::new(),
            ready: VecDeque::new(),
            merged: VecDeque::new(),
            reports: Vec::new(),
            has_first_answer: false,
            has_news_of_store: true,
            is_short: false,
            quick_looks: 0,
            busiest: None,
            listener,
            reserve,
            spare: Vec::new(),
            hello,
        }
    }

    pub(super) fn add(&mut self, link: Link) -> u64 {
        let id = self.next;
        self.next += 1;
        if link.name.is_none() {
            self.nameless.insert(id);
        }
        self.all.insert(id, link);
        id
    }

    /// Whether messages, or what may be some, wait in this process.
    pub(super) fn is_waiting(&self) -> bool {
        !(self.ready.is_empty() && self.merged.is_empty())
    }

    /// Whether something is arriving that is not complete yet.
    pub(super) fn is_pending(&self) -> bool {
        self.is_waiting() || self.all.values().any(|link| !link.incoming.is_empty())
    }

    /// What tells of more: the listening socket and all connections.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        // Where it cannot accept, being told of it again and again is of no use.
        let listener = self.listener.iter().filter(|_| !self.is_short);
        listener.map(AsFd::as_fd).chain(self.all.values().filter_map(Link::descriptor))
    }

    pub(super) fn report(&mut self, seat: &Seat, error: Error) {
        if self.reports.len() < MOST_REPORTS {
            let path = seat.store.path(&seat.disk);
            self.reports.push(Damaged::new(seat.store.place(error).at_path(path)));
        }
    }

    /// Reports something about a connection, by the name that it goes by.
    fn report_about(&mut self, seat: &Seat, id: u64, error: Error) {
        let name = self.all.get(&id).and_then(|link| link.name.as_ref()).map(ToString::to_string);
        self.report(seat, error.about_peer(name.as_deref().unwrap_or_default()));
    }

    /// Puts a connection in the line of those that are handed out, if it has a whole frame.
    pub(super) fn line_up(&mut self, seat: &Seat, id: u64) {
        let Some(link) = self.all.get(&id) else { return };
        if link.has_whole_frame(seat.limits.encoded_bytes) && link.name.is_some() && !self.ready.contains(&id) {
            self.ready.push_back(id);
        }
    }

    /// Lets another connection carry what is sent to the name of this one, or none.
    pub(super) fn stop_carrying(&mut self, id: u64) {
        let Some(name) = self.all.get(&id).and_then(|link| link.name.clone()) else { return };
        if self.carrying.get(&name) == Some(&id) {
            let other = self
                .all
                .iter()
                .rev()
                .find(|(other, link)| **other != id && link.name.as_ref() == Some(&name) && link.may_carry());
            match other.map(|(other, _)| *other) {
                Some(other) => self.carrying.insert(name, other),
                None => self.carrying.remove(&name),
            };
        }
    }

    /// Takes note that a connection was read to its end. What is whole in its buffer is still handed out.
    pub(super) fn ended(&mut self, seat: &Seat, id: u64) {
        let limit = seat.limits.encoded_bytes;
        let Some(link) = self.all.get_mut(&id) else { return };
        link.close();
        let front = link.incoming.front(limit);
        let (is_nameless, is_retired) = (link.name.is_none(), link.is_retired);
        self.stop_carrying(id);
        match front {
            Front::Whole(_) | Front::TooLong(_) if !is_nameless => return self.line_up(seat, id),
            // Whoever was told to stop sends the frame again, as a whole.
            Front::Part if !is_nameless && !is_retired => {
                let bytes = self.all.get(&id).map_or(0, |link| link.incoming.len());
                let detail = format!("a connection ended in the middle of a frame, after {bytes} bytes of it");
                self.report_about(seat, id, Error::new(ErrorKind::Corrupt, detail));
            }
            _ => {}
        }
        self.remove(id);
    }

    pub(super) fn remove(&mut self, id: u64) {
        self.stop_carrying(id);
        self.nameless.remove(&id);
        self.ready.retain(|ready| *ready != id);
        if let Some(mut link) = self.all.remove(&id) {
            link.incoming.give_away(&mut self.spare);
        }
    }

    /// Closes a connection on which nothing more can be understood, and says why.
    pub(super) fn cut_off(&mut self, seat: &Seat, id: u64, error: Error) {
        self.report_about(seat, id, error);
        self.remove(id);
    }

    /// Reads a connection once, and takes note of what that means. `None` if it is not there any more.
    pub(super) fn read_once(&mut self, seat: &Seat, id: u64) -> Option<Read> {
        let link = self.all.get_mut(&id)?;
        link.descriptor()?;
        let read = match link.read(&mut self.spare) {
            Ok(read) => read,
            Err(error) => {
                self.cut_off(seat, id, Error::system(error, "a connection cannot be read"));
                return None;
            }
        };
        match read {
            Read::Nothing => link.incoming.give_away(&mut self.spare),
            Read::End => self.ended(seat, id),
            Read::Bytes => {
                self.has_first_answer |= link.is_opened_here && !link.has_received;
                link.has_received = true;
                self.busiest = Some(id);
                if link.name.is_some() {
                    self.line_up(seat, id);
                } else {
                    self.greet(seat, id);
                }
            }
        }
        Some(read)
    }

    /// Reads all that is there on a connection.
    pub(super) fn read_all(&mut self, seat: &Seat, id: u64) {
        for _ in 0..MOST_READS {
            if self.read_once(seat, id) != Some(Read::Bytes) {
                break;
            }
        }
    }

    /// Closes a connection without loss: nothing more is let in, so whoever sends on it opens another one and sends
    /// there; what came before is kept. Returns whether it was open.
    pub(super) fn retire(&mut self, seat: &Seat, id: u64) -> bool {
        let Some(link) = self.all.get_mut(&id) else { return false };
        let was_open = link.descriptor().is_some();
        link.refuse_more();
        self.read_all(seat, id);
        if self.all.get(&id).is_some_and(|link| link.descriptor().is_some()) {
            // More than the kernel can hold has come; so it does not end when it should.
            self.ended(seat, id);
        }
        was_open
    }

    /// The connections with the peer of one name that are open.
    pub(super) fn open_to(&self, name: &PeerName) -> Vec<u64> {
        let to = |link: &Link| link.name.as_ref() == Some(name) && link.descriptor().is_some();
        self.all.iter().filter(|(_, link)| to(link)).map(|(id, _)| *id).collect()
    }

    /// Closes all connections with one peer; returns how many were open.
    pub(super) fn retire_all(&mut self, seat: &Seat, name: &PeerName) -> usize {
        self.open_to(name).into_iter().filter(|id| self.retire(seat, *id)).count()
    }

    /// Closes what was not used for the longest time, while there are too many.
    pub(super) fn stay_bounded(&mut self, seat: &Seat, but: u64) {
        while self.all.len() - self.nameless.len() > MOST_LINKS && self.retire_idlest(seat, Some(but), false) {}
    }

    /// Closes the connections with the peer that was not used for the longest time: all of them, since what is sent
    /// on a newer one must not be overtaken on an older one. Returns whether there was one.
    pub(super) fn retire_idlest(&mut self, seat: &Seat, but: Option<u64>, at_any_cost: bool) -> bool {
        let is_free = |link: &Link| {
            !link.is_half_out() && (at_any_cost || (link.is_kin && link.is_listener && link.incoming.is_empty()))
        };
        // When each was last used, where all its connections can be closed.
        let mut peers: HashMap<&PeerName, Option<Instant>> = HashMap::new();
        for (id, link) in self.all.iter().filter(|(_, link)| link.descriptor().is_some()) {
            if let Some(name) = &link.name {
                let peer = peers.entry(name).or_insert(Some(link.used));
                let is_free = Some(*id) != but && is_free(link);
                *peer = peer.filter(|_| is_free).map(|used| used.max(link.used));
            }
        }
        let idlest = peers.into_iter().filter_map(|(name, peer)| Some((name, peer?))).min_by_key(|(_, used)| *used);
        let Some(name) = idlest.map(|(name, _)| name.clone()) else { return false };
        self.retire_all(seat, &name) > 0
    }
}
