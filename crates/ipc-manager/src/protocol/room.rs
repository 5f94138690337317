// SPDX-License-Identifier: MIT OR Apache-2.0
//! The high-water mark of mailboxes that would keep any number of messages.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;

/// Most recipients whose room is remembered.
const MOST_KNOWN: usize = 64;

/// How many messages each recipient has room for, until its mailbox is counted again.
#[derive(Debug)]
pub(super) struct Room<K> {
    most: Option<usize>,
    left: HashMap<K, usize>,
}

impl<K: Eq + Hash> Room<K> {
    pub(super) fn new(most: Option<usize>) -> Self {
        Self { most, left: HashMap::new() }
    }

    /// Refuses what passes the mark. Readers only make room, so what was counted once may be filled. `count` counts how
    /// many are unread; it need not count further than the mark, which it is given.
    pub(super) fn take<Q>(&mut self, recipient: &Q, count: impl FnOnce(usize) -> Result<usize>) -> Result<()>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        let Some(most) = self.most else { return Ok(()) };
        let left = match self.left.get(recipient) {
            Some(left) if *left > 0 => *left,
            _ => most.saturating_sub(count(most)?).min(Limits::UNCOUNTED),
        };
        if left == 0 {
            return Err(full(most));
        }
        if self.left.len() >= MOST_KNOWN {
            self.left.clear();
        }
        self.left.insert(recipient.to_owned(), left - 1);
        Ok(())
    }
}

/// The error of a send past the mark.
pub(super) fn full(most: usize) -> Error {
    Error::new(ErrorKind::WouldBlock, format!("the recipient has {most} unread messages, and that is the limit"))
}
