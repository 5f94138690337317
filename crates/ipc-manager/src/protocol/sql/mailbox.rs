// SPDX-License-Identifier: MIT OR Apache-2.0
//! One's own mailbox: taking messages out of it in one transaction, and putting them back in front.

use std::collections::VecDeque;

use super::delivery::Hand;
use super::dialect::Taking;
use super::message_row::{Decoded, Inbound, Outbound, PutBack};
use super::schema::{DAMAGED, MESSAGES};
use super::store::{Store, Tx};
use super::value::{Failure, Param};
use crate::error::{Error, ErrorKind, Result, Stored};
use crate::limits::Limits;
use crate::name::PeerName;
use crate::protocol::beside::seconds;
use crate::protocol::{Damaged, Inbox};
use crate::serializer::Serializer;

/// Most ids in one statement.
const IDS: usize = 256;

/// What one look at the mailbox showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) has_message: bool,
    /// Whether the peer is still registered.
    pub(super) is_registered: bool,
    /// How many messages there are of those that are wanted, where that was asked and all of them fit.
    pub(super) fits: Option<i64>,
}

/// Looks whether a message waits, without taking it, and how many, where more than one is wanted.
pub(super) fn look(store: &mut Store, own: &PeerName, most: usize, bytes: usize) -> Result<Look> {
    let name = Param::Text(own.as_str());
    let Some((most, bytes)) = limits_of(most, bytes) else {
        let rows = store.query("the mailbox cannot be read", |texts| &texts.look, &[name, name])?;
        let mut row = rows.into_iter().next().unwrap_or_else(|| super::value::Row::new(vec![]));
        let (waits, registered) = (row.next(), row.next());
        return Ok(Look {
            has_message: !waits.is_null(),
            is_registered: registered.as_integer() != Some(0),
            fits: None,
        });
    };
    let params = [name, name, Param::Integer(most)];
    let rows = store.query("the mailbox cannot be read", |texts| &texts.look_and_weigh, &params)?;
    let mut row = rows.into_iter().next().unwrap_or_else(|| super::value::Row::new(vec![]));
    let (registered, count, weight) = (row.next(), row.next().as_integer(), row.next().as_integer());
    Ok(Look {
        has_message: count.is_some_and(|count| count > 0),
        is_registered: registered.as_integer() != Some(0),
        fits: count.filter(|_| weight.is_some_and(|weight| weight <= bytes)),
    })
}

/// The limits of a batch, where its bytes matter: one message always fits.
fn limits_of(most: usize, bytes: usize) -> Option<(i64, i64)> {
    (most > 1 && bytes != usize::MAX)
        .then(|| (i64::try_from(most).unwrap_or(i64::MAX), i64::try_from(bytes).unwrap_or(i64::MAX)))
}

/// Messages of which it is not known whether they were taken: the connection was lost as they were.
#[derive(Debug)]
struct InDoubt {
    /// One of them; all or none were taken.
    id: String,
    found: Vec<Found>,
}

/// What a reader knows of its mailbox beside what is in the store.
#[derive(Debug, Default)]
pub(super) struct Reader {
    in_doubt: Option<InDoubt>,
    /// What was in doubt and turned out to be taken: it is in the store no more, and nobody was given it yet.
    taken: VecDeque<Found>,
    pub(super) hand: Hand,
}

impl Reader {
    /// Finds out whether messages were taken when the connection was lost. Whoever is just taking them is waited for.
    /// Returns whether some were that nobody was given yet.
    pub(super) fn resolve(&mut self, store: &mut Store) -> Result<bool> {
        if let Some(doubtful) = &self.in_doubt {
            let params = [Param::Text(&doubtful.id)];
            let there = store.query("the mailbox cannot be read", |texts| &texts.message_locked, &params)?;
            let doubtful = self.in_doubt.take().filter(|_| there.is_empty());
            self.taken.extend(doubtful.into_iter().flat_map(|doubtful| doubtful.found));
        }
        Ok(!self.taken.is_empty())
    }

    /// Hands out at most so many of the messages that turned out to be taken.
    pub(super) fn hand_out_taken(&mut self, store: &Store, most: usize, inbox: &mut Inbox) {
        let count = most.min(self.taken.len());
        hand_out(store, self.taken.drain(..count), inbox);
    }

    /// Puts what turned out to be taken back into the mailbox, for whoever comes next, or to be received in another way.
    /// What is no message is reported: it is in a table of its own already.
    pub(super) fn give_back(
        &mut self,
        store: &mut Store,
        own: &PeerName,
        limits: &Limits,
        inbox: &mut Inbox,
    ) -> Result<()> {
        if self.resolve(store)? {
            // As it was: nobody was given it.
            let sequences = store.schema.sequence;
            let sound = self.taken.iter().filter_map(|found| match found {
                Found::Sound(decoded) => Some(PutBack {
                    message: &decoded.message,
                    was_counted: !decoded.counts,
                    attempts: decoded.attempts,
                    sequence: sequences.then_some(decoded.sequence),
                }),
                Found::Damaged(..) => None,
            });
            let messages: Vec<_> = sound.collect();
            put_back(store, own, &messages, limits).inspect_err(|_| self.doubt_again(store))?;
            let damaged = self.taken.drain(..).filter(|found| matches!(found, Found::Damaged(..)));
            hand_out(store, damaged, inbox);
        }
        Ok(())
    }

