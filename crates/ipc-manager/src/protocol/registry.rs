// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which protocols there are, and which one a new bus gets.

use std::sync::Arc;

use super::{Capabilities, Credentials, Protocol};
use crate::connection_string::{ConnectionString, ProtocolName};
use crate::error::{Error, ErrorKind, Escaped, Result};
use crate::group::Group;
use crate::serializer::{Serializer, Serializers};

/// The protocols and serializers that a program knows, and as whom it comes to stores: a plain value, no global.
///
/// ```
/// use ipc_manager::Registry;
/// let registry = Registry::standard();
/// assert!(registry.names().contains(&"MessageFiles".to_string()));
/// let error = registry.get("Pigeon").unwrap_err();
/// assert_eq!(error.kind(), ipc_manager::ErrorKind::UnknownProtocol);
/// ```
#[derive(Debug, Clone)]
pub struct Registry {
    protocols: Vec<Arc<dyn Protocol>>,
    serializers: Serializers,
    credentials: Credentials,
}

impl Default for Registry {
    fn default() -> Self {
        Self::standard()
    }
}

impl Registry {
    /// Everything that is built in.
    #[must_use]
    pub fn standard() -> Self {
        Self { protocols: super::standard(), serializers: Serializers::standard(), credentials: Credentials::none() }
    }

    /// Adds a protocol of the caller's, or replaces the one of that name. It is tried after those that are there.
    #[must_use]
    pub fn with(mut self, protocol: Arc<dyn Protocol>) -> Self {
        self.protocols.retain(|known| known.name() != protocol.name());
        self.protocols.push(protocol);
        self
    }

    /// Uses these serializers instead of the standard ones.
    #[must_use]
    pub fn with_serializers(mut self, serializers: Serializers) -> Self {
        self.serializers = serializers;
        self
    }

    /// Says as whom the program comes to stores.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// Has all stores be those of a group of users, and nobody else's.
    #[must_use]
    pub fn with_group(mut self, group: Group) -> Self {
        self.credentials = self.credentials.with_group(group);
        self
    }

    /// As whom the program comes to stores.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The serializers.
    #[must_use]
    pub fn serializers(&self) -> &Serializers {
        &self.serializers
    }

    /// Every protocol, in the order in which they are tried.
    pub fn protocols(&self) -> impl Iterator<Item = &Arc<dyn Protocol>> {
        self.protocols.iter()
    }

    /// The short names of all protocols.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.protocols.iter().map(|protocol| protocol.name().short()).collect()
    }

    /// Finds a protocol by its short name, its class name, or `+Name`.
    ///
    /// # Errors
    /// [`UnknownProtocol`](ErrorKind::UnknownProtocol), naming the known ones.
    pub fn get(&self, name: &str) -> Result<&Arc<dyn Protocol>> {
        self.find(&ProtocolName::new(name))
    }

    /// Finds a protocol by its parsed name.
    ///
    /// # Errors
    /// [`UnknownProtocol`](ErrorKind::UnknownProtocol), naming the known ones.
    pub fn find(&self, name: &ProtocolName) -> Result<&Arc<dyn Protocol>> {
        self.protocols.iter().find(|protocol| protocol.name() == *name).ok_or_else(|| {
            let (known, name) = (self.names().join(", "), name.short());
            let detail = format!("there is no protocol \"{}\"; known are {known}", Escaped(&name));
            Error::new(ErrorKind::UnknownProtocol, detail)
        })
    }

    /// Finds the serializer that a connection string names.
    ///
    /// # Errors
    /// [`UnknownSerializer`](ErrorKind::UnknownSerializer), [`InvalidInfo`](ErrorKind::InvalidInfo) for arguments that
    /// it does not take, and what the system says of a dictionary.
    pub fn serializer_of(&self, info: &ConnectionString) -> Result<Arc<dyn Serializer>> {
        self.serializers.resolve(info.serializer()).map_err(|error| match error.kind() {
            ErrorKind::Usage => error.with_kind(ErrorKind::InvalidInfo),
            _ => error,
        })
    }

    /// Picks the first protocol that works on this machine: of those named, or of all that are picked automatically and
    /// know buses for a group, if one is set.
    ///
    /// # Errors
    /// [`UnknownProtocol`](ErrorKind::UnknownProtocol) for a name that nobody has, [`NotViable`](ErrorKind::NotViable)
    /// with every candidate's reason.
    pub fn first_viable(&self, names: &[String]) -> Result<&Arc<dyn Protocol>> {
        let candidates: Vec<_> = if names.is_empty() {
            let fits = |it: &Capabilities| it.automatic && (it.groups || self.credentials.group().is_none());
            self.protocols.iter().filter(|protocol| fits(&protocol.capabilities())).collect()
        } else {
            names.iter().map(|name| self.get(name)).collect::<Result<_>>()?
        };
        let mut reasons = Vec::new();
        for protocol in candidates {
            match protocol.viable() {
                Ok(()) => return Ok(protocol),
                Err(reason) => reasons.push(format!("{}: {reason}", protocol.name().short())),
            }
        }
        let detail = format!("no protocol works on this machine ({})", reasons.join("; "));
        Err(Error::new(ErrorKind::NotViable, detail))
    }
}
