// SPDX-License-Identifier: MIT OR Apache-2.0
//! The event loop of a service: one turn handles all that was found, in a fixed order; docs/architecture.md tells it.

use std::time::Duration;

use super::activity::Activity;
use super::callback::{Event, When};
use super::envelope::Envelope;
use super::request::{Request, Response, ServiceResult, Ticket};
use super::requester::Accepted;
use super::service::Service;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::system::Deadline;
use crate::system::poll;

/// Whether the loop goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    GoesOn,
    /// A watched process has ended: nothing below that step is done any more.
    EndsAtOnce,
}

impl Service {
    /// Runs the service until it ends.
    pub(super) fn run_loop(&mut self) -> Result<i32> {
        let ran = self.begin().and_then(|()| self.turns());
        let ended = self.end(&ran);
        ran?;
        ended?;
        Ok(self.termination.unwrap_or(0))
    }

    fn begin(&mut self) -> Result<()> {
        let started = self.fire(&mut Event::Start);
        self.client.set_blocking(false);
        started?;
        self.watch_what_is_wanted()?;
        self.last_interval = std::time::Instant::now();
        Ok(())
    }

    fn turns(&mut self) -> Result<()> {
        loop {
            // What came while a callback waited is handled in any case, as the rest of a batch is.
            if self.termination.is_some() && self.inbox.is_empty() {
                return Ok(());
            }
            let mut activity = self.gather()?;
            if self.turn(&mut activity)? == Turn::EndsAtOnce {
                return Ok(());
            }
        }
    }

    /// Handles what one turn found.
    fn turn(&mut self, activity: &mut Activity) -> Result<Turn> {
        if !activity.is_empty() {
            self.fire(&mut Event::Activity(activity))?;
        }
        for (signal, count) in std::mem::take(&mut activity.signals) {
            if self.callbacks.any(When::Signal(signal)) {
                for _ in 0..count {
                    self.fire(&mut Event::Signal(signal))?;
                }
            } else {
                activity.signals.insert(signal, count);
            }
        }
        if self.callbacks.any(When::Child) {
            for (pid, status) in std::mem::take(&mut activity.children) {
                self.fire(&mut Event::Child(pid, status))?;
            }
        }
        if let Some(pid) = activity.watched_ended {
            log::debug!("{}: the process {pid} has ended, and with it this service", self.name());
            self.terminate(0);
            return Ok(Turn::EndsAtOnce);
        }
        if activity.interval {
            self.last_interval = std::time::Instant::now();
            activity.interval = !self.callbacks.any(When::Interval);
            self.fire(&mut Event::Interval)?;
        }
        self.handle_peers(activity)?;
        self.batch = std::mem::take(&mut activity.messages).into();
        while let Some(message) = self.batch.pop_front() {
            if message.is_terminate() {
                self.terminate(0);
            }
            self.pace.next(!self.batch.is_empty());
            self.dispatch(message)?;
        }
        self.pace.next(false);
        self.send_together()?;
        self.give_up_requests()?;
        // Whoever asked for the end knows of it.
        activity.terminated = None;
        if !activity.is_empty() {
            self.fire(&mut Event::Unhandled(activity))?;
        }
        if self.fire(&mut Event::ShouldEnd)? {
            self.terminate(0);
        }
        Ok(Turn::GoesOn)
    }

    fn handle_peers(&mut self, activity: &mut Activity) -> Result<()> {
        if std::mem::take(&mut self.peer_watch.has_dead)
            && let Err(error) = self.client.reap()
        {
            log::warn!("{}: what dead peers left cannot be removed: {error}", self.name());
        }
        // Nobody is left to be answered.
        if !activity.peers.left.is_empty() {
            self.open.retain(|ticket, _| !activity.peers.left.contains(ticket.from()));
        }
        if !activity.peers.is_empty() && self.callbacks.any(When::Peers) {
            let change = std::mem::take(&mut activity.peers);
            self.fire(&mut Event::Peers(&change))?;
        }
        Ok(())
    }

    /// Gives a message to whoever it is for.
    fn dispatch(&mut self, message: Message) -> Result<()> {
        match Envelope::of(&message) {
            Envelope::Request(parts) => self.answer(&Request::new(message, parts)),
            Envelope::Response(parts) => self.take_response(Response::new(message, parts)),
            Envelope::Cancel(id) => self.note_cancelled(&Ticket::new(message.from().clone(), id)),
            Envelope::General => self.fire(&mut Event::Message(&message)).map(drop),
        }
    }

