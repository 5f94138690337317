// SPDX-License-Identifier: MIT OR Apache-2.0
//! What buses on database servers have in common: routes, private servers, where the doorbells are, who owns the bus.

use std::path::PathBuf;
use std::sync::Arc;

use ipc_manager_servers::Engine;
use sha2::{Digest, Sha256};

use super::address::{Address, Family, Host};
use super::connection;
use super::dialect::{Dialect, Driver};
use super::listing::Listing;
use super::private;
use super::schema::{self, Schema};
use super::store::{Store, error_of};
use super::value::{Failure, Trouble};
use crate::connection_string::ProtocolName;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::beside::{Beside, clean_doorbells};
use crate::protocol::{
    Capabilities, Cleaning, CreateOptions, Credentials, Directory, Durability, Hold, NotViable, OpenOptions, Opened,
    Protocol, WaitMechanism,
};
use crate::route::Route;
use crate::serializer::Serializer;
use crate::system::access::Access;

/// What opens a connection to a server.
type Opener = fn(Address, &Credentials) -> std::result::Result<Box<dyn Driver>, Failure>;

/// Where the buses of one kind of server differ from those of another.
#[derive(Debug)]
pub(super) struct ServerKind {
    pub(super) family: Family,
    pub(super) dialect: &'static dyn Dialect,
    pub(super) open: Opener,
    /// The server that is started where no route is given.
    pub(super) private: Engine,
    /// What is removed with the tables.
    pub(super) removal: &'static [&'static str],
}

