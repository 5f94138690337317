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

    /// Takes a recipient's backlog out.
    pub(super) fn take(&mut self, to: &PeerName) -> impl Iterator<Item = Parcel> + use<> {
        self.take_first(to, usize::MAX)
    }

    /// Takes at most so many of a recipient's messages out, the oldest.
    pub(super) fn take_first(&mut self, to: &PeerName, most: usize) -> impl Iterator<Item = Parcel> + use<> {
        let mut taken = VecDeque::new();
        if let Some(queue) = self.queues.get_mut(to) {
            if queue.len() <= most {
                taken = self.queues.remove(to).unwrap_or_default();
            } else {
                taken.extend(queue.drain(..most));
            }
        }
        self.messages -= taken.len();
        self.bytes -= taken.iter().map(Parcel::bytes).sum::<usize>();
        taken.into_iter()
    }

    /// Puts messages back in front of all others to their recipient.
    pub(super) fn put_first(&mut self, to: &PeerName, parcels: impl DoubleEndedIterator<Item = Parcel>) {
        for parcel in parcels.rev() {
            self.messages += 1;
            self.bytes += parcel.bytes();
            match self.queues.get_mut(to) {
                Some(queue) => queue.push_front(parcel),
                None => drop(self.queues.insert(to.clone(), VecDeque::from([parcel]))),
            }
        }
    }
}
