// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starting services: in a thread, in a fork, in a fresh program; from outside, or nested in another service.

mod exec;
mod fork;
mod launched;
mod nested;
mod ready;
mod started;
mod thread;

use std::io::Write;

pub use exec::Exec;
pub use launched::Launched;
pub(super) use ready::Ready;
pub use started::Ended;
pub(super) use started::Started;

use super::builder::ServiceBuilder;
use super::handle::Handle;
use super::request::ServiceResult;
use crate::bus::{Spawn, SpawnBuilder};
use crate::connection_string::ConnectionString;
use crate::error::{Error, Result};
use crate::group::Group;
use crate::protocol::Registry;
use crate::system::process;

/// What is done around a fork.
pub(super) type Hook = Box<dyn FnOnce() -> ServiceResult + Send>;

/// How a service is to be started.
#[derive(Default)]
pub(super) struct Launch {
    pub(super) pre_fork: Option<Hook>,
    pub(super) post_fork: Option<Hook>,
    /// Whom to tell that the service is on its bus, where a starter waits for it.
    pub(super) ready: Option<Ready>,
    /// The starter does not wait until the service is on its bus.
    pub(super) without_waiting: bool,
    /// The group that shares the bus, as who started it says.
    pub(super) group: Option<Group>,
}

/// The bus that a service is started on, and the value that ends it, if it was made for the service.
fn bus_for(
    info: Option<&ConnectionString>,
    new_bus: Option<&SpawnBuilder>,
    registry: &Registry,
) -> Result<(ConnectionString, Option<Spawn>)> {
    if let Some(info) = info {
        return Ok((info.clone(), None));
    }
    let bus = match new_bus {
        Some(builder) => builder.clone().registry(registry.clone()).spawn()?,
        None => Spawn::builder().registry(registry.clone()).spawn()?,
    };
    Ok((bus.info().clone(), Some(bus)))
}

impl ServiceBuilder {
    /// Puts the service on the bus that it is to have, and makes the handle on it.
    fn settle_bus(&mut self) -> Result<Handle> {
        let (info, bus) = bus_for(self.info.as_ref(), self.new_bus.take().as_ref(), &self.registry)?;
        self.info = Some(info.clone());
        if let Some(bus) = &bus {
            self.registry = bus.registry();
        }
        let handle = Handle::with_registry(&self.settings.name, &info, self.registry.clone())?;
        Ok(handle.of_starter(bus))
    }

    /// Has a service in a process of its own end with the process that starts it, unless it is to outlive that.
    fn watch_starter(&mut self) {
        if !self.settings.outlives_starter {
            self.settings.watch_pids.push(process::own_pid());
        }
    }

    /// Sets what is done in the starter just before it forks.
    #[must_use]
    pub fn pre_fork(mut self, hook: impl FnOnce() -> ServiceResult + Send + 'static) -> Self {
        self.launch.pre_fork = Some(Box::new(hook));
        self
    }

    /// Sets what is done in the forked child before it becomes the service. It may fork again and end, or wait: the
    /// service is whoever returns from it.
    #[must_use]
    pub fn post_fork(mut self, hook: impl FnOnce() -> ServiceResult + Send + 'static) -> Self {
        self.launch.post_fork = Some(Box::new(hook));
        self
    }

    /// Sets whether starting the service returns at once. Then whoever wants to know waits for it with
    /// [`Handle::ready`].
    #[must_use]
    pub fn without_waiting(mut self, on: bool) -> Self {
        self.launch.without_waiting = on;
        self
    }

    /// Runs the service as the main thing of this program. An error is told on standard error, and the status is 255
    /// then; otherwise it is the value that the service was terminated with.
    #[must_use]
    pub fn main(self) -> std::process::ExitCode {
        let name = self.settings.name.clone();
        std::process::ExitCode::from(low_byte(exit_status(&name, &self.run())))
    }
}

/// The exit status for what a service came to; an error is told on standard error, where the process is the service's.
fn exit_status(name: &str, ran: &Result<i32>) -> i32 {
    match ran {
        Ok(value) => *value,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "service {name}: {}", with_causes(error));
            255
        }
    }
}

/// An error and what caused it, on one line.
fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(error.to_string().trim_end());
        cause = error.source();
    }
    text
}

/// What the system keeps of an exit status.
fn low_byte(code: i32) -> u8 {
    code.to_le_bytes()[0]
}

/// Ends a process that was forked for something that is done now.
pub(super) fn leave_process(code: i32, at_once: bool) -> ! {
    if at_once {
        process::exit_now(code);
    }
    std::process::exit(code)
}
