// SPDX-License-Identifier: MIT OR Apache-2.0
//! Throw-away PostgreSQL, MariaDB and MySQL servers, from the programs on the machine.
//!
//! A [`PrivateServer`] lives in a directory of its own that only its account can enter, listens on a Unix socket and
//! nowhere else, and never runs as root: started by root, it runs as the engine's own system user, or as `nobody`. It is
//! gone, with its directory, when the value is dropped, and also when its process is killed: a small watcher, the
//! *keeper*, holds a pipe to the owner and cleans up when that breaks. What is left if even the keeper is killed,
//! [`remove_leftovers`] finds, and so does the next start.
//!
//! Nothing is written through to the disk, which makes it fast: what it stored survives the end of its processes, but
//! not a power failure.
//!
//! ```no_run
//! use ipc_manager_servers::{Engine, Options, PrivateServer};
//!
//! let server = PrivateServer::start(Engine::PostgreSQL, &Options::new())?;
//! println!("{} as {}, without a password", server.dbi_dsn(), server.user());
//! server.close()?;
//! # Ok::<(), ipc_manager_servers::Error>(())
//! ```
//!
//! No client of a database is used: it starts programs, and looks at what they say when they are ready.

mod account;
mod engine;
mod error;
mod job;
mod keeper;
mod leftovers;
mod mysql_family;
mod options;
mod place;
mod postgresql;
mod processes;
mod programs;
mod server;

pub use engine::Engine;
pub use error::{Error, ErrorKind, Result};
pub use leftovers::{leftovers, leftovers_in, remove_leftovers, remove_leftovers_in};
pub use options::Options;
pub use programs::{Missing, client_program, viable};
pub use server::PrivateServer;
