// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service in a fresh program: this one again, or another. It is handed the parameters in its environment, which no
//! other user can see, as JSON.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Command;

use serde::Serialize;
use serde_json::Value;

use super::launched::{PARAMETERS, Parameters};
use super::ready;
use super::started::{Child, Started};
use crate::connection_string::ConnectionString;
use crate::error::{Error, ErrorKind, Result};
use crate::group::Group;
use crate::name::PeerName;
use crate::service::builder::ServiceBuilder;
use crate::service::handle::Handle;
use crate::system::{children, process};

/// How to start a service in a fresh program. The program calls [`Launched::from_environment`](crate::Launched) to find
/// out that it is one, and gives the callbacks itself: only plain values pass from one program to another.
///
/// ```standalone_crate
/// use ipc_manager::{Launched, Service};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// if let Some(launched) = Launched::from_environment()? {
///     let factor: i64 = launched.settings()?;
///     std::process::exit(launched.builder().on_typed_request(move |_, n: i64| Ok(n * factor)).run()?);
/// }
/// let mut triple = Service::builder("triple").exec().settings(&3)?.spawn()?;
/// assert_eq!(triple.request("triple", &14)?, 42);
/// # Ok(()) }
/// ```
pub struct Exec {
    builder: ServiceBuilder,
    program: Option<OsString>,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    settings: Value,
}

impl ServiceBuilder {
    /// Starts to describe how this service is started in a fresh program: with the parameters that were set, and without
    /// callbacks.
    #[must_use]
    pub fn exec(self) -> Exec {
        Exec { builder: self, program: None, arguments: vec![], environment: vec![], settings: Value::Null }
    }
}

impl Exec {
    /// Starts this program instead of the one that runs.
    #[must_use]
    pub fn program(mut self, program: impl AsRef<OsStr>) -> Self {
        self.program = Some(program.as_ref().to_owned());
        self
    }

    /// Hands the program an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Hands the program a variable of the environment, beside those of this process.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Hands the service a value of the caller's choice.
    ///
    /// # Errors
    /// [`Serialize`](ErrorKind::Serialize) if it cannot be JSON.
    pub fn settings<T: Serialize + ?Sized>(mut self, settings: &T) -> Result<Self> {
        self.settings = serde_json::to_value(settings).map_err(|error| {
            Error::new(ErrorKind::Serialize, "the settings cannot be written as JSON").with_source(error)
        })?;
        Ok(self)
    }

    /// Starts the program and waits until the service is on its bus. Without a bus of the caller's it gets a new one,
    /// which ends with the handle.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if there are callbacks, since they cannot pass; what the system says if the program
    /// cannot be started; the service's own reason if it says one; [`ServiceError`](ErrorKind::ServiceError) if it ends
    /// before it is on its bus, and [`Timeout`](ErrorKind::Timeout) if it is not in time: it is killed then.
    pub fn spawn(mut self) -> Result<Handle> {
        let mut prepare = || {
            self.check()?;
            self.builder.settle_bus()
        };
        let handle = prepare().map_err(|error: Error| error.during("exec"))?;
        self.start(handle).map_err(|error| error.during("exec"))
    }

    pub(super) fn check(&self) -> Result<()> {
        PeerName::new(&self.builder.settings.name)?;
        let has_handlers = self.builder.on_request.is_some() || self.builder.on_response.is_some();
        if has_handlers || !self.builder.callbacks.is_empty() {
            let detail = "callbacks cannot be handed to another program; it brings its own";
            return Err(Error::new(ErrorKind::Usage, detail));
        }
        if self.builder.info.is_some() && self.builder.new_bus.is_some() {
            return Err(Error::new(ErrorKind::Usage, "a service is on a given bus or on a new one, not on both"));
        }
        Ok(())
    }

    pub(super) fn builder(&mut self) -> &mut ServiceBuilder {
        &mut self.builder
    }

    pub(super) fn start(mut self, mut handle: Handle) -> Result<Handle> {
        self.builder.watch_starter();
        let failed = |error| Error::system(error, "the pipe to the service cannot be made");
        let (pipe, writer) = io::pipe().map_err(failed)?;
        let writer = OwnedFd::from(writer);
        let mut command = self.command(handle.info(), &writer)?;
        let child = command.spawn().map_err(|error| {
            let program = command.get_program().to_string_lossy().into_owned();
            Error::system(error, "the program of the service cannot be started").at_path(program)
        })?;
        drop(writer);
        // Reaped by its pid from here on.
        handle.started = Started::Process(Child::new(child.id()));
        if !self.builder.launch.without_waiting
            && let Err(error) = ready::wait_for(&mut handle, pipe, self.builder.settings.timeout)
        {
            handle.started.kill();
            return Err(error);
        }
        Ok(handle)
    }

    fn command(&self, info: &ConnectionString, ready: &OwnedFd) -> Result<Command> {
        let mut command = match &self.program {
            Some(program) => Command::new(program),
            None => Command::new(std::env::current_exe().map_err(|error| {
                Error::system(error, "this program does not know its path, so it cannot be started again")
            })?),
        };
        let parameters = Parameters {
            info: info.to_string(),
            parameters: self.builder.settings.clone(),
            settings: self.settings.clone(),
            group: self.builder.registry.credentials().group().map(Group::gid),
            starter: process::own_pid(),
            ready: children::raw(ready),
        };
        let text = serde_json::to_string(&parameters).map_err(|error| {
            Error::new(ErrorKind::Serialize, "the parameters cannot be written as JSON").with_source(error)
        })?;
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env(PARAMETERS, text);
        // The end of another thread than the first is no reason to kill the service.
        let is_bound = !self.builder.settings.outlives_starter && children::is_first_thread();
        children::prepare(&mut command, Some(children::raw(ready)), is_bound);
        Ok(command)
    }
}

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec")
            .field("builder", &self.builder)
            .field("program", &self.program)
            .field("arguments", &self.arguments)
            .finish_non_exhaustive()
    }
}
