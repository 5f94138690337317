// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looking at a bus without being on it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Audit;
use crate::connection_string::ConnectionString;
use crate::error::{Error, Result};
use crate::name::PeerName;
use crate::protocol::{Directory, PeerRecord, Registry, Wake};
use crate::stats::Stats;
use crate::system::Deadline;
use crate::system::poll;

/// Somebody who looks at a bus and is seen by nobody.
///
/// ```
/// use ipc_manager::{Observer, Spawn};
/// let bus = Spawn::builder().protocol("MessageFiles").spawn()?;
/// let a = bus.connect("a")?;
/// let mut observer = Observer::new(bus.info())?;
/// assert_eq!(observer.peers()?[0].name, *a.name());
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug)]
pub struct Observer {
    directory: Box<dyn Directory>,
    seen: Option<Vec<PeerRecord>>,
}

impl Observer {
    /// Begins to look at a bus.
    ///
    /// # Errors
    /// [`NoSuchBus`](crate::ErrorKind::NoSuchBus), unknown names,
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the protocol can only be looked at by its peers.
    pub fn new(info: &ConnectionString) -> Result<Self> {
        Self::with_registry(info, &Registry::standard())
    }

    /// Begins to look at a bus, with protocols and serializers of the caller's.
    ///
    /// # Errors
    /// As [`new`](Observer::new).
    pub fn with_registry(info: &ConnectionString, registry: &Registry) -> Result<Self> {
        let open = || {
            let protocol = registry.find(info.protocol())?;
            let credentials = registry.credentials().check(&**protocol)?;
            protocol.observe(info.route(), credentials, registry.serializer_of(info)?)
        };
        Ok(Self { directory: open().map_err(|error: Error| error.during("observe"))?, seen: None })
    }

    /// Every name in the store, whatever its state, sorted; with the number of unread messages where the protocol can
    /// tell.
    ///
    /// # Errors
    /// What the store says.
    pub fn peers(&mut self) -> Result<Vec<PeerRecord>> {
        let peers = self.directory.peers().map_err(|error| error.during("observe"))?;
        self.seen = Some(peers.clone());
        Ok(peers)
    }

    /// One name; `None` if it is not registered.
    ///
    /// # Errors
    /// [`InvalidName`](crate::ErrorKind::InvalidName) if nobody can have that name, and what the store says.
    pub fn peer(&mut self, name: &str) -> Result<Option<PeerRecord>> {
        let name = PeerName::foreign(name)?;
        self.directory.peer(&name).map_err(|error| error.during("observe"))
    }

    /// The counters of all who stored theirs, by name.
    ///
    /// # Errors
    /// What the store says.
    pub fn stats(&mut self) -> Result<BTreeMap<PeerName, Stats>> {
        Ok(self.directory.stats().map_err(|error| error.during("observe"))?.into_iter().collect())
    }

    /// Compares what was sent with what was read, as far as peers have written their counters: they do so as they
    /// leave.
    ///
    /// # Errors
    /// What the store says.
    pub fn audit(&mut self) -> Result<Audit> {
        Ok(Audit::of(&self.stats()?))
    }

    /// Waits until a name came, went, or changed its state since [`peers`](Observer::peers) was asked last, so long at
    /// most; without end for `None`. Returns whether one did.
    ///
    /// # Errors
    /// What the store says.
    pub fn wait_for_change(&mut self, timeout: Option<Duration>) -> Result<bool> {
        let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
        self.directory.watch_peers(true);
        let changed = self.until_changed(deadline);
        self.directory.watch_peers(false);
        changed.map_err(|error| error.during("observe"))
    }

    /// Starts or stops to make [`wake`](Observer::wake) tell of peers that come and go.
    pub fn watch(&mut self, on: bool) {
        self.directory.watch_peers(on);
    }

    /// What to poll in an event loop of one's own, while [watching](Observer::watch).
    /// [`peers`](Observer::peers) takes note of the changes until then.
    #[must_use]
    pub fn wake(&self) -> Wake<'_> {
        self.directory.wake()
    }

    fn until_changed(&mut self, deadline: Deadline) -> Result<bool> {
        let state = |peer: &PeerRecord| (peer.name.clone(), peer.pid, peer.state.to_string());
        loop {
            let now: Vec<_> = self.directory.peers()?;
            let before = self.seen.get_or_insert_with(|| now.clone());
            if !before.iter().map(state).eq(now.iter().map(state)) {
                return Ok(true);
            }
            if deadline.has_passed() {
                return Ok(false);
            }
            let wake = self.directory.wake();
            poll::readable(&wake.descriptors, deadline.left(wake.look_every))
                .map_err(|error| Error::system(error, "waiting failed"))?;
        }
    }
}
