// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding out what happened, and sleeping while nothing does: look at everything, then sleep on descriptors that tell
//! of everything.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::activity::Activity;
use super::callback::When;
use super::envelope::{Envelope, RequestId};
use super::request::Response;
use super::requester::Accepted;
use super::requester::Requester;
use super::service::{OnAnswer, Service};
use super::waiting::{self, Asker, LONGEST_SLEEP};
use crate::bus::Signal;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::message::{Message, ToContent};
use crate::protocol::Wanted;
use crate::system::signals::SignalWatch;
use crate::system::{Deadline, poll, process};

impl Service {
    /// Waits until something has happened, and tells all of it.
    pub(super) fn gather(&mut self) -> Result<Activity> {
        loop {
            self.catch_signals()?;
            let mut activity = Activity { children: self.workers.reap(self.reaps_all()), ..Activity::default() };
            self.outgoing.drain(&mut self.client);
            let looked = self.look_at_store(&mut activity);
            self.store_away.note(looked)?;
            activity.signals = self.take_signals();
            activity.interval = self.interval_within().is_some_and(|left| left.is_zero());
            activity.watched_ended = self.watched_ended();
            let worked = self.do_remote_calls()?;
            activity.messages.extend(self.inbox.drain(..));
            activity.terminated = self.termination;
            if !activity.is_empty() || worked || !self.given_up.is_empty() {
                return Ok(activity);
            }
            self.sleep()?;
        }
    }

    /// What only the store tells of.
    fn look_at_store(&mut self, activity: &mut Activity) -> Result<()> {
        self.watch_what_is_wanted()?;
        self.receive()?;
        activity.peers = self.peer_watch.changes(&mut self.client)?;
        // What is on its way is here sooner than all else is found out.
        if self.inbox.is_empty() && self.client.comes_at_once()? {
            self.receive_next()?;
        }
        waiting::settle_hopeless(self).map(drop)
    }

    /// Gives a message to the callback that fetches it, or else has it wait for its turn in the loop.
    fn hand_over(&mut self, message: Message) {
        if self.requester.has_pending()
            && let Envelope::Response(parts) = Envelope::of(&message)
            && self.requester.is_fetched(&parts.id)
        {
            let response = Response::new(message.clone(), parts);
            if !matches!(self.requester.accept(response), Accepted::Unexpected(_)) {
                return;
            }
        }
        self.inbox.push_back(message);
    }

    fn do_remote_calls(&mut self) -> Result<bool> {
        let calls = self.remote.take();
        let any = !calls.is_empty();
        for call in calls {
            let called = self.guarded(call);
            self.settle("from another thread", called)?;
        }
        Ok(any)
    }

    /// Catches the signals that callbacks are there for, and no others.
    pub(super) fn catch_signals(&mut self) -> Result<()> {
        let reaps_all = self.reaps_all();
        if !reaps_all && self.callbacks.signals().next().is_none() {
            return Ok(());
        }
        let mut watch = || {
            let signals = match &mut self.signals {
                Some(signals) => signals,
                None => self.signals.insert(SignalWatch::new()?),
            };
            for signal in self.callbacks.signals() {
                signals.want(signal.number())?;
            }
            if reaps_all { signals.want(libc::SIGCHLD) } else { Ok(()) }
        };
        watch().map_err(|error| Error::system(error, "a signal cannot be caught"))
    }

    fn take_signals(&mut self) -> std::collections::BTreeMap<Signal, u32> {
        let Some(signals) = &self.signals else { return std::collections::BTreeMap::new() };
        let known = |(number, count)| Some((Signal::new(&i32::to_string(&number)).ok()?, count));
        signals.take().into_iter().filter_map(known).collect()
    }

    /// Watches peers while a callback wants to know.
    pub(super) fn watch_what_is_wanted(&mut self) -> Result<()> {
        let wanted = self.wants(When::Peers);
        self.peer_watch.switch(&mut self.client, wanted)
    }

    /// Whether a callback is there for a kind of event: its own, or one for everything.
    fn wants(&self, when: When) -> bool {
        [when, When::Activity, When::Unhandled].into_iter().any(|when| self.callbacks.any(when))
    }

