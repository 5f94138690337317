// SPDX-License-Identifier: MIT OR Apache-2.0
//! One peer on a bus in memory.

use std::collections::VecDeque;
use std::collections::btree_map::Entry as Slot;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::store::{Bus, Entry, Holder, Peers, Waiting};
use super::{LARGEST, MOST_UNREAD, place};
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::limits::Limits;
use crate::message::Message;
use crate::name::PeerName;
use crate::protocol::{
    Connection, Connections, Damaged, Directory, Envelope, Inbox, Leave, Mode, OpenOptions, Opened, PeerRecord,
    PeerState, Receipt, Wake, Wanted,
};
use crate::serializer::Serializer;
use crate::stats::Stats;
use crate::system::bell::Bell;
use crate::system::process::own_pid;
use crate::system::rings::{self, Rings};

/// How often to look for room, which nothing tells of.
const POLL_ROOM: Duration = Duration::from_millis(20);
/// Looking all the same; a ring cannot be lost here.
const LOOK_ALL_THE_SAME: Duration = Duration::from_secs(15);

/// See [`super::LocalMemory`].
#[derive(Debug)]
struct LocalMemoryConnection {
    bus: Arc<Bus>,
    name: PeerName,
    /// Tells this holder of the name from every other.
    number: u64,
    bell: Arc<Bell>,
    serializer: Arc<dyn Serializer>,
    limits: Limits,
    listing: Listing,
    /// The mailbox after it was made unreachable.
    unlisted: Option<VecDeque<Waiting>>,
    is_closed: bool,
}

pub(super) fn open(bus: Arc<Bus>, options: OpenOptions) -> Result<Opened> {
    static NUMBERS: AtomicU64 = AtomicU64::new(1);
    let OpenOptions { name, mode, serializer, limits, .. } = options;
    // Names that another implementation allows are not promised everywhere.
    PeerName::new(name.as_str())?;
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
    // All that can fail comes before the name is taken.
    let bell = Arc::new(Bell::new().map_err(|error| Error::system(error, "a descriptor to wait for cannot be had"))?);
    let listing = Listing::new(Arc::clone(&bus), Some(name.clone()), Arc::clone(&serializer))?;
    let mut peers = bus.peers()?;
    let refuse =
        |kind, detail: &str| place(Error::new(kind, detail)).on_route(bus.route.as_str()).about_peer(name.as_str());
    let mut discarded = 0;
    let earlier = peers.stats.get(&name).and_then(|payload| decode_stats(payload, &*serializer, &limits));
    let mut stats = earlier.unwrap_or_default();
    match (mode, peers.entries.entry(name.clone())) {
        (Mode::Connect, Slot::Vacant(slot)) => {
            let (holder, bell) = (Holder::Connection(number), Arc::clone(&bell));
            slot.insert(Entry { holder, messages: VecDeque::new(), bell });
        }
        (Mode::Connect, Slot::Occupied(mut slot)) if slot.get().holder == Holder::Dead => {
            discarded = slot.get().messages.len();
            stats = Stats::default();
            let (holder, bell) = (Holder::Connection(number), Arc::clone(&bell));
            slot.insert(Entry { holder, messages: VecDeque::new(), bell });
        }
        (Mode::Reconnect, Slot::Vacant(_)) => {
            return Err(refuse(ErrorKind::NoSuchPeer, "there is no such peer to continue"));
        }
        (Mode::Reconnect, Slot::Occupied(mut slot))
            if matches!(slot.get().holder, Holder::Suspended(_) | Holder::Dead) =>
        {
            let entry = slot.get_mut();
            (entry.holder, entry.bell) = (Holder::Connection(number), Arc::clone(&bell));
            // What came meanwhile rang another bell.
            bell.ring();
        }
        (_, Slot::Occupied(_)) => return Err(refuse(ErrorKind::NameInUse, "a live or suspended peer has that name")),
    }
    peers.ring_watchers();
    drop(peers);
    let connection = LocalMemoryConnection {
        bus,
        name,
        number,
        bell,
        serializer,
        limits,
        listing,
        unlisted: None,
        is_closed: false,
    };
    Ok(Opened { connection: Box::new(connection), stats, discarded })
}

