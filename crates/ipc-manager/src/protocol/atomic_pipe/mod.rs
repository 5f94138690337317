// SPDX-License-Identifier: MIT OR Apache-2.0
//! AtomicPipe: a FIFO a peer, into which all others write frames that the kernel keeps whole. The fastest.
//! The format is in `docs/formats.md`, "AtomicPipe".

mod codec;
mod connection;
mod layout;
mod outgoing;
mod stream;

use std::sync::Arc;

use super::directory_store::{self, Kind, Listing, Store};
use super::{
    Capabilities, Cleaning, CreateOptions, Credentials, Directory, Durability, Hold, NotViable, OpenOptions, Opened,
    Protocol, WaitMechanism,
};
use crate::connection_string::ProtocolName;
use crate::error::Result;
use crate::route::Route;
use crate::serializer::Serializer;

const NAME: &str = "AtomicPipe";

const KIND: Kind = Kind {
    protocol: NAME,
    max_name: |_| 200,
    keeps_mailbox: false,
    is_entry: layout::is_entry,
    unread: None,
    is_intact: layout::is_intact,
    discard: layout::discard,
    is_removable: layout::is_intact,
};

/// The protocol; see the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct AtomicPipe;

impl Protocol for AtomicPipe {
    fn name(&self) -> ProtocolName {
        ProtocolName::new(NAME)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            automatic: true,
            crosses_processes: true,
            suspend: false,
            observable: true,
            largest_payload: None,
            most_unread: None,
            queues: true,
            acknowledges: false,
            connections: false,
            durability: Durability::Process,
            credentials: false,
            groups: true,
            wait: WaitMechanism::Descriptor,
        }
    }

    fn viable(&self) -> Result<(), NotViable> {
        if !cfg!(target_os = "linux") {
            return Err(NotViable("it needs what only Linux does with FIFOs".into()));
        }
        directory_store::viable(KIND).map(drop)
    }

    fn create(&self, options: &CreateOptions) -> Result<Route> {
        directory_store::create(KIND, options)
    }

    fn hold(&self, route: &Route, credentials: &Credentials, guarded: bool, instead_of: Option<Hold>) -> Result<Hold> {
        directory_store::hold(KIND, route, credentials.access()?, guarded, instead_of)
    }

    fn open(&self, route: &Route, options: OpenOptions) -> Result<Opened> {
        connection::open(Store::open(KIND, route, options.credentials.access()?)?, options)
    }

    fn observe(
        &self,
        route: &Route,
        credentials: &Credentials,
        serializer: Arc<dyn Serializer>,
    ) -> Result<Box<dyn Directory>> {
        let store = Arc::new(Store::open(KIND, route, credentials.access()?)?);
        Ok(Box::new(Listing::new(store, None, serializer)))
    }

    fn clean(&self, cleaning: &mut Cleaning) {
        directory_store::clean(KIND, cleaning);
    }

    fn destroy(&self, route: &Route, credentials: &Credentials) -> Result<()> {
        directory_store::destroy(KIND, route, credentials.access()?)
    }
}

#[cfg(test)]
mod fuzz;
