// SPDX-License-Identifier: MIT OR Apache-2.0
//! ConnectionUnix: one stream a pair of peers, both ways, over listening sockets in a directory. Also for peers that do
//! not listen: these are reached over connections that they opened. The format is in `docs/formats.md`, "ConnectionUnix".

mod codec;
mod connection;
mod incoming;
mod layout;
mod link;
mod links;
mod outgoing;
mod standing;

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

const NAME: &str = "ConnectionUnix";

const KIND: Kind = Kind {
    protocol: NAME,
    max_name: directory_store::room_for_socket,
    keeps_mailbox: false,
    is_entry: layout::is_entry,
    unread: None,
    is_intact: layout::is_intact,
    discard: layout::discard,
    is_removable: layout::is_removable,
};

/// The protocol; see the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionUnix;

impl Protocol for ConnectionUnix {
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
            connections: true,
            credentials: false,
            groups: true,
            durability: Durability::Process,
            wait: WaitMechanism::Descriptor,
        }
    }

    fn viable(&self) -> Result<(), NotViable> {
        let place = directory_store::viable(KIND)?;
        layout::try_in(&place).map_err(|error| {
            let place = place.display();
            NotViable(format!("no socket can be made in {place}: {error}"))
        })
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
