// SPDX-License-Identifier: MIT OR Apache-2.0
//! Receiving: one at a time or in batches, sound messages and damaged ones apart.

use std::time::Duration;

use super::wait::{LONGEST_SLEEP, Wait};
use super::{Away, Client};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::protocol::{Damaged, Inbox, Wanted};
use crate::system::Deadline;

/// Most reports of damaged messages that are kept for whoever asks.
const MOST_REPORTS: usize = 1_000;
/// For how many messages room is kept between two batches.
const MOST_ROOM: usize = 256;

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
    /// What the store says; then none of them is put back.
    pub fn requeue(&mut self, messages: &[Message]) -> Result<()> {
        if messages.is_empty() {
            return self.check("requeue");
        }
        self.checked("requeue")?.connection.put_back(messages).map_err(|error| error.during("requeue"))
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
        loop {
            let taken = match take(self, operation) {
                Ok(taken) => taken,
                Err(error) => {
                    away.ride_out(error, deadline)?;
                    continue;
                }
            };
            away.is_over();
            if let Some(message) = taken {
                return Ok(message);
            }
            if self.outbox.is_empty() && self.short_waits.looks_again() {
                continue;
            }
            let slept = self.sleep(Wanted::MESSAGES, deadline, LONGEST_SLEEP);
            if slept.map_err(|error| error.during(operation))? == Some(Wait::Timeout) {
                self.short_waits.give_up();
                let waited = timeout.unwrap_or_default();
                let error = Error::new(ErrorKind::Timeout, format!("no message came within {waited:?}"));
                return Err(error.during(operation).about_peer(self.name.as_str()));
            }
        }
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
