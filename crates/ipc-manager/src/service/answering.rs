// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answering requests: now or later, once or in parts, and no longer when the answer is not wanted any more.

use serde::Serialize;

use super::Service;
use super::callback::Event;
use super::envelope::{DESCRIBE, Envelope, PING, Payload, RequestId, ResponseOut};
use super::outgoing::may_pass;
use super::request::{Answer, Reply, Request, ServiceResult, Ticket};
use super::waiting::Asker;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::name::PeerName;

/// What who asked is told of an error unless the service says more.
const NO_DETAILS: &str = "Internal service error";

/// A request that is not answered yet.
#[derive(Debug, Default)]
pub(super) struct Open {
    takes_many: bool,
    is_cancelled: bool,
    /// Parts of the answer for who takes one response only.
    parts: Vec<Payload>,
}

impl Service {
    /// Answers a request, for good.
    ///
    /// Who took the request back, or is gone, is sent nothing; that is no error.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if it was answered already, [`Serialize`](ErrorKind::Serialize), and what the store
    /// says.
    pub fn respond<T: Serialize + ?Sized>(&mut self, ticket: &Ticket, value: &T) -> Result<()> {
        let answered = Payload::new(value).and_then(|payload| self.finish(ticket, payload));
        answered.map_err(|error| error.during("respond").about_peer(ticket.from().as_str()))
    }

    /// Answers a request with an error, for good.
    ///
    /// # Errors
    /// As [`respond`](Service::respond).
    pub fn respond_error(&mut self, ticket: &Ticket, words: &str) -> Result<()> {
        let answered = self.close(ticket).and_then(|open| match open.is_cancelled {
            true => Ok(()),
            false => self.send_error(ticket, words),
        });
        answered.map_err(|error| error.during("respond").about_peer(ticket.from().as_str()))
    }

    /// Gives part of the answer; [`respond`](Service::respond) or the handler's reply gives the last. Who did not ask
    /// for several responses is given all parts as one array at the end, without a last one that is null.
    ///
    /// # Errors
    /// As [`respond`](Service::respond).
    pub fn respond_part<T: Serialize + ?Sized>(&mut self, ticket: &Ticket, value: &T) -> Result<()> {
        let mut respond = || {
            let payload = Payload::new(value)?;
            let open = self.open.get_mut(ticket).ok_or_else(|| answered_already(ticket))?;
            if open.is_cancelled {
                return Ok(());
            }
            if !open.takes_many {
                open.parts.push(payload);
                return Ok(());
            }
            let response = ResponseOut { more: true, ..ResponseOut::new(ticket.id(), &payload) };
            self.send_response_out(ticket, &response)
        };
        respond().map_err(|error: Error| error.during("respond").about_peer(ticket.from().as_str()))
    }

    /// Answers by hand, whatever is known of the request.
    ///
    /// # Errors
    /// As [`send`](Service::send).
    pub fn send_response<T: Serialize + ?Sized>(
        &mut self,
        peer: &str,
        id: &RequestId,
        value: &T,
        error: Option<&str>,
    ) -> Result<()> {
        let payload = Payload::new(value)?;
        let response = ResponseOut { error, ..ResponseOut::new(id, &payload) };
        let message = self.client.message_of(peer, &response)?;
        self.send_message(message).map_err(|error| error.during("send_response"))
    }

    /// Whether who asked no longer wants an answer. Looks into the mailbox, so that a handler that works for long can
    /// ask now and then; what else it finds there waits for its turn.
    ///
    /// # Errors
    /// What the store says.
    pub fn is_cancelled(&mut self, ticket: &Ticket) -> Result<bool> {
        self.receive()?;
        let is_it = |message: &Message| {
            message.from() == ticket.from()
                && matches!(Envelope::of(message), Envelope::Cancel(id) if id == *ticket.id())
        };
        let is_cancelled = self.batch.iter().chain(&self.inbox).any(is_it);
        Ok(is_cancelled || self.open.get(ticket).is_some_and(|open| open.is_cancelled))
    }