/// A protocol whose buses are in a database of a server.
#[derive(Debug, Clone, Copy)]
pub(in crate::protocol) struct ServerProtocol(pub(super) &'static ServerKind);

impl ServerProtocol {
    fn place(&self, route: &Route, error: Error) -> Error {
        error.in_protocol(self.0.family.protocol).on_route(route.as_str())
    }

    fn connect(&self, route: &Route, credentials: &Credentials) -> Result<Box<dyn Driver>> {
        let address = self.0.family.parse(route)?;
        let possible = address.check_encryption(self.0.family.host_may_be_directory, cfg!(feature = "tls"));
        possible.map_err(|error| self.place(route, error))?;
        let is_local = matches!(&address.host, Host::Socket(path) if !path.exists());
        (self.0.open)(address, credentials).map_err(|failure| {
            let error = match failure.trouble {
                // Whoever removes a private server removes the directory that its socket is in.
                Trouble::Unreachable if is_local => {
                    Error::new(ErrorKind::NoSuchBus, "there is no server at this route")
                        .with_retryable(true)
                        .with_source(failure.source)
                }
                _ => error_of(failure, "the server cannot be talked to"),
            };
            self.place(route, error)
        })
    }

    /// Where the doorbells of a database are: in a directory of the user's, under a digest of where it is.
    fn beside(&self, route: &Route, make: bool) -> Option<Beside> {
        let address = self.0.family.parse(route).ok()?;
        let base = doorbells();
        let digest = Sha256::digest(address.canonical().as_bytes());
        let name: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let folder = base.join(name);
        let opened = if make {
            Beside::open_or_make(&base, Access::Private).and_then(|_| {
                clean_doorbells(&base, &mut Cleaning::brief(&base));
                Beside::open_or_make(&folder, Access::Private).map(Some)
            })
        } else {
            Beside::open(&folder, Access::Private)
        };
        let path = folder.display();
        opened.inspect_err(|error| log::warn!("no doorbells in {path}, so peers poll: {error}")).ok().flatten()
    }

    /// The texts of the database, and where the doorbells are.
    pub(super) fn means(&self, route: &Route) -> (&'static dyn Dialect, Option<Beside>) {
        (self.0.dialect, self.beside(route, false))
    }

    fn make_tables(&self, route: &Route, credentials: &Credentials) -> Result<()> {
        let mut driver = self.connect(route, credentials)?;
        schema::make(&mut *driver, self.0.dialect).map_err(|failure| {
            let error = match failure.trouble {
                Trouble::Missing => {
                    Error::new(ErrorKind::NoSuchBus, "there is no such database").with_source(failure.source)
                }
                _ => error_of(failure, "the tables of the bus cannot be made"),
            };
            self.place(route, error)
        })
    }

    fn store(
        &self,
        route: &Route,
        credentials: &Credentials,
        serializer: Arc<dyn Serializer>,
        joins: bool,
    ) -> Result<Store> {
        let driver = self.connect(route, credentials)?;
        let mut store = Store::new(driver, self.0.dialect, route, None, serializer, joins)?;
        // Only where there is a bus.
        store.beside = self.beside(route, joins);
        Ok(store)
    }
}

impl Protocol for ServerProtocol {
    fn name(&self) -> ProtocolName {
        ProtocolName::new(self.0.family.protocol)
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
            // As the server is set; most are set so that a power cut takes nothing, but a private one is not.
            durability: Durability::Kernel,
            credentials: true,
            groups: false,
            wait: WaitMechanism::Doorbell,
        }
    }

    fn viable(&self) -> Result<(), NotViable> {
        ipc_manager_servers::viable(self.0.private).map_err(|missing| NotViable(missing.to_string()))
    }

    fn create(&self, options: &CreateOptions) -> Result<Route> {
        match &options.route {
            Some(route) => {
                // What is handed on is what other implementations read.
                let route = self.0.family.dsn(&self.0.family.parse(route)?)?;
                self.make_tables(&route, &options.credentials)?;
                Ok(route)
            }
            None if options.lasting => {
                let detail = "a private server ends with the owner of its bus; give a route to a bus that is to stay";
                Err(Error::new(ErrorKind::Unsupported, detail).in_protocol(self.0.family.protocol))
            }
            None => {
                let route =
                    private::start(self.0.private).map_err(|error| error.in_protocol(self.0.family.protocol))?;
                self.make_tables(&route, &private::credentials(self.0.private, &route))
                    .inspect_err(|_| private::end(&route))?;
                Ok(route)
            }
        }
    }

    fn hold(&self, route: &Route, _: &Credentials, guarded: bool, instead_of: Option<Hold>) -> Result<Hold> {
        if let Some(server) = private::take(route) {
            if !guarded {
                let detail = "a private server ends with the owner of its bus; give a route to a bus that is to stay";
                return Err(self.place(route, Error::new(ErrorKind::Unsupported, detail)));
            }
            return Ok(Hold::new(server));
        }
        if private::is_anothers(route) {
            let detail = "a private server cannot be handed to another process; give a route to a bus that is to move";
            return Err(self.place(route, Error::new(ErrorKind::Unsupported, detail)));
        }
        match self.beside(route, true) {
            // The record is on this machine: owners elsewhere do not see it.
            Some(beside) if !private::is_one(route) => {
                beside.hold(guarded, instead_of).map_err(|error| self.place(route, error))
            }
            _ => Ok(instead_of.unwrap_or_else(Hold::none)),
        }
    }

    fn open(&self, route: &Route, options: OpenOptions) -> Result<Opened> {
        let serializer = Arc::clone(&options.serializer);
        let credentials = private::or(self.0.private, route, &options.credentials);
        connection::open(self.store(route, &credentials, serializer, true)?, options)
    }

    fn observe(
        &self,
        route: &Route,
        credentials: &Credentials,
        serializer: Arc<dyn Serializer>,
    ) -> Result<Box<dyn Directory>> {
        let credentials = private::or(self.0.private, route, credentials);
        Ok(Box::new(Listing::new(self.store(route, &credentials, serializer, false)?, None)))
    }

    fn clean(&self, cleaning: &mut Cleaning) {
        // One that is meant is in a database of somebody's, where nothing is known of its owner's machine.
        if cleaning.route().is_some() || cleaning.is_brief() {
            return;
        }
        if cleaning.is_everywhere() {
            let base = doorbells();
            clean_doorbells(&base, cleaning);
            if !cleaning.is_dry_run() {
                let _ = std::fs::remove_dir(base);
            }
        }
        private::clean(cleaning);
    }

    fn destroy(&self, route: &Route, credentials: &Credentials) -> Result<()> {
        let credentials = private::or(self.0.private, route, credentials);
        let removed = self.connect(route, &credentials).and_then(|mut driver| {
            let failed = |failure| self.place(route, error_of(failure, "the tables of the bus cannot be removed"));
            let schema = Schema::find(&mut *driver, self.0.dialect).map_err(failed)?;
            // Tables that were there before the bus stay, and so does what is in them.
            if schema.is_ours {
                schema::remove(&mut *driver, self.0.dialect).map_err(failed)?;
                for statement in self.0.removal {
                    driver.execute(statement, &[]).map_err(failed)?;
                }
            }
            Ok(())
        });
        if let Some(beside) = self.beside(route, false) {
            let cleared = beside.clear();
            cleared.map_err(|error| self.place(route, Error::system(error, "the doorbells cannot be removed")))?;
            if let Some(base) = beside.porch().path().parent() {
                // With the last bus of the user.
                let _ = std::fs::remove_dir(base);
            }
        }
        // What is in a server of one's own goes with it in any case.
        let goes_with_it = private::is_held(route) || private::is_removed(route);
        private::end(route);
        match removed {
            Err(error) if matches!(error.kind(), ErrorKind::NoSuchBus) || goes_with_it => Ok(()),
            removed => removed,
        }
    }
}

/// What the doorbells of this user's databases are in.
fn doorbells() -> PathBuf {
    let uid = rustix::process::geteuid().as_raw();
    let runtime = PathBuf::from(format!("/run/user/{uid}"));
    match std::fs::symlink_metadata(&runtime) {
        Ok(metadata) if metadata.is_dir() => runtime.join("ipcm"),
        // Not TMPDIR: peers that have another one must find each other.
        _ => PathBuf::from(format!("/tmp/ipcm-{uid}")),
    }
}