fn decode_stats(payload: &[u8], serializer: &dyn Serializer, limits: &Limits) -> Option<Stats> {
    let text = serializer.decode(payload, limits.decoded_bytes).ok()?;
    let text = crate::json::normalise(&text, limits).ok()?;
    Stats::from_value(&crate::json::parse_value(&text).ok()?).ok()
}

impl LocalMemoryConnection {
    /// Works on the own mailbox, wherever it is.
    fn with_mailbox<T>(&mut self, work: impl FnOnce(&mut VecDeque<Waiting>) -> T) -> Result<T> {
        if let Some(mailbox) = &mut self.unlisted {
            return Ok(work(mailbox));
        }
        let mut peers = self.bus.peers()?;
        match peers.entries.get_mut(&self.name) {
            Some(entry) if entry.holder == Holder::Connection(self.number) => Ok(work(&mut entry.messages)),
            _ => Err(place(Error::new(ErrorKind::NoSuchPeer, "this client's mailbox was removed by somebody else"))),
        }
    }

    /// Takes messages out of the own mailbox; returns whether there are more.
    fn take(&mut self, most: usize, bytes: usize, inbox: &mut Inbox) -> Result<bool> {
        let (serializer, limits) = (Arc::clone(&self.serializer), self.limits.clone());
        let mut taken = 0;
        let (decoded, is_left) = self.with_mailbox(|mailbox| {
            let mut decoded: Vec<(Result<Message>, bool)> = Vec::new();
            while let Some(first) = mailbox.front()
                && inbox.len() + decoded.len() < most
                && (decoded.is_empty() || taken + first.payload.len() <= bytes)
            {
                taken += first.payload.len();
                let text = serializer.decode(&first.payload, limits.decoded_bytes);
                let message = text.and_then(|text| Message::from_json(&text, &limits));
                decoded.push((message, first.was_put_back));
                mailbox.pop_front();
            }
            (decoded, !mailbox.is_empty())
        })?;
        for (message, was_put_back) in decoded {
            match message {
                Ok(message) if was_put_back => inbox.accept_again(message),
                Ok(message) => inbox.accept(message),
                Err(error) => inbox.set_aside(Damaged::new(place(error))),
            }
        }
        Ok(is_left)
    }

    fn put(&self, peers: &mut Peers, envelope: &Envelope<'_>) -> Result<Receipt> {
        let payload = envelope.payload()?;
        if payload.len() > LARGEST {
            let detail = format!("the encoded message has {} bytes, and the limit is {LARGEST}", payload.len());
            return Err(Error::new(ErrorKind::TooLarge, detail));
        }
        crate::message::MessageId::new(envelope.message().id().as_str())?;
        let entry = peers.entries.get_mut(envelope.to()).filter(|entry| !matches!(entry.holder, Holder::Leaving(_)));
        let entry = entry.ok_or_else(|| Error::new(ErrorKind::NoSuchPeer, "no peer of that name is on the bus"))?;
        let most = self.limits.unread_messages.unwrap_or(MOST_UNREAD).min(MOST_UNREAD);
        if entry.messages.len() >= most {
            let detail = format!("the recipient has {most} unread messages, and that is the limit");
            return Err(Error::new(ErrorKind::WouldBlock, detail));
        }
        let waiting = Waiting { payload: payload.to_vec(), was_put_back: false };
        let store = || {
            entry.messages.push_back(waiting);
            Ok::<_, Error>(())
        };
        rings::store(store, |()| entry.bell.ring())?;
        Ok(if matches!(entry.holder, Holder::Connection(_)) { Receipt::Delivered } else { Receipt::Stored })
    }
}

impl Rings for LocalMemoryConnection {
    fn forget_rings(&mut self) {
        self.bell.clear();
    }

    fn ring_on(&mut self) {
        self.bell.ring();
    }
}

