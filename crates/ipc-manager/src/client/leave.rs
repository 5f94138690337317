// SPDX-License-Identifier: MIT OR Apache-2.0
//! Leaving a bus, for good or for a while.

use std::time::{Duration, SystemTime};

use super::gone::Gone;
use super::{Away, Client};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::protocol::{Inbox, Leave};
use crate::system::Deadline;

/// How long leaving may wait for room for messages that were held back.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// For how long a client suspends.
///
/// ```
/// use ipc_manager::{Spawn, Suspend, reconnect};
/// use std::time::Duration;
/// let bus = Spawn::builder().protocol("MessageFiles").spawn()?;
/// let (mut a, mut b) = (bus.connect("a")?, bus.connect("b")?);
/// b.suspend(Suspend::within(Duration::from_secs(60)))?;
/// a.send("b", "while you were out")?;
/// let mut b = reconnect("b", bus.info())?;
/// assert_eq!(b.recv()?.content(), "while you were out");
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Suspend {
    until: Option<SystemTime>,
}

impl Suspend {
    /// Without a deadline.
    #[must_use]
    pub fn open_ended() -> Self {
        Self::default()
    }

    /// Until a point in time; whoever waits for this peer gives up then.
    #[must_use]
    pub fn until(deadline: SystemTime) -> Self {
        Self { until: Some(deadline) }
    }

    /// For so long from now.
    #[must_use]
    pub fn within(duration: Duration) -> Self {
        Self { until: SystemTime::now().checked_add(duration) }
    }
}

/// How often a mailbox may refuse to be read by who leaves, before it is left as it is.
const MOST_REFUSALS: usize = 3;

impl Client {
    /// Leaves the bus and keeps the name with its mailbox: messages may still be sent to it, and
    /// [`reconnect`](crate::reconnect) continues it.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) if the protocol cannot, else what the store says; one that is away is waited
    /// for, up to five seconds. The client can be used as before then, or suspended again, which is fine also where the
    /// store has not said whether it was.
    pub fn suspend(&mut self, suspend: Suspend) -> Result<()> {
        self.checked("suspend")?;
        if !self.capabilities.suspend {
            let error = Error::new(ErrorKind::Unsupported, "peers of this protocol cannot suspend");
            return Err(error.during("suspend").in_protocol(&self.info.protocol().short()));
        }
        self.drain_or_give_up(Deadline::after(DRAIN_DEADLINE));
        self.put_back_all();
        let stats = self.registered.stats_to_store();
        let close = || self.connection.close(Leave::Suspend { until: suspend.until }, &stats);
        let closed = riding_out(Deadline::after(DRAIN_DEADLINE), close);
        closed.map_err(|error| error.during("suspend"))?;
        self.has_left();
        Ok(())
    }

    /// Leaves the bus for good. A second time is fine and does nothing. Deliveries that are in hand and messages that are
    /// [dead](Client::dead) count as waiting.
    ///
    /// # Errors
    /// [`UnreadMessages`](ErrorKind::UnreadMessages) if messages were waiting: they are handed back in
    /// [`Error::into_messages`], and the client has left all the same. [`Timeout`](ErrorKind::Timeout) if messages that
    /// were held back found no room within five seconds: these are handed back then, and in
    /// [`take_unsent`](Client::take_unsent) in any case. Else what the store says.
    pub fn disconnect(&mut self) -> Result<()> {
        self.disconnect_within(DRAIN_DEADLINE)
    }

    /// As [`disconnect`](Client::disconnect), waiting so long for room for what was held back.
    pub(crate) fn disconnect_within(&mut self, drain: Duration) -> Result<()> {
        let mut unread = Vec::new();
        let left = self.leave(drain, &mut |client: &mut Self, messages: Vec<Message>| {
            // They were counted as they were taken, but nobody read them.
            client.registered.count(|stats| {
                for message in &messages {
                    stats.count_read(message.from().as_str(), -1);
                }
            });
            unread.extend(messages);
        });
        let error = match left {
            Ok(unsent) if unread.is_empty() => return self.all_sent(unsent, drain),
            Ok(_) => {
                let detail = format!("messages were waiting unread: {}", unread.len());
                let error = Error::new(ErrorKind::UnreadMessages, detail);
                error.about_peer(self.name.as_str()).on_route(self.info.route().as_str())
            }
            // Whatever else went wrong, what was taken out of the mailbox is the caller's.
            Err(error) => error,
        };
        Err(error.during("disconnect").with_messages(unread))
    }