    /// A response goes to whoever waits for it, else to the handler; one that neither wants is reported.
    fn take_response(&mut self, response: Response) -> Result<()> {
        match self.requester.accept(response) {
            Accepted::Kept | Accepted::Unwanted => Ok(()),
            Accepted::Call(callback, response) => {
                let called = self.guarded(|service| callback(service, Ok(response)));
                self.settle("of a response", called).map(drop)
            }
            Accepted::Unexpected(response) => {
                let Some(mut handler) = self.on_response.take() else {
                    // With a callback for all activity, that one has seen it.
                    if !self.callbacks.any(When::Activity) {
                        self.requester.report(&response);
                    }
                    return Ok(());
                };
                let called = self.guarded(|service| handler(service, &response));
                self.on_response.get_or_insert(handler);
                self.settle("of responses", called).map(drop)
            }
        }
    }

    /// Tells callbacks that no answer will come.
    pub(super) fn give_up_requests(&mut self) -> Result<()> {
        for (callback, error) in std::mem::take(&mut self.given_up) {
            let called = self.guarded(|service| callback(service, Err(error)));
            self.settle("of a response", called)?;
        }
        Ok(())
    }

    /// Calls all callbacks that are there for an event. Returns whether any of them said yes.
    pub(super) fn fire(&mut self, event: &mut Event<'_>) -> Result<bool> {
        let when = event.when();
        if !self.callbacks.any(when) {
            return Ok(false);
        }
        let mut any = false;
        for id in self.callbacks.ids(when) {
            // Removed by one before it, or one that is running already.
            let Some(mut lent) = self.callbacks.lend(id) else { continue };
            let called = self.guarded(|service| lent.call(service, event));
            self.callbacks.give_back(id, lent);
            any |= self.settle(name_of(when), called)?.unwrap_or(false);
        }
        Ok(any)
    }

    /// What an error of a callback means: the end, or a warning where that was asked for.
    pub(super) fn settle<T>(&mut self, whose: &str, called: ServiceResult<T>) -> Result<Option<T>> {
        match called {
            Ok(value) => Ok(Some(value)),
            Err(error) if self.settings.intercept_errors => {
                log::warn!("{}: the callback {whose} failed: {error}", self.name());
                Ok(None)
            }
            Err(source) => {
                let detail = format!("the callback {whose} failed");
                let error = Error::new(ErrorKind::ServiceError, detail).with_source(source);
                Err(error.about_peer(self.settings.name.as_str()))
            }
        }
    }

    /// Ends in good order, also after an error: cleanup, what is still to be sent, workers, signals, the bus.
    fn end(&mut self, ran: &Result<()>) -> Result<()> {
        let cleaned = self.fire(&mut Event::Cleanup).map(drop);
        let has_bus = !ran.as_ref().is_err_and(|error| error.kind() == ErrorKind::NoSuchBus);
        if has_bus {
            self.let_answers_go();
            self.drain();
        }
        self.stop_workers();
        self.has_ended = true;
        self.remote.end();
        // What was there before comes back.
        self.signals = None;
        // What had no room by now was told of, and is no reason for the service to fail.
        let left = match self.client.disconnect_within(Duration::ZERO) {
            Err(error) if error.kind() == ErrorKind::Timeout && !error.messages().is_empty() => Ok(()),
            Err(error) if error.kind() == ErrorKind::UnreadMessages => {
                let count = error.messages().len();
                log::warn!("{}: {count} messages came too late for this service", self.settings.name);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NoSuchBus => Ok(()),
            left => left,
        };
        cleaned.and(left)
    }

    /// Sends what there was no room for, as long as somebody makes some and there is time.
    fn drain(&mut self) {
        let deadline = Deadline::after(self.settings.drain_timeout);
        while let Some(pause) = self.outgoing.try_within(&self.client) {
            self.outgoing.drain(&mut self.client);
            if deadline.has_passed() {
                let count = self.outgoing.held_back(&self.client);
                log::warn!("{}: {count} messages will never arrive", self.settings.name);
                return;
            }
            // Nothing else matters any more.
            let room = self.outgoing.descriptors(&self.client);
            let _ = poll::either(&[], &room, deadline.left(pause.max(Duration::from_millis(1))));
        }
    }
}

fn name_of(when: When) -> &'static str {
    match when {
        When::Start => "for the start",
        When::Activity => "for all activity",
        When::Signal(_) => "of a signal",
        When::Child => "of a child's end",
        When::Interval => "of the interval",
        When::Peers => "for peers",
        When::Message => "for messages",
        When::Cancelled => "of a request that was taken back",
        When::Unhandled => "for what is unhandled",
        When::ShouldEnd => "that says whether to end",
        When::Cleanup => "of the cleanup",
    }
}
