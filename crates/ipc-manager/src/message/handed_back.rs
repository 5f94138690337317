// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages that an error hands back, so that a failed call costs nobody a message.

use super::Message;
use crate::error::Error;

impl Error {
    /// The messages that this error hands back: the one that was not sent, or those left unread.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        self.handed_back().and_then(|handed_back| handed_back.downcast_ref::<Vec<Message>>()).map_or(&[], Vec::as_slice)
    }

    /// Takes the message of a failed send back.
    #[must_use]
    pub fn into_message(self) -> Option<Message> {
        self.into_messages().into_iter().next()
    }

    /// Takes the messages that this error hands back.
    #[must_use]
    pub fn into_messages(self) -> Vec<Message> {
        self.into_handed_back().and_then(|handed_back| handed_back.downcast().ok()).map_or_else(Vec::new, |all| *all)
    }

    /// Hands messages back to the caller.
    #[must_use]
    pub fn with_messages(self, messages: Vec<Message>) -> Self {
        self.handing_back(Box::new(messages))
    }
}
