// SPDX-License-Identifier: MIT OR Apache-2.0
//! The buses of this process.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use super::place;
use crate::error::{Error, ErrorKind, Result};
use crate::name::PeerName;
use crate::route::Route;
use crate::system::bell::Bell;
use crate::system::process::own_pid;

static BUSES: LazyLock<Mutex<HashMap<Route, Arc<Bus>>>> = LazyLock::new(Mutex::default);

/// One bus.
#[derive(Debug)]
pub(super) struct Bus {
    pub(super) route: Route,
    /// A forked child has a copy that nobody else sees, so it may not use it.
    pid: u32,
    is_removed: AtomicBool,
    inner: Mutex<Peers>,
}

/// Who is on a bus.
#[derive(Debug, Default)]
pub(super) struct Peers {
    pub(super) entries: BTreeMap<PeerName, Entry>,
    pub(super) stats: BTreeMap<PeerName, Vec<u8>>,
    /// Those who want to know of peers that come and go.
    pub(super) watchers: Vec<Weak<Bell>>,
}

/// One peer.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) holder: Holder,
    /// When its holder came.
    pub(super) since: SystemTime,
    /// Its holder found the mailbox there, rather than beginning an empty one.
    pub(super) continues: bool,
    pub(super) messages: VecDeque<Waiting>,
    /// Handed out too often without an acknowledgement.
    pub(super) dead: Vec<Waiting>,
    pub(super) bell: Arc<Bell>,
}

/// Who has a name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Holder {
    /// The connection with this number.
    Connection(u64),
    /// The connection with this number, which is on its way out.
    Leaving(u64),
    Suspended(Option<SystemTime>),
    /// A connection that was dropped without leaving.
    Dead,
}

/// An encoded message.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) payload: Vec<u8>,
    pub(super) was_put_back: bool,
    /// How often it was handed out and not acknowledged.
    pub(super) attempts: u32,
    /// What its reader knows it by that has it in hand.
    pub(super) mark: Option<u64>,
}

impl Waiting {
    pub(super) fn new(payload: Vec<u8>, was_put_back: bool) -> Self {
        Self { payload, was_put_back, attempts: 0, mark: None }
    }
}

/// Makes a bus under the next free route.
pub(super) fn create() -> Result<Route> {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let route = Route::new(&format!("localmemory-{}", LAST.fetch_add(1, Ordering::Relaxed) + 1))?;
    let bus = Bus { route: route.clone(), pid: own_pid(), is_removed: false.into(), inner: Mutex::default() };
    buses().insert(route.clone(), Arc::new(bus));
    Ok(route)
}

fn buses() -> MutexGuard<'static, HashMap<Route, Arc<Bus>>> {
    BUSES.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn find(route: &Route) -> Result<Arc<Bus>> {
    let bus = buses().get(route).cloned();
    bus.filter(|bus| bus.pid == own_pid()).ok_or_else(|| no_such_bus(route))
}

/// Removes a bus; that there is none is fine.
pub(super) fn forget(route: &Route) {
    if let Some(bus) = buses().remove(route) {
        bus.is_removed.store(true, Ordering::Release);
        // Whoever waits finds out at once.
        let peers = bus.lock();
        peers.entries.values().for_each(|entry| entry.bell.ring());
        peers.ring_watchers();
    }
}

fn no_such_bus(route: &Route) -> Error {
    place(Error::new(ErrorKind::NoSuchBus, "there is no such bus in this process")).on_route(route.as_str())
}

impl Bus {
    /// The peers, or an error if the bus was removed.
    pub(super) fn peers(&self) -> Result<MutexGuard<'_, Peers>> {
        let peers = self.lock();
        if self.is_removed.load(Ordering::Acquire) { Err(no_such_bus(&self.route)) } else { Ok(peers) }
    }

    /// The peers, also of a removed bus. A panic of another thread leaves no half-made change: each is one step.
    pub(super) fn lock(&self) -> MutexGuard<'_, Peers> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// The entry of one that has just come.
    pub(super) fn fresh(number: u64, bell: &Arc<Bell>) -> Self {
        let (holder, since) = (Holder::Connection(number), SystemTime::now());
        Self { holder, since, continues: false, messages: VecDeque::new(), dead: Vec::new(), bell: Arc::clone(bell) }
    }
}

impl Peers {
    pub(super) fn ring_watchers(&self) {
        self.watchers.iter().filter_map(Weak::upgrade).for_each(|bell| bell.ring());
    }
}
