// SPDX-License-Identifier: MIT OR Apache-2.0
//! Requests that were sent and not answered yet: who was asked, what becomes of the answer, and whether one can still
//! come.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use super::envelope::RequestId;
use super::request::Response;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::name::PeerName;
use crate::protocol::PeerState;
use crate::system::{children, poll, process};

/// First and longest pause between two looks whether the peers that are waited for are still there. A process that
/// ends says so at once; this is for those that leave, and for what no descriptor tells of.
const LOOKS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));
/// How long a process that ran is taken to run when it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// Most processes that are watched while nothing is awaited from them.
const MOST_WATCHED: usize = 64;
/// Most reports that are kept for whoever asks, and most ids of taken-back requests.
const MOST_KEPT: usize = 1_000;

/// See the module. `C` is what is called with an answer.
#[derive(Debug)]
pub(super) struct Requester<C> {
    pending: BTreeMap<RequestId, Pending<C>>,
    asked: BTreeMap<PeerName, Asked>,
    reports: VecDeque<Error>,
    taken_back: VecDeque<RequestId>,
    /// When it is time to look; `None` until somebody waits.
    next_look: Option<Instant>,
    pause: Duration,
}

#[derive(Debug)]
struct Pending<C> {
    peer: PeerName,
    asked: Holder,
    awaits: Awaits<C>,
}

/// The process that was asked, and since when it was on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Holder {
    pid: Option<u32>,
    since: Option<SystemTime>,
    /// Tells of a program that became another by exec, where the store does not.
    image: Option<(u64, u64)>,
}

/// What becomes of an answer.
#[derive(Debug)]
pub(super) enum Awaits<C> {
    /// It is fetched, once.
    One(Option<Box<Result<Response>>>),
    /// All of them are fetched, one by one.
    Many(VecDeque<Result<Response>>),
    /// This is called with it.
    Callback(C),
}

/// A process that was asked.
#[derive(Debug)]
struct Asked {
    holder: Holder,
    /// Tells of its end; `None` for this process itself, and where nothing can tell.
    end: Option<OwnedFd>,
    has_ended: bool,
    /// When it was last known to run.
    ran: Instant,
}

/// What became of a response.
pub(super) enum Accepted<C> {
    /// Whoever asked fetches it.
    Kept,
    /// This is to be called with it.
    Call(C, Response),
    /// Nobody waits for it.
    Unexpected(Response),
    /// It was awaited, but is no longer wanted.
    Unwanted,
}

impl<C> Default for Requester<C> {
    fn default() -> Self {
        Self {
            pending: BTreeMap::new(),
            asked: BTreeMap::new(),
            reports: VecDeque::new(),
            taken_back: VecDeque::new(),
            next_look: None,
            pause: LOOKS.0,
        }
    }
}

impl<C> Requester<C> {
    /// Finds out which process will be asked, so that its end is noticed.
    ///
    /// # Errors
    /// `peer_gone` if it is dead: nobody would answer.
    pub(super) fn note_peer(&mut self, client: &mut Client, peer: &str) -> Result<PeerName> {
        let name = PeerName::foreign(peer)?;
        if let Some(asked) = self.asked.get_mut(&name)
            && asked.is_as_it_was()
        {
            return Ok(name);
        }
        let record = client.peer(peer)?;
        if record.as_ref().is_some_and(|record| record.state == PeerState::Dead) {
            return Err(gone([&name]));
        }
        let record = record.filter(|record| record.state.is_alive());
        let (pid, since) = record.map_or((None, None), |record| (record.pid, record.since));
        let holder = Holder { pid, since, image: pid.and_then(process::image_of) };
        let end = pid.filter(|pid| *pid != process::own_pid()).and_then(children::end_of);
        if self.asked.len() >= MOST_WATCHED {
            let awaited: BTreeSet<_> = self.pending.values().map(|pending| &pending.peer).collect();
            self.asked.retain(|name, _| awaited.contains(name));
        }
        self.asked.insert(name.clone(), Asked { holder, end, has_ended: false, ran: Instant::now() });
        Ok(name)
    }

    /// Notes a request that was sent.
    pub(super) fn add(&mut self, id: RequestId, peer: PeerName, awaits: Awaits<C>) {
        let asked = self.asked.get(&peer).map(|asked| asked.holder).unwrap_or_default();
        if self.pending.is_empty() {
            self.pause = LOOKS.0;
            self.next_look = None;
        }
        self.pending.insert(id, Pending { peer, asked, awaits });
    }

