// SPDX-License-Identifier: MIT OR Apache-2.0
//! One peer on a bus of ConnectionUnix.

use std::time::{Duration, Instant, SystemTime};

use super::codec;
use super::incoming::Taken;
use super::links::{Links, NAMELESS_DEADLINE};
use super::{layout, standing};
use crate::error::Result;
use crate::message::{Message, MessageId};
use crate::name::PeerName;
use crate::protocol::directory_store::{Seat, Seated, Store};
use crate::protocol::{
    Connection, ConnectionRecord, Connections, Damaged, Deliveries, Directory, Envelope, Inbox, Leave, OpenOptions,
    Opened, Payloads, Receipt, Wake, Wanted,
};
use crate::stats::Stats;

/// How often to try again while a connection is full: its descriptor tells of room.
const TRY_ALL_THE_SAME: Duration = Duration::from_secs(1);
/// How often to look for the end of the store, whatever was told.
const LOOK_AT_STORE: Duration = Duration::from_secs(1);
/// How often to try again where there is no connection.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// See [`super::ConnectionUnix`].
#[derive(Debug)]
struct ConnectionUnixConnection {
    seat: Seat,
    links: Links,
    store_checked: Instant,
}

pub(super) fn open(store: Store, options: OpenOptions) -> Result<Opened> {
    let hello = codec::hello(&options.name, &*options.serializer)?;
    let listens = options.listen;
    let Seated { seat, door, stats, discarded } =
        Seat::take(store, options, |store, name| layout::make(store, name, listens))?;
    let reserve = seat.store.dir().try_clone_to_owned().ok();
    let links = Links::new(door, reserve, hello);
    let connection = ConnectionUnixConnection { seat, links, store_checked: Instant::now() };
    Ok(Opened { connection: Box::new(connection), stats, discarded })
}

impl ConnectionUnixConnection {
    /// Takes messages off the connections.
    fn collect_from_links(&mut self, most: usize, bytes: usize, inbox: &mut Inbox) -> Result<()> {
        let mut taken = 0;
        let looked = loop {
            while inbox.len() < most {
                if taken > 0 && self.links.next_size(&self.seat).is_some_and(|size| taken + size > bytes) {
                    break;
                }
                match self.links.take(&self.seat) {
                    None => break,
                    Some(Taken::Message(message, size)) => {
                        taken += size;
                        inbox.accept(message);
                    }
                    Some(Taken::Damaged(error, size)) => {
                        taken += size;
                        let path = self.seat.store.path(&self.seat.disk);
                        inbox.set_aside(Damaged::new(self.seat.store.place(error).at_path(path)));
                    }
                }
            }
            if inbox.len() >= most || self.links.is_waiting() {
                break Ok(());
            }
            match self.links.look(&self.seat) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        inbox.damaged.append(&mut self.links.reports);
        looked
    }

    /// Refuses to go on once the store was removed; asks for that only where it may have been.
    fn check_store(&mut self) -> Result<()> {
        if self.links.has_news_of_store || self.store_checked.elapsed() >= LOOK_AT_STORE {
            self.seat.check_store()?;
            self.store_checked = Instant::now();
            self.links.has_news_of_store = false;
        }
        Ok(())
    }

    fn is_waiting(&self) -> bool {
        self.links.is_waiting() || self.seat.has_resumed().unwrap_or(true)
    }
}

impl Payloads for ConnectionUnixConnection {
    fn deliver(&mut self, to: &PeerName, id: &MessageId, payload: &[u8]) -> Option<Receipt> {
        self.links.send_payload(to, id, payload)
    }
}

impl Connection for ConnectionUnixConnection {
    fn deliver(&mut self, envelopes: &[Envelope<'_>], receipts: &mut Vec<Receipt>) -> Result<()> {
        self.links.deliver(&self.seat, envelopes, receipts)
    }

    fn room(&self, to: &PeerName) -> Wake<'_> {
        let carrying = self.links.carrying.get(to).and_then(|id| self.links.all.get(id));
        match carrying.filter(|link| link.can_send).and_then(super::link::Link::descriptor) {
            Some(descriptor) => Wake { descriptors: vec![descriptor], look_every: TRY_ALL_THE_SAME },
            None => Wake { descriptors: vec![], look_every: TRY_AGAIN },
        }
    }