    /// What turned out to be taken may be in the mailbox again.
    fn doubt_again(&mut self, store: &Store) {
        let is_sound = |found: &&Found| matches!(found, Found::Sound(_));
        let first = self.taken.iter().find(is_sound).filter(|_| store.is_in_doubt());
        if let Some(id) = first.map(|first| first.id().to_owned()) {
            self.in_doubt = Some(InDoubt { id, found: self.taken.drain(..).collect() });
        }
    }
}

/// What a row is: a message, or something that is none, with the reason.
pub(super) enum Found {
    Sound(Decoded),
    Damaged(Error, Inbound),
}

/// Takes at most so many messages, and so many bytes where that leaves at least one, out of the mailbox. Damaged ones
/// are moved to a table of their own. If the process dies half-way, the transaction is undone and nothing was taken.
/// Returns whether more may be left.
pub(super) fn take(
    store: &mut Store,
    own: &PeerName,
    (most, bytes, fits): (usize, usize, Option<i64>),
    limits: &Limits,
    inbox: &mut Inbox,
    reader: &mut Reader,
) -> Result<bool> {
    if most == 0 {
        return Ok(true);
    }
    let Reader { in_doubt, hand, .. } = reader;
    let serializer = std::sync::Arc::clone(&store.serializer);
    let mut last = None;
    let taken = store.transaction("messages cannot be taken", |tx| {
        let most = how_many(tx, own, most, bytes, fits)?;
        let rows = take_within(tx, own, most, hand)?;
        let is_left = i64::try_from(rows.len()).is_ok_and(|count| count >= most);
        let mut found: Vec<Found> =
            rows.into_iter().map(|row| judge(row, own, &*serializer, limits, tx.dialect.lowers_ids())).collect();
        for one in &mut found {
            if let Found::Damaged(error, row) = one {
                keep_damaged(tx, error, row)?;
            }
        }
        last = Some(found);
        Ok(Ok(is_left))
    });
    let found = last.unwrap_or_default();
    let is_left = match taken {
        Ok(is_left) => is_left,
        Err(error) => {
            if store.is_in_doubt()
                && let Some(first) = found.first()
            {
                *in_doubt = Some(InDoubt { id: first.id().to_owned(), found });
            }
            return Err(error);
        }
    };
    hand_out(store, found, inbox);
    Ok(is_left)
}

pub(super) fn hand_out(store: &Store, found: impl IntoIterator<Item = Found>, inbox: &mut Inbox) {
    for one in found {
        match one {
            Found::Sound(Decoded { message, counts: true, .. }) => inbox.accept(message),
            Found::Sound(Decoded { message, counts: false, .. }) => inbox.accept_again(message),
            Found::Damaged(error, row) => {
                let error = store.place(error).in_table(MESSAGES).about_message(&row.id);
                let damaged = Damaged::new(error);
                inbox.set_aside(match store.schema.damaged {
                    true => damaged.kept_at(format!("{DAMAGED}/{}", row.id)),
                    false => damaged,
                });
            }
        }
    }
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Found({})", self.id())
    }
}

impl Found {
    fn id(&self) -> &str {
        match self {
            Self::Sound(decoded) => decoded.message.id().as_str(),
            Self::Damaged(_, row) => &row.id,
        }
    }
}

/// How many messages to take; asked for unless that was done already: what came since is behind those.
fn how_many(
    tx: &mut Tx<'_>,
    own: &PeerName,
    most: usize,
    bytes: usize,
    fits: Option<i64>,
) -> std::result::Result<i64, Failure> {
    let Some((most, bytes)) = limits_of(most, bytes) else { return Ok(i64::try_from(most).unwrap_or(i64::MAX)) };
    if let Some(fits) = fits {
        return Ok(fits.max(1));
    }
    let params = [Param::Text(own.as_str()), Param::Integer(most), Param::Integer(bytes)];
    let fit = tx.driver.query(&tx.texts.fit, &params)?.into_iter().next().and_then(|mut row| row.next().as_integer());
    Ok(fit.unwrap_or(1).max(1))
}

/// Takes the oldest rows that are not in hand, in order.
fn take_within(tx: &mut Tx<'_>, own: &PeerName, most: i64, hand: &Hand) -> std::result::Result<Vec<Inbound>, Failure> {
    let is_noted = hand.is_empty() && tx.texts.take_notes;
    let mut rows: Vec<Inbound> = if hand.is_empty() {
        let now = Param::Seconds(seconds(std::time::SystemTime::now()));
        let params = [Param::Text(own.as_str()), Param::Integer(most), now];
        let params = if is_noted { &params[..] } else { &params[..2] };
        tx.driver.query(&tx.texts.take, params)?.into_iter().map(Inbound::of).collect()
    } else {
        hand.others(tx, own, most)?
    };
    let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    if tx.dialect.taking() == Taking::LockThenDelete || !hand.is_empty() {
        delete(tx, &ids)?;
    }
    if !is_noted {
        note_taken(tx, &ids)?;
    }
    // What is given back by a deletion has no order.
    if tx.schema.sequence {
        rows.sort_by_key(|row| row.sequence);
    } else {
        rows.sort_by(|a, b| a.stamp().total_cmp(&b.stamp()));
    }
    Ok(rows)
}

