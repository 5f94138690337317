// SPDX-License-Identifier: MIT OR Apache-2.0
//! Storing messages in others' mailboxes: store first, ring second.

use std::collections::{HashMap, HashSet};

use super::message_row::Outbound;
use super::questions::{is_there, unread, was_taken};
use super::recipient::{Recipient, look_up, no_such_peer};
use super::store::{Store, Tx};
use super::value::{Failure, Param, Trouble};
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::name::PeerName;
use crate::protocol::room::Room;
use crate::protocol::{Envelope, Receipt};
use crate::system::doorbell::Ringer;

/// Most recipients that are remembered between two sends.
const MOST_KNOWN: usize = 256;
/// How often a send is tried whose recipient changes its state meanwhile.
pub(super) const MOST_TRIES: usize = 16;
/// Most messages in one statement, and most bytes, so that it fits every packet.
const ROWS: usize = 256;
const ROW_BYTES: usize = 256 << 10;
/// Most messages in doubt that are remembered.
const MOST_IN_DOUBT: usize = 10_000;

/// The sending half of a connection.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) known: HashMap<PeerName, Recipient>,
    pub(super) ringer: Option<Ringer>,
    /// Ids of messages of which it is not known whether they were stored.
    pub(super) in_doubt: HashSet<String>,
    room: Room<PeerName>,
}

/// What became of one insert.
enum Put {
    Done,
    /// The recipient is not as it was seen.
    Changed,
    /// A message with this id is there.
    There,
}

impl Outgoing {
    /// `most_unread` is the high-water mark of mailboxes, if there is one.
    pub(super) fn new(most_unread: Option<usize>) -> Self {
        let (known, in_doubt) = (HashMap::new(), HashSet::new());
        Self { known, ringer: None, in_doubt, room: Room::new(most_unread) }
    }

