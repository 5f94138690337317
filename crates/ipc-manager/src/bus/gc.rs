// SPDX-License-Identifier: MIT OR Apache-2.0
//! Removing what dead owners and dead peers left.

use std::path::PathBuf;

use crate::connection_string::ConnectionString;
use crate::error::{Error, Result};
use crate::name::PeerName;
use crate::protocol::{Cleaning, Leftover, PeerState, Registry};

/// Removes what dead owners and dead peers left, and nothing else.
///
/// Of guarded buses whose owner was killed: the store, or the private server with its processes, once no peer is alive on
/// it. Of one bus that is named: also what dead peers left on it, as [`Client::reap`](crate::Client::reap) does. Never
/// what is alive, another user's, not made by this library, or holds anything unknown.
///
/// ```
/// use ipc_manager::{Gc, Spawn};
/// let mut bus = Spawn::builder().protocol("MessageFiles").spawn()?;
/// let report = Gc::of_bus(bus.info()).run()?;
/// assert!(report.leftovers.is_empty() && report.peers.is_empty(), "its owner lives");
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Gc {
    target: Target,
    registry: Registry,
    is_dry: bool,
}

#[derive(Debug, Clone)]
enum Target {
    Everywhere,
    Places(Vec<PathBuf>),
    Bus(ConnectionString),
}

/// What was found, and what became of it.
///
/// ```
/// use ipc_manager::{Gc, GcReport};
/// let report = Gc::of_places([""; 0]).run()?;
/// assert_eq!(report, GcReport::default());
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcReport {
    /// What dead owners left, sorted by path.
    pub leftovers: Vec<Leftover>,
    /// Dead peers of the bus that was named, whose remains were removed or, in a dry run, would be.
    pub peers: Vec<PeerName>,
}

impl Gc {
    /// Looks everywhere where buses without a route are made.
    #[must_use]
    pub fn everywhere() -> Self {
        Self::new(Target::Everywhere)
    }

    /// Looks in these directories instead.
    #[must_use]
    pub fn of_places(places: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self::new(Target::Places(places.into_iter().map(Into::into).collect()))
    }

    /// Looks at one bus: whether it is abandoned, and if not, who on it is dead.
    #[must_use]
    pub fn of_bus(info: &ConnectionString) -> Self {
        Self::new(Target::Bus(info.clone()))
    }

    fn new(target: Target) -> Self {
        Self { target, registry: Registry::standard(), is_dry: false }
    }

    /// Uses protocols and serializers of the caller's.
    #[must_use]
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Sets whether things are only found, and nothing is changed.
    #[must_use]
    pub fn dry_run(mut self, is_dry: bool) -> Self {
        self.is_dry = is_dry;
        self
    }

    /// Does it.
    ///
    /// # Errors
    /// Of a bus that is named: [`NoSuchBus`](crate::ErrorKind::NoSuchBus), unknown names, and what the store says. What
    /// cannot be removed is in the report.
    pub fn run(&self) -> Result<GcReport> {
        let cleaning = match &self.target {
            Target::Everywhere => Cleaning::everywhere(),
            Target::Places(places) => Cleaning::of_places(places),
            Target::Bus(info) => return self.clean_bus(info).map_err(|error| error.during("gc")),
        };
        let mut cleaning = cleaning.dry_run(self.is_dry);
        self.registry.protocols().for_each(|protocol| protocol.clean(&mut cleaning));
        Ok(report(cleaning))
    }

    fn clean_bus(&self, info: &ConnectionString) -> Result<GcReport, Error> {
        let protocol = self.registry.find(info.protocol())?;
        let credentials = self.registry.credentials().check(&**protocol)?;
        let mut cleaning = Cleaning::of_route(info.route()).dry_run(self.is_dry);
        protocol.clean(&mut cleaning);
        let mut report = report(cleaning);
        if report.leftovers.is_empty() {
            let serializer = self.registry.serializer_of(info)?;
            let mut directory = protocol.observe(info.route(), credentials, serializer)?;
            report.peers = match self.is_dry {
                true => {
                    let dead = directory.peers()?.into_iter().filter(|peer| peer.state == PeerState::Dead);
                    dead.map(|peer| peer.name).collect()
                }
                false => directory.sweep()?,
            };
        }
        Ok(report)
    }
}

fn report(cleaning: Cleaning) -> GcReport {
    let mut leftovers = cleaning.into_found();
    leftovers.sort_by(|a, b| a.path.cmp(&b.path));
    GcReport { leftovers, peers: Vec::new() }
}

/// What every spawn of a temporary bus does in passing: a brief look at the place that it uses. It never fails.
pub(super) fn in_passing(registry: &Registry, place: &std::path::Path) {
    let mut cleaning = Cleaning::brief(place);
    for protocol in registry.protocols() {
        cleaning.begin();
        protocol.clean(&mut cleaning);
    }
    for left in cleaning.into_found() {
        log::debug!("{} {}: {}", left.kind, left.path.display(), left.fate);
    }
}
