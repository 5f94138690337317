// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages that stay in the mailbox until they are acknowledged.

use std::sync::Arc;

use super::connection::LocalMemoryConnection;
use super::place;
use super::store::Waiting;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::name::PeerName;
use crate::protocol::{Connection, Damaged, Dead, Deliveries, Held, Inbox, tell_of_death};

/// What became of the first message that nobody has in hand.
enum First {
    Held { mark: u64, message: Message, attempts: u32, counts: bool },
    Dead(Waiting, Message),
    Damaged(Error),
}

impl LocalMemoryConnection {
    fn decode(&self, waiting: &Waiting) -> Result<Message> {
        let text = self.serializer.decode(&waiting.payload, self.limits.decoded_bytes)?;
        Message::from_json(&text, &self.limits)
    }

    fn first(&mut self) -> Result<Option<First>> {
        self.last_mark += 1;
        let (mark, most) = (self.last_mark, self.limits.delivery_attempts);
        let (serializer, limits) = (Arc::clone(&self.serializer), self.limits.clone());
        self.with_mailbox(|mailbox| {
            let at = mailbox.iter().position(|waiting| waiting.mark.is_none())?;
            let first = &mut mailbox[at];
            let text = serializer.decode(&first.payload, limits.decoded_bytes);
            match text.and_then(|text| Message::from_json(&text, &limits)) {
                Ok(message) if first.attempts >= most => Some(First::Dead(mailbox.remove(at)?, message)),
                Ok(message) => {
                    first.attempts += 1;
                    first.mark = Some(mark);
                    let (attempts, counts) = (first.attempts, !first.was_put_back);
                    Some(First::Held { mark, message, attempts, counts })
                }
                Err(error) => {
                    mailbox.remove(at);
                    Some(First::Damaged(error))
                }
            }
        })
    }

    fn bury(&self, waiting: Waiting, id: &str) {
        tell_of_death(&self.name, id, waiting.attempts);
        if let Some(entry) = self.bus.lock().entries.get_mut(&self.name) {
            entry.dead.push(waiting);
        }
    }
}

fn no_such_peer(of: &PeerName) -> Error {
    place(Error::new(ErrorKind::NoSuchPeer, "no peer of that name is on the bus")).about_peer(of.as_str())
}

impl Deliveries for LocalMemoryConnection {
    fn hold(&mut self, inbox: &mut Inbox) -> Result<Option<Held>> {
        loop {
            match self.first()? {
                None => break,
                Some(First::Held { mark, message, attempts, counts }) => {
                    // What is left over must end the next wait.
                    self.is_ready()?;
                    return Ok(Some(Held { mark, message, attempts, counts }));
                }
                Some(First::Dead(waiting, message)) => self.bury(waiting, message.id().as_str()),
                Some(First::Damaged(error)) => inbox.set_aside(Damaged::new(place(error))),
            }
        }
        self.is_ready().map(|_| None)
    }

    fn acknowledge(&mut self, mark: u64) -> Result<()> {
        self.with_mailbox(|mailbox| mailbox.retain(|waiting| waiting.mark != Some(mark)))
    }

    fn release(&mut self, mark: u64) -> Result<()> {
        let most = self.limits.delivery_attempts;
        let dead = self.with_mailbox(|mailbox| {
            let at = mailbox.iter().position(|waiting| waiting.mark == Some(mark))?;
            mailbox[at].mark = None;
            if mailbox[at].attempts >= most { mailbox.remove(at) } else { None }
        })?;
        match dead {
            Some(waiting) => {
                let id = self.decode(&waiting).map(|message| message.id().to_string()).unwrap_or_default();
                self.bury(waiting, &id);
            }
            None => self.bell.ring(),
        }
        Ok(())
    }

    fn dead(&mut self, of: &PeerName) -> Result<Vec<Dead>> {
        let peers = self.bus.peers()?;
        let entry = peers.entries.get(of).ok_or_else(|| no_such_peer(of))?;
        let dead =
            entry.dead.iter().filter_map(|waiting| Some(Dead::new(self.decode(waiting).ok()?, waiting.attempts)));
        let mut dead: Vec<Dead> = dead.collect();
        dead.sort_by_key(|dead| dead.message.order_key());
        Ok(dead)
    }

    fn revive(&mut self, of: &PeerName, id: Option<&str>) -> Result<usize> {
        let mut peers = self.bus.peers()?;
        let entry = peers.entries.get_mut(of).ok_or_else(|| no_such_peer(of))?;
        let is_meant = |waiting: &Waiting| match id {
            None => true,
            Some(id) => self.decode(waiting).is_ok_and(|message| message.id().as_str() == id),
        };
        let (revived, dead) = std::mem::take(&mut entry.dead).into_iter().partition(is_meant);
        entry.dead = dead;
        let revived: Vec<Waiting> = revived;
        let count = revived.len();
        let fresh = revived.into_iter().map(|waiting| Waiting { attempts: 0, mark: None, ..waiting });
        match &mut self.unlisted {
            // One's own, on the way out.
            Some(mailbox) if *of == self.name => mailbox.extend(fresh),
            _ => {
                entry.messages.extend(fresh);
                entry.bell.ring();
            }
        }
        Ok(count)
    }
}