    /// Leaves the bus for good; unread messages go to the handler, in batches, in order, and count as read. Requests to
    /// terminate are dropped.
    ///
    /// # Errors
    /// [`Timeout`](ErrorKind::Timeout) as for [`disconnect`](Client::disconnect), and what the store says.
    pub fn disconnect_with(&mut self, mut handler: impl FnMut(Vec<Message>)) -> Result<()> {
        let left = self.leave(DRAIN_DEADLINE, &mut |_, messages| handler(messages));
        left.and_then(|unsent| self.all_sent(unsent, DRAIN_DEADLINE)).map_err(|error| error.during("disconnect"))
    }

    fn all_sent(&self, unsent: Vec<Message>, drain: Duration) -> Result<()> {
        if unsent.is_empty() {
            return Ok(());
        }
        let detail = format!("messages that were held back had no room in {drain:?}: {}", unsent.len());
        let error = Error::new(ErrorKind::Timeout, detail).about_peer(self.name.as_str());
        Err(error.on_route(self.info.route().as_str()).during("disconnect").with_messages(unsent))
    }

    fn leave(&mut self, drain: Duration, unread: &mut dyn FnMut(&mut Self, Vec<Message>)) -> Result<Vec<Message>> {
        match self.check("disconnect") {
            Err(error) if error.kind() == ErrorKind::Disconnected => return Ok(Vec::new()),
            checked => checked?,
        }
        let unsent = self.drain_or_give_up(Deadline::after(drain));
        let deadline = Deadline::after(DRAIN_DEADLINE);
        match riding_out(deadline, || self.connection.unlist()) {
            // Nothing has happened yet, so it can be tried again.
            Err(error) if error.kind() != ErrorKind::NoSuchBus => return Err(error),
            _ => {}
        }
        let left = self.drain_and_close(unread, deadline);
        self.has_left();
        match left {
            // Who leaves a bus that is gone has left.
            Err(error) if error.kind() == ErrorKind::NoSuchBus => Ok(unsent),
            left => left.map(|()| unsent),
        }
    }

    fn drain_and_close(&mut self, unread: &mut dyn FnMut(&mut Self, Vec<Message>), deadline: Deadline) -> Result<()> {
        self.give_up_deliveries(deadline);
        let (most, mut refusals) = (self.limits.batch_messages, 0);
        loop {
            match riding_out(deadline, || self.take("disconnect", most)) {
                Ok(messages) if messages.is_empty() => break,
                Ok(messages) => self.hand_over(messages, unread),
                // The name is given up already, so what is not handed over now is lost.
                Err(error) if error.kind() != ErrorKind::NoSuchBus && refusals < MOST_REFUSALS => refusals += 1,
                Err(error) => return Err(error),
            }
        }
        let mut late = Inbox::default();
        let sealed = riding_out(deadline, || self.connection.seal(&mut late));
        let messages = self.accept(&mut late);
        self.hand_over(messages, unread);
        let stats = self.registered.stats_to_store();
        let closed = riding_out(deadline, || self.connection.close(Leave::Disconnect, &stats));
        sealed.and(closed)
    }

    fn hand_over(&mut self, mut messages: Vec<Message>, unread: &mut dyn FnMut(&mut Self, Vec<Message>)) {
        messages.retain(|message| !message.is_terminate());
        if !messages.is_empty() {
            unread(self, messages);
        }
    }

    fn has_left(&mut self) {
        self.is_connected = false;
        self.registered.remove();
        // Descriptors, watches and locks go now, not when the value is dropped.
        self.connection = Box::new(Gone);
    }
}

/// Makes a call again while the store is away and time is left.
pub(super) fn riding_out<T>(deadline: Deadline, mut call: impl FnMut() -> Result<T>) -> Result<T> {
    let mut away = Away::new();
    loop {
        match call() {
            Err(error) => drop(away.ride_out(error, deadline)?),
            done => return done,
        }
    }
}
