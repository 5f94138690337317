// SPDX-License-Identifier: MIT OR Apache-2.0
//! One peer on a bus of AtomicPipe.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::outgoing::Outgoing;
use super::stream::Stream;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Message, MessageId};
use crate::name::PeerName;
use crate::protocol::directory_store::{Seat, Seated, Store};
use crate::protocol::{
    Connection, Connections, Damaged, Deliveries, Directory, Envelope, Inbox, Leave, OpenOptions, Opened, Payloads,
    Receipt, Wake, Wanted,
};
use crate::stats::Stats;
use crate::system::pipe;

/// How often to try again while a FIFO is full: its descriptor tells of room.
const TRY_ALL_THE_SAME: Duration = Duration::from_secs(1);
/// How often to try again where there is no descriptor that could tell.
const TRY_AGAIN: Duration = Duration::from_millis(5);
/// How often a FIFO is drained and closed until writers must be faster for ever.
const MOST_ROUNDS: usize = 10_000;
/// How long one round waits for a forked child to close its copy of the FIFO, and all of them together. Senders look at the
/// name more often than that.
const FOR_A_CHILD: Duration = Duration::from_millis(1);
const MOST_FOR_A_CHILD: Duration = Duration::from_millis(200);

/// See [`super::AtomicPipe`].
#[derive(Debug)]
struct AtomicPipeConnection {
    seat: Seat,
    fifo: OwnedFd,
    stream: Stream,
    outgoing: Outgoing,
}

pub(super) fn open(store: Store, options: OpenOptions) -> Result<Opened> {
    let Seated { seat, door, stats, discarded } =
        Seat::take(store, options, |store, name| pipe::make_fifo_at(store.dir(), name, store.access))?;
    let stream = Stream::new(seat.limits.encoded_bytes);
    let outgoing = Outgoing::new(std::sync::Arc::clone(&seat.store));
    let connection = AtomicPipeConnection { seat, fifo: door, stream, outgoing };
    Ok(Opened { connection: Box::new(connection), stats, discarded })
}

impl AtomicPipeConnection {
    /// Takes messages out of the FIFO.
    fn collect_from_fifo(&mut self, most: usize, bytes: usize, inbox: &mut Inbox) -> Result<()> {
        let mut taken = 0;
        while inbox.len() < most {
            let Some(size) = self.stream.next() else {
                if taken > 0 && self.stream.has_emptied() {
                    // There may be more by now, which the FIFO tells of.
                    break;
                }
                let filled = self.stream.fill(self.fifo.as_fd());
                if filled.map_err(|error| self.seat.failed("the FIFO cannot be read", error))? {
                    continue;
                }
                break;
            };
            if taken > 0 && taken + size > bytes {
                break;
            }
            taken += size;
            let (seat, stream) = (&self.seat, &mut self.stream);
            let decode = |payload: &[u8], last: Option<&[u8]>| match seat.decode(payload) {
                Ok(message) => (Some(message), None),
                Err(error) => (last.and_then(|last| seat.decode(last).ok()), Some(error)),
            };
            let Some((message, error)) = stream.take(decode) else { break };
            if let Some(error) = error {
                inbox.set_aside(Damaged::new(seat.store.place(error).at_path(seat.store.path(&seat.disk))));
            }
            if let Some(message) = message {
                inbox.accept(message);
            }
        }
        self.report_damage(inbox);
        Ok(())
    }

    fn report_damage(&mut self, inbox: &mut Inbox) {
        for error in self.stream.take_damage() {
            let path = self.seat.store.path(&self.seat.disk);
            inbox.set_aside(Damaged::new(self.seat.store.place(error).at_path(path)));
        }
    }

    fn is_waiting(&self) -> bool {
        self.stream.has_front() || self.seat.has_resumed().unwrap_or(true)
    }
}

impl Payloads for AtomicPipeConnection {
    fn deliver(&mut self, to: &PeerName, _: &MessageId, payload: &[u8]) -> Option<Receipt> {
        self.outgoing.write_payload(to, payload)
    }
}

impl Connection for AtomicPipeConnection {
    fn deliver(&mut self, envelopes: &[Envelope<'_>], receipts: &mut Vec<Receipt>) -> Result<()> {
        self.outgoing.store_all(envelopes, receipts)
    }

    fn room(&self, to: &PeerName) -> Wake<'_> {
        match self.outgoing.room(to) {
            Some(fifo) => Wake { descriptors: vec![fifo], look_every: TRY_ALL_THE_SAME },
            None => Wake { descriptors: vec![], look_every: TRY_AGAIN },
        }
    }

    fn collect(&mut self, most: usize, bytes: usize, inbox: &mut Inbox) -> Result<()> {
        let before = inbox.len();
        self.seat.collect_resumed(most, bytes, inbox)?;
        if inbox.len() < most {
            self.collect_from_fifo(most, bytes, inbox)?;
        }
        if inbox.len() == before {
            self.seat.check_store()?;
        } else if self.stream.next().is_none() {
            self.seat.ring_if(false);
        }
        Ok(())
    }

    fn is_ready(&mut self) -> Result<bool> {
        if self.seat.has_resumed()? {
            return Ok(true);
        }
        loop {
            if self.stream.next().is_some() {
                return Ok(true);
            }
            let filled = self.stream.fill(self.fifo.as_fd());
            if !filled.map_err(|error| self.seat.failed("the FIFO cannot be read", error))? {
                break;
            }
        }
        self.seat.check_store()?;
        Ok(false)
    }

    fn is_pending(&mut self) -> Result<bool> {
        self.is_ready()?;
        Ok(self.stream.has_unfinished())
    }

    fn put_back(&mut self, messages: &[Message]) -> Result<()> {
        self.seat.put_back(messages)
    }

    fn wake(&self, wanted: Wanted) -> Wake<'_> {
        self.seat.wake(wanted, [self.fifo.as_fd()], self.is_waiting())
    }

    fn directory(&mut self) -> &mut dyn Directory {
        // Whoever sweeps what the dead left sweeps their half messages, too.
        self.stream.drop_orphans(Duration::ZERO);
        self.seat.directory()
    }

    fn connections(&mut self) -> Option<&mut dyn Connections> {
        None
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
        let begun = Instant::now();
        for _ in 0..MOST_ROUNDS {
            self.collect_from_fifo(usize::MAX, usize::MAX, inbox)?;
            // With a descriptor for writing only, the FIFO and what is in it stay, but it has no reader here: what was
            // written before can be counted.
            let failed = |error| self.seat.failed("the FIFO cannot be closed", error);
            self.fifo = pipe::reopen(self.fifo.as_fd(), false).map_err(failed)?;
            // No write succeeds any more once nobody has it open for reading. A child that was forked meanwhile has, until
            // it becomes another program; where it never does, those who send notice that the name is gone.
            let is_closed = pipe::has_no_reader(self.fifo.as_fd(), FOR_A_CHILD).map_err(failed)?;
            let is_long = begun.elapsed() > MOST_FOR_A_CHILD;
            if (is_closed || is_long) && pipe::waiting(self.fifo.as_fd()).map_err(failed)? == 0 {
                return Ok(());
            }
            self.fifo = pipe::reopen(self.fifo.as_fd(), true).map_err(failed)?;
        }
        let error = Error::new(ErrorKind::Store, "others write into the FIFO faster than it can be closed");
        Err(self.seat.store.place(error.about_peer(self.seat.name.as_str())))
    }

    fn close(&mut self, leave: Leave, stats: &Stats) -> Result<()> {
        self.seat.close(leave, stats)
    }
}
