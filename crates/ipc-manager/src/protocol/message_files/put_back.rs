// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages that their reader put back: from the file that the reference implementation knows into the mailbox.

use std::io;
use std::os::fd::AsFd;

use super::layout;
use super::mailbox::{Mailbox, decode};
use crate::message::Message;
use crate::protocol::{Damaged, Inbox};
use crate::serializer::Serializer;
use crate::system::files::{self, Untrusted};

impl Mailbox {
    /// Takes a message that was put back into the mailbox, to be handed out in its order. Idempotent: the same message
    /// is there once.
    pub(super) fn restore(&mut self, payload: &[u8], serializer: &dyn Serializer) -> io::Result<()> {
        let dir = self.dir()?;
        let message = decode(payload, serializer, &self.limits).ok();
        let mut file = layout::put_back(message.as_ref().map(Message::id));
        let mut pending = file.clone();
        pending.push(".pend");
        files::remove_file(dir.as_fd(), &pending)?;
        files::create_whole(dir.as_fd(), &pending, payload, files::Sync::Kernel, self.store.access)?;
        loop {
            match files::rename_new(dir.as_fd(), &pending, &file) {
                Ok(()) => break,
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Err(_) => match files::read_untrusted(dir.as_fd(), &file, payload.len(), self.store.access)? {
                    // Taken in before a crash, which came before its record was removed.
                    Untrusted::Content(there) if there == payload => {
                        files::remove_file(dir.as_fd(), &pending)?;
                        break;
                    }
                    // Two senders chose one id.
                    _ => file = layout::put_back(None),
                },
            }
        }
        if let Some(message) = message {
            let (stamp, ord) = message.order_key();
            let mut alike = self.index.range((stamp, ord, 0)..=(stamp, ord, u64::MAX));
            if !alike.any(|(_, entry)| entry.file.as_ref() == Some(&file)) {
                let entry = self.entry_of(Some(file), message, payload.len());
                self.admit(entry);
            }
        }
        Ok(())
    }

    /// Takes a message that was put back into memory, to be handed out in its order, where the disk has no room for it.
    /// What is no message is reported.
    pub(super) fn keep(&mut self, payload: &[u8], serializer: &dyn Serializer, inbox: &mut Inbox) {
        match decode(payload, serializer, &self.limits) {
            Ok(message) => {
                let entry = self.entry_of(None, message, payload.len());
                self.admit(entry);
            }
            Err(error) => inbox.set_aside(Damaged::new(error.in_protocol(super::NAME))),
        }
    }

    /// The messages that are in memory only.
    pub(super) fn only_in_memory(&self) -> impl Iterator<Item = &Message> {
        self.index.values().filter(|entry| entry.file.is_none()).filter_map(|entry| entry.message.as_ref())
    }
}
