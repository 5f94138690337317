// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers for which there was no room: kept in order for each peer, and tried again without ever waiting.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::error::{ErrorKind, Result};
use crate::message::Message;
use crate::name::PeerName;

/// First and longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));
/// Most messages that are kept. Beyond it a message is refused: whoever does not read for so long is not waited for.
const MOST: usize = 100_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Outgoing {
    queues: BTreeMap<PeerName, VecDeque<Message>>,
    count: usize,
    next_try: Instant,
    pause: Duration,
}

impl Outgoing {
    pub(super) fn new() -> Self {
        Self { queues: BTreeMap::new(), count: 0, next_try: Instant::now(), pause: PAUSES.0 }
    }

    /// Sends a message, behind those to the same peer that there was no room for.
    ///
    /// # Errors
    /// As sending has them, but for `would_block` below the limit.
    pub(super) fn send(&mut self, client: &mut Client, message: Message) -> Result<()> {
        let waits = message.to().is_some_and(|to| self.queues.contains_key(to));
        if waits && self.count < MOST {
            self.keep(message);
            return Ok(());
        }
        match client.try_send_message(message) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock && self.count < MOST => {
                match error.into_message() {
                    Some(message) => self.keep(message),
                    // A refused message is handed back; without one there is nothing to keep.
                    None => log::error!("a message that there was no room for was lost"),
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn keep(&mut self, message: Message) {
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
        if self.count == 0 || Instant::now() < self.next_try {
            return;
        }
        let before = self.count;
        for (to, queue) in &mut self.queues {
            while let Some(message) = queue.pop_front() {
                match client.try_send_message(message) {
                    Ok(_) => self.count -= 1,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
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
        self.pause = if self.count < before { PAUSES.0 } else { (self.pause * 2).min(PAUSES.1) };
        self.next_try = Instant::now() + self.pause;
    }

    /// How many messages are kept.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// How long until the next attempt; `None` if there is nothing to try.
    pub(super) fn try_within(&self) -> Option<Duration> {
        (self.count > 0).then(|| self.next_try.saturating_duration_since(Instant::now()))
    }
}
