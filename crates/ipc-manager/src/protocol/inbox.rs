// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a connection puts what it took from its mailbox.

use std::path::PathBuf;

use crate::error::Error;
use crate::message::Message;

/// Something in a mailbox that is not a message. It was set aside: nothing else was lost for it, and it is reported
/// once.
///
/// ```
/// use ipc_manager::{Damaged, Error, ErrorKind};
/// let damaged = Damaged::new(Error::new(ErrorKind::Corrupt, "cut short"));
/// assert!(damaged.set_aside().is_none());
/// ```
#[derive(Debug)]
pub struct Damaged {
    error: Error,
    set_aside: Option<PathBuf>,
}

impl Damaged {
    /// Reports what is wrong, with its place.
    #[must_use]
    pub fn new(error: Error) -> Self {
        Self { error, set_aside: None }
    }

    /// Adds where it was put, for whoever wants to look at it.
    #[must_use]
    pub fn kept_at(mut self, path: impl Into<PathBuf>) -> Self {
        self.set_aside = Some(path.into());
        self
    }

    /// What is wrong with it, and where it was found.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Where it lies now, if it was kept.
    #[must_use]
    pub fn set_aside(&self) -> Option<&std::path::Path> {
        self.set_aside.as_deref()
    }
}

/// One batch out of a mailbox: sound messages and damaged ones apart.
///
/// ```
/// assert!(ipc_manager::Inbox::default().is_empty());
/// ```
#[derive(Debug, Default)]
pub struct Inbox {
    pub(crate) messages: Vec<Taken>,
    pub(crate) damaged: Vec<Damaged>,
}

/// A message that was taken, and whether taking it counts.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) message: Message,
    pub(crate) counts: bool,
}

impl Inbox {
    /// Adds a message that was taken from the store, in order of arrival.
    pub fn accept(&mut self, message: Message) {
        self.messages.push(Taken { message, counts: true });
    }

    /// Adds a message that its reader had put back, and that was counted when it was first read.
    pub fn accept_again(&mut self, message: Message) {
        self.messages.push(Taken { message, counts: false });
    }

    /// Adds something that is not a message.
    pub fn set_aside(&mut self, damaged: Damaged) {
        self.damaged.push(damaged);
    }

    /// How many messages are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether no message is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}
