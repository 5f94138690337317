// SPDX-License-Identifier: MIT OR Apache-2.0
//! MessageFiles: a directory a peer, a file a message. Easy to look at, outlives every process, needs no server.
//! The format is in `docs/formats.md`, "MessageFiles".

mod connection;
mod delivery;
mod layout;
mod mailbox;
mod outgoing;
mod put_back;
mod removal;

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
use crate::system::files;

const NAME: &str = "MessageFiles";

const KIND: Kind = Kind {
    protocol: NAME,
    max_name: |_| 200,
    keeps_mailbox: true,
    is_entry: files::is_directory,
    unread: Some(layout::unread),
    is_intact: removal::is_intact,
    discard: removal::discard,
    is_removable: removal::is_removable,
};

/// The protocol; see the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct MessageFiles;

impl Protocol for MessageFiles {
    fn name(&self) -> ProtocolName {
        ProtocolName::new(NAME)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            automatic: true,
            crosses_processes: true,
            suspend: true,
            observable: true,
            largest_payload: None,
            most_unread: None,
            queues: false,
            acknowledges: true,
            connections: false,
            durability: Durability::Power,
            credentials: false,
            groups: true,
            wait: WaitMechanism::Inotify,
        }
    }

    fn viable(&self) -> Result<(), NotViable> {
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
