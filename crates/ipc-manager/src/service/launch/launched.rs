// SPDX-License-Identifier: MIT OR Apache-2.0
//! The other side of a start: a program that finds out that it was started as a service.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ready::Ready;
use crate::connection_string::ConnectionString;
use crate::error::{Error, ErrorKind, Result};
use crate::group::Group;
use crate::service::builder::ServiceBuilder;
use crate::service::settings::Settings;
use crate::system::{children, title};

/// The variable of the environment that a service's parameters come in.
pub(super) const PARAMETERS: &str = "IPC_MANAGER_SERVICE";

/// What passes from the starter to the program.
#[derive(Serialize, Deserialize)]
pub(super) struct Parameters {
    pub(super) info: String,
    pub(super) parameters: Settings,
    pub(super) settings: Value,
    /// The number of the group that shares the bus, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) group: Option<u32>,
    /// Who started it. What that process starts in turn inherits the environment, and is no service for it.
    pub(super) starter: u32,
    /// The pipe in which the starter waits for a word.
    pub(super) ready: RawFd,
}

/// A start as a service, as the started program finds it. See [`Exec`](crate::Exec) for both sides.
///
/// ```
/// // Nobody started this program as a service.
/// assert!(ipc_manager::Launched::from_environment()?.is_none());
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug)]
pub struct Launched {
    info: ConnectionString,
    parameters: Settings,
    settings: Value,
    group: Option<Group>,
    ready: Option<Ready>,
}

impl Launched {
    /// Finds out whether this program was started as a service; to be asked before anything else. Says so once. The
    /// process is called after the service from then on, where processes are listed.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if it was, with parameters that make no sense.
    pub fn from_environment() -> Result<Option<Self>> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        let Some(text) = std::env::var_os(PARAMETERS) else { return Ok(None) };
        let wrong = |detail: String| Error::new(ErrorKind::Usage, detail).during("launch");
        let text = text.to_str().ok_or_else(|| wrong(format!("{PARAMETERS} is not UTF-8")))?;
        let parameters: Parameters = serde_json::from_str(text)
            .map_err(|error| wrong(format!("{PARAMETERS} does not say how to run a service")).with_source(error))?;
        if children::parent_pid() != Some(parameters.starter) || TAKEN.swap(true, Ordering::SeqCst) {
            return Ok(None);
        }
        let info = ConnectionString::parse(&parameters.info)?;
        let group = parameters.group.map(Group::from_gid).transpose()?;
        let ready = children::inherited_pipe(parameters.ready).map(Ready::Pipe);
        title::append(&parameters.parameters.name);
        Ok(Some(Self { info, parameters: parameters.parameters, settings: parameters.settings, group, ready }))
    }

    /// The name of the service that it is to be.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.parameters.name
    }

    /// The bus that it is to be on.
    #[must_use]
    pub fn info(&self) -> &ConnectionString {
        &self.info
    }

    /// The value that the starter handed over; null if none.
    ///
    /// # Errors
    /// [`Deserialize`](ErrorKind::Deserialize) if it has another shape.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.settings.clone()).map_err(|error| {
            let detail = format!("the settings do not have the shape of {}", std::any::type_name::<T>());
            Error::new(ErrorKind::Deserialize, detail).with_source(error).during("launch")
        })
    }

    /// The group that shares the bus, if one does: whoever joins it with another client must name it.
    #[must_use]
    pub fn group(&self) -> Option<Group> {
        self.group
    }

    /// The service, with all parameters that the starter set; the callbacks are this program's to add.
    #[must_use]
    pub fn builder(self) -> ServiceBuilder {
        let mut builder = ServiceBuilder::new(&self.parameters.name).bus(&self.info);
        builder.settings = self.parameters;
        builder.launch.ready = self.ready;
        builder.launch.group = self.group;
        builder
    }
}
