// SPDX-License-Identifier: MIT OR Apache-2.0
//! The clients of this process: who they are, their counters, and on which thread each was last used.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, ThreadId};

use crate::name::PeerName;
use crate::route::Route;
use crate::stats::Stats;
use crate::system::process::own_pid;

static CLIENTS: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

/// What others in this process may know of a client.
#[derive(Debug)]
struct Shared {
    pid: u32,
    route: Route,
    name: PeerName,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    stats: Stats,
    /// What the counters in the store were when this client began, unless it continues them.
    carried: Stats,
    last_used_on: (ThreadId, Weak<()>),
}

thread_local! {
    /// Gone when the thread is.
    static THREAD: (ThreadId, Arc<()>) = (thread::current().id(), Arc::new(()));
}

fn this_thread() -> (ThreadId, Weak<()>) {
    let known = THREAD.try_with(|(id, token)| (*id, Arc::downgrade(token)));
    known.unwrap_or_else(|_| (thread::current().id(), Weak::new()))
}

/// Whether this is that thread; none that has ended gives its id away.
fn is_this_thread(other: ThreadId) -> bool {
    THREAD.try_with(|(id, _)| *id == other).unwrap_or(false)
}

/// A client's entry in the list; taken out when dropped.
#[derive(Debug)]
pub(super) struct Registered(Arc<Shared>);

impl Registered {
    pub(super) fn new(route: &Route, name: &PeerName, stats: Stats, carried: Stats) -> Self {
        let inner = Mutex::new(Inner { stats, carried, last_used_on: this_thread() });
        let shared = Arc::new(Shared { pid: own_pid(), route: route.clone(), name: name.clone(), inner });
        let mut clients = clients();
        clients.retain(|client| client.strong_count() > 0);
        clients.push(Arc::downgrade(&shared));
        Self(shared)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self) -> Stats {
        self.inner().stats.clone()
    }

    /// The counters together with those that the name had before.
    pub(super) fn stats_to_store(&self) -> Stats {
        self.inner().to_store()
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Stats)) {
        count(&mut self.inner().stats);
    }

    /// Counts a message, and notes that the client is used on this thread.
    pub(super) fn count_sent(&self, to: &str) {
        let mut inner = self.inner();
        inner.touch();
        inner.stats.count_sent(to);
    }

    /// Notes that the client is used on this thread.
    pub(super) fn touch(&self) {
        self.inner().touch();
    }

    /// Takes the client off the list: it has left.
    pub(super) fn remove(&self) {
        clients().retain(|client| !std::ptr::eq(client.as_ptr(), Arc::as_ptr(&self.0)));
    }
}

fn clients() -> MutexGuard<'static, Vec<Weak<Shared>>> {
    CLIENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn on_route(route: &Route) -> Vec<Arc<Shared>> {
    let clients = clients();
    let here = clients.iter().filter_map(Weak::upgrade);
    here.filter(|client| client.pid == own_pid() && client.route == *route).collect()
}

/// The names of this process's clients on a route that have not left, sorted.
///
/// ```
/// let bus = ipc_manager::Spawn::builder().protocol("LocalMemory").spawn()?;
/// let client = bus.connect("a")?;
/// assert_eq!(ipc_manager::local_clients(bus.route()), [client.name().clone()]);
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[must_use]
pub fn local_clients(route: &Route) -> Vec<PeerName> {
    let mut names: Vec<PeerName> = on_route(route).iter().map(|client| client.name.clone()).collect();
    names.sort();
    names
}

impl Inner {
    fn touch(&mut self) {
        if !is_this_thread(self.last_used_on.0) {
            self.last_used_on = this_thread();
        }
    }

    fn to_store(&self) -> Stats {
        let mut stats = self.stats.clone();
        stats.add(&self.carried);
        stats
    }
}

/// What is known of a client of this process.
pub(crate) struct LocalClient {
    pub(crate) name: PeerName,
    /// Its counters, as they would be stored now.
    pub(crate) stats: Stats,
    /// Whether this thread was the last to use it, or one that has ended: then waiting for its end is in vain.
    pub(crate) is_of_this_thread: bool,
}

/// The clients of this process on a route that have not left.
pub(crate) fn local_clients_on(route: &Route) -> Vec<LocalClient> {
    let here = thread::current().id();
    let known = on_route(route).into_iter().map(|client| {
        let inner = client.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (thread, is_running) = &inner.last_used_on;
        // Where that thread has ended, nobody else but this one can be about to use it.
        let is_of_this_thread = *thread == here || is_running.strong_count() == 0;
        LocalClient { name: client.name.clone(), stats: inner.to_store(), is_of_this_thread }
    });
    known.collect()
}