/// Deletes messages.
pub(super) fn delete(tx: &mut Tx<'_>, mut ids: &[&str]) -> std::result::Result<(), Failure> {
    while !ids.is_empty() {
        let count = ids.len().min(IDS);
        let count = if count.is_power_of_two() { count } else { count.next_power_of_two() / 2 };
        let params: Vec<_> = ids[..count].iter().map(|id| Param::Text(id)).collect();
        tx.driver.execute(&tx.texts.delete(count), &params)?;
        ids = &ids[count..];
    }
    Ok(())
}

/// Puts on record that messages were taken, for senders that do not know what became of them.
pub(super) fn note_taken(tx: &mut Tx<'_>, ids: &[&str]) -> std::result::Result<(), Failure> {
    if tx.schema.taken {
        let now = Param::Seconds(seconds(std::time::SystemTime::now()));
        for part in ids.chunks(IDS) {
            let params: Vec<_> = part.iter().flat_map(|id| [Param::Text(id), now]).collect();
            tx.driver.execute(&tx.texts.note_taken(part.len()), &params)?;
        }
    }
    Ok(())
}

fn judge(row: Inbound, own: &PeerName, serializer: &dyn Serializer, limits: &Limits, lowers_ids: bool) -> Found {
    match row.decode(serializer, limits, lowers_ids) {
        Ok(decoded) if decoded.message.to() == Some(own) => Found::Sound(decoded),
        Ok(_) => Found::Damaged(Error::new(ErrorKind::Corrupt, "the message is addressed to somebody else"), row),
        Err(error) => Found::Damaged(error, row),
    }
}

pub(super) fn keep_damaged(tx: &mut Tx<'_>, error: &Error, row: &mut Inbound) -> std::result::Result<(), Failure> {
    if !tx.schema.damaged {
        return Ok(());
    }
    let id = row.id.clone();
    let kept = std::mem::replace(row, Inbound::of(super::value::Row::new(vec![])));
    let (_, to, from, stamp, content, broadcast) = kept.into_kept();
    row.id = id;
    let reason = error.to_string();
    let params = [
        Param::Text(&row.id),
        Param::Text(&to),
        Param::Text(&from),
        Param::Text(&stamp),
        Param::Bytes(&content),
        Param::Text(&broadcast),
        Param::Text(&reason),
        Param::Seconds(seconds(std::time::SystemTime::now())),
    ];
    tx.driver.execute(&tx.texts.keep_damaged, &params).map(drop)
}

/// Puts messages back, in front of all that wait or where they are said to have been, in one transaction. Those that are
/// there stay where they are, so it can be done again when it is not known whether it was.
pub(super) fn put_back(store: &mut Store, own: &PeerName, messages: &[PutBack<'_>], limits: &Limits) -> Result<()> {
    let mut rows = Vec::with_capacity(messages.len());
    for back in messages {
        let row = Outbound::put_back(store.tables(), back, own.as_str(), limits);
        rows.push(row.map_err(|error| store.place(error.about_message(back.message.id().as_str())))?);
    }
    let put = store.transaction("messages cannot be put back", |tx| {
        let front = tx.driver.query(&tx.texts.front, &[Param::Text(own.as_str())])?;
        let front = front.into_iter().next().and_then(|mut row| row.next().as_integer());
        let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        for (at, (row, back)) in (0_i64..).zip(rows.iter().zip(messages)) {
            // The sender may be gone for good, and a row needs one where the database keeps the references.
            tx.driver.execute(&tx.texts.insert_sender, &[Param::Text(row.from)])?;
            let mut params = Vec::with_capacity(8);
            let in_front = front.filter(|_| tx.schema.sequence).map(|front| front.saturating_sub(count - at));
            let number = back.sequence.or(in_front);
            params.extend(number.map(Param::Integer));
            row.push_to(&mut params, tx.schema.more);
            let put = match number {
                Some(_) => tx.driver.execute(&tx.texts.put_in_front, &params)?,
                None => tx.driver.execute(&tx.texts.insert(), &params)?,
            };
            if put == 0 {
                let there = tx.driver.query(&tx.texts.message, &[Param::Text(row.id)])?.into_iter().next();
                if !there.is_some_and(|there| row.is_in(there)) {
                    let error = Error::new(ErrorKind::Store, "another message with this id waits there already");
                    return Ok(Err(error.about_message(row.id)));
                }
            }
        }
        Ok(Ok(()))
    });
    put.map_err(|error| {
        let stored = if store.is_in_doubt() { Stored::Maybe } else { Stored::No };
        store.place(error).with_stored(stored)
    })
}
