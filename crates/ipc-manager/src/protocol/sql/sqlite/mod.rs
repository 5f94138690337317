// SPDX-License-Identifier: MIT OR Apache-2.0
//! SQLite: a bus in one file. Durable, transactional, without a server. The route is the path of the file.

mod dialect;
mod driver;

use std::sync::Arc;

use dialect::SqliteDialect;
use driver::SqliteDriver;

use super::connection;
use super::listing::Listing;
use super::schema;
use super::store::{Store, error_of};
use crate::connection_string::ProtocolName;
use crate::error::Result;
use crate::protocol::beside::{self, Beside, FileKind, FileStore};
use crate::protocol::{
    Capabilities, Cleaning, CreateOptions, Credentials, Directory, Durability, Hold, NotViable, OpenOptions, Opened,
    PeerState, Protocol, WaitMechanism,
};
use crate::route::Route;
use crate::serializer::Serializer;
use crate::system::access::Access;

const NAME: &str = "SQLite";

/// Its texts.
pub(super) const DIALECT: &dyn super::dialect::Dialect = &SqliteDialect;

const KIND: FileKind = FileKind {
    protocol: NAME,
    file: "bus.sqlite",
    with_it: &["-wal", "-shm", "-journal"],
    is_in_use: |route, access| is_in_use(route, access).unwrap_or(true),
};

/// The protocol; see the module.
#[derive(Debug, Clone, Copy)]
pub(in crate::protocol) struct Sqlite;

impl Protocol for Sqlite {
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
        let access = options.credentials.access()?;
        let (store, is_new) = match &options.route {
            None => (FileStore::make_temporary(KIND, b"", access)?, true),
            Some(route) => {
                let store = FileStore::at(KIND, route, access);
                let is_new = store.make_if_missing(b"")?;
                (store, is_new)
            }
        };
        let made = make_tables(&store, is_new);
        if made.is_err() && is_new {
            let _ = store.remove();
        }
        made.map(|()| store.route().clone())
    }

    fn hold(&self, route: &Route, credentials: &Credentials, guarded: bool, instead_of: Option<Hold>) -> Result<Hold> {
        FileStore::at(KIND, route, credentials.access()?).hold(guarded, instead_of)
    }

    fn open(&self, route: &Route, options: OpenOptions) -> Result<Opened> {
        let access = options.credentials.access()?;
        let file = FileStore::at(KIND, route, access);
        // A bus that goes with its owner need not outlive a power cut, and neither what nobody asked that for.
        let is_lasting = options.durability == Durability::Power || !file.is_guarded();
        let driver = opened(&file, is_lasting)?;
        let serializer = Arc::clone(&options.serializer);
        let mut store = Store::new(Box::new(driver), &SqliteDialect, route, None, serializer, true)?;
        // Only where there is a bus.
        store.beside = Beside::made_for_file(route, access);
        connection::open(store, options)
    }

    fn observe(
        &self,
        route: &Route,
        credentials: &Credentials,
        serializer: Arc<dyn Serializer>,
    ) -> Result<Box<dyn Directory>> {
        Ok(Box::new(Listing::new(observed(route, credentials.access()?, serializer)?, None)))
    }

    fn clean(&self, cleaning: &mut Cleaning) {
        beside::clean(KIND, cleaning);
    }

    fn destroy(&self, route: &Route, credentials: &Credentials) -> Result<()> {
        let file = FileStore::at(KIND, route, credentials.access()?);
        if file.is_ours() || !std::path::Path::new(route.as_str()).exists() {
            return file.remove();
        }
        // Somebody else's database: only what is the bus's goes.
        let mut driver = opened(&file, true)?;
        schema::remove(&mut driver, &SqliteDialect)
            .map_err(|failure| file.place(error_of(failure, "the tables of the bus cannot be removed")))?;
        file.remove_folder()
    }
}

/// Opens the file of a bus.
fn opened(file: &FileStore, is_lasting: bool) -> Result<SqliteDriver> {
    file.share(&["-wal", "-shm"])?;
    SqliteDriver::open(file.route(), is_lasting, file.access()).map_err(|error| file.place(error))
}

fn make_tables(file: &FileStore, is_new: bool) -> Result<()> {
    let mut driver = opened(file, true)?;
    let failed = |failure| file.place(error_of(failure, "the tables of the bus cannot be made"));
    if is_new {
        // Only in a file of our own: the mode is a property of the file.
        driver.use_write_ahead_log().map_err(failed)?;
    }
    schema::make(&mut driver, &SqliteDialect).map_err(failed)
}

fn observed(route: &Route, access: Access, serializer: Arc<dyn Serializer>) -> Result<Store> {
    let file = FileStore::at(KIND, route, access);
    let driver = opened(&file, false)?;
    Store::new(Box::new(driver), &SqliteDialect, route, Beside::of_file(route, access), serializer, false)
}

/// Whether a peer is alive on the bus.
fn is_in_use(route: &Route, access: Access) -> Result<bool> {
    let serializer = crate::serializer::Serializers::standard();
    let serializer = serializer.resolve(&serializer.default_spec())?;
    let driver = SqliteDriver::open(route, false, access)?;
    driver.keep_log();
    let store = Store::new(Box::new(driver), &SqliteDialect, route, Beside::of_file(route, access), serializer, false)?;
    let peers = Listing::new(store, None).peers()?;
    Ok(peers.iter().any(|peer| peer.state.is_alive() && peer.state != PeerState::Leaving))
}
