// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages that stay in the state until they are acknowledged. What is in hand is a message like any other to everybody
//! else; how often it was handed out is a key of ours in it. What was handed out too often moves to a key of its own.

use std::collections::BTreeMap;

use super::connection::{ATTEMPTS, JsonFileConnection, PUT_BACK};
use super::file::Change;
use super::state::State;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::message::Message;
use crate::name::PeerName;
use crate::protocol::beside::Holder;
use crate::protocol::{Dead, Deliveries, Held, Inbox, tell_of_death};

/// The ids of the messages in hand, and how often each was handed out.
#[derive(Debug, Default)]
pub(super) struct Hand {
    held: BTreeMap<u64, (String, u32)>,
    last: u64,
}

/// What one look at the mailbox came to.
#[derive(Default)]
struct Looked {
    handed: Option<(Message, u32, bool)>,
    damaged: Vec<(Error, String)>,
    died: Vec<(String, u32)>,
}

fn id_of(text: &str) -> Option<String> {
    Some(Message::from_json(text.as_bytes(), &Limits::DEFAULT).ok()?.id().to_string())
}

/// How often a message was handed out.
pub(super) fn attempts_of(message: &Message) -> u32 {
    let count = message.extra().get(ATTEMPTS).and_then(serde_json::Value::as_u64);
    count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
}

impl Hand {
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Tells messages that are in hand from others, in the order in which they wait. Each id counts once for each time
    /// that it is in hand.
    fn is_other(&self) -> impl FnMut(&str) -> bool {
        let mut ids: Vec<String> = self.held.values().map(|(id, _)| id.clone()).collect();
        move |text| {
            let at =
                if ids.is_empty() { None } else { id_of(text).and_then(|id| ids.iter().position(|held| *held == id)) };
            at.map(|at| ids.swap_remove(at)).is_none()
        }
    }

    /// Takes messages that are not in hand: so many at most, and so many bytes where that leaves at least one.
    pub(super) fn take_others(&self, state: &mut State, name: &str, most: usize, bytes: usize) -> Result<Vec<String>> {
        let (mut is_other, mut taken, mut size, mut left) = (self.is_other(), Vec::new(), 0, Vec::new());
        let mut is_full = false;
        for text in state.messages(name)? {
            let is_free = !is_full && is_other(text);
            is_full |= is_free && (taken.len() >= most || (!taken.is_empty() && size + text.len() > bytes));
            if is_free && !is_full {
                size += text.len();
                taken.push(text.to_owned());
            } else {
                left.push(text.to_owned());
            }
        }
        state.replace(name, left);
        Ok(taken)
    }
}

impl JsonFileConnection {
    fn hold_within(&self, state: &mut State) -> Result<Change<Looked>> {
        let name = self.name.as_str();
        let (mut is_other, mut looked, mut left) = (self.hand.is_other(), Looked::default(), Vec::new());
        let mut dead = state.dead.of(name).to_vec();
        for text in state.messages(name)? {
            if looked.handed.is_some() || !is_other(text) {
                left.push(text.to_owned());
                continue;
            }
            match self.read(text) {
                Err(error) => looked.damaged.push((error, text.to_owned())),
                Ok((message, _, before)) if before >= self.limits.delivery_attempts => {
                    looked.died.push((message.id().to_string(), before));
                    dead.push(text.to_owned());
                }
                Ok((message, counts, before)) => {
                    let attempts = before.saturating_add(1);
                    let marked = message.clone().with_extra(ATTEMPTS, attempts);
                    let marked = if counts { marked } else { marked.with_extra(PUT_BACK, 1) };
                    left.push(self.text_of(&marked)?);
                    looked.handed = Some((message, attempts, counts));
                }
            }
        }
        if looked.handed.is_none() && looked.damaged.is_empty() && looked.died.is_empty() {
            return Ok(Change::None(looked));
        }
        state.replace(name, left);
        if !looked.died.is_empty() {
            state.dead.replace(name, dead);
        }
        Ok(Change::Some(looked))
    }

    /// Takes the first message with this id out of the mailbox.
    fn take_one(&self, state: &mut State, id: &str) -> Result<Option<String>> {
        let name = self.name.as_str();
        let mut left: Vec<String> = state.messages(name)?.into_iter().map(str::to_owned).collect();
        let at = left.iter().position(|text| id_of(text).as_deref() == Some(id));
        let taken = at.map(|at| left.remove(at));
        if taken.is_some() {
            state.replace(name, left);
        }
        Ok(taken)
    }

