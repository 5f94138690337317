// SPDX-License-Identifier: MIT OR Apache-2.0
//! One peer on a bus in a database.

use std::time::{Duration, Instant, SystemTime};

use super::listing::Listing;
use super::mailbox;
use super::message_row::PutBack;
use super::names::{Held, Taken};
use super::outgoing::Outgoing;
use super::store::Store;
use super::value::Param;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::message::Message;
use crate::name::PeerName;
use crate::protocol::beside::{Holder, seconds};
use crate::protocol::{
    Connection, Connections, Deliveries, Directory, Envelope, Inbox, Leave, OpenOptions, Opened, Payloads, Receipt,
    Wake, Wanted,
};
use crate::stats::Stats;
use crate::system::bell::Bell;
use crate::system::doorbell::Doorbell;
use crate::system::rings::{self, Rings};

/// How often to look for room, which nothing tells of.
const POLL_ROOM: Duration = Duration::from_millis(20);
/// How often to look where a bell tells: only for the case that a ring was lost.
const LOOK_ALL_THE_SAME: Duration = Duration::from_secs(15);
/// How often to look while a peer is there that does not ring.
const LOOK_FOR_FOREIGN: Duration = Duration::from_millis(100);
/// How often to look where nothing tells.
const POLL: Duration = Duration::from_millis(20);
/// How often to ask whether a peer is there that does not ring.
const ASK_FOR_FOREIGN: Duration = Duration::from_secs(10);
/// How long it is known which messages were taken, for senders that lost their connection as they sent them; and how
/// often what is older is forgotten.
const TAKEN_IS_KNOWN: Duration = Duration::from_secs(600);
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(super) struct SqlConnection {
    pub(super) listing: Listing,
    pub(super) held: Held,
    pub(super) limits: Limits,
    pub(super) outgoing: Outgoing,
    bell: Option<Doorbell>,
    /// Readable while something is left that is known of, where there is no doorbell to ring.
    left_over: Bell,
    has_rung: bool,
    pub(super) reader: mailbox::Reader,
    /// When old ids were forgotten last.
    forgot: Instant,
    is_unlisted: bool,
}

/// Joins the bus in an open database.
pub(super) fn open(mut store: Store, options: OpenOptions) -> Result<Opened> {
    let OpenOptions { name, mode, limits, .. } = options;
    // All that can fail comes before the name is taken.
    let left_over = Bell::new().map_err(|error| Error::system(error, "a descriptor to wait for cannot be had"))?;
    let mut bell = store.beside.as_ref().and_then(super::super::beside::Beside::bell);
    let held = Held::new(&name, Holder::own(bell.as_ref(), mode));
    let listened = store.driver.listen(name.as_str());
    listened.map_err(|failure| store.failed("the mailbox cannot be listened to", failure))?;
    let Taken { stats, discarded } = held.take(&mut store, mode)?;
    if let Some(Err(error)) = bell.as_mut().map(Doorbell::publish) {
        log::warn!("{name}: the doorbell cannot be hung up, so this peer polls: {error}");
    }
    let mut listing = Listing::new(store, Some(name));
    // Whoever does not ring is looked for from the start.
    if let Err(error) = listing.has_foreign_peers(Duration::ZERO) {
        log::debug!("peers without a bell cannot be looked for: {error}");
    }
    let connection = SqlConnection {
        listing,
        held,
        outgoing: Outgoing::new(limits.unread_messages),
        limits,
        bell,
        left_over,
        has_rung: false,
        reader: mailbox::Reader::default(),
        forgot: Instant::now(),
        is_unlisted: false,
    };
    Ok(Opened { connection: Box::new(connection), stats, discarded })
}

impl SqlConnection {
    fn name(&self) -> &PeerName {
        &self.held.name
    }

    /// Forgets the rings until now, before looking.
    pub(super) fn note_rings(&mut self) {
        if let Some(bell) = &self.bell {
            bell.clear();
        }
        if self.has_rung {
            self.left_over.clear();
            self.has_rung = false;
        }
        self.listing.store.driver.take_notice();
    }

    /// Keeps the descriptors readable while something is known to be there.
    pub(super) fn ring_if(&mut self, is_left: bool) {
        if is_left && !self.has_rung {
            self.left_over.ring();
            self.has_rung = true;
        }
    }

    /// Forgets, from time to time, which ids were taken long ago: their senders know by now, or never will.
    fn forget_taken(&mut self) {
        if self.listing.store.schema.taken && self.forgot.elapsed() >= FORGET_EVERY {
            self.forgot = Instant::now();
            let before = Param::Seconds(seconds(SystemTime::now()) - TAKEN_IS_KNOWN.as_secs_f64());
            let forgot =
                self.listing.store.execute("old ids cannot be forgotten", |texts| &texts.forget_taken, &[before]);
            if let Err(error) = forgot {
                log::debug!("{error}");
            }
        }
    }

    /// Hears no ring any more: those who store messages outright are told by that that the name is given up.
    fn go_deaf(&mut self) -> Result<()> {
        match &mut self.bell {
            Some(bell) if self.listing.store.dialect.stores_outright() => bell.go_deaf().map_err(|error| {
                let error = Error::system(error, "the doorbell cannot be silenced");
                self.listing.store.place(error)
            }),
            _ => Ok(()),
        }
    }

    /// Looks at the mailbox, and from time to time at what else may have changed.
    pub(super) fn look(&mut self) -> Result<bool> {
        if self.reader.resolve(&mut self.listing.store)? {
            return Ok(true);
        }
        self.look_for(1, usize::MAX).map(|look| look.has_message)
    }

