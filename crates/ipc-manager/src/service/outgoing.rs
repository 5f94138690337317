// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a service sends and there is no room for: held back in order for each peer, and tried again without ever
//! waiting. The client's outbox holds it back where the protocol says so, up to a limit; past that, and elsewhere, it is
//! kept here.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Message, ToContent};
use crate::name::PeerName;
use crate::system::poll;

/// First and longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
/// After so many attempts in vain the word of descriptors is no longer taken for room: others may be faster each time.
const TRUSTED_ATTEMPTS: u32 = 8;
/// How often to try again where descriptors tell of room.
const TRY_ALL_THE_SAME: Duration = Duration::from_secs(1);
/// How often a message is tried whose store says that it cannot take it, for a reason that may pass.
const MOST_FAILURES: u32 = 12;
/// Longest that an answer waits for others of the same turn.
const TOGETHER: Duration = Duration::from_millis(2);
/// Most messages that are kept here. Beyond it a message is refused: whoever does not read for so long is not waited for.
const MOST: usize = 100_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Outgoing {
    queues: BTreeMap<PeerName, VecDeque<Message>>,
    count: usize,
    next_try: Instant,
    pause: Duration,
    in_vain: u32,
    /// Attempts in a row that the store refused.
    failures: u32,
    /// Answers that go out together, in order, and since when the first of them waits.
    together: Vec<Message>,
    since: Instant,
}

/// Whether the same message can go out later: there is no room, or the store is away.
fn is_for_now(error: &Error) -> bool {
    error.kind() == ErrorKind::WouldBlock || error.is_away()
}

/// Whether the next attempt may well do better: the system refused something, and nothing is known of the recipient or the
/// message that speaks against it.
pub(super) fn may_pass(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Store | ErrorKind::Permission | ErrorKind::Timeout)
}

impl Outgoing {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            queues: BTreeMap::new(),
            count: 0,
            next_try: now,
            pause: PAUSES.0,
            in_vain: 0,
            failures: 0,
            together: Vec::new(),
            since: now,
        }
    }

    /// Puts an answer beside those that go out together. Returns whether that is to be done now.
    pub(super) fn put_together(&mut self, answer: Message) -> bool {
        if self.together.is_empty() {
            self.since = Instant::now();
        }
        self.together.push(answer);
        self.since.elapsed() >= TOGETHER
    }

    pub(super) fn take_together(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.together)
    }

    /// Whether messages to a peer are kept, behind which others have to wait.
    pub(super) fn keeps_for(&self, to: Option<&PeerName>) -> bool {
        to.is_some_and(|to| self.queues.contains_key(to))
    }

    /// Sends a message, behind those to the same peer that there was no room for.
    ///
    /// # Errors
    /// As sending has them, but for `would_block` below the limit.
    pub(super) fn send(&mut self, client: &mut Client, message: Message) -> Result<()> {
        if self.keeps_for(message.to()) && self.count < MOST {
            self.keep(message);
            return Ok(());
        }
        client.try_send_message(message).map(drop).or_else(|error| self.not_sent(error))
    }

    /// As [`send`](Outgoing::send), for a content of which no message was made yet.
    ///
    /// # Errors
    /// As [`send`](Outgoing::send).
    pub(super) fn send_new<T: ToContent + ?Sized>(&mut self, client: &mut Client, to: &str, content: &T) -> Result<()> {
        if self.count > 0 {
            let message = client.message_of(to, content)?;
            return self.send(client, message);
        }
        client.send_content(to, content, None).map(drop).or_else(|error| self.not_sent(error))
    }

    fn not_sent(&mut self, error: Error) -> Result<()> {
        if !is_for_now(&error) || self.count >= MOST {
            return Err(error);
        }
        match error.into_message() {
            Some(message) => self.keep(message),
            // A refused message is handed back; without one there is nothing to keep.
            None => log::error!("a message that there was no room for was lost"),
        }
        Ok(())
    }

    /// Keeps a message for later.
    pub(super) fn keep(&mut self, message: Message) {
        let Some(to) = message.to().cloned() else { return };
        if self.count == 0 {
            self.pause = PAUSES.0;
            self.next_try = Instant::now() + self.pause;
        }
        self.queues.entry(to).or_default().push_back(message);
        self.count += 1;
    }

    /// Tries again what there was no room for, if it is time to.
    pub(super) fn drain(&mut self, client: &mut Client) {
        if self.held_back(client) == 0 || (Instant::now() < self.next_try && !self.may_have_room(client)) {
            return;
        }
        let before = self.held_back(client);
        // A client that has left holds nothing back.
        let _ = client.drain_pending();
        self.drain_own(client);
        if self.held_back(client) < before {
            (self.pause, self.in_vain) = (PAUSES.0, 0);
        } else {
            (self.pause, self.in_vain) = ((self.pause * 2).min(PAUSES.1), self.in_vain.saturating_add(1));
        }
        self.next_try = Instant::now() + self.pause;
    }

    fn drain_own(&mut self, client: &mut Client) {
        for (to, queue) in &mut self.queues {
            while let Some(message) = queue.pop_front() {
                let sent = client.try_send_message(message);
                self.failures = if sent.as_ref().is_err_and(may_pass) { self.failures + 1 } else { 0 };
                match sent {
                    Ok(_) => self.count -= 1,
                    Err(error) if is_for_now(&error) || may_pass(&error) && self.failures < MOST_FAILURES => {
                        queue.extend(error.into_message());
                        queue.rotate_right(1);
                        break;
                    }
                    Err(error) => {
                        log::warn!("{} messages to {to} will never arrive: {error}", queue.len() + 1);
                        self.count -= queue.len() + 1;
                        queue.clear();
                    }
                }
            }
        }
        self.queues.retain(|_, queue| !queue.is_empty());
    }

    /// How many messages are held back, here and in the client.
    pub(super) fn held_back(&self, client: &Client) -> usize {
        self.count + client.pending_sends()
    }

    fn may_have_room(&self, client: &Client) -> bool {
        let room = self.descriptors(client);
        !room.is_empty() && poll::either(&[], &room, Duration::ZERO).is_ok_and(|woken| woken == poll::Woken::Ready)
    }

    /// Descriptors that become writable when there may be room, as long as they can be believed.
    pub(super) fn descriptors<'a>(&self, client: &'a Client) -> Vec<BorrowedFd<'a>> {
        if self.in_vain > TRUSTED_ATTEMPTS {
            return Vec::new();
        }
        client.wake_for_room().map(|wake| wake.descriptors).unwrap_or_default()
    }

    /// How long until the next attempt; `None` if there is nothing to try.
    pub(super) fn try_within(&self, client: &Client) -> Option<Duration> {
        if self.held_back(client) == 0 {
            return None;
        }
        let is_told = self.count == 0 && !self.descriptors(client).is_empty();
        let left = self.next_try.saturating_duration_since(Instant::now());
        Some(if is_told { left.max(TRY_ALL_THE_SAME) } else { left })
    }
}
