// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a clause works with: a subject, a directory of its own, and fresh buses.

use std::cell::{Ref, RefCell};
use std::path::Path;

use ipc_manager::{Capabilities, Client, ConnectionString, Handle, Message, Observer, Result, Spawn, SpawnBuilder};
use serde_json::Value;

use crate::servers::{Database, Server, shared};
use crate::{Puppet, Sandbox, Subject, actor};

/// A subject and a directory of the test's own.
///
/// ```
/// use ipc_manager_testkit::{Context, Subject};
/// let subject = Subject::new("LocalMemory");
/// let context = Context::new(&subject);
/// assert!(context.capabilities().suspend);
/// ```
#[derive(Debug)]
pub struct Context<'a> {
    subject: &'a Subject,
    sandbox: Sandbox,
    databases: RefCell<Vec<Database>>,
}

impl<'a> Context<'a> {
    /// Prepares a run over a subject.
    #[must_use]
    pub fn new(subject: &'a Subject) -> Self {
        Self { subject, sandbox: Sandbox::new(), databases: RefCell::default() }
    }

    /// The subject.
    #[must_use]
    pub fn subject(&self) -> &'a Subject {
        self.subject
    }

    /// What the subject promises.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.subject.capabilities()
    }

    /// The directory of the test.
    #[must_use]
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// How many messages a mailbox surely holds, at most so many as asked for.
    #[must_use]
    pub fn at_most_unread(&self, count: usize) -> usize {
        count.min(self.capabilities().most_unread.unwrap_or(usize::MAX))
    }

    /// So many messages, or fewer where each costs as much as all that wait.
    #[must_use]
    pub fn load(&self, count: usize) -> usize {
        if self.subject.is_rewriting() { count / 10 } else { count }
    }

    /// Prepares an owner of a fresh bus: unguarded, in the test's directory.
    #[must_use]
    pub fn owner(&self) -> SpawnBuilder {
        let mut builder =
            Spawn::builder().protocol(self.subject.protocol()).registry(self.subject.registry()).guard(false);
        if let Some(route) = self.route_in(self.sandbox.dir()) {
            builder = builder.route(&route);
        }
        builder
    }

    /// A route for a fresh bus, in this directory where the subject has its buses in files; none where the protocol
    /// makes its own.
    ///
    /// # Panics
    /// If a server refuses a database.
    #[must_use]
    pub fn route_in(&self, dir: &Path) -> Option<String> {
        let Some(engine) = self.subject.server() else { return self.subject.route_in(dir) };
        let database = shared(engine).and_then(Server::fresh_database).expect("a server gives each test a database");
        let route = database.dbi_dsn();
        // It goes with the test.
        self.databases.borrow_mut().push(database);
        Some(route)
    }

    /// The database that the last route is in, where the subject is on a server.
    pub(crate) fn database(&self) -> Option<Ref<'_, Database>> {
        Ref::filter_map(self.databases.borrow(), |databases| databases.last()).ok()
    }

    /// Makes a fresh bus.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn bus(&self) -> Bus<'_> {
        self.bus_of(self.owner().spawn().expect("a bus can be made"))
    }

    /// Makes a fresh bus with a serializer of choice.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn bus_with(&self, serializer: &str) -> Bus<'_> {
        self.bus_of(self.owner().serializer(serializer).spawn().expect("a bus can be made"))
    }

    /// Works with an owner that is there.
    #[must_use]
    pub fn bus_of(&self, owner: Spawn) -> Bus<'_> {
        Bus { info: owner.info().clone(), owner: Some(owner), subject: self.subject, dir: self.sandbox.dir() }
    }
}

/// A bus, and ways to join it. Its store is removed when this is dropped.
///
/// ```
/// use ipc_manager_testkit::{Context, PATIENCE, Subject};
/// let subject = Subject::new("LocalMemory");
/// let context = Context::new(&subject);
/// let bus = context.bus();
/// let (mut a, mut b) = (bus.client("a"), bus.client("b"));
/// a.send("b", "x")?;
/// assert_eq!(b.recv_timeout(PATIENCE)?.content(), "x");
/// # drop((a, b));
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug)]
pub struct Bus<'a> {
    owner: Option<Spawn>,
    info: ConnectionString,
    subject: &'a Subject,
    dir: &'a Path,
}