    fn look_for(&mut self, most: usize, bytes: usize) -> Result<mailbox::Look> {
        let mut look = mailbox::look(&mut self.listing.store, &self.held.name, most, bytes)?;
        if !look.is_registered && !self.is_unlisted {
            let error = Error::new(ErrorKind::NoSuchPeer, "this client's mailbox was removed by somebody else");
            return Err(self.listing.store.place(error.about_peer(self.name().as_str())).with_retryable(false));
        }
        look.has_message = look.has_message && self.has_others()?;
        if !look.has_message {
            self.listing.has_foreign_peers(ASK_FOR_FOREIGN)?;
        }
        Ok(look)
    }
}

impl Rings for SqlConnection {
    fn forget_rings(&mut self) {
        self.note_rings();
    }

    fn ring_on(&mut self) {
        self.ring_if(true);
    }
}

impl Connection for SqlConnection {
    fn deliver(&mut self, envelopes: &[Envelope<'_>], receipts: &mut Vec<Receipt>) -> Result<()> {
        self.outgoing.deliver(&mut self.listing.store, envelopes, receipts)
    }

    fn room(&self, _: &PeerName) -> Wake<'_> {
        Wake { descriptors: vec![], look_every: POLL_ROOM }
    }

    fn connections(&mut self) -> Option<&mut dyn Connections> {
        None
    }

    fn collect(&mut self, most: usize, bytes: usize, inbox: &mut Inbox) -> Result<()> {
        let take = |own: &mut Self| {
            let wanted = most.saturating_sub(inbox.len());
            if own.reader.resolve(&mut own.listing.store)? {
                own.reader.hand_out_taken(&own.listing.store, wanted, inbox);
                return Ok(true);
            }
            // Looking takes no lock, so whoever finds nothing is in nobody's way.
            let look = own.look_for(wanted, bytes)?;
            if !look.has_message {
                return Ok(false);
            }
            let (store, name) = (&mut own.listing.store, &own.held.name);
            let is_left = mailbox::take(store, name, (wanted, bytes, look.fits), &own.limits, inbox, &mut own.reader)?;
            own.forget_taken();
            Ok(is_left)
        };
        rings::look(self, take, |is_left| *is_left).map(drop)
    }

    fn is_ready(&mut self) -> Result<bool> {
        rings::look(self, Self::look, |is_ready| *is_ready)
    }

    fn is_pending(&mut self) -> Result<bool> {
        Ok(false)
    }

    fn put_back(&mut self, messages: &[Message]) -> Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        let back = |message| PutBack { message, was_counted: true, attempts: 0, sequence: None };
        let messages: Vec<_> = messages.iter().map(back).collect();
        mailbox::put_back(&mut self.listing.store, &self.held.name, &messages, &self.limits)?;
        self.ring_if(true);
        Ok(())
    }

    fn wake(&self, wanted: Wanted) -> Wake<'_> {
        let mut wake = Wake { descriptors: vec![], look_every: Duration::MAX };
        if wanted.messages {
            let told = self.listing.store.driver.descriptor().filter(|_| self.listing.store.schema.rings);
            let bell = self.bell.as_ref().filter(|bell| bell.is_hung());
            wake.look_every = match (bell, told) {
                // The database tells of all writers.
                (_, Some(_)) => LOOK_ALL_THE_SAME,
                (Some(_), None) if self.listing.had_foreign_peers() => LOOK_FOR_FOREIGN,
                (Some(_), None) => LOOK_ALL_THE_SAME,
                (None, None) => POLL,
            };
            wake.descriptors.extend(told);
            wake.descriptors.extend(self.bell.as_ref().and_then(Doorbell::descriptor));
            wake.descriptors.push(self.left_over.descriptor());
        }
        if wanted.peers {
            let peers = self.listing.wake();
            wake.descriptors.extend(peers.descriptors);
            wake.look_every = wake.look_every.min(peers.look_every);
        }
        wake
    }

    fn directory(&mut self) -> &mut dyn Directory {
        &mut self.listing
    }

    fn payloads(&mut self) -> Option<&mut dyn Payloads> {
        None
    }

    fn deliveries(&mut self) -> Option<&mut dyn Deliveries> {
        Some(self)
    }

    fn unlist(&mut self) -> Result<()> {
        if !self.is_unlisted {
            self.held.unlist(&mut self.listing.store)?;
            self.go_deaf()?;
            self.is_unlisted = true;
        }
        Ok(())
    }

    fn seal(&mut self, inbox: &mut Inbox) -> Result<()> {
        // No insert that began before the name was unlisted is under way any more, and none that began later finds it.
        while self.look()? {
            let most = inbox.len().saturating_add(self.limits.batch_messages);
            self.collect(most, usize::MAX, inbox)?;
        }
        Ok(())
    }

    fn close(&mut self, leave: Leave, stats: &Stats) -> Result<()> {
        match leave {
            Leave::Disconnect => {
                let saved = self.listing.save_stats(&self.held.name, stats);
                self.held.leave(&mut self.listing.store).and(saved)?;
            }
            Leave::Suspend { until } => {
                // What was taken as the connection was lost, and handed to nobody, stays for who continues the name.
                let mut inbox = Inbox::default();
                self.reader.give_back(&mut self.listing.store, &self.held.name, &self.limits, &mut inbox)?;
                // There is nobody left to ask for it.
                for damaged in &inbox.damaged {
                    log::warn!("{}: set aside: {}", self.held.name, damaged.error());
                }
                // Who rings from here on looks at the store, and rings whoever continues the name.
                self.go_deaf()?;
                self.held.suspend(&mut self.listing.store, until, stats)?;
            }
        }
        // Store first, ring second: those who watch the bells look at the store now.
        self.bell = None;
        Ok(())
    }
}
