// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting, written once for all protocols: arm, look at the store again, then sleep. A ring that was lost costs the
//! time until the next look, never the message.

use std::time::{Duration, SystemTime};

use super::{Away, Client};
use crate::error::{Error, ErrorKind, Result};
use crate::name::PeerName;
use crate::protocol::{PeerState, Wake, Wanted};
use crate::system::Deadline;
use crate::system::poll::{self, Woken};

/// Longest sleep where neither a deadline nor the protocol says anything.
pub(super) const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// How often to look whether an awaited peer died where only its end could tell.
const LOOK_FOR_DEATH: Duration = Duration::from_millis(200);

/// Why a wait ended.
///
/// ```
/// use ipc_manager::{Spawn, Wait};
/// use std::time::Duration;
/// let bus = Spawn::builder().protocol("LocalMemory").spawn()?;
/// let mut a = bus.connect("a")?;
/// assert_eq!(a.wait(Some(Duration::ZERO))?, Wait::Timeout);
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wait {
    /// A message is there to be taken, or something that looks like one until it is read.
    Message,
    /// The time is over.
    Timeout,
    /// Peers came or went since the last such wait, or since this one began.
    PeerChange {
        /// Names that were not there before.
        came: Vec<PeerName>,
        /// Names that are no longer there.
        gone: Vec<PeerName>,
    },
    /// The peer that was named is not there: dead, left, never seen, or suspended past its deadline.
    PeerGone(PeerName),
    /// The bus was removed.
    BusClosed,
    /// A signal handler ran in this thread.
    Signal,
}

/// What to wait for.
///
/// ```
/// use ipc_manager::{Spawn, Wait, WaitFor};
/// use std::time::Duration;
/// let bus = Spawn::builder().protocol("LocalMemory").spawn()?;
/// let mut a = bus.connect("a")?;
/// let wanted = WaitFor::message().or_gone("b")?.within(Duration::from_secs(10));
/// assert!(matches!(a.wait_for(&wanted)?, Wait::PeerGone(_)), "there never was a b");
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct WaitFor {
    message: bool,
    peer_changes: bool,
    gone: Option<PeerName>,
    timeout: Option<Duration>,
}

impl WaitFor {
    /// A message.
    #[must_use]
    pub fn message() -> Self {
        Self { message: true, ..Self::default() }
    }

    /// Nothing yet.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Also peers that come or go.
    #[must_use]
    pub fn or_peer_change(mut self) -> Self {
        self.peer_changes = true;
        self
    }

    /// Also the end of one peer.
    ///
    /// # Errors
    /// [`InvalidName`](ErrorKind::InvalidName) if nobody can have that name.
    pub fn or_gone(mut self, name: &str) -> Result<Self> {
        self.gone = Some(PeerName::foreign(name)?);
        Ok(self)
    }

    /// So long at most.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl Client {
    /// Waits until a message is there, so long at most. Takes none. A store that is away is waited for, too.
    ///
    /// # Errors
    /// What the store says.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Wait> {
        self.wait_for(&WaitFor { timeout, ..WaitFor::message() })
    }

    /// Waits for what was asked for, and says which of it happened.
    ///
    /// # Errors
    /// What the store says.
    pub fn wait_for(&mut self, wanted: &WaitFor) -> Result<Wait> {
        self.checked("wait")?;
        let deadline = wanted.timeout.map_or(Deadline::NEVER, Deadline::after);
        let watches = wanted.peer_changes || wanted.gone.is_some();
        if watches {
            self.begin_to_watch();
        }
        let waited = self.wait_until(wanted, deadline);
        if watches {
            self.end_to_watch();
        }
        match waited {
            Err(error) if error.kind() == ErrorKind::NoSuchBus => Ok(Wait::BusClosed),
            waited => waited.map_err(|error| error.during("wait")),
        }
    }

    fn wait_until(&mut self, wanted: &WaitFor, deadline: Deadline) -> Result<Wait> {
        let mut away = Away::new();
        loop {
            self.put_back_returned();
            match self.look_for(wanted) {
                Ok(Some(happened)) => return Ok(happened),
                Ok(None) => away.is_over(),
                Err(error) => {
                    if away.ride_out(error, deadline)? == Woken::Signal {
                        return Ok(Wait::Signal);
                    }
                    continue;
                }
            }
            let most = if wanted.gone.is_some() { LOOK_FOR_DEATH } else { LONGEST_SLEEP };
            let for_what = Wanted { messages: wanted.message, peers: wanted.peer_changes || wanted.gone.is_some() };
            if let Some(ended) = self.sleep(for_what, deadline, most)? {
                return Ok(ended);
            }
        }
    }

    /// Whether something of what is wanted has happened already.
    fn look_for(&mut self, wanted: &WaitFor) -> Result<Option<Wait>> {
        if wanted.peer_changes && self.seen.is_none() {
            self.seen = Some(self.peers()?);
        }
        if wanted.message && self.connection.is_ready()? {
            return Ok(Some(Wait::Message));
        }
        if wanted.peer_changes
            && let Some(change) = self.peer_change()?
        {
            return Ok(Some(change));
        }
        if let Some(name) = &wanted.gone
            && self.is_gone(name)?
        {
            return Ok(Some(Wait::PeerGone(name.clone())));
        }
        Ok(None)
    }

    /// Who came and went since the last time.
    fn peer_change(&mut self) -> Result<Option<Wait>> {
        let now = self.peers()?;
        let before = self.seen.replace(now.clone()).unwrap_or_default();
        let came: Vec<_> = now.iter().filter(|name| !before.contains(name)).cloned().collect();
        let gone: Vec<_> = before.into_iter().filter(|name| !now.contains(name)).collect();
        Ok((!came.is_empty() || !gone.is_empty()).then_some(Wait::PeerChange { came, gone }))
    }

    fn is_gone(&mut self, name: &PeerName) -> Result<bool> {
        Ok(match self.connection.directory().peer(name)?.map(|peer| peer.state) {
            None | Some(PeerState::Dead) => true,
            Some(PeerState::Suspended { until }) => until.is_some_and(|until| until <= SystemTime::now()),
            Some(_) => false,
        })
    }

    /// What to poll for what is wanted: also deliveries that come back, since their messages can be received again.
    pub(super) fn wake_with_returns(&self, wanted: Wanted) -> Wake<'_> {
        let mut wake = self.connection.wake(wanted);
        if let Some(desk) = self.desk.as_ref().filter(|_| wanted.messages) {
            wake.descriptors.push(desk.descriptor());
            wake.look_every = wake.look_every.min(desk.next_return());
        }
        wake
    }

    /// Sleeps until something of what is wanted may have changed. Returns what ends a wait: the deadline or a signal.
    ///
    /// Only what is looked at afterwards may wake: what nobody looks at stays readable, and the wait would spin.
    pub(super) fn sleep(&mut self, wanted: Wanted, deadline: Deadline, most: Duration) -> Result<Option<Wait>> {
        if deadline.has_passed() {
            return Ok(Some(Wait::Timeout));
        }
        // Whoever waits for an answer must not sit on the question.
        if !self.outbox.is_empty() {
            self.drain();
        }
        let (wake, room) = (self.wake_with_returns(wanted), self.room_for_backlog());
        let most = wake.look_every.min(room.look_every).min(most);
        let woken = poll::either(&wake.descriptors, &room.descriptors, deadline.left(most));
        match woken.map_err(|error| Error::system(error, "waiting failed"))? {
            Woken::Signal => Ok(Some(Wait::Signal)),
            Woken::Ready | Woken::TimedOut => Ok(None),
        }
    }
}
