// SPDX-License-Identifier: MIT OR Apache-2.0
//! Callbacks: what they are called for, and lists of them that can change while one of them runs.

use std::fmt;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering};

use super::activity::{Activity, PeerChange};
use super::{Service, ServiceResult, Ticket};
use crate::bus::Signal;
use crate::message::Message;

/// What a callback is called for.
///
/// ```
/// use ipc_manager::{Signal, When};
/// assert_ne!(When::Signal(Signal::USR1), When::Signal(Signal::USR2));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum When {
    /// The service has joined its bus.
    Start,
    /// Anything happened; before everything else.
    Activity,
    /// A signal came: once for each.
    Signal(Signal),
    /// A child of the process ended.
    Child,
    /// The interval has passed.
    Interval,
    /// Peers came or went.
    Peers,
    /// A message that is neither request nor response; terminate messages too.
    Message,
    /// Who asked no longer wants an answer.
    Cancelled,
    /// Something happened that no callback was there for; after everything else.
    Unhandled,
    /// After each turn: whether the service is to end.
    ShouldEnd,
    /// The service ends.
    Cleanup,
}

/// What happens in the event loop, each kind handed to the callbacks that are there for it.
pub(super) enum Event<'e> {
    Start,
    Activity(&'e mut Activity),
    Signal(Signal),
    Child(u32, ExitStatus),
    Interval,
    Peers(&'e PeerChange),
    Message(&'e Message),
    Cancelled(&'e Ticket),
    Unhandled(&'e Activity),
    ShouldEnd,
    Cleanup,
}

impl Event<'_> {
    pub(super) fn when(&self) -> When {
        match self {
            Self::Start => When::Start,
            Self::Activity(_) => When::Activity,
            Self::Signal(signal) => When::Signal(*signal),
            Self::Child(..) => When::Child,
            Self::Interval => When::Interval,
            Self::Peers(_) => When::Peers,
            Self::Message(_) => When::Message,
            Self::Cancelled(_) => When::Cancelled,
            Self::Unhandled(_) => When::Unhandled,
            Self::ShouldEnd => When::ShouldEnd,
            Self::Cleanup => When::Cleanup,
        }
    }
}

/// Which callback: to remove it while the service runs.
///
/// ```
/// use ipc_manager::Callback;
/// let (one, other) = (Callback::interval(|_| Ok(())), Callback::interval(|_| Ok(())));
/// assert_ne!(one.id(), other.id());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallbackId(u64);

type Call = Box<dyn for<'e> FnMut(&mut Service, &mut Event<'e>) -> ServiceResult<bool> + Send>;

/// A callback and what it is called for. The builder's `on_…` methods make them; so does whoever adds one while the
/// service runs.
///
/// ```
/// use ipc_manager::{Callback, Service, When};
/// let callback = Callback::interval(|service| {
///     service.terminate(0);
///     Ok(())
/// });
/// assert_eq!(callback.when(), When::Interval);
/// let bus = ipc_manager::Spawn::builder().protocol("LocalMemory").spawn()?;
/// let builder = Service::builder("short").bus(bus.info()).on_activity(|_, _| Ok(())).append(callback);
/// assert_eq!(builder.run()?, 0);
/// # Ok::<(), ipc_manager::Error>(())
/// ```
pub struct Callback {
    id: CallbackId,
    when: When,
    call: Option<Call>,
}

impl Callback {
    fn new(
        when: When,
        call: impl for<'e> FnMut(&mut Service, &mut Event<'e>) -> ServiceResult<bool> + Send + 'static,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { id: CallbackId(NEXT.fetch_add(1, Ordering::Relaxed)), when, call: Some(Box::new(call)) }
    }

    /// Called once, when the service has joined its bus. An error ends it.
    pub fn start(mut call: impl FnMut(&mut Service) -> ServiceResult + Send + 'static) -> Self {
        Self::new(When::Start, move |service, _| call(service).map(|()| false))
    }

    /// Called first with all that one turn of the loop found. What it takes out of the record is not handled further.
    pub fn activity(mut call: impl FnMut(&mut Service, &mut Activity) -> ServiceResult + Send + 'static) -> Self {
        Self::new(When::Activity, move |service, event| match event {
            Event::Activity(activity) => call(service, activity).map(|()| false),
            _ => Ok(false),
        })
    }

    /// Called for each time that a signal comes. The service catches it for as long as it runs.
    pub fn signal(
        signal: Signal,
        mut call: impl FnMut(&mut Service, Signal) -> ServiceResult + Send + 'static,
    ) -> Self {
        Self::new(When::Signal(signal), move |service, _| call(service, signal).map(|()| false))
    }

    /// Called for each child of the process that ended and is no worker, with its pid and how it ended. With such a
    /// callback the service reaps *every* child of its process.
    pub fn child(mut call: impl FnMut(&mut Service, u32, ExitStatus) -> ServiceResult + Send + 'static) -> Self {
        Self::new(When::Child, move |service, event| match event {
            Event::Child(pid, status) => call(service, *pid, *status).map(|()| false),
            _ => Ok(false),
        })
    }

    /// Called whenever the interval has passed.
    pub fn interval(mut call: impl FnMut(&mut Service) -> ServiceResult + Send + 'static) -> Self {
        Self::new(When::Interval, move |service, _| call(service).map(|()| false))
    }

    /// Called when peers came or went.
    pub fn peers(mut call: impl FnMut(&mut Service, &PeerChange) -> ServiceResult + Send + 'static) -> Self {
        Self::new(When::Peers, move |service, event| match event {
            Event::Peers(change) => call(service, change).map(|()| false),
            _ => Ok(false),
        })
    }

    /// Called with each message that is neither request nor response, terminate messages too.
    pub fn message(mut call: impl FnMut(&mut Service, &Message) -> ServiceResult + Send + 'static) -> Self {
        Self::new(When::Message, move |service, event| match event {
            Event::Message(message) => call(service, message).map(|()| false),
            _ => Ok(false),
        })
    }

    /// Called when who asked no longer wants an answer that is still open.
    pub fn cancelled(mut call: impl FnMut(&mut Service, &Ticket) -> ServiceResult + Send + 'static) -> Self {
        Self::new(When::Cancelled, move |service, event| match event {
            Event::Cancelled(ticket) => call(service, ticket).map(|()| false),
            _ => Ok(false),
        })
    }

    /// Called last in a turn with what no callback was there for, if anything is left.
    pub fn unhandled(mut call: impl FnMut(&mut Service, &Activity) -> ServiceResult + Send + 'static) -> Self {
        Self::new(When::Unhandled, move |service, event| match event {
            Event::Unhandled(activity) => call(service, activity).map(|()| false),
            _ => Ok(false),
        })
    }

    /// Asked after each turn; any yes ends the service with the value 0.
    pub fn should_end(mut call: impl FnMut(&mut Service) -> ServiceResult<bool> + Send + 'static) -> Self {
        Self::new(When::ShouldEnd, move |service, _| call(service))
    }

    /// Called when the service ends, before it leaves the bus.
    pub fn cleanup(mut call: impl FnMut(&mut Service) -> ServiceResult + Send + 'static) -> Self {
        Self::new(When::Cleanup, move |service, _| call(service).map(|()| false))
    }

    /// What it is called for.
    #[must_use]
    pub fn when(&self) -> When {
        self.when
    }

    /// Which one it is.
    #[must_use]
    pub fn id(&self) -> CallbackId {
        self.id
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback").field("id", &self.id).field("when", &self.when).finish_non_exhaustive()
    }
}

/// All callbacks, in the order in which they are called.
#[derive(Debug, Default)]
pub(super) struct Callbacks(Vec<Callback>);

impl Callbacks {
    pub(super) fn append(&mut self, callback: Callback) {
        self.0.push(callback);
    }

    pub(super) fn prepend(&mut self, callback: Callback) {
        self.0.insert(0, callback);
    }

    pub(super) fn remove(&mut self, id: CallbackId) -> bool {
        let before = self.0.len();
        self.0.retain(|callback| callback.id != id);
        self.0.len() < before
    }

    pub(super) fn clear(&mut self, when: When) {
        self.0.retain(|callback| callback.when != when);
    }

    pub(super) fn any(&self, when: When) -> bool {
        self.0.iter().any(|callback| callback.when == when)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn ids(&self, when: When) -> Vec<CallbackId> {
        self.0.iter().filter(|callback| callback.when == when).map(|callback| callback.id).collect()
    }

    /// The signals that somebody wants.
    pub(super) fn signals(&self) -> impl Iterator<Item = Signal> {
        self.0.iter().filter_map(|callback| match callback.when {
            When::Signal(signal) => Some(signal),
            _ => None,
        })
    }

    /// Takes a callback out to call it, so that it may change the list that it stands in.
    pub(super) fn lend(&mut self, id: CallbackId) -> Option<Lent> {
        self.0.iter_mut().find(|callback| callback.id == id)?.call.take().map(Lent)
    }

    /// Puts it back, unless it was removed meanwhile.
    pub(super) fn give_back(&mut self, id: CallbackId, lent: Lent) {
        if let Some(callback) = self.0.iter_mut().find(|callback| callback.id == id) {
            callback.call = Some(lent.0);
        }
    }
}

/// A callback that is being called.
pub(super) struct Lent(Call);

impl Lent {
    pub(super) fn call(&mut self, service: &mut Service, event: &mut Event<'_>) -> ServiceResult<bool> {
        (self.0)(service, event)
    }
}
