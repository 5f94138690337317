// SPDX-License-Identifier: MIT OR Apache-2.0
//! One peer on a bus of UnixSocket.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::layout;
use super::outgoing::Outgoing;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Message, MessageId};
use crate::name::PeerName;
use crate::protocol::directory_store::{Origins, Seat, Seated, Store};
use crate::protocol::{
    Connection, Connections, Damaged, Deliveries, Directory, Envelope, Inbox, Leave, OpenOptions, Opened, Payloads,
    Receipt, Wake, Wanted,
};
use crate::stats::Stats;
use crate::system::arrivals::{Arrival, Arrivals};
use crate::system::datagram;

/// How often to try again while a socket is full: its descriptor tells of room.
const TRY_ALL_THE_SAME: Duration = Duration::from_secs(1);
/// How often to try again where there is no descriptor that could tell.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// See [`super::UnixSocket`].
#[derive(Debug)]
struct UnixSocketConnection {
    seat: Seat,
    socket: OwnedFd,
    arrivals: Arrivals,
    origins: Origins,
    outgoing: Outgoing,
    /// The user that this process ran as when it connected.
    user: u32,
    /// Whether the last look found nothing.
    is_idle: bool,
}

pub(super) fn open(store: Store, options: OpenOptions) -> Result<Opened> {
    let arrivals = Arrivals::new()
        .map_err(|error| store.place(Error::system(error, "there is no address space for datagrams")))?;
    let Seated { seat, door, stats, discarded } = Seat::take(store, options, layout::make)?;
    let outgoing = Outgoing::new(std::sync::Arc::clone(&seat.store));
    let (origins, user) = (Origins::default(), rustix::process::geteuid().as_raw());
    let connection = UnixSocketConnection { seat, socket: door, arrivals, origins, outgoing, user, is_idle: true };
    Ok(Opened { connection: Box::new(connection), stats, discarded })
}

impl UnixSocketConnection {
    /// Takes messages out of the socket.
    fn collect_from_socket(&mut self, most: usize, bytes: usize, inbox: &mut Inbox) -> Result<()> {
        let mut taken = 0;
        let mut may_be_more = true;
        while inbox.len() < most {
            let Some(arrival) = self.arrivals.front() else {
                if !may_be_more || !self.receive(&mut may_be_more)? {
                    break;
                }
                continue;
            };
            let size = arrival.bytes.len();
            if taken > 0 && taken + size > bytes {
                break;
            }
            taken += size;
            match read(&self.seat, &mut self.origins, self.user, &arrival) {
                Ok(message) => inbox.accept(message),
                Err(error) => {
                    let path = self.seat.store.path(&self.seat.disk);
                    inbox.set_aside(Damaged::new(self.seat.store.place(error).at_path(path)));
                }
            }
            self.arrivals.take();
        }
        Ok(())
    }

    /// Receives what waits in the kernel; whether anything did.
    fn receive(&mut self, may_be_more: &mut bool) -> Result<bool> {
        let received = self.arrivals.receive(self.socket.as_fd());
        let (is_there, more) = received.map_err(|error| self.seat.failed("the socket cannot be read", error))?;
        *may_be_more = more;
        Ok(is_there)
    }

    /// Whether something waits in this process that no descriptor of the kernel tells of.
    fn is_waiting(&self) -> bool {
        self.arrivals.front().is_some() || self.seat.has_resumed().unwrap_or(true)
    }

    /// Looks whether the store is still there, every other time that nothing was: who polls and reads in turn is told of
    /// its end by the second look.
    fn found_nothing(&mut self) -> Result<()> {
        if self.is_idle {
            self.seat.check_store()
        } else {
            self.is_idle = true;
            Ok(())
        }
    }
}

