// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages that stay in their table until they are acknowledged. What is in hand is a row like any other to everybody
//! else; how often it was handed out is in our column of it. What was handed out too often moves to a table of its own.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value as Json};

use super::connection::SqlConnection;
use super::dialect::render;
use super::mailbox::{self, Found};
use super::message_row::{ATTEMPTS, Decoded, Inbound, attempts_in};
use super::schema::Schema;
use super::store::{Outcome, Store, Tx};
use super::value::{Failure, Param, Trouble};
use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::limits::Limits;
use crate::message::Message;
use crate::name::PeerName;
use crate::protocol::{Dead, Deliveries, Held, Inbox, tell_of_death};

/// How many rows are looked at for one that can be handed out, beside those in hand.
const LOOK_AT: usize = 4;

/// The ids of the rows in hand.
#[derive(Debug, Default)]
pub(super) struct Hand {
    held: BTreeMap<u64, String>,
    last: u64,
}

impl Hand {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The ids of the oldest rows of the mailbox that are not in hand, in order: some, if there are any.
    fn next_ids(&self, tx: &mut Tx<'_>, own: &PeerName) -> std::result::Result<Vec<String>, Failure> {
        let order = if tx.schema.sequence { "{seq}" } else { "stamp, id" };
        let text = format!("SELECT {{id!}} FROM ipcm_messages WHERE [to] = :text ORDER BY {order} LIMIT :int");
        let most = i64::try_from(self.held.len() + LOOK_AT).unwrap_or(i64::MAX);
        let rows = tx.driver.query(&render(tx.dialect, &text), &[Param::Text(own.as_str()), Param::Integer(most)])?;
        let held: HashSet<&str> = self.held.values().map(String::as_str).collect();
        let ids = rows.into_iter().filter_map(|mut row| row.next().into_text());
        Ok(ids.filter(|id| !held.contains(id.as_str())).take(LOOK_AT).collect())
    }

    /// The oldest rows of the mailbox that are not in hand, in order; they are locked and stay.
    pub(super) fn others(
        &self,
        tx: &mut Tx<'_>,
        own: &PeerName,
        most: i64,
    ) -> std::result::Result<Vec<Inbound>, Failure> {
        let sequence = if tx.schema.sequence { "{seq}" } else { "0" };
        let order = if tx.schema.sequence { "{seq}" } else { "stamp, id" };
        let text = format!(
            "SELECT {sequence}, {COLUMNS} FROM ipcm_messages WHERE [to] = :text ORDER BY {order} LIMIT :int {{update}}"
        );
        let in_hand = i64::try_from(self.held.len()).unwrap_or(i64::MAX);
        let params = [Param::Text(own.as_str()), Param::Integer(most.saturating_add(in_hand))];
        let rows = tx.driver.query(&render(tx.dialect, &text), &params)?;
        let held: HashSet<&str> = self.held.values().map(String::as_str).collect();
        let others = rows.into_iter().map(Inbound::of).filter(|row| !held.contains(row.id.as_str()));
        Ok(others.take(usize::try_from(most).unwrap_or(usize::MAX)).collect())
    }
}

/// The columns of a message but for its place in the order.
const COLUMNS: &str = "{id!}, [to], [from], {stamp!}, content, broadcast, ipcm_more";
/// The same as they are, for moving them between the tables.
const MOVED: &str = "id, [to], [from], stamp, content, broadcast";

/// What a row that was handed out comes to.
struct Handed {
    id: String,
    message: Message,
    attempts: u32,
    counts: bool,
}

/// What one look at the mailbox came to.
#[derive(Default)]
struct Looked {
    handed: Option<Handed>,
    damaged: Vec<Found>,
    died: Vec<(String, u32)>,
    /// Whether rows were looked at, so that others may be behind them.
    any: bool,
}

fn to_text(more: &Map<String, Json>) -> Result<Option<String>> {
    let mut text = String::new();
    json::to_wire(more, &Limits::DEFAULT, &mut text)?;
    Ok((!more.is_empty()).then_some(text))
}

/// Moves a message to the table of the dead.
fn bury(tx: &mut Tx<'_>, id: &str) -> std::result::Result<(), Failure> {
    let text = format!(
        "INSERT INTO ipcm_dead ({MOVED}, ipcm_more) SELECT {MOVED}, ipcm_more FROM ipcm_messages WHERE id = :id"
    );
    tx.driver.execute(&render(tx.dialect, &text), &[Param::Text(id)])?;
    mailbox::delete(tx, &[id])
}

impl SqlConnection {
    /// Whether more messages wait than are in hand, where something is.
    pub(super) fn has_others(&mut self) -> Result<bool> {
        if self.reader.hand.is_empty() {
            return Ok(true);
        }
        let name = [Param::Text(self.held.name.as_str())];
        let rows = self.listing.store.query("the mailbox cannot be read", |texts| &texts.unread_of, &name)?;
        let count = rows.into_iter().next().and_then(|mut row| row.next().as_integer()).unwrap_or(0);
        Ok(usize::try_from(count).is_ok_and(|count| count > self.reader.hand.held.len()))
    }

