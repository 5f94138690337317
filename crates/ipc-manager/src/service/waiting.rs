// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for answers, written once for handles and for services: look into the mailbox, look whether who was asked is
//! still there, then sleep.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use serde::Serialize;

use super::envelope::{CancelOut, RequestId, RequestOut};
use super::request::Response;
use super::requester::{Awaits, Requester, gone};
use crate::client::{Away, Client};
use crate::error::{Error, ErrorKind, Result};
use crate::message::ToContent;
use crate::name::PeerName;
use crate::protocol::Wanted;
use crate::system::{Deadline, poll, rings};

/// How long a request is waited for unless something else was said.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest sleep where nothing says anything.
pub(super) const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Somebody who sends requests and waits for answers.
pub(super) trait Asker {
    /// What is called with an answer.
    type Callback;

    fn parts(&mut self) -> (&mut Client, &mut Requester<Self::Callback>);

    fn view(&self) -> (&Client, &Requester<Self::Callback>);

    /// Takes what is in the mailbox and gives responses to whoever waits for them. Returns how many messages it took.
    fn receive(&mut self) -> Result<usize>;

    /// As [`receive`](Asker::receive), for the next message alone.
    fn receive_next(&mut self) -> Result<()>;

    /// Whether an answer that [`receive`](Asker::receive) took waits for its turn.
    fn has_answer_waiting(&self, _id: &RequestId) -> bool {
        false
    }

    /// Sends a content to a peer, waiting for room no longer than until the deadline.
    fn post<T: ToContent + ?Sized>(&mut self, to: &str, content: &T, deadline: Deadline) -> Result<()>;

    /// Calls a callback because no answer will come.
    fn give_up(&mut self, callback: Self::Callback, error: Error) -> Result<()>;

    /// What becomes writable when there may be room for what this asker could not send.
    fn room(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    /// How long this asker may sleep for reasons of its own.
    fn sleep_at_most(&self) -> Duration {
        LONGEST_SLEEP
    }
}

/// How a request is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner<'a> {
    pub(super) takes_many: bool,
    pub(super) ask: Option<&'a str>,
    pub(super) deadline: Deadline,
}

impl Manner<'_> {
    pub(super) const PLAIN: Self = Self { takes_many: false, ask: None, deadline: Deadline::NEVER };
}

/// Sends a request.
pub(super) fn send<A: Asker, T: Serialize + ?Sized>(
    asker: &mut A,
    to: &str,
    value: &T,
    manner: Manner<'_>,
    awaits: Awaits<A::Callback>,
) -> Result<RequestId> {
    let id = RequestId::generate();
    let (client, requester) = asker.parts();
    let peer = requester.note_peer(client, to)?;
    let request = RequestOut::new(&id, value, manner.takes_many).asking(manner.ask);
    // Noted first: a peer in this very process may answer before the call is back.
    requester.add(id.clone(), peer, awaits);
    match asker.post(to, &request, manner.deadline) {
        Ok(()) => Ok(id),
        Err(error) => {
            asker.parts().1.forget(&id, true);
            Err(error)
        }
    }
}

/// Waits for what comes next to a request.
pub(super) fn next<A: Asker>(asker: &mut A, id: &RequestId, timeout: Option<Duration>) -> Result<Response> {
    let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
    let mut away = Away::new();
    let look = |asker: &mut A| {
        if let Some(response) = asker.parts().1.take(id)? {
            return Ok(Some(response));
        }
        loop {
            match receive_one(asker, id) {
                Ok(response) => {
                    away.is_over();
                    return Ok(response);
                }
                Err(error) => drop(away.ride_out(error, deadline)?),
            }
        }
    };
    let sleep_for_it = |asker: &mut A| {
        // It may have been settled, and then there is nothing to sleep for.
        let is_open = asker.parts().1.open().any(|open| open == id);
        if is_open && sleep(asker, deadline)? {
            let waited = timeout.unwrap_or_default();
            let error = Error::new(ErrorKind::Timeout, format!("no response came within {waited:?}"));
            let peer = asker.parts().1.peer_of(id).map(ToString::to_string).unwrap_or_default();
            return Err(error.about_peer(&peer));
        }
        Ok(None)
    };
    rings::wait(asker, look, sleep_for_it)
}