/// Reads a datagram of whatever origin.
fn read(seat: &Seat, origins: &mut Origins, user: u32, arrival: &Arrival<'_>) -> Result<Message> {
    // Who this process is now is asked only where that may differ from who it was.
    // A group's sockets are reached by its members only.
    if let Some(sender) = arrival.sender
        && sender.uid != user
        && sender.uid != rustix::process::getuid().as_raw()
        && !seat.store.access.trusts(sender.uid)
    {
        let detail = format!("a datagram of another user was dropped: uid {}", sender.uid);
        return Err(Error::new(ErrorKind::Permission, detail));
    }
    if arrival.size > arrival.bytes.len() {
        let (size, kept) = (arrival.size, arrival.bytes.len());
        return Err(Error::new(ErrorKind::Corrupt, format!("a datagram of {size} bytes was cut to {kept}")));
    }
    if arrival.bytes.is_empty() {
        return Err(Error::new(ErrorKind::Corrupt, "an empty datagram is no message"));
    }
    if arrival.size > seat.limits.encoded_bytes {
        let detail = format!("a datagram has {} bytes, and the limit is {}", arrival.size, seat.limits.encoded_bytes);
        return Err(Error::new(ErrorKind::TooLarge, detail));
    }
    let message = seat.decode(arrival.bytes)?;
    if message.to().is_some_and(|to| *to != seat.name) {
        let detail = format!("the message sent to {} is addressed to somebody else", seat.name);
        return Err(Error::new(ErrorKind::Corrupt, detail));
    }
    let origin = origins.of(&seat.store, message.from(), arrival.sender.and_then(|sender| sender.pid));
    Ok(message.with_origin(origin))
}

impl Payloads for UnixSocketConnection {
    fn deliver(&mut self, to: &PeerName, _: &MessageId, payload: &[u8]) -> Option<Receipt> {
        self.outgoing.send_payload(to, payload)
    }
}

impl Connection for UnixSocketConnection {
    fn deliver(&mut self, envelopes: &[Envelope<'_>], receipts: &mut Vec<Receipt>) -> Result<()> {
        self.outgoing.store_all(envelopes, receipts)
    }

    fn room(&self, to: &PeerName) -> Wake<'_> {
        match self.outgoing.room(to) {
            Some(socket) => Wake { descriptors: vec![socket], look_every: TRY_ALL_THE_SAME },
            None => Wake { descriptors: vec![], look_every: TRY_AGAIN },
        }
    }

    fn connections(&mut self) -> Option<&mut dyn Connections> {
        None
    }

    fn collect(&mut self, most: usize, bytes: usize, inbox: &mut Inbox) -> Result<()> {
        let before = inbox.len();
        self.seat.collect_resumed(most, bytes, inbox)?;
        if inbox.len() < most {
            self.collect_from_socket(most, bytes, inbox)?;
        }
        if inbox.len() == before {
            return self.found_nothing();
        }
        self.is_idle = false;
        if self.arrivals.front().is_none() {
            self.seat.ring_if(false);
        }
        Ok(())
    }

    fn is_ready(&mut self) -> Result<bool> {
        if self.is_waiting() || self.receive(&mut false)? {
            return Ok(true);
        }
        self.seat.check_store()?;
        Ok(false)
    }

    fn is_pending(&mut self) -> Result<bool> {
        // A datagram is there or it is not.
        self.is_ready()
    }

    fn put_back(&mut self, messages: &[Message]) -> Result<()> {
        self.seat.put_back(messages)
    }

    fn wake(&self, wanted: Wanted) -> Wake<'_> {
        self.seat.wake(wanted, [self.socket.as_fd()], self.is_waiting())
    }

    fn directory(&mut self) -> &mut dyn Directory {
        self.seat.directory()
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
        // From here on nobody can send to it, and what was sent before is all there.
        datagram::refuse_more(self.socket.as_fd())
            .map_err(|error| self.seat.failed("the socket cannot be closed", error))?;
        self.collect_from_socket(usize::MAX, usize::MAX, inbox)
    }

    fn close(&mut self, leave: Leave, stats: &Stats) -> Result<()> {
        self.seat.close(leave, stats)
    }
}