    /// Hands a request to whoever answers it.
    pub(super) fn answer(&mut self, request: &Request) -> Result<()> {
        if let Some(answered) = self.answer_aside(request) {
            return answered;
        }
        // With a callback for all activity there need not be a handler: that one answers by hand.
        let Some(mut handler) = self.on_request.take() else { return Ok(()) };
        let ticket = request.ticket();
        let open = Open { takes_many: request.takes_many(), ..Open::default() };
        if self.open.insert(ticket.clone(), open).is_some() {
            log::warn!("{}: {} sent the request {:?} twice", self.name(), ticket.from(), ticket.id());
        }
        let (begun, goes_together) = (self.pace.begins(), std::mem::take(&mut self.pace.goes_together));
        let said = self.guarded(|service| handler(service, request));
        self.pace.ends(begun);
        // What the handler sends itself goes at once: it may work on.
        self.pace.goes_together = goes_together;
        self.on_request.get_or_insert(handler);
        let answered = match said {
            Ok(Reply::Later) => return Ok(()),
            // The handler may have answered under the ticket, and says so a second time.
            Ok(Reply::Now(_)) if !self.open.contains_key(&ticket) => return Ok(()),
            Ok(Reply::Now(Answer(payload))) => self.finish(&ticket, payload),
            Err(error) => {
                log::warn!("{}: a request of {} failed: {error}", self.name(), ticket.from());
                let words = if self.settings.expose_error_details { error.to_string() } else { NO_DETAILS.to_owned() };
                match self.open.remove(&ticket) {
                    Some(open) if !open.is_cancelled => self.send_error(&ticket, &words),
                    _ => Ok(()),
                }
            }
        };
        self.settle_answer(&ticket, answered)
    }

    /// Answers what is asked beside the handler; `None` if it is not.
    fn answer_aside(&mut self, request: &Request) -> Option<Result<()>> {
        let ask = request.ask()?;
        let payload = match ask {
            PING => Ok(Payload::null()),
            DESCRIBE => Payload::new(&self.description()),
            _ => return None,
        };
        let ticket = request.ticket();
        let answered = payload.and_then(|payload| {
            let response = ResponseOut { answer: Some(ask), ..ResponseOut::new(ticket.id(), &payload) };
            self.send_response_out(&ticket, &response)
        });
        Some(self.settle_answer(&ticket, answered))
    }

