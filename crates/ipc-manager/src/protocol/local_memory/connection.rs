// SPDX-License-Identifier: MIT OR Apache-2.0
//! One peer on a bus in memory.

use std::collections::VecDeque;
use std::collections::btree_map::Entry as Slot;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::listing::Listing;
use super::store::{Bus, Entry, Holder, Peers, Waiting};
use super::{LARGEST, MOST_UNREAD, place};
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::limits::Limits;
use crate::message::Message;
use crate::name::PeerName;
use crate::protocol::{
    Connection, Connections, Damaged, Deliveries, Directory, Envelope, Inbox, Leave, Mode, OpenOptions, Opened,
    Payloads, Receipt, Wake, Wanted,
};
use crate::serializer::Serializer;
use crate::stats::Stats;
use crate::system::bell::Bell;
use crate::system::rings::{self, Rings};

/// How often to look for room, which nothing tells of.
const POLL_ROOM: Duration = Duration::from_millis(20);
/// Looking all the same; a ring cannot be lost here.
pub(super) const LOOK_ALL_THE_SAME: Duration = Duration::from_secs(15);

/// See [`super::LocalMemory`].
#[derive(Debug)]
pub(super) struct LocalMemoryConnection {
    pub(super) bus: Arc<Bus>,
    pub(super) name: PeerName,
    /// Tells this holder of the name from every other.
    number: u64,
    pub(super) bell: Arc<Bell>,
    pub(super) serializer: Arc<dyn Serializer>,
    pub(super) limits: Limits,
    /// What was put into the hand last.
    pub(super) last_mark: u64,
    listing: Listing,
    /// The mailbox after it was made unreachable.
    pub(super) unlisted: Option<VecDeque<Waiting>>,
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
            slot.insert(Entry::fresh(number, &bell));
        }
        (Mode::Connect, Slot::Occupied(mut slot)) if slot.get().holder == Holder::Dead => {
            discarded = slot.get().messages.len() + slot.get().dead.len();
            stats = Stats::default();
            slot.insert(Entry::fresh(number, &bell));
        }
        (Mode::Reconnect, Slot::Vacant(_)) => {
            return Err(refuse(ErrorKind::NoSuchPeer, "there is no such peer to continue"));
        }
        (Mode::Reconnect, Slot::Occupied(mut slot))
            if matches!(slot.get().holder, Holder::Suspended(_) | Holder::Dead) =>
        {
            let entry = slot.get_mut();
            (entry.holder, entry.bell) = (Holder::Connection(number), Arc::clone(&bell));
            (entry.since, entry.continues) = (SystemTime::now(), true);
            // Whoever had one in hand is gone.
            entry.messages.iter_mut().for_each(|waiting| waiting.mark = None);
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
        last_mark: 0,
        listing,
        unlisted: None,
        is_closed: false,
    };
    Ok(Opened { connection: Box::new(connection), stats, discarded })
}

pub(super) fn decode_stats(payload: &[u8], serializer: &dyn Serializer, limits: &Limits) -> Option<Stats> {
    let text = serializer.decode(payload, limits.decoded_bytes).ok()?;
    let text = crate::json::normalise(&text, limits).ok()?;
    Stats::from_value(&crate::json::parse_value(&text).ok()?).ok()
}

impl LocalMemoryConnection {
    /// Works on the own mailbox, wherever it is.
    pub(super) fn with_mailbox<T>(&mut self, work: impl FnOnce(&mut VecDeque<Waiting>) -> T) -> Result<T> {
        if let Some(mailbox) = &mut self.unlisted {
            return Ok(work(mailbox));
        }
        let mut peers = self.bus.peers()?;
        match peers.entries.get_mut(&self.name) {
            Some(entry) if entry.holder == Holder::Connection(self.number) => Ok(work(&mut entry.messages)),
            _ => Err(place(Error::new(ErrorKind::NoSuchPeer, "this client's mailbox was removed by somebody else"))),
        }
    }

    /// Whether a message waits that is not in hand.
    fn waits(&mut self) -> Result<bool> {
        self.with_mailbox(|mailbox| mailbox.iter().any(|waiting| waiting.mark.is_none()))
    }

    /// Takes messages out of the own mailbox; returns whether there are more.
    fn take(&mut self, most: usize, bytes: usize, inbox: &mut Inbox) -> Result<bool> {
        let (serializer, limits) = (Arc::clone(&self.serializer), self.limits.clone());
        let mut taken = 0;
        let decoded = self.with_mailbox(|mailbox| {
            let mut decoded: Vec<(Result<Message>, bool)> = Vec::new();
            // What is in hand is passed over.
            while let Some((at, first)) = mailbox.iter().enumerate().find(|(_, waiting)| waiting.mark.is_none())
                && inbox.len() + decoded.len() < most
                && (decoded.is_empty() || taken + first.payload.len() <= bytes)
            {
                taken += first.payload.len();
                let text = serializer.decode(&first.payload, limits.decoded_bytes);
                let message = text.and_then(|text| Message::from_json(&text, &limits));
                decoded.push((message, first.was_put_back));
                mailbox.remove(at);
            }
            decoded
        })?;
        for (message, was_put_back) in decoded {
            match message {
                Ok(message) if was_put_back => inbox.accept_again(message),
                Ok(message) => inbox.accept(message),
                Err(error) => inbox.set_aside(Damaged::new(place(error))),
            }
        }
        self.waits()
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
            return Err(crate::protocol::room::full(most));
        }
        let store = || {
            entry.messages.push_back(Waiting::new(payload.to_vec(), false));
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
        rings::look(self, Self::waits, |is_ready| *is_ready)
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
                mailbox.push_front(Waiting::new(payload, true));
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

    fn payloads(&mut self) -> Option<&mut dyn Payloads> {
        None
    }

    fn deliveries(&mut self) -> Option<&mut dyn Deliveries> {
        Some(self)
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
