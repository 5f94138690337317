// SPDX-License-Identifier: MIT OR Apache-2.0
//! What every command works with.

use ipc_manager::{ConnectionString, Group, Registry};

use crate::args::BusArgs;
use crate::bus_choice;
use crate::failure::Outcome;
use crate::output::Output;

/// What every command works with.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where and how to write.
    pub(crate) out: Output,
    /// The protocols and serializers there are.
    pub(crate) registry: Registry,
    /// The bus that was chosen, for the report of a failure.
    bus: Option<String>,
}

impl Context {
    pub(crate) fn new(out: Output, registry: Registry) -> Self {
        Self { out, registry, bus: None }
    }

    /// The bus that was chosen.
    pub(crate) fn bus(&self) -> Option<&str> {
        self.bus.as_deref()
    }

    /// Has all buses be those of a group, if one is given there or in the environment.
    pub(crate) fn share(&mut self, group: Option<&str>) -> Outcome<()> {
        if let Some(group) = bus_choice::group(group)? {
            self.registry = self.registry.clone().with_group(group);
        }
        Ok(())
    }

    /// The group that shares the bus, if there is one.
    pub(crate) fn group(&self) -> Option<Group> {
        self.registry.credentials().group()
    }

    /// Chooses the bus and remembers it, so that a failure can say which one it was.
    pub(crate) fn choose_bus(&mut self, args: &BusArgs) -> Outcome<ConnectionString> {
        let info = bus_choice::bus(args, &self.registry)?;
        self.share(args.group.as_deref())?;
        self.bus = Some(info.to_string());
        Ok(info)
    }
}
