// SPDX-License-Identifier: MIT OR Apache-2.0
//! UnixSocket: a datagram socket a peer, a datagram a message, and the kernel says who sent it.
//! The format is in `docs/formats.md`, "UnixSocket".

mod connection;
mod layout;
mod outgoing;

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

const NAME: &str = "UnixSocket";

const KIND: Kind = Kind {
    protocol: NAME,
    max_name: directory_store::room_for_socket,
    keeps_mailbox: false,
    is_entry: layout::is_entry,
    unread: None,
    is_intact: layout::is_intact,
    discard: layout::discard,
    is_removable: layout::is_intact,
};

/// How many datagrams a socket holds beyond the first; unix(7).
const QUEUE: &str = "/proc/sys/net/unix/max_dgram_qlen";

/// The protocol; see the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnixSocket;

impl Protocol for UnixSocket {
    fn name(&self) -> ProtocolName {
        ProtocolName::new(NAME)
    }

    fn capabilities(&self) -> Capabilities {
        let queue = std::fs::read_to_string(QUEUE).ok().and_then(|queue| queue.trim().parse::<usize>().ok());
        Capabilities {
            automatic: true,
            crosses_processes: true,
            suspend: false,
            observable: true,
            largest_payload: Some(outgoing::LARGEST),
            most_unread: Some(queue.unwrap_or(10).saturating_add(1)),
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
