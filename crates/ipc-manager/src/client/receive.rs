// SPDX-License-Identifier: MIT OR Apache-2.0
//! Receiving: one at a time or in batches, sound messages and damaged ones apart.

use std::time::Duration;

use super::leave::riding_out;
use super::wait::{LONGEST_SLEEP, Wait};
use super::{Away, Client};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::protocol::{Damaged, Inbox, Wanted};
use crate::system::Deadline;
use crate::system::rings;

/// Most reports of damaged messages that are kept for whoever asks.
const MOST_REPORTS: usize = 1_000;
/// For how many messages room is kept between two batches.
const MOST_ROOM: usize = 256;
/// How long putting messages back may wait for a store that is away.
const REQUEUE_DEADLINE: Duration = Duration::from_secs(5);

impl Client {
    /// Takes the next message if one is there; never waits.
    ///
    /// # Errors
    /// [`NoSuchBus`](ErrorKind::NoSuchBus) if the bus was removed, and what the store says.
    pub fn try_recv(&mut self) -> Result<Option<Message>> {
        self.take_one("try_recv")
    }

    /// Takes the next message, waiting for one as long as it takes, also while the store is away.
    ///
    /// # Errors
    /// As [`try_recv`](Client::try_recv).
    pub fn recv(&mut self) -> Result<Message> {
        self.wait_for_one("recv", Deadline::NEVER, None, Self::take_one)
    }