    /// Gives a response to whoever waits for it.
    pub(super) fn accept(&mut self, response: Response) -> Accepted<C> {
        let id = response.id().clone();
        match self.pending.get_mut(&id).map(|pending| &mut pending.awaits) {
            Some(Awaits::One(slot @ None)) => *slot = Some(Box::new(Ok(response))),
            Some(Awaits::Many(parts)) if !is_over(parts) => parts.push_back(Ok(response)),
            Some(Awaits::Callback(_)) => {
                if let Some(Pending { awaits: Awaits::Callback(callback), .. }) = self.pending.remove(&id) {
                    return Accepted::Call(callback, response);
                }
            }
            Some(Awaits::One(Some(_)) | Awaits::Many(_)) | None => {
                let is_unwanted = self.taken_back.contains(&id);
                return if is_unwanted { Accepted::Unwanted } else { Accepted::Unexpected(response) };
            }
        }
        Accepted::Kept
    }

    /// Settles a request that will not be answered any more. Gives back what is to be called with that.
    pub(super) fn fail(&mut self, id: &RequestId, error: Error) -> Option<(C, Error)> {
        match self.pending.get_mut(id).map(|pending| &mut pending.awaits)? {
            Awaits::One(slot) => drop(slot.get_or_insert_with(|| Box::new(Err(error)))),
            Awaits::Many(parts) if is_over(parts) => {}
            Awaits::Many(parts) => parts.push_back(Err(error)),
            Awaits::Callback(_) => match self.pending.remove(id)?.awaits {
                Awaits::Callback(callback) => return Some((callback, error)),
                Awaits::One(_) | Awaits::Many(_) => {}
            },
        }
        None
    }

    /// Fetches what came for a request: a response once, or the next of many. `None` if nothing has come yet.
    ///
    /// # Errors
    /// `usage` for an id that nobody waits for here, or that has a callback; else why no response will come.
    pub(super) fn take(&mut self, id: &RequestId) -> Result<Option<Response>> {
        let refused = |detail: String| Err(Error::new(ErrorKind::Usage, detail));
        let settled = match self.pending.get_mut(id).map(|pending| &mut pending.awaits) {
            None => return refused(format!("no response to {id:?} is awaited")),
            Some(Awaits::Callback(_)) => return refused(format!("the response to {id:?} goes to a callback")),
            Some(Awaits::One(slot)) => slot.take().map(|response| (*response, true)),
            Some(Awaits::Many(parts)) => parts.pop_front().map(|part| {
                let is_last = part.as_ref().map_or(true, Response::is_final);
                (part, is_last)
            }),
        };
        let Some((response, is_last)) = settled else { return Ok(None) };
        if is_last {
            self.pending.remove(id);
        }
        response.map(Some)
    }

    /// Whether the response to this request is fetched, rather than handed to a callback.
    pub(super) fn is_fetched(&self, id: &RequestId) -> bool {
        self.pending.get(id).is_some_and(|pending| !matches!(pending.awaits, Awaits::Callback(_)))
    }

    /// Whether anything that was asked is on record, answered or not.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Who was asked.
    pub(super) fn peer_of(&self, id: &RequestId) -> Option<&PeerName> {
        self.pending.get(id).map(|pending| &pending.peer)
    }

    /// No answer to this request is wanted any more. A `quiet` one that comes all the same is not even reported.
    pub(super) fn forget(&mut self, id: &RequestId, quiet: bool) {
        self.pending.remove(id);
        if quiet {
            if self.taken_back.len() >= MOST_KEPT {
                self.taken_back.pop_front();
            }
            self.taken_back.push_back(id.clone());
        }
    }

    /// The requests for which something can still come.
    pub(super) fn open(&self) -> impl Iterator<Item = &RequestId> {
        self.pending.iter().filter(|(_, pending)| pending.is_open()).map(|(id, _)| id)
    }

    /// Keeps a report of a response that nobody waits for.
    pub(super) fn report(&mut self, response: &Response) {
        let detail =
            format!("a response came to {:?}, which nobody waits for: it is late, double or unknown", response.id());
        let error = Error::new(ErrorKind::UnexpectedResponse, detail).about_peer(response.from().as_str());
        log::warn!("{error}");
        if self.reports.len() >= MOST_KEPT {
            self.reports.pop_front();
        }
        self.reports.push_back(error);
    }