    /// How long until the interval has passed; `None` if nobody cares.
    fn interval_within(&self) -> Option<Duration> {
        let left = |period: Duration| period.saturating_sub(self.last_interval.elapsed());
        if self.wants(When::Interval) {
            Some(left(self.settings.interval))
        } else {
            // Whether to end can only be found out by asking.
            self.callbacks.any(When::ShouldEnd).then(|| left(self.settings.cycle))
        }
    }

    fn watched_ended(&self) -> Option<u32> {
        let has_ended = |pid: u32, end: Option<BorrowedFd<'_>>| match end {
            Some(end) => poll::readable(&[end], Duration::ZERO).is_ok_and(|woken| woken == poll::Woken::Ready),
            None => !process::pid_is_alive(pid),
        };
        let ended = |(pid, end): &&(u32, Option<std::os::fd::OwnedFd>)| has_ended(*pid, end.as_ref().map(AsFd::as_fd));
        self.watched.iter().find(ended).map(|(pid, _)| *pid)
    }

    /// Sleeps until something may have happened.
    fn sleep(&mut self) -> Result<()> {
        let times = [
            self.interval_within(),
            self.outgoing.try_within(&self.client),
            self.workers.look_within(),
            self.store_away.pause(),
            self.requester.look_within(),
            self.peer_watch.look_within(&self.client)?,
            self.watched.iter().any(|(_, end)| end.is_none()).then_some(self.settings.cycle),
        ];
        let messages = self.client.wake_for(Wanted::MESSAGES)?;
        let most = times.into_iter().flatten().fold(messages.look_every.min(LONGEST_SLEEP), Duration::min);
        let mut descriptors = messages.descriptors;
        if self.peer_watch.is_on() {
            descriptors.extend(self.client.wake_for(Wanted::PEERS)?.descriptors);
        }
        descriptors.extend(self.peer_watch.descriptors());
        descriptors.extend(self.workers.descriptors());
        descriptors.extend(self.requester.descriptors());
        descriptors.extend(self.watched.iter().filter_map(|(_, end)| end.as_ref()).map(AsFd::as_fd));
        descriptors.extend(self.signals.as_ref().map(SignalWatch::descriptor));
        descriptors.push(self.remote.descriptor());
        let room = self.outgoing.descriptors(&self.client);
        poll::either(&descriptors, &room, most).map_err(|error| Error::system(error, "waiting failed"))?;
        Ok(())
    }
}

/// Answers that are fetched are kept for who fetches them; everything else that comes waits for its turn in the loop,
/// also while a callback waits for an answer.
impl Asker for Service {
    type Callback = OnAnswer;

    fn parts(&mut self) -> (&mut Client, &mut Requester<OnAnswer>) {
        (&mut self.client, &mut self.requester)
    }

    fn view(&self) -> (&Client, &Requester<OnAnswer>) {
        (&self.client, &self.requester)
    }

    fn room(&self) -> Vec<BorrowedFd<'_>> {
        self.outgoing.descriptors(&self.client)
    }

    fn receive(&mut self) -> Result<usize> {
        self.let_answers_go();
        self.outgoing.drain(&mut self.client);
        let messages = self.client.get_messages()?;
        let count = messages.len();
        if self.requester.has_pending() {
            messages.into_iter().for_each(|message| self.hand_over(message));
        } else {
            self.inbox.extend(messages);
        }
        Ok(count)
    }

    fn receive_next(&mut self) -> Result<()> {
        if let Some(message) = self.client.try_recv()? {
            self.hand_over(message);
        }
        Ok(())
    }

    fn has_answer_waiting(&self, id: &RequestId) -> bool {
        let is_it = |message: &Message| matches!(Envelope::of(message), Envelope::Response(parts) if parts.id == *id);
        self.inbox.iter().any(is_it)
    }

    fn post<T: ToContent + ?Sized>(&mut self, to: &str, content: &T, _: Deadline) -> Result<()> {
        self.let_answers_go();
        self.outgoing.send_new(&mut self.client, to, content)
    }

    fn give_up(&mut self, callback: OnAnswer, error: Error) -> Result<()> {
        self.given_up.push((callback, error));
        Ok(())
    }

    fn sleep_at_most(&self) -> Duration {
        self.outgoing.try_within(&self.client).unwrap_or(LONGEST_SLEEP)
    }
}