    /// Takes the next message, waiting for one so long at most. A store that is away is waited for, too.
    ///
    /// # Errors
    /// As [`try_recv`](Client::try_recv), and [`Timeout`](ErrorKind::Timeout).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Message> {
        self.wait_for_one("recv_timeout", Deadline::after(timeout), Some(timeout), Self::take_one)
    }

    /// Takes all messages that are there, up to the limits of a batch, sorted by stamp; never waits.
    ///
    /// # Errors
    /// As [`try_recv`](Client::try_recv).
    pub fn get_messages(&mut self) -> Result<Vec<Message>> {
        self.take("get_messages", self.limits.batch_messages)
    }

    /// Takes at most so many of the messages that are there, sorted by stamp; never waits.
    ///
    /// # Errors
    /// As [`try_recv`](Client::try_recv).
    pub fn get_at_most(&mut self, most: usize) -> Result<Vec<Message>> {
        self.take("get_messages", most.min(self.limits.batch_messages))
    }

    /// What was in the mailbox and is no message, since last asked. Each was set aside, at the cost of nothing else,
    /// and is reported once.
    #[must_use]
    pub fn take_damaged(&mut self) -> Vec<Damaged> {
        std::mem::take(&mut self.damaged)
    }

    /// Whether a complete message waits.
    ///
    /// # Errors
    /// As [`try_recv`](Client::try_recv).
    pub fn is_ready(&mut self) -> Result<bool> {
        self.checked("is_ready")?.put_back_returned();
        self.connection.is_ready().map_err(|error| error.during("is_ready"))
    }

    /// Whether something is arriving that is not complete yet.
    ///
    /// # Errors
    /// As [`try_recv`](Client::try_recv).
    pub fn is_pending(&mut self) -> Result<bool> {
        self.checked("is_pending")?.connection.is_pending().map_err(|error| error.during("is_pending"))
    }

    /// Puts messages back, as they are, for this client or whoever continues its name. They are not counted again
    /// when they are read again.
    ///
    /// # Errors
    /// What the store says; one that is away is waited for, up to five seconds. Then none of them is put back, unless
    /// [`Error::stored`] says that they may be; calling again with the same messages is fine.
    pub fn requeue(&mut self, messages: &[Message]) -> Result<()> {
        if messages.is_empty() {
            return self.check("requeue");
        }
        let connection = &mut self.checked("requeue")?.connection;
        let put = riding_out(Deadline::after(REQUEUE_DEADLINE), || connection.put_back(messages));
        put.map_err(|error| error.during("requeue"))
    }

    /// Takes one in some way, waiting for it.
    pub(super) fn wait_for_one<T>(
        &mut self,
        operation: &'static str,
        deadline: Deadline,
        timeout: Option<Duration>,
        take: fn(&mut Self, &'static str) -> Result<Option<T>>,
    ) -> Result<T> {
        let mut away = Away::new();
        let look = |client: &mut Self| {
            loop {
                match take(client, operation) {
                    Ok(taken) => {
                        away.is_over();
                        return Ok(taken);
                    }
                    Err(error) => drop(away.ride_out(error, deadline)?),
                }
            }
        };
        let sleep = |client: &mut Self| {
            if client.outbox.is_empty() && client.short_waits.looks_again() {
                return Ok(None);
            }
            let slept = client.sleep(Wanted::MESSAGES, deadline, LONGEST_SLEEP);
            if slept.map_err(|error| error.during(operation))? == Some(Wait::Timeout) {
                client.short_waits.give_up();
                let waited = timeout.unwrap_or_default();
                let error = Error::new(ErrorKind::Timeout, format!("no message came within {waited:?}"));
                return Err(error.during(operation).about_peer(client.name.as_str()));
            }
            Ok(None)
        };
        rings::wait(self, look, sleep)
    }

    /// Takes the next message, if one is there; as [`take`](Client::take), without a list.
    fn take_one(&mut self, operation: &'static str) -> Result<Option<Message>> {
        self.checked(operation)?.put_back_returned();
        let mut inbox = std::mem::take(&mut self.inbox);
        let collected = self.connection.collect(1, self.limits.batch_bytes, &mut inbox);
        self.note(&mut inbox);
        let message = inbox.messages.drain(..).next().map(|taken| taken.message);
        self.inbox = inbox;
        match (collected, message) {
            // What was taken is the caller's; what is wrong will show again at the next call.
            (_, Some(message)) => Ok(Some(message)),
            (Ok(()), None) => Ok(None),
            (Err(error), None) => Err(error.during(operation)),
        }
    }

    /// Takes messages, counts them, and keeps reports of damaged ones.
    pub(super) fn take(&mut self, operation: &'static str, most: usize) -> Result<Vec<Message>> {
        self.checked(operation)?.put_back_returned();
        let mut inbox = std::mem::take(&mut self.inbox);
        let collected = self.connection.collect(most, self.limits.batch_bytes, &mut inbox);
        let messages = self.accept(&mut inbox);
        // Room for the next batch, but not for a large one for ever.
        inbox.messages.shrink_to(MOST_ROOM);
        self.inbox = inbox;
        match collected {
            Ok(()) => Ok(messages),
            Err(error) if messages.is_empty() => Err(error.during(operation)),
            // What was taken is the caller's; what is wrong will show again at the next call.
            Err(_) => Ok(messages),
        }
    }

    /// Counts and sorts what a connection took out of the store.
    pub(super) fn accept(&mut self, inbox: &mut Inbox) -> Vec<Message> {
        self.note(inbox);
        let mut messages: Vec<Message> = inbox.messages.drain(..).map(|taken| taken.message).collect();
        // Stable: what arrived first stays first among equals.
        messages.sort_by_key(Message::order_key);
        messages
    }

    /// Counts messages that were taken, and keeps the reports of damaged ones.
    pub(super) fn note(&mut self, inbox: &mut Inbox) {
        if !inbox.damaged.is_empty() {
            for damaged in inbox.damaged.drain(..) {
                log::debug!("{}: set aside: {}", self.name, damaged.error());
                self.damaged.push(damaged);
            }
            // Who never asks for the reports keeps the newest, and they were logged.
            let surplus = self.damaged.len().saturating_sub(MOST_REPORTS);
            self.damaged.drain(..surplus);
        }
        if !inbox.messages.is_empty() {
            self.short_waits.end();
            self.registered.count(|stats| {
                for taken in inbox.messages.iter().filter(|taken| taken.counts) {
                    stats.count_read(taken.message.from().as_str(), 1);
                }
            });
        }
    }
}