    pub(super) fn take_reports(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.reports).into()
    }

    /// Descriptors that tell of the end of those who are to answer.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        if self.pending.is_empty() {
            return Vec::new();
        }
        let watched = self.asked.values().filter(|asked| !asked.has_ended);
        watched.filter_map(|asked| asked.end.as_ref()).map(AsFd::as_fd).collect()
    }

    /// How long until it is time to look whether they are still there; `None` while nothing is awaited.
    pub(super) fn look_within(&self) -> Option<Duration> {
        let left = |next_look: Instant| next_look.saturating_duration_since(Instant::now());
        self.open().next().map(|_| self.next_look.map_or(self.pause, left))
    }

    /// The requests that nobody will answer any more, if it is time to look. What they sent before they went may still
    /// be in the mailbox, so whoever asks looks there once more before giving up.
    ///
    /// # Errors
    /// Of the store as a whole.
    pub(super) fn hopeless(&mut self, client: &mut Client) -> Result<Vec<RequestId>> {
        if self.open().next().is_none() {
            return Ok(Vec::new());
        }
        let (now, ended) = (Instant::now(), self.note_ends());
        if !ended && now < *self.next_look.get_or_insert(now + self.pause) {
            return Ok(Vec::new());
        }
        self.next_look = Some(now + self.pause);
        self.pause = (self.pause * 2).min(LOOKS.1);
        let mut verdicts = BTreeMap::new();
        let mut hopeless = Vec::new();
        for (id, pending) in self.pending.iter().filter(|(_, pending)| pending.is_open()) {
            let key = (&pending.peer, pending.asked);
            let is_gone = match verdicts.get(&key) {
                Some(is_gone) => *is_gone,
                None => is_gone(client, &pending.peer, pending.asked)?,
            };
            verdicts.insert(key, is_gone);
            if is_gone {
                hopeless.push(id.clone());
            }
        }
        Ok(hopeless)
    }

    /// Takes note of processes that have ended; their descriptors stay readable and would wake for ever.
    fn note_ends(&mut self) -> bool {
        let mut any = false;
        for asked in self.asked.values_mut().filter(|asked| !asked.has_ended) {
            asked.has_ended = asked.end.as_ref().is_some_and(is_readable);
            any |= asked.has_ended;
        }
        any
    }
}

impl<C> Pending<C> {
    fn is_open(&self) -> bool {
        match &self.awaits {
            Awaits::One(slot) => slot.is_none(),
            Awaits::Many(parts) => !is_over(parts),
            Awaits::Callback(_) => true,
        }
    }
}

impl Asked {
    /// Whether the process that was asked before is still the one to ask. Who ended a moment ago is found out about
    /// while its answer is waited for.
    fn is_as_it_was(&mut self) -> bool {
        let Some(end) = &self.end else { return self.holder.pid == Some(process::own_pid()) };
        if !self.has_ended && self.ran.elapsed() >= ASK_AGAIN {
            self.has_ended = is_readable(end);
            self.ran = Instant::now();
        }
        !self.has_ended
    }
}

fn is_over(parts: &VecDeque<Result<Response>>) -> bool {
    parts.back().is_some_and(|last| last.as_ref().map_or(true, Response::is_final))
}

fn is_readable(descriptor: &OwnedFd) -> bool {
    poll::readable(&[descriptor.as_fd()], Duration::ZERO).is_ok_and(|woken| woken == poll::Woken::Ready)
}

/// Whether a peer that was asked can no longer answer.
fn is_gone(client: &mut Client, peer: &PeerName, asked: Holder) -> Result<bool> {
    let suspends = client.capabilities().suspend;
    let Some(record) = client.peer(peer.as_str())? else { return Ok(true) };
    Ok(match (record.state, record.pid) {
        (PeerState::Dead, _) => true,
        (PeerState::Suspended { until }, _) => until.is_some_and(|until| until <= SystemTime::now()),
        (_, now) if now.is_some() && now == asked.pid => {
            // The same process on the same record, but no longer the program that put itself there.
            let has_become_another = || now.and_then(process::image_of).is_some_and(|image| Some(image) != asked.image);
            if record.since == asked.since {
                asked.image.is_some() && has_become_another()
            } else {
                // It has left meanwhile, and joined again: with an empty mailbox, unless it could continue its own.
                let is_known = record.since.is_some() && asked.since.is_some();
                is_known && (!suspends || client.peer_continues(peer)? == Some(false))
            }
        }
        // Another process has the name. Where a mailbox outlives its process, whoever continues it finds the request
        // in it; who began an empty one does not, and elsewhere the request went with the process that was asked.
        (_, Some(_)) if asked.pid.is_some() => match suspends {
            true => client.peer_continues(peer)? == Some(false),
            false => asked.pid.is_some_and(|asked| !process::pid_is_alive(asked)),
        },
        _ => false,
    })
}

/// The error for peers that will not answer.
pub(super) fn gone<'a>(peers: impl IntoIterator<Item = &'a PeerName>) -> Error {
    let names: BTreeSet<&str> = peers.into_iter().map(PeerName::as_str).collect();
    let list = names.iter().copied().collect::<Vec<_>>().join(", ");
    let error = Error::new(ErrorKind::PeerGone, format!("the peer went away without an answer: {list}"));
    match names.first() {
        Some(first) if names.len() == 1 => error.about_peer(first),
        _ => error,
    }
}