    /// What an answer that could not be sent means. Nothing for the service, unless its bus is gone.
    fn settle_answer(&mut self, ticket: &Ticket, answered: Result<()>) -> Result<()> {
        let Err(error) = answered else { return Ok(()) };
        log::warn!("{}: {} could not be answered: {error}", self.name(), ticket.from());
        match error.kind() {
            ErrorKind::NoSuchBus => Err(error),
            // It was too large, or could not be written: that much can be said.
            ErrorKind::TooLarge | ErrorKind::Serialize => {
                let words = if self.settings.expose_error_details { error.to_string() } else { NO_DETAILS.to_owned() };
                drop(self.send_error(ticket, &words));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Gives the last response to a request.
    fn finish(&mut self, ticket: &Ticket, payload: Payload) -> Result<()> {
        let open = self.close(ticket)?;
        if open.is_cancelled {
            return Ok(());
        }
        let payload = if open.parts.is_empty() {
            payload
        } else {
            let mut parts = open.parts;
            if !payload.is_null() {
                parts.push(payload);
            }
            Payload::array(&parts)?
        };
        self.send_response_out(ticket, &ResponseOut::new(ticket.id(), &payload))
    }

    fn close(&mut self, ticket: &Ticket) -> Result<Open> {
        self.open.remove(ticket).ok_or_else(|| answered_already(ticket))
    }

    fn send_error(&mut self, ticket: &Ticket, words: &str) -> Result<()> {
        let null = Payload::null();
        let response = ResponseOut { error: Some(words), ..ResponseOut::new(ticket.id(), &null) };
        self.send_response_out(ticket, &response)
    }

    fn send_response_out(&mut self, ticket: &Ticket, response: &ResponseOut<'_>) -> Result<()> {
        if !self.pace.goes_together {
            self.let_answers_go();
            let sent = self.outgoing.send_new(&mut self.client, ticket.from().as_str(), response);
            return sent.or_else(|error| self.answer_refused(ticket.from(), error));
        }
        let message = self.client.message_of(ticket.from().as_str(), response)?;
        if self.outgoing.put_together(message) { self.send_together() } else { Ok(()) }
    }

    /// What it means that an answer could not be sent. One that the store did not take is tried again: who asked must not
    /// wait for its deadline because a single call failed.
    fn answer_refused(&mut self, to: &PeerName, error: Error) -> Result<()> {
        if matches!(error.kind(), ErrorKind::NoSuchPeer | ErrorKind::PeerGone) {
            // Nobody is left to be answered.
            log::debug!("{}: {to} went away before it was answered", self.name());
            return Ok(());
        }
        if !may_pass(&error) {
            return Err(error);
        }
        log::warn!("{}: {to} is answered once more: {error}", self.name());
        match error.into_message() {
            Some(message) => self.outgoing.keep(message),
            // A refused message is handed back; without one there is nothing to try again.
            None => log::error!("an answer to {to} was lost"),
        }
        Ok(())
    }

    /// Sends what was put together before something else is done.
    pub(super) fn let_answers_go(&mut self) {
        if let Err(error) = self.send_together() {
            // Whatever comes next meets the same.
            log::warn!("{}: answers could not be sent: {error}", self.settings.name);
        }
    }

    /// Sends the answers that were put together, in as few steps as the store needs.
    pub(super) fn send_together(&mut self) -> Result<()> {
        let mut answers = self.outgoing.take_together();
        while !answers.is_empty() {
            if answers.len() == 1 || answers.iter().any(|answer| self.outgoing.keeps_for(answer.to())) {
                // In their order behind what is kept.
                for answer in answers {
                    let sent = self.outgoing.send(&mut self.client, answer.clone());
                    sent.or_else(|error| self.one_refused(&answer, error))?;
                }
                return Ok(());
            }
            let Err(error) = self.client.send_all(answers.clone()) else { return Ok(()) };
            // Those before it are stored; without any it is not known which one it was.
            let left = error.messages().len();
            let first = answers.len().saturating_sub(left);
            let mut rest = answers.split_off(first.min(answers.len()));
            if rest.is_empty() {
                return Err(error);
            }
            let refused = rest.remove(0);
            self.one_refused(&refused, error.with_messages(vec![refused.clone()]))?;
            answers = rest;
        }
        Ok(())
    }

    /// As [`answer_refused`](Service::answer_refused), for one whose handler has been told nothing of it.
    fn one_refused(&mut self, answer: &Message, error: Error) -> Result<()> {
        if matches!(error.kind(), ErrorKind::WouldBlock) || error.is_away() {
            self.outgoing.keep(answer.clone());
            return Ok(());
        }
        let Some(to) = answer.to().cloned() else { return Err(error) };
        let refused = self.answer_refused(&to, error);
        match (refused, Envelope::of(answer)) {
            (Err(error), Envelope::Response(parts)) => self.settle_answer(&Ticket::new(to, parts.id), Err(error)),
            (refused, _) => refused,
        }
    }

    /// Takes note that an answer is no longer wanted.
    pub(super) fn note_cancelled(&mut self, ticket: &Ticket) -> Result<()> {
        match self.open.get_mut(ticket) {
            Some(open) if !open.is_cancelled => open.is_cancelled = true,
            _ => return Ok(()),
        }
        self.fire(&mut Event::Cancelled(ticket)).map(drop)
    }

    /// Calls something of the user's; a panic in it is its error, unless it is to go on.
    pub(super) fn guarded<T>(&mut self, call: impl FnOnce(&mut Self) -> ServiceResult<T>) -> ServiceResult<T> {
        if !self.settings.catch_panics {
            return call(self);
        }
        let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| call(self)));
        called.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(format!("panicked: {}", text.as_deref().unwrap_or("for an unknown reason")).into())
        })
    }
}

fn answered_already(ticket: &Ticket) -> Error {
    let detail = format!("the request {:?} was answered already, or is none that a handler was asked", ticket.id());
    Error::new(ErrorKind::Usage, detail)
}