    fn collect(&mut self, most: usize, bytes: usize, inbox: &mut Inbox) -> Result<()> {
        let before = inbox.len();
        self.seat.collect_resumed(most, bytes, inbox)?;
        let collected = if inbox.len() < most { self.collect_from_links(most, bytes, inbox) } else { Ok(()) };
        if inbox.len() == before {
            collected.and_then(|()| self.check_store())?;
        }
        // What was taken is the caller's; what is wrong will show again at the next call.
        let is_waiting = self.links.is_waiting();
        self.seat.ring_if(is_waiting);
        Ok(())
    }

    fn is_ready(&mut self) -> Result<bool> {
        if self.links.is_waiting() || self.seat.has_resumed()? {
            return Ok(true);
        }
        if self.links.look(&self.seat)? {
            return Ok(true);
        }
        self.check_store()?;
        Ok(false)
    }

    fn is_pending(&mut self) -> Result<bool> {
        self.is_ready()?;
        Ok(self.links.is_pending())
    }

    fn put_back(&mut self, messages: &[Message]) -> Result<()> {
        self.seat.put_back(messages)
    }

    fn wake(&self, wanted: Wanted) -> Wake<'_> {
        let mut wake = self.seat.wake(wanted, self.links.descriptors(), self.is_waiting());
        if wanted.messages && !self.links.nameless.is_empty() {
            wake.look_every = wake.look_every.min(NAMELESS_DEADLINE);
        }
        if wanted.messages && self.links.is_short {
            wake.look_every = wake.look_every.min(TRY_AGAIN);
        }
        wake
    }

    fn directory(&mut self) -> &mut dyn Directory {
        self.seat.directory()
    }

    fn connections(&mut self) -> Option<&mut dyn Connections> {
        Some(self)
    }

    fn payloads(&mut self) -> Option<&mut dyn Payloads> {
        Some(self)
    }

    fn deliveries(&mut self) -> Option<&mut dyn Deliveries> {
        None
    }

    fn unlist(&mut self) -> Result<()> {
        self.seat.unlist()
    }

    fn seal(&mut self, inbox: &mut Inbox) -> Result<()> {
        let sealed = self.links.seal(&self.seat);
        let collected = self.collect_from_links(usize::MAX, usize::MAX, inbox);
        sealed.and(collected)
    }

    fn close(&mut self, leave: Leave, stats: &Stats) -> Result<()> {
        self.seat.close(leave, stats)
    }
}

impl Connections for ConnectionUnixConnection {
    fn open_connections(&self) -> Vec<ConnectionRecord> {
        let (now, today) = (Instant::now(), SystemTime::now());
        let open = self.links.all.values().filter(|link| link.descriptor().is_some());
        let record = |link: &super::link::Link| {
            let idle = now.saturating_duration_since(link.used);
            ConnectionRecord {
                // A stranger's claim is no name.
                peer: link.name.clone().filter(|_| link.is_opened_here || link.may_carry()),
                pid: link.pid,
                is_opened_here: link.is_opened_here,
                last_activity: today.checked_sub(idle).unwrap_or(SystemTime::UNIX_EPOCH),
            }
        };
        open.map(record).collect()
    }

    fn close_to(&mut self, peer: &PeerName) -> Result<usize> {
        Ok(self.links.retire_all(&self.seat, peer))
    }

    fn close_idle(&mut self, idle: Duration) -> Result<usize> {
        let now = Instant::now();
        let is_idle = |link: &&super::link::Link| now.saturating_duration_since(link.used) > idle;
        let mut names: Vec<PeerName> =
            self.links.all.values().filter(is_idle).filter_map(|link| link.name.clone()).collect();
        names.sort();
        names.dedup();
        let all = &self.links.all;
        // What is sent on a newer connection must not be overtaken on an older one: all with a peer, or none.
        names.retain(|name| {
            all.values()
                .filter(|link| link.name.as_ref() == Some(name))
                .all(|link| is_idle(&link) && !link.is_half_out())
        });
        Ok(names.iter().map(|name| self.links.retire_all(&self.seat, name)).sum())
    }

    fn is_listener(&mut self, peer: &PeerName) -> Result<Option<bool>> {
        Ok(standing::listens(&self.seat, peer))
    }
}
