// SPDX-License-Identifier: MIT OR Apache-2.0
//! What every command works with.

use ipc_manager::{ConnectionString, Registry};

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

    /// Chooses the bus and remembers it, so that a failure can say which one it was.
    pub(crate) fn choose_bus(&mut self, args: &BusArgs) -> Outcome<ConnectionString> {
        let info = bus_choice::bus(args, &self.registry)?;
        self.bus = Some(info.to_string());
        Ok(info)
    }
}
