// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations on buses.

use std::collections::BTreeMap;

use ipc_manager::{ErrorKind, Group, Route, Signal, Spawn};
use serde_json::Value;

use super::answer::{Answer, Failed, Outcome};
use super::engine::Engine;
use super::request::{Request, text};

impl Engine<'_> {
    pub(super) fn version(&self) -> Outcome {
        Ok(Answer::new()
            .with("version", env!("CARGO_PKG_VERSION"))
            .with("pid", &std::process::id())
            .with("protocols", &self.registry.names()))
    }

    pub(super) fn spawn(&mut self, request: &Request) -> Outcome {
        let mut builder = Spawn::builder().registry(self.registry.clone());
        builder = builder.guard(request.boolean("guard")?.unwrap_or(true));
        if let Some(protocol) = request.string("protocol")? {
            builder = builder.protocol(&protocol);
        }
        if let Some(value) = request.get("protocols") {
            let wrong = || Failed::usage("`protocols` must be an array of strings");
            let names = value.as_array().ok_or_else(wrong)?.iter().map(text).collect::<Option<Vec<_>>>();
            builder = builder.protocols(names.ok_or_else(wrong)?);
        }
        match request.get("serializer") {
            None => {}
            Some(Value::String(name)) => builder = builder.serializer(name),
            // With arguments, as it stands in a connection string.
            Some(array @ Value::Array(_)) => builder = builder.serializer(&array.to_string()),
            Some(_) => return Err(Failed::usage("`serializer` must be a string or an array")),
        }
        if let Some(signal) = request.string("signal")? {
            builder = builder.signal(Signal::new(&signal)?);
        }
        if let Some(route) = request.string("route")? {
            builder = builder.route(&route);
        }
        if let Some(group) = request.string("group")? {
            builder = builder.group(Group::new(&group)?);
        }
        if let Some(audit) = request.boolean("audit")? {
            builder = builder.audit(audit);
        }
        let bus = builder.spawn()?;
        let answer = Answer::new()
            .with("info", &bus.info().to_string())
            .with("protocol", &bus.protocol().short())
            .with("serializer", &bus.serializer().short_name())
            .with("route", bus.route().as_str());
        let handle = self.keep_bus(bus);
        Ok(Answer::new().with("bus", &handle).followed_by(answer))
    }

    pub(super) fn terminate(&mut self, request: &Request) -> Outcome {
        self.bus(request)?.terminate()?;
        Ok(Answer::new())
    }

    pub(super) fn wait(&mut self, request: &Request) -> Outcome {
        let timeout = request.seconds("timeout")?;
        // Clients of this process are not waited for, since they cannot leave meanwhile, and not listed either.
        let remaining = self.bus(request)?.wait(timeout)?;
        let names: Vec<&str> = remaining.iter().map(|name| name.as_str()).collect();
        Ok(Answer::new().with("remaining", &names))
    }

    pub(super) fn audit(&mut self, request: &Request) -> Outcome {
        let route = self.bus(request)?.route().clone();
        for client in self.clients_on(&route) {
            client.write_stats()?;
        }
        let audit = self.bus(request)?.audit()?;
        Ok(Answer::new().with("delta", audit.delta()))
    }

    /// Ends a bus: `shutdown` in full, `unspawn` by removing the store and nothing else.
    pub(super) fn shutdown(&mut self, request: &Request) -> Outcome {
        let handle = self.bus_handle(request)?;
        let route = self.bus(request)?.route().clone();
        self.leave_bus(&route)?;
        let bus = self.bus(request)?;
        let delta: BTreeMap<String, i64> = if request.op == "shutdown" {
            bus.shutdown()?.delta().clone()
        } else {
            let audit = bus.audit();
            bus.unspawn()?;
            // The store is gone, which is what was asked for; that it could not be read before is no failure.
            audit.map(|audit| audit.delta().clone()).unwrap_or_default()
        };
        self.forget_bus(handle);
        Ok(Answer::new().with("delta", &delta))
    }

    /// Disconnects this process's clients on a bus. Their unread messages are discarded, and the audit tells of them.
    fn leave_bus(&mut self, route: &Route) -> Result<(), Failed> {
        for client in self.clients_on(route) {
            match client.disconnect() {
                Err(error) if !matches!(error.kind(), ErrorKind::UnreadMessages | ErrorKind::NoSuchBus) => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        Ok(())
    }
}
