// SPDX-License-Identifier: MIT OR Apache-2.0
//! LocalMemory: a bus within one process. The strictest protocol: what is not promised, it refuses, so a program that
//! works over it rests on nothing that another protocol may lack.

mod connection;
mod delivery;
mod listing;
mod store;

use std::sync::Arc;

use super::{
    Capabilities, Cleaning, CreateOptions, Credentials, Directory, Durability, Hold, NotViable, OpenOptions, Opened,
    Protocol, WaitMechanism,
};
use crate::connection_string::ProtocolName;
use crate::error::{Error, ErrorKind, Result};
use crate::route::Route;
use crate::serializer::Serializer;

const NAME: &str = "LocalMemory";
/// Most unread messages of one mailbox.
const MOST_UNREAD: usize = 10_000;
/// Largest payload, in bytes.
const LARGEST: usize = 1 << 20;

/// The protocol; see the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct LocalMemory;

impl Protocol for LocalMemory {
    fn name(&self) -> ProtocolName {
        ProtocolName::new(NAME)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            automatic: false,
            crosses_processes: false,
            suspend: true,
            observable: true,
            largest_payload: Some(LARGEST),
            most_unread: Some(MOST_UNREAD),
            queues: false,
            acknowledges: true,
            connections: false,
            durability: Durability::Process,
            credentials: false,
            groups: false,
            wait: WaitMechanism::Descriptor,
        }
    }

    fn viable(&self) -> Result<(), NotViable> {
        Ok(())
    }

    fn create(&self, options: &CreateOptions) -> Result<Route> {
        match &options.route {
            None => store::create(),
            Some(route) => {
                let detail = "a bus in memory cannot be put at a route; leave it out";
                Err(place(Error::new(ErrorKind::Unsupported, detail)).on_route(route.as_str()))
            }
        }
    }

    fn hold(
        &self,
        route: &Route,
        _credentials: &Credentials,
        _guarded: bool,
        _instead_of: Option<Hold>,
    ) -> Result<Hold> {
        // The store ends with the process, whoever owns it.
        store::find(route).map(|_| Hold::none())
    }

    fn open(&self, route: &Route, options: OpenOptions) -> Result<Opened> {
        connection::open(store::find(route)?, options)
    }

    fn observe(
        &self,
        route: &Route,
        _credentials: &Credentials,
        serializer: Arc<dyn Serializer>,
    ) -> Result<Box<dyn Directory>> {
        Ok(Box::new(listing::Listing::new(store::find(route)?, None, serializer)?))
    }

    fn clean(&self, _cleaning: &mut Cleaning) {
        // A store ends with its process, however that ends.
    }

    fn destroy(&self, route: &Route, _credentials: &Credentials) -> Result<()> {
        store::forget(route);
        Ok(())
    }
}

fn place(error: Error) -> Error {
    error.in_protocol(NAME)
}