impl Connection for LocalMemoryConnection {
    fn deliver(&mut self, envelopes: &[Envelope<'_>], receipts: &mut Vec<Receipt>) -> Result<()> {
        let mut peers = self.bus.peers()?;
        for envelope in envelopes {
            receipts.push(self.put(&mut peers, envelope).map_err(|error| {
                place(error)
                    .on_route(self.bus.route.as_str())
                    .about_peer(envelope.to().as_str())
                    .about_message(envelope.message().id().as_str())
                    .with_stored(Stored::No)
            })?);
        }
        Ok(())
    }

    fn room(&self, _: &PeerName) -> Wake<'_> {
        Wake { descriptors: vec![], look_every: POLL_ROOM }
    }

    fn collect(&mut self, most: usize, bytes: usize, inbox: &mut Inbox) -> Result<()> {
        rings::look(self, |own| own.take(most, bytes, inbox), |is_left| *is_left).map(drop)
    }

    fn is_ready(&mut self) -> Result<bool> {
        rings::look(self, |own| own.with_mailbox(|mailbox| !mailbox.is_empty()), |is_ready| *is_ready)
    }

    fn is_pending(&mut self) -> Result<bool> {
        Ok(false)
    }

    fn put_back(&mut self, messages: &[Message]) -> Result<()> {
        let mut payloads = Vec::with_capacity(messages.len());
        for message in messages {
            let message = message.clone().addressed_to(self.name.clone());
            payloads.push(Envelope::new(&message, &*self.serializer, &self.limits)?.payload()?.to_vec());
        }
        self.with_mailbox(|mailbox| {
            for payload in payloads.into_iter().rev() {
                mailbox.push_front(Waiting { payload, was_put_back: true });
            }
        })?;
        self.bell.ring();
        Ok(())
    }

    fn wake(&self, wanted: Wanted) -> Wake<'_> {
        let mut wake = Wake { descriptors: vec![], look_every: LOOK_ALL_THE_SAME };
        if wanted.messages {
            wake.descriptors.push(self.bell.descriptor());
        }
        if wanted.peers {
            wake.descriptors.extend(self.listing.wake().descriptors);
        }
        wake
    }

    fn directory(&mut self) -> &mut dyn Directory {
        &mut self.listing
    }

    fn connections(&mut self) -> Option<&mut dyn Connections> {
        None
    }

    fn unlist(&mut self) -> Result<()> {
        if self.unlisted.is_none() {
            let mut peers = self.bus.lock();
            let entry = peers.entries.get_mut(&self.name);
            let entry = entry.filter(|entry| entry.holder == Holder::Connection(self.number));
            self.unlisted = Some(entry.map_or_else(VecDeque::new, |entry| {
                entry.holder = Holder::Leaving(self.number);
                std::mem::take(&mut entry.messages)
            }));
            peers.ring_watchers();
        }
        Ok(())
    }

    fn seal(&mut self, _inbox: &mut Inbox) -> Result<()> {
        // Unlisting and sending exclude each other, so nothing can have come since.
        Ok(())
    }

    fn close(&mut self, leave: Leave, stats: &Stats) -> Result<()> {
        let saved = self.listing.save_stats(&self.name, stats);
        if saved.is_err() && leave != Leave::Disconnect {
            return saved;
        }
        self.is_closed = true;
        let mut peers = self.bus.lock();
        let ours = [Holder::Connection(self.number), Holder::Leaving(self.number)];
        if peers.entries.get(&self.name).is_some_and(|entry| ours.contains(&entry.holder)) {
            match leave {
                Leave::Disconnect => drop(peers.entries.remove(&self.name)),
                Leave::Suspend { until } => {
                    if let Some(entry) = peers.entries.get_mut(&self.name) {
                        entry.holder = Holder::Suspended(until);
                    }
                }
            }
        }
        peers.ring_watchers();
        drop(peers);
        saved
    }
}

