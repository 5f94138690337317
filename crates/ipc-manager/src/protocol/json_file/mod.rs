// SPDX-License-Identifier: MIT OR Apache-2.0
//! JSONFile: the whole bus in one JSON file under a lock. Easy to look at; every operation reads and writes all of it,
//! so it is for small buses. The format is in `docs/formats.md`, "JSONFile".

mod claim;
mod connection;
mod copies;
mod dead;
mod delivery;
mod file;
mod listing;
mod scan;
mod state;

use std::sync::Arc;

use super::beside::{self, Beside, FileKind, FileStore};
use super::{
    Capabilities, Cleaning, CreateOptions, Credentials, Directory, Durability, Hold, NotViable, OpenOptions, Opened,
    Protocol, WaitMechanism,
};
use crate::connection_string::ProtocolName;
use crate::error::{Error, ErrorKind, Result};
use crate::route::Route;
use crate::serializer::Serializer;
use crate::system::access::Access;
use file::StateFile;
use listing::Listing;

const NAME: &str = "JSONFile";

const KIND: FileKind = FileKind {
    protocol: NAME,
    file: "bus.json",
    with_it: &[],
    is_in_use: |route, access| {
        let peers = observed(route, access).and_then(|file| Listing::new(file, None).peers());
        peers.map_or(true, |peers| peers.iter().any(|peer| peer.state.is_alive()))
    },
};

/// The protocol; see the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct JsonFile;

impl Protocol for JsonFile {
    fn name(&self) -> ProtocolName {
        ProtocolName::new(NAME)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            automatic: false,
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
            wait: WaitMechanism::Doorbell,
        }
    }

    fn viable(&self) -> Result<(), NotViable> {
        let temporary = std::env::temp_dir();
        rustix::fs::access(&temporary, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).map_err(|error| {
            NotViable(format!("the temporary directory {} cannot be written to: {error}", temporary.display()))
        })
    }

    fn create(&self, options: &CreateOptions) -> Result<Route> {
        let (empty, access) = (state::EMPTY.as_bytes(), options.credentials.access()?);
        let Some(route) = &options.route else {
            return FileStore::make_temporary(KIND, empty, access).map(|store| store.route().clone());
        };
        if !FileStore::at(KIND, route, access).make_if_missing(empty)? {
            let file = observed(route, access)?;
            // Whatever is in the file would be written over.
            let checked = file.change(|state| {
                Ok(if state.text() == state::EMPTY { file::Change::Some(()) } else { file::Change::None(()) })
            });
            checked.map_err(|error| match error.kind() {
                ErrorKind::Corrupt => {
                    let detail = "the file holds something else than a bus; use an empty or a new one";
                    file.place(Error::new(ErrorKind::NameInUse, detail)).with_source(error)
                }
                _ => error,
            })?;
        }
        Ok(route.clone())
    }

    fn hold(&self, route: &Route, credentials: &Credentials, guarded: bool, instead_of: Option<Hold>) -> Result<Hold> {
        FileStore::at(KIND, route, credentials.access()?).hold(guarded, instead_of)
    }

    fn open(&self, route: &Route, options: OpenOptions) -> Result<Opened> {
        let is_lasting = options.durability == Durability::Power;
        // Only where there is a bus is anything put beside it.
        let access = options.credentials.access()?;
        observed(route, access)?.read()?;
        connection::open(StateFile::open(route, access, Beside::made_for_file(route, access), is_lasting)?, options)
    }

    fn observe(&self, route: &Route, credentials: &Credentials, _: Arc<dyn Serializer>) -> Result<Box<dyn Directory>> {
        Ok(Box::new(Listing::new(observed(route, credentials.access()?)?, None)))
    }

    fn clean(&self, cleaning: &mut Cleaning) {
        beside::clean(KIND, cleaning);
    }

    fn destroy(&self, route: &Route, credentials: &Credentials) -> Result<()> {
        let access = credentials.access()?;
        // The file is the bus and nothing else, whoever made it. One that is no bus stays.
        if let Ok(file) = observed(route, access) {
            file.read()?;
        }
        FileStore::at(KIND, route, access).remove()
    }
}

/// The file, to be looked at or changed a little.
fn observed(route: &Route, access: Access) -> Result<StateFile> {
    StateFile::open(route, access, Beside::of_file(route, access), false)
}

#[cfg(test)]
mod fuzz;