    /// Makes the table of the dead, if it is not there.
    fn prepare(&mut self) -> Result<()> {
        let store = &mut self.listing.store;
        if !store.schema.more {
            let detail = "the tables of this bus have no room for how often a message was handed out";
            return Err(store.place(Error::new(ErrorKind::Unsupported, detail)));
        }
        if store.schema.dead {
            return Ok(());
        }
        // With the types that the columns have here, whoever made them.
        let text =
            format!("CREATE TABLE IF NOT EXISTS ipcm_dead AS SELECT {MOVED}, ipcm_more FROM ipcm_messages WHERE 1 = 0");
        let made = store.driver.check().and_then(|()| store.driver.execute(&render(store.dialect, &text), &[]));
        match made {
            // Two who make it at once: one is told so.
            Err(failure) if failure.trouble != Trouble::Duplicate => {
                Err(store.failed("the table of dead messages cannot be made", failure))
            }
            _ => {
                store.schema.dead = true;
                Ok(())
            }
        }
    }

    fn hold_within(&mut self) -> Result<Looked> {
        let (own, most, limits) = (&self.held.name, self.limits.delivery_attempts, &self.limits);
        let hand = &self.reader.hand;
        let serializer = std::sync::Arc::clone(&self.listing.store.serializer);
        self.listing.store.transaction("a message cannot be taken into the hand", |tx| -> Outcome<Looked> {
            let ids = hand.next_ids(tx, own)?;
            let mut looked = Looked { any: !ids.is_empty(), ..Looked::default() };
            for id in ids {
                let text =
                    render(tx.dialect, &format!("SELECT 0, {COLUMNS} FROM ipcm_messages WHERE id = :id {{update}}"));
                let row = tx.driver.query(&text, &[Param::Text(&id)])?.into_iter().next();
                let Some(mut row) = row.map(Inbound::of) else { continue };
                let decoded = match row.decode(&*serializer, limits, tx.dialect.lowers_ids()) {
                    Ok(decoded) if decoded.message.to() == Some(own) => decoded,
                    refused => {
                        let elsewhere = || Error::new(ErrorKind::Corrupt, "the message is addressed to somebody else");
                        let error = refused.err().unwrap_or_else(elsewhere);
                        mailbox::keep_damaged(tx, &error, &mut row)?;
                        mailbox::delete(tx, &[&row.id])?;
                        looked.damaged.push(Found::Damaged(error, row));
                        continue;
                    }
                };
                let mut more = row.more(limits);
                let before = attempts_in(&more);
                if before >= most {
                    bury(tx, &row.id)?;
                    looked.died.push((decoded.message.id().to_string(), before));
                    continue;
                }
                more.insert(ATTEMPTS.into(), before.saturating_add(1).into());
                let more = match to_text(&more) {
                    Ok(more) => more,
                    Err(error) => return Ok(Err(error)),
                };
                let text = render(tx.dialect, "UPDATE ipcm_messages SET ipcm_more = :text WHERE id = :id");
                tx.driver.execute(&text, &[Param::text_or_null(more.as_deref()), Param::Text(&row.id)])?;
                let Decoded { message, counts, .. } = decoded;
                looked.handed = Some(Handed { id: row.id, message, attempts: before.saturating_add(1), counts });
                break;
            }
            Ok(Ok(looked))
        })
    }

    /// Whether a peer is there whose dead messages are asked for, and whether the table is.
    fn has_table_of(&mut self, of: &PeerName) -> Result<bool> {
        let store = &mut self.listing.store;
        if *of == self.held.name {
            // Nobody else makes dead messages of one's own.
            return Ok(store.schema.dead);
        }
        let row = store.peer_row(of.as_str())?;
        let is_known = |row: &super::store::PeerRow| row.standing.state(store.porch()).is_some();
        if !row.as_ref().is_some_and(is_known) {
            let error = Error::new(ErrorKind::NoSuchPeer, "no peer of that name is on the bus");
            return Err(store.place(error.about_peer(of.as_str())));
        }
        if !store.schema.dead {
            // Somebody else may have made it since.
            let found = Schema::find(&mut *store.driver, store.dialect);
            store.schema.dead = found.map_err(|failure| store.failed("the tables cannot be read", failure))?.dead;
        }
        Ok(store.schema.dead)
    }

    /// The dead messages of a peer, with their rows, oldest first. What cannot be read is none.
    fn dead_rows(&mut self, of: &PeerName) -> Result<Vec<(Inbound, Message)>> {
        if !self.has_table_of(of)? {
            return Ok(Vec::new());
        }
        let store: &mut Store = &mut self.listing.store;
        let text =
            render(store.dialect, &format!("SELECT 0, {COLUMNS} FROM ipcm_dead WHERE [to] = :text ORDER BY stamp, id"));
        let rows = store.driver.check().and_then(|()| store.driver.query(&text, &[Param::Text(of.as_str())]));
        let rows = rows.map_err(|failure| store.failed("dead messages cannot be read", failure))?;
        let (serializer, lowers) = (std::sync::Arc::clone(&store.serializer), store.dialect.lowers_ids());
        let decode = |row: Inbound| {
            let decoded = row.decode(&*serializer, &self.limits, lowers).ok()?;
            Some((row, decoded.message))
        };
        Ok(rows.into_iter().map(Inbound::of).filter_map(decode).collect())
    }
}