impl Drop for LocalMemoryConnection {
    fn drop(&mut self) {
        if !self.is_closed {
            let mut peers = self.bus.lock();
            let ours = [Holder::Connection(self.number), Holder::Leaving(self.number)];
            if let Some(entry) = peers.entries.get_mut(&self.name)
                && ours.contains(&entry.holder)
            {
                entry.holder = Holder::Dead;
                entry.messages.extend(self.unlisted.take().unwrap_or_default());
            }
        }
    }
}

/// The bus as one peer, or an observer, sees it.
#[derive(Debug)]
pub(super) struct Listing {
    bus: Arc<Bus>,
    own: Option<PeerName>,
    serializer: Arc<dyn Serializer>,
    bell: Arc<Bell>,
    is_watching: bool,
}

impl Listing {
    pub(super) fn new(bus: Arc<Bus>, own: Option<PeerName>, serializer: Arc<dyn Serializer>) -> Result<Self> {
        let bell = Bell::new().map_err(|error| Error::system(error, "a descriptor to wait for cannot be had"))?;
        Ok(Self { bus, own, serializer, bell: Arc::new(bell), is_watching: false })
    }
}

fn record(name: &PeerName, entry: &Entry) -> PeerRecord {
    let state = match entry.holder {
        Holder::Connection(_) => PeerState::Active,
        Holder::Leaving(_) => PeerState::Leaving,
        Holder::Suspended(until) => PeerState::Suspended { until },
        Holder::Dead => PeerState::Dead,
    };
    let pid = state.is_alive().then(own_pid);
    PeerRecord { name: name.clone(), pid, since: None, state, unread: Some(entry.messages.len() as u64) }
}

impl Directory for Listing {
    fn peers(&mut self) -> Result<Vec<PeerRecord>> {
        self.bell.clear();
        let peers = self.bus.peers()?;
        let others = peers.entries.iter().filter(|(name, _)| Some(*name) != self.own.as_ref());
        Ok(others.map(|(name, entry)| record(name, entry)).collect())
    }

    fn peer(&mut self, name: &PeerName) -> Result<Option<PeerRecord>> {
        self.bell.clear();
        Ok(self.bus.peers()?.entries.get(name).map(|entry| record(name, entry)))
    }

    fn sweep(&mut self) -> Result<Vec<PeerName>> {
        let mut peers = self.bus.peers()?;
        let dead = peers
            .entries
            .iter()
            .filter(|(name, entry)| entry.holder == Holder::Dead && Some(*name) != self.own.as_ref());
        let dead: Vec<PeerName> = dead.map(|(name, _)| name.clone()).collect();
        for name in &dead {
            peers.entries.remove(name);
            peers.stats.remove(name);
        }
        peers.ring_watchers();
        Ok(dead)
    }

    fn stats(&mut self) -> Result<Vec<(PeerName, Stats)>> {
        let peers = self.bus.peers()?;
        let decoded = peers.stats.iter().filter_map(|(name, payload)| {
            Some((name.clone(), decode_stats(payload, &*self.serializer, &Limits::DEFAULT)?))
        });
        Ok(decoded.collect())
    }

    fn save_stats(&mut self, name: &PeerName, stats: &Stats) -> Result<()> {
        let (mut text, mut payload) = (String::new(), Vec::new());
        crate::json::to_wire(stats, &Limits::DEFAULT, &mut text)?;
        self.serializer.encode(&text, &mut payload)?;
        self.bus.peers()?.stats.insert(name.clone(), payload);
        Ok(())
    }

    fn watch_peers(&mut self, on: bool) {
        self.is_watching = on;
        let mut peers = self.bus.lock();
        peers.watchers.retain(|watcher| watcher.strong_count() > 0 && watcher.as_ptr() != Arc::as_ptr(&self.bell));
        if on {
            peers.watchers.push(Arc::downgrade(&self.bell) as Weak<Bell>);
        }
    }

    fn wake(&self) -> Wake<'_> {
        let descriptors = if self.is_watching { vec![self.bell.descriptor()] } else { vec![] };
        Wake { descriptors, look_every: LOOK_ALL_THE_SAME }
    }
}