    /// Stores messages in order; a receipt for each that is stored.
    pub(super) fn deliver(
        &mut self,
        store: &mut Store,
        envelopes: &[Envelope<'_>],
        receipts: &mut Vec<Receipt>,
    ) -> Result<()> {
        let begun = receipts.len();
        let done = self.deliver_each(store, envelopes, receipts);
        let first_unsent = receipts.len().min(begun + envelopes.len().saturating_sub(1)) - begun;
        done.map_err(|error| {
            let Some(envelope) = envelopes.get(first_unsent) else { return error };
            let id = envelope.message().id().as_str();
            // What was in doubt before stays so until it is known.
            let stored = if self.in_doubt.contains(id) { Stored::Maybe } else { error.stored().unwrap_or(Stored::No) };
            store.place(error.about_peer(envelope.to().as_str()).about_message(id)).with_stored(stored)
        })
    }

    fn deliver_each(
        &mut self,
        store: &mut Store,
        envelopes: &[Envelope<'_>],
        receipts: &mut Vec<Receipt>,
    ) -> Result<()> {
        match envelopes {
            [] => Ok(()),
            [one] => {
                let row = Outbound::new(store.tables(), one)?;
                receipts.push(self.send(store, one.to(), &row)?);
                Ok(())
            }
            many => {
                let mut rows = Vec::with_capacity(many.len());
                let mut refused = None;
                for envelope in many {
                    match Outbound::new(store.tables(), envelope) {
                        Ok(row) => rows.push((envelope.to(), row)),
                        Err(error) => {
                            refused = Some(error);
                            break;
                        }
                    }
                }
                self.send_all(store, &rows, receipts)?;
                refused.map_or(Ok(()), Err)
            }
        }
    }

    fn send(&mut self, store: &mut Store, to: &PeerName, row: &Outbound<'_>) -> Result<Receipt> {
        let was_in_doubt = self.in_doubt.contains(row.id);
        if was_in_doubt
            && (is_there(store, row)? || was_taken(store, row)?)
            && let Some(receipt) = self.settle_unheard(store, to, row)?
        {
            return Ok(receipt);
        }
        self.recipient(store, to)?;
        self.room.take(to, |most| unread(store, to, most))?;
        for tries in 0..MOST_TRIES {
            if tries > 0 {
                self.recipient(store, to)?;
            }
            let Some(recipient) = self.known.get(to) else { continue };
            let (pid, receipt) = (recipient.pid, recipient.receipt);
            let is_outright = store.texts.send_outright.is_some() && recipient.tells();
            match self.put(store, to, (!is_outright).then_some(pid), row)? {
                Put::Done if is_outright => {
                    if let Some(receipt) = self.settle(store, to, row)? {
                        self.in_doubt.remove(row.id);
                        return Ok(receipt);
                    }
                }
                Put::Done => {
                    self.in_doubt.remove(row.id);
                    return Ok(self.ring(store, to).unwrap_or(receipt));
                }
                Put::There if was_in_doubt => {
                    // The server was just storing it when the connection was lost.
                    if (is_there(store, row)? || was_taken(store, row)?)
                        && let Some(receipt) = self.settle_unheard(store, to, row)?
                    {
                        return Ok(receipt);
                    }
                }
                Put::There => {
                    if is_there(store, row)? {
                        return Ok(Receipt::AlreadyStored);
                    }
                    // Read in the meantime, by a reader that is faster than the question.
                }
                Put::Changed => {
                    if was_in_doubt
                        && was_taken(store, row)?
                        && let Some(receipt) = self.settle_unheard(store, to, row)?
                    {
                        return Ok(receipt);
                    }
                    self.known.remove(to);
                }
            }
        }
        Err(too_fast())
    }

    /// One insert, which takes effect only if the recipient has the pid that was seen; outright if there is none to have.
    fn put(&mut self, store: &mut Store, to: &PeerName, seen: Option<Option<i64>>, row: &Outbound<'_>) -> Result<Put> {
        let has_more = store.schema.more;
        let mut params = Vec::with_capacity(9);
        match seen.map(Param::integer_or_null) {
            Some(pid) if store.texts.send_by_values => params = row.with_selected(pid, has_more),
            seen => {
                row.push_to(&mut params, has_more);
                params.extend(seen.into_iter().flat_map(|pid| [Param::Text(to.as_str()), pid]));
            }
        }
        let outright = store.texts.send_outright.as_ref().filter(|_| seen.is_none());
        let sql = outright.unwrap_or(&store.texts.send);
        let inserted = store.driver.check().and_then(|()| store.driver.execute(sql, &params));
        match inserted {
            Ok(0) => Ok(Put::Changed),
            Ok(_) => Ok(Put::Done),
            Err(failure) if failure.trouble == Trouble::Duplicate => Ok(Put::There),
            Err(failure) if failure.trouble == Trouble::Conflict => Ok(Put::Changed),
            Err(failure) => Err(self.doubt(store, &[row.id], failure)),
        }
    }

    /// An error of storing; where the connection was lost, the messages may be there.
    fn doubt(&mut self, store: &Store, ids: &[&str], failure: Failure) -> Error {
        let is_lost = failure.trouble == Trouble::Lost;
        let error = store.failed("a message cannot be stored", failure);
        if !is_lost {
            return error;
        }
        self.note_doubt(ids);
        error.with_stored(Stored::Maybe)
    }

    pub(super) fn note_doubt(&mut self, ids: &[&str]) {
        if self.in_doubt.len() + ids.len() > MOST_IN_DOUBT {
            self.in_doubt.clear();
        }
        self.in_doubt.extend(ids.iter().map(|id| (*id).to_owned()));
    }

    /// The recipient, looked up unless the one that is remembered is the same still.
    pub(super) fn recipient(&mut self, store: &mut Store, to: &PeerName) -> Result<&Recipient> {
        if !self.known.get(to).is_some_and(Recipient::is_current) {
            self.known.remove(to);
            let recipient = look_up(store, to)?;
            if self.known.len() >= MOST_KNOWN {
                self.known.clear();
            }
            self.known.insert(to.clone(), recipient);
        }
        self.known.get(to).ok_or_else(no_such_peer)
    }

    /// Rings for a recipient; where nobody hears that, as on another machine, the database tells it. Returns what becomes
    /// of messages to it.
    pub(super) fn ring(&mut self, store: &mut Store, to: &PeerName) -> Option<Receipt> {
        let is_heard = self.ring_bell(store, to);
        let known = self.known.get(to)?;
        if !is_heard
            && store.schema.rings
            && known.listens
            // It looks from time to time in any case.
            && let Err(failure) = store.driver.tell(to.as_str())
        {
            log::debug!("{to} cannot be told of a message: {failure}");
        }
        Some(known.receipt)
    }

    /// Rings a recipient's bell, and says whether somebody heard it. A bell that nobody hears is an old one: its peer has
    /// begun another life since, or none.
    fn ring_bell(&mut self, store: &mut Store, to: &PeerName) -> bool {
        if !self.has_ringer(store) {
            return false;
        }
        let Some(ringer) = &self.ringer else { return false };
        let Some(bell) = self.known.get(to).and_then(|known| known.bell.as_ref()) else { return false };
        if ringer.ring(bell) {
            return true;
        }
        let Ok(now) = look_up(store, to) else { return false };
        let is_heard = now.bell.as_ref().is_some_and(|bell| ringer.ring(bell));
        self.known.insert(to.clone(), now);
        is_heard
    }

    /// Whether there is something to ring with.
    pub(super) fn has_ringer(&mut self, store: &Store) -> bool {
        if let Some(beside) = store.beside.as_ref().filter(|_| self.ringer.is_none()) {
            self.ringer = Ringer::new(beside.porch()).ok();
        }
        self.ringer.is_some()
    }

    /// Stores many messages in one transaction.
    fn send_all(
        &mut self,
        store: &mut Store,
        rows: &[(&PeerName, Outbound<'_>)],
        receipts: &mut Vec<Receipt>,
    ) -> Result<()> {
        if rows.iter().any(|(_, row)| self.in_doubt.contains(row.id)) {
            // One by one, since each is asked for first.
            for (to, row) in rows {
                receipts.push(self.send(store, to, row)?);
            }
            return Ok(());
        }
        let (mut known, mut count, mut refused) = (HashMap::<PeerName, Receipt>::new(), rows.len(), None);
        // How many of these are for whom, which the store does not count yet.
        let mut own: HashMap<&PeerName, usize> = HashMap::new();
        for (at, (to, _)) in rows.iter().enumerate() {
            let recipient = match known.get(*to) {
                Some(receipt) => Ok(*receipt),
                None => self.recipient(store, to).map(|recipient| recipient.receipt),
            };
            let has_room = recipient.and_then(|receipt| {
                let own = own.entry(to).or_default();
                self.room.take(*to, |most| Ok(unread(store, to, most)? + *own))?;
                *own += 1;
                Ok(receipt)
            });
            match has_room {
                Ok(receipt) => drop(known.insert((*to).clone(), receipt)),
                Err(error) => {
                    (count, refused) = (at, Some(error));
                    break;
                }
            }
        }
        let rows = &rows[..count];
        match self.insert_all(store, &known, rows)? {
            true => {
                for (to, receipt) in &mut known {
                    *receipt = self.ring(store, to).unwrap_or(*receipt);
                }
                receipts.extend(rows.iter().map(|(to, _)| known.get(*to).copied().unwrap_or(Receipt::Stored)));
            }
            // One was there already, or somebody left: which one shows one by one.
            false => {
                for (to, row) in rows {
                    receipts.push(self.send(store, to, row)?);
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Inserts all or none; none if one is there already or a recipient has left.
    fn insert_all(
        &mut self,
        store: &mut Store,
        known: &HashMap<PeerName, Receipt>,
        rows: &[(&PeerName, Outbound<'_>)],
    ) -> Result<bool> {
        let done = store.transaction("messages cannot be stored", |tx| match insert_within(tx, known, rows) {
            Ok(true) => Ok(Ok(true)),
            Err(failure) if failure.trouble != Trouble::Duplicate => Err(failure),
            Ok(false) | Err(_) => Ok(Err(no_such_peer())),
        });
        match done {
            Err(error) if error.kind() == ErrorKind::NoSuchPeer => {
                rows.iter().for_each(|(to, _)| drop(self.known.remove(*to)));
                Ok(false)
            }
            // A connection that is lost as a transaction ends leaves it open whether it was kept.
            Err(error) if store.is_in_doubt() => {
                self.in_doubt.extend(rows.iter().map(|(_, row)| row.id.to_owned()));
                Err(error.with_stored(Stored::Maybe))
            }
            done => done,
        }
    }
}

pub(super) fn too_fast() -> Error {
    let detail = "the recipient comes and goes faster than a message can be stored";
    Error::new(ErrorKind::Store, detail).with_retryable(true)
}

fn insert_within(
    tx: &mut Tx<'_>,
    known: &HashMap<PeerName, Receipt>,
    rows: &[(&PeerName, Outbound<'_>)],
) -> std::result::Result<bool, Failure> {
    for to in known.keys() {
        // Locked, so that nobody leaves between here and the end.
        if tx.driver.query(&tx.texts.recipient_locked, &[Param::Text(to.as_str())])?.is_empty() {
            return Ok(false);
        }
    }
    if tx.texts.locks_senders {
        let senders: HashSet<&str> = rows.iter().map(|(_, row)| row.from).collect();
        for from in senders {
            if tx.driver.query(&tx.texts.sender_locked, &[Param::Text(from)])?.is_empty() {
                return Ok(false);
            }
        }
    }
    let mut left = rows;
    while !left.is_empty() {
        let (mut count, mut bytes) = (0, 0);
        while count < left.len().min(ROWS) && (count == 0 || bytes + left[count].1.content.len() <= ROW_BYTES) {
            bytes += left[count].1.content.len();
            count += 1;
        }
        let (stored, count) = insert_some(tx, &left[..count])?;
        if stored != count as u64 {
            return Ok(false);
        }
        left = &left[count..];
    }
    Ok(true)
}

/// Inserts as many of these as go into one statement; says how many were, and how many should have been.
fn insert_some(tx: &mut Tx<'_>, rows: &[(&PeerName, Outbound<'_>)]) -> std::result::Result<(u64, usize), Failure> {
    let has_more = tx.schema.more;
    if let Some(sql) = &tx.texts.send_columns {
        let rows: Vec<&Outbound<'_>> = rows.iter().map(|(_, row)| row).collect();
        if let Some(stored) = tx.driver.execute_columns(sql, &Outbound::columns(&rows, has_more)) {
            return Ok((stored?, rows.len()));
        }
    }
    // Powers of two, so that few statements are prepared.
    let count = 1 << rows.len().ilog2();
    let mut params = Vec::with_capacity(count * 7);
    rows[..count].iter().for_each(|(_, row)| row.push_to(&mut params, has_more));
    Ok((tx.driver.execute(&tx.texts.send_rows(count), &params)?, count))
}
