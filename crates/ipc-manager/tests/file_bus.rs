// SPDX-License-Identifier: MIT OR Apache-2.0
//! A MessageFiles bus whose directory is looked into, with JSON payloads.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ipc_manager::{Client, ConnectionString, Message, Result, Spawn};
use ipc_manager_testkit::{Puppet, Sandbox, Subject};
use serde_json::Value;

/// A bus, its directory, and ways to join it.
pub struct FileBus {
    pub owner: Spawn,
    route: PathBuf,
    subject: Subject,
}

impl FileBus {
    /// Makes one within the sandbox. It goes with the sandbox.
    pub fn new(sandbox: &Sandbox) -> Self {
        Self::at(&sandbox.dir().join("bus"))
    }

    /// Makes one at a path.
    pub fn at(route: &Path) -> Self {
        let builder = Spawn::builder().protocol("MessageFiles").serializer("JSON").guard(false);
        let owner = builder.route(route.to_str().unwrap()).spawn().unwrap();
        Self { owner, route: route.to_owned(), subject: Subject::new("MessageFiles") }
    }

    pub fn info(&self) -> &ConnectionString {
        self.owner.info()
    }

    pub fn try_client(&self, name: &str) -> Result<Client> {
        ipc_manager::connect(name, self.info())
    }

    #[track_caller]
    pub fn client(&self, name: &str) -> Client {
        self.try_client(name).unwrap_or_else(|error| panic!("{name} cannot connect: {error:?}"))
    }

    pub fn try_reconnect(&self, name: &str) -> Result<Client> {
        ipc_manager::reconnect(name, self.info())
    }

    #[track_caller]
    pub fn reconnect(&self, name: &str) -> Client {
        self.try_reconnect(name).unwrap_or_else(|error| panic!("{name} cannot reconnect: {error:?}"))
    }

    pub fn idle_puppet(&self) -> Puppet {
        Puppet::start(&self.subject, &self.info().to_string(), self.route.parent().unwrap())
    }

    #[track_caller]
    pub fn puppet(&self, name: &str) -> Puppet {
        let mut puppet = self.idle_puppet();
        puppet.try_connect(name).unwrap_or_else(|failure| panic!("{name} cannot connect: {failure:?}"));
        puppet
    }

    pub fn route(&self) -> &Path {
        &self.route
    }

    /// The path of a name in the route.
    pub fn at_name(&self, name: &str) -> PathBuf {
        self.route.join(name)
    }

    /// The content of a file in the route.
    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at_name(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The names in the route, without those that only this implementation makes.
    pub fn names(&self) -> BTreeSet<String> {
        names_in(&self.route)
    }

    /// The messages that wait in a mailbox, as the foreign implementation counts them.
    pub fn waiting(&self, name: &str) -> usize {
        names_in(&self.at_name(name)).iter().filter(|name| name.ends_with(".ready")).count()
    }

    /// Drops bytes into a mailbox as another implementation does: written aside, then renamed.
    pub fn drop_in(&self, name: &str, id: &str, payload: impl AsRef<[u8]>) {
        let (pending, ready) =
            (self.at_name(name).join(format!("{id}.pend")), self.at_name(name).join(format!("{id}.ready")));
        fs::write(&pending, payload).unwrap();
        fs::rename(&pending, &ready).unwrap();
    }

    /// Makes an entry as another implementation does: a directory, then the pid.
    pub fn foreign_entry(&self, name: &str, pid: Option<u32>) {
        fs::DirBuilder::new().mode(0o755).create(self.at_name(name)).unwrap();
        if let Some(pid) = pid {
            let (pending, file) = (self.at_name(&format!("{name}.pid.pend")), self.at_name(&format!("{name}.pid")));
            fs::write(&pending, pid.to_string()).unwrap();
            fs::rename(&pending, &file).unwrap();
        }
    }

    /// Everything below the route, ours included.
    pub fn tree(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut open = vec![self.route.clone()];
        while let Some(at) = open.pop() {
            for entry in fs::read_dir(&at).unwrap().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    open.push(entry.path());
                }
                found.insert(entry.path().strip_prefix(&self.route).unwrap().to_owned());
            }
        }
        found
    }
}

/// The names in a directory that do not begin with a dot: what another implementation sees.
pub fn names_in(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    entries
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| !name.as_bytes().starts_with(b"."))
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// A message as another implementation writes it, in its JSON.
pub fn foreign_message(from: &str, to: &str, id: &str, stamp: f64, content: &Value) -> String {
    serde_json::json!({"from": from, "to": to, "id": id, "stamp": stamp, "stamp_ord": 0, "content": content})
        .to_string()
}

/// What messages carry.
pub fn contents(messages: &[Message]) -> Vec<Value> {
    messages.iter().map(|message| message.content().clone()).collect()
}

/// The pid of a process that has ended and was reaped.
pub fn dead_pid() -> u32 {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}
