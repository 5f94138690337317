// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages held back for lack of room: for each recipient in the order in which they were sent, and bounded.

use std::collections::{BTreeMap, VecDeque};

use crate::limits::Limits;
use crate::message::Message;
use crate::name::PeerName;

/// A message that waits for room.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) message: Message,
    /// As it was encoded at the first attempt; the bytes of a message that is partly out must stay the same.
    pub(super) payload: Option<Vec<u8>>,
}

impl Parcel {
    fn bytes(&self) -> usize {
        self.payload.as_ref().map_or(0, Vec::len) + self.message.raw_content().as_json().len()
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queues: BTreeMap<PeerName, VecDeque<Parcel>>,
    messages: usize,
    bytes: usize,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    pub(super) fn len(&self) -> usize {
        self.messages
    }

    pub(super) fn count_to(&self, to: &PeerName) -> usize {
        self.queues.get(to).map_or(0, VecDeque::len)
    }

    /// The recipients with a backlog, sorted.
    pub(super) fn recipients(&self) -> impl Iterator<Item = &PeerName> {
        self.queues.keys()
    }

    /// Whether one more message stays within the limits.
    pub(super) fn has_room(&self, message: &Message, limits: &Limits) -> bool {
        self.messages < limits.outbox_messages
            && self.bytes.saturating_add(message.raw_content().as_json().len()) <= limits.outbox_bytes
    }

    /// Adds a message behind all others to its recipient.
    pub(super) fn push(&mut self, to: PeerName, parcel: Parcel) {
        self.messages += 1;
        self.bytes += parcel.bytes();
        self.queues.entry(to).or_default().push_back(parcel);
    }

    /// Takes a recipient's backlog out, to be put back with [`Outbox::restore`].
    pub(super) fn take(&mut self, to: &PeerName) -> VecDeque<Parcel> {
        let parcels = self.queues.remove(to).unwrap_or_default();
        self.messages -= parcels.len();
        self.bytes -= parcels.iter().map(Parcel::bytes).sum::<usize>();
        parcels
    }

    /// Puts what is left of a recipient's backlog back.
    pub(super) fn restore(&mut self, to: &PeerName, parcels: VecDeque<Parcel>) {
        if !parcels.is_empty() {
            self.messages += parcels.len();
            self.bytes += parcels.iter().map(Parcel::bytes).sum::<usize>();
            self.queues.insert(to.clone(), parcels);
        }
    }
}