impl Bus<'_> {
    /// The owner.
    ///
    /// # Panics
    /// If it was taken.
    pub fn owner(&mut self) -> &mut Spawn {
        self.owner.as_mut().expect("the owner is here until it is taken")
    }

    /// Takes the owner out; the store is the caller's to remove then.
    ///
    /// # Panics
    /// If it was taken already.
    pub fn take_owner(&mut self) -> Spawn {
        self.owner.take().expect("the owner is taken once")
    }

    /// The connection string.
    #[must_use]
    pub fn info(&self) -> &ConnectionString {
        &self.info
    }

    /// Joins in this process.
    ///
    /// # Errors
    /// As [`Client`]'s.
    pub fn try_client(&self, name: &str) -> Result<Client> {
        Client::builder(name, &self.info).registry(self.subject.registry()).connect()
    }

    /// Joins in this process.
    ///
    /// # Panics
    /// If it is refused.
    #[must_use]
    #[track_caller]
    pub fn client(&self, name: &str) -> Client {
        self.try_client(name).unwrap_or_else(|error| panic!("{name} cannot connect: {error:?}"))
    }

    /// Continues a name in this process.
    ///
    /// # Errors
    /// As [`Client`]'s.
    pub fn try_reconnect(&self, name: &str) -> Result<Client> {
        Client::builder(name, &self.info).registry(self.subject.registry()).reconnect()
    }

    /// Continues a name in this process.
    ///
    /// # Panics
    /// If it is refused.
    #[must_use]
    #[track_caller]
    pub fn reconnect(&self, name: &str) -> Client {
        self.try_reconnect(name).unwrap_or_else(|error| panic!("{name} cannot reconnect: {error:?}"))
    }

    /// Looks at the bus without joining it.
    ///
    /// # Errors
    /// As [`Observer`]'s.
    pub fn observer(&self) -> Result<Observer> {
        Observer::with_registry(&self.info, &self.subject.registry())
    }

    /// Starts a service that does what requests tell it to, in a process of its own where the protocol allows. The
    /// options are in `actor.rs`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn actor(&self, name: &str, options: &Value) -> Handle {
        self.try_actor(name, options).unwrap_or_else(|error| panic!("{name} cannot be started: {error:?}"))
    }

    /// Starts a service that does what requests tell it to.
    ///
    /// # Errors
    /// As starting it has them.
    pub fn try_actor(&self, name: &str, options: &Value) -> Result<Handle> {
        if !self.subject.capabilities().crosses_processes {
            return actor::in_thread(self.subject, name, options).bus(&self.info).spawn_thread();
        }
        actor::exec(self.subject, name, options, Some(&self.info)).env("TMPDIR", self.dir).spawn()
    }

    /// Prepares to ask a service.
    ///
    /// # Panics
    /// If nobody can have that name.
    #[must_use]
    pub fn asker(&self, service: &str) -> Handle {
        let registry = self.subject.registry();
        Handle::with_registry(service, &self.info, registry).expect("a name that somebody can have")
    }

    /// Starts a puppet that is on no bus yet.
    #[must_use]
    pub fn idle_puppet(&self) -> Puppet {
        Puppet::start(self.subject, &self.info.to_string(), self.dir)
    }

    /// Joins in a process of its own, where the protocol allows.
    ///
    /// # Panics
    /// If it is refused.
    #[must_use]
    #[track_caller]
    pub fn puppet(&self, name: &str) -> Puppet {
        let mut puppet = self.idle_puppet();
        puppet.try_connect(name).unwrap_or_else(|failure| panic!("{name} cannot connect: {failure:?}"));
        puppet
    }
}

impl Drop for Bus<'_> {
    fn drop(&mut self) {
        if let Some(mut owner) = self.owner.take() {
            let _ = owner.set_guard(false);
            // The test's directory goes in any case; this is for stores that are elsewhere.
            let _ = owner.unspawn();
        }
    }
}

/// What messages carry, in their order.
pub(crate) fn contents(messages: &[Message]) -> Vec<Value> {
    messages.iter().map(|message| message.content().clone()).collect()
}

/// Names as text.
pub(crate) fn names<'a>(names: impl IntoIterator<Item = &'a ipc_manager::PeerName>) -> Vec<String> {
    names.into_iter().map(ToString::to_string).collect()
}