impl Deliveries for SqlConnection {
    fn hold(&mut self, inbox: &mut Inbox) -> Result<Option<Held>> {
        self.note_rings();
        self.reader.give_back(&mut self.listing.store, &self.held.name, &self.limits, inbox)?;
        // Looking takes no lock, so whoever finds nothing is in nobody's way.
        if !self.look()? {
            return Ok(None);
        }
        self.prepare()?;
        loop {
            let Looked { handed, damaged, died, any } = self.hold_within()?;
            mailbox::hand_out(&self.listing.store, damaged, inbox);
            for (id, attempts) in died {
                tell_of_death(&self.held.name, &id, attempts);
            }
            if let Some(Handed { id, message, attempts, counts }) = handed {
                let hand = &mut self.reader.hand;
                hand.last += 1;
                hand.held.insert(hand.last, id);
                let mark = hand.last;
                // Whether anything is left is found out when somebody looks.
                self.ring_if(true);
                return Ok(Some(Held { mark, message, attempts, counts }));
            }
            if !any {
                return Ok(None);
            }
        }
    }

    fn acknowledge(&mut self, mark: u64) -> Result<()> {
        let Some(id) = self.reader.hand.held.remove(&mark) else { return Ok(()) };
        self.listing.store.transaction("a message cannot be acknowledged", |tx| {
            mailbox::delete(tx, &[&id])?;
            mailbox::note_taken(tx, &[&id]).map(Ok)
        })
    }

    fn release(&mut self, mark: u64) -> Result<()> {
        let Some(id) = self.reader.hand.held.remove(&mark) else { return Ok(()) };
        self.ring_if(true);
        let (limits, most) = (&self.limits, self.limits.delivery_attempts);
        let died = self.listing.store.transaction("a message cannot be set aside", |tx| {
            let text = render(tx.dialect, "SELECT ipcm_more FROM ipcm_messages WHERE id = :id {update}");
            let row = tx.driver.query(&text, &[Param::Text(&id)])?.into_iter().next();
            let attempts = row.map_or(0, |mut row| attempts_in(&super::message_row::more_in(row.next(), limits)));
            if attempts < most {
                return Ok(Ok(None));
            }
            bury(tx, &id)?;
            Ok(Ok(Some(attempts)))
        })?;
        if let Some(attempts) = died {
            tell_of_death(&self.held.name, &id, attempts);
        }
        Ok(())
    }

    fn dead(&mut self, of: &PeerName) -> Result<Vec<Dead>> {
        let rows = self.dead_rows(of)?;
        Ok(rows.into_iter().map(|(row, message)| Dead::new(message, attempts_in(&row.more(&self.limits)))).collect())
    }

    fn revive(&mut self, of: &PeerName, id: Option<&str>) -> Result<usize> {
        let rows = self.dead_rows(of)?;
        let mut meant = Vec::new();
        for (row, message) in rows.into_iter().filter(|(_, message)| id.is_none_or(|id| message.id().as_str() == id)) {
            let mut more = row.more(&self.limits);
            more.remove(ATTEMPTS);
            meant.push((row.id, message, to_text(&more)?));
        }
        if meant.is_empty() {
            return Ok(0);
        }
        let store = &mut self.listing.store;
        store.transaction("dead messages cannot be made unread", |tx| {
            let insert = format!(
                "INSERT INTO ipcm_messages ({MOVED}, ipcm_more) SELECT {MOVED}, :text FROM ipcm_dead WHERE id = :id \
                 AND [to] = :text {{unless there in ipcm_messages}}"
            );
            let insert = render(tx.dialect, &insert);
            let remove = render(tx.dialect, "DELETE FROM ipcm_dead WHERE id = :id AND [to] = :text");
            for (id, message, more) in &meant {
                let (id, to) = (Param::Text(id), Param::Text(of.as_str()));
                // The sender may be gone for good, and a row needs one where the database keeps the references.
                tx.driver.execute(&tx.texts.insert_sender, &[Param::Text(message.from().as_str())])?;
                tx.driver.execute(&insert, &[Param::text_or_null(more.as_deref()), id, to])?;
                tx.driver.execute(&remove, &[id, to])?;
            }
            Ok(Ok(()))
        })?;
        self.ring_if(*of == self.held.name);
        // Store first, ring second.
        if self.outgoing.recipient(&mut self.listing.store, of).is_ok() {
            self.outgoing.ring(&mut self.listing.store, of);
        }
        Ok(meant.len())
    }
}
