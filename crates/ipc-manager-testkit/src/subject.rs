// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the suite runs over: a protocol, and how to make a fresh bus for it.

use std::path::{Path, PathBuf};

use ipc_manager::{Capabilities, ProtocolName, Registry};

use crate::servers::Engine;

/// A protocol, and how to make a fresh bus for it.
///
/// ```
/// use ipc_manager_testkit::Subject;
/// let files = Subject::new("MessageFiles").with_route(|dir| dir.join("bus"));
/// assert_eq!(files.name(), "message_files");
/// assert!(files.capabilities().suspend);
/// ```
#[derive(Debug, Clone)]
pub struct Subject {
    name: String,
    protocol: String,
    registry: fn() -> Registry,
    route: Option<fn(&Path) -> PathBuf>,
    rewrites: bool,
    server: Option<Engine>,
    unclaimed: &'static [&'static str],
}

impl Subject {
    /// A protocol of the standard registry, by the name that stands in connection strings. A fresh bus is made without
    /// a route.
    #[must_use]
    pub fn new(protocol: &str) -> Self {
        Self {
            name: snake_case(protocol),
            protocol: protocol.to_owned(),
            registry: Registry::standard,
            route: None,
            rewrites: false,
            server: None,
            unclaimed: &[],
        }
    }

    /// Makes buses in databases on a server of this kind, each in a fresh one.
    #[must_use]
    pub fn on_server(mut self, engine: Engine) -> Self {
        self.server = Some(engine);
        self
    }

    /// The kind of server that its buses are on.
    #[must_use]
    pub fn server(&self) -> Option<Engine> {
        self.server
    }

    /// Whether this machine can run it.
    ///
    /// # Errors
    /// The reason why it cannot, one sentence.
    pub fn can_run(&self) -> Result<(), String> {
        self.server.map_or(Ok(()), crate::servers::can_start)
    }

    /// Says that each operation writes the whole store anew, so that thousands of waiting messages cost a test too much
    /// time.
    #[must_use]
    pub fn rewriting(mut self) -> Self {
        self.rewrites = true;
        self
    }

    /// Whether each operation writes the whole store anew.
    #[must_use]
    pub fn is_rewriting(&self) -> bool {
        self.rewrites
    }

    /// Says which clauses the protocol does not claim to hold, by the beginnings of their ids, such as `steps.`: those about
    /// injured system calls are more than a simple protocol needs to begin with. They are not among the tests then.
    ///
    /// ```
    /// use ipc_manager_testkit::Subject;
    /// let simple = Subject::new("LocalMemory").but_for(&["steps."]);
    /// assert!(!simple.claims("steps.killed_send") && simple.claims("order.per_sender"));
    /// ```
    #[must_use]
    pub fn but_for(mut self, clauses: &'static [&'static str]) -> Self {
        self.unclaimed = clauses;
        self
    }

    /// Whether the protocol claims to hold a clause.
    #[must_use]
    pub fn claims(&self, clause: &str) -> bool {
        !self.unclaimed.iter().any(|unclaimed| clause.starts_with(unclaimed))
    }

    /// Uses another registry than the standard one, as a protocol outside the crate needs.
    #[must_use]
    pub fn with_registry(mut self, registry: fn() -> Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Makes buses at a route within the test's own directory, so that nothing can be left behind elsewhere.
    #[must_use]
    pub fn with_route(mut self, route: fn(&Path) -> PathBuf) -> Self {
        self.route = Some(route);
        self
    }

    /// The protocol's name in names of tests: snake case.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The protocol's name as it was given.
    #[must_use]
    pub fn protocol(&self) -> &str {
        &self.protocol
    }

    /// The protocol's parsed name.
    #[must_use]
    pub fn protocol_name(&self) -> ProtocolName {
        ProtocolName::new(&self.protocol)
    }

    /// A fresh registry that knows the protocol.
    #[must_use]
    pub fn registry(&self) -> Registry {
        (self.registry)()
    }

    /// What the protocol promises.
    ///
    /// # Panics
    /// If the registry does not know the protocol.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.registry().get(&self.protocol).expect("a subject names a protocol of its registry").capabilities()
    }

    /// The route for a bus in this directory, if the subject has its buses there.
    #[must_use]
    pub fn route_in(&self, dir: &Path) -> Option<String> {
        self.route.map(|route| route(dir).to_str().expect("test directories have names in UTF-8").to_owned())
    }
}

/// `MessageFiles` is `message_files`, `+Example::Mailbox` is `example_mailbox`, `SQLite` is `sqlite`.
fn snake_case(name: &str) -> String {
    let name = name.trim_start_matches('+').replace("::", "_");
    let (mut snake, mut earlier_is_lower) = (String::new(), false);
    for c in name.chars() {
        if c.is_ascii_uppercase() && earlier_is_lower {
            snake.push('_');
        }
        earlier_is_lower = c.is_ascii_lowercase();
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_of_tests() {
        let cases = [("MessageFiles", "message_files"), ("SQLite", "sqlite"), ("+Example::Mailbox", "example_mailbox")];
        for (given, expected) in cases {
            assert_eq!(super::snake_case(given), expected);
        }
    }
}