/// Looks into the mailbox for a response, and if there is none, whether one can still come.
fn receive_one<A: Asker>(asker: &mut A, id: &RequestId) -> Result<Option<Response>> {
    asker.receive()?;
    loop {
        if let Some(response) = asker.parts().1.take(id)? {
            return Ok(Some(response));
        }
        // One that is on its way is here sooner than all else is found out.
        if !asker.parts().0.comes_at_once()? {
            return settle_hopeless(asker).map(|_| None);
        }
        asker.receive_next()?;
    }
}

/// Waits until nothing is awaited any more.
pub(super) fn all<A: Asker>(asker: &mut A, timeout: Option<Duration>) -> Result<()> {
    let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
    let mut lost: Vec<PeerName> = Vec::new();
    let mut away = Away::new();
    loop {
        match asker.receive().and_then(|_| settle_hopeless(asker)) {
            Ok(more) => lost.extend(more),
            Err(error) => {
                away.ride_out(error, deadline)?;
                continue;
            }
        }
        away.is_over();
        if asker.parts().1.open().next().is_none() {
            return if lost.is_empty() { Ok(()) } else { Err(gone(&lost)) };
        }
        if sleep(asker, deadline)? {
            let count = asker.parts().1.open().count();
            let detail = format!("{count} responses had not come within {:?}", timeout.unwrap_or_default());
            return Err(Error::new(ErrorKind::Timeout, detail));
        }
    }
}

/// Settles the requests that nobody will answer, after a last look into the mailbox. Returns who did not answer.
pub(super) fn settle_hopeless<A: Asker>(asker: &mut A) -> Result<Vec<PeerName>> {
    let (client, requester) = asker.parts();
    let hopeless = requester.hopeless(client)?;
    if hopeless.is_empty() {
        return Ok(Vec::new());
    }
    // What was stored before it went.
    while asker.receive()? > 0 {}
    let mut lost = Vec::new();
    for id in hopeless {
        if asker.has_answer_waiting(&id) {
            continue;
        }
        let (_, requester) = asker.parts();
        if !requester.open().any(|open| *open == id) {
            continue;
        }
        let Some(peer) = requester.peer_of(&id).cloned() else { continue };
        let error = gone([&peer]);
        lost.push(peer);
        if let Some((callback, error)) = requester.fail(&id, error) {
            asker.give_up(callback, error)?;
        }
    }
    Ok(lost)
}

/// Tells who was asked that no answer is wanted any more.
pub(super) fn take_back<A: Asker>(asker: &mut A, id: &RequestId) -> Result<()> {
    let (_, requester) = asker.parts();
    let Some(peer) = requester.peer_of(id).cloned() else { return Ok(()) };
    requester.forget(id, true);
    match asker.post(peer.as_str(), &CancelOut(id), Deadline::after(DEFAULT_TIMEOUT)) {
        // Then it answers no more anyway.
        Err(error) if error.kind() == ErrorKind::NoSuchPeer => Ok(()),
        sent => sent,
    }
}

/// Sleeps until something may have come. Returns whether the time is over.
pub(super) fn sleep<A: Asker>(asker: &A, deadline: Deadline) -> Result<bool> {
    if deadline.has_passed() {
        return Ok(true);
    }
    let most = asker.sleep_at_most();
    let (client, requester) = asker.view();
    let most = requester.look_within().map_or(most, |look| look.min(most));
    let wake = client.wake_for(Wanted::MESSAGES)?;
    let mut descriptors = wake.descriptors;
    descriptors.extend(requester.descriptors());
    poll::either(&descriptors, &asker.room(), deadline.left(wake.look_every.min(most)))
        .map_err(|error| Error::system(error, "waiting failed"))?;
    Ok(false)
}