    fn check_known(&self, state: &State, of: &PeerName) -> Result<()> {
        if state.standing(of.as_str()).state(self.listing.porch()).is_some() {
            return Ok(());
        }
        let error = Error::new(ErrorKind::NoSuchPeer, "no peer of that name is on the bus");
        Err(self.listing.file.place(error.about_peer(of.as_str())))
    }

    fn is_known_again(&mut self) {
        self.empty = None;
        self.ring_if(true);
    }
}

/// What is known of a dead message; none if it is no message.
fn read_dead(text: &str) -> Option<Dead> {
    let message = Message::from_json(text.as_bytes(), &Limits::DEFAULT).ok()?;
    let attempts = attempts_of(&message);
    Some(Dead::new(message.without_extra(ATTEMPTS).0, attempts))
}

impl Deliveries for JsonFileConnection {
    fn hold(&mut self, inbox: &mut Inbox) -> Result<Option<Held>> {
        self.note_rings();
        if !self.look()? {
            return Ok(None);
        }
        let looked = self.listing.file.change(|state| self.hold_within(state))?;
        for (error, text) in looked.damaged {
            self.set_aside(error, &text, inbox);
        }
        for (id, attempts) in looked.died {
            tell_of_death(&self.name, &id, attempts);
        }
        // Whether anything is left is found out when somebody looks.
        self.is_known_again();
        Ok(looked.handed.map(|(message, attempts, counts)| {
            self.hand.last += 1;
            self.hand.held.insert(self.hand.last, (message.id().to_string(), attempts));
            let (message, mark) = (message.without_extra(PUT_BACK).0, self.hand.last);
            Held { mark, message, attempts, counts }
        }))
    }

    fn acknowledge(&mut self, mark: u64) -> Result<()> {
        let Some((id, _)) = self.hand.held.remove(&mark) else { return Ok(()) };
        self.empty = None;
        self.listing.file.change(|state| {
            let taken = self.take_one(state, &id)?;
            Ok(if taken.is_some() { Change::Some(()) } else { Change::None(()) })
        })
    }

    fn release(&mut self, mark: u64) -> Result<()> {
        let Some((id, attempts)) = self.hand.held.remove(&mark) else { return Ok(()) };
        self.is_known_again();
        if attempts < self.limits.delivery_attempts {
            return Ok(());
        }
        let died = self.listing.file.change(|state| {
            let Some(text) = self.take_one(state, &id)? else { return Ok(Change::None(false)) };
            let mut dead = state.dead.of(self.name.as_str()).to_vec();
            dead.push(text);
            state.dead.replace(self.name.as_str(), dead);
            Ok(Change::Some(true))
        })?;
        if died {
            tell_of_death(&self.name, &id, attempts);
        }
        Ok(())
    }

    fn dead(&mut self, of: &PeerName) -> Result<Vec<Dead>> {
        let (state, _) = self.listing.file.read()?;
        self.check_known(&state, of)?;
        let mut dead: Vec<Dead> = state.dead.of(of.as_str()).iter().filter_map(|text| read_dead(text)).collect();
        dead.iter_mut().for_each(|dead| dead.message = dead.message.clone().without_extra(PUT_BACK).0);
        dead.sort_by_key(|dead| dead.message.order_key());
        Ok(dead)
    }

    fn revive(&mut self, of: &PeerName, id: Option<&str>) -> Result<usize> {
        let name = of.as_str();
        let (count, bell) = self.listing.file.change(|state| {
            self.check_known(state, of)?;
            let (mut left, mut count) = (Vec::new(), 0);
            for text in state.dead.of(name).to_vec() {
                match read_dead(&text).filter(|dead| id.is_none_or(|id| dead.message.id().as_str() == id)) {
                    Some(dead) => {
                        state.append(name, self.text_of(&dead.message)?);
                        count += 1;
                    }
                    None => left.push(text),
                }
            }
            if count == 0 {
                return Ok(Change::None((0, None)));
            }
            state.dead.replace(name, left);
            Ok(Change::Some((count, state.standing(name).holder().and_then(Holder::bell))))
        })?;
        // Store first, ring second.
        if let (Some(ringer), Some(bell)) = (&self.ringer, &bell) {
            ringer.ring(bell);
        }
        if *of == self.name && count > 0 {
            self.is_known_again();
        }
        Ok(count)
    }
}
