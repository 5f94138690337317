// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server that the workers of a bare driver share: one like that of the bus beside them, with the same settings.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ipc_manager_servers::{Engine, Options, PrivateServer};

/// Where it is.
pub(super) struct Server {
    pub(super) socket: PathBuf,
    pub(super) user: String,
    pub(super) database: String,
    /// It ends with the worker that started it.
    _started: Option<PrivateServer>,
}

/// That of a bus, by its data source name; its socket is a key of that, or in the folder that is.
pub(super) fn of_route(route: &str, user: &str) -> Option<Server> {
    let value = |key: &str| route.split([':', ';']).find_map(|part| part.strip_prefix(key)?.strip_prefix('='));
    let socket = match value("host") {
        Some(folder) => Path::new(folder).join(".s.PGSQL.5432"),
        None => value("mariadb_socket")?.into(),
    };
    Some(Server { socket, user: user.to_owned(), database: value("dbname")?.to_owned(), _started: None })
}

/// Starts it, or finds the one that another worker has started. `make` makes the tables.
pub(super) fn join(
    engine: Engine,
    directory: &Path,
    make: impl FnOnce(&Server) -> io::Result<()>,
) -> io::Result<Server> {
    let _alone = super::database::alone(directory)?;
    let record = directory.join("server");
    if let Ok(text) = fs::read_to_string(&record)
        && let [socket, user, database] = text.lines().collect::<Vec<_>>()[..]
    {
        let (user, database) = (user.to_owned(), database.to_owned());
        return Ok(Server { socket: socket.into(), user, database, _started: None });
    }
    let started = PrivateServer::start(engine, &Options::new()).map_err(io::Error::other)?;
    let (socket, user) = (started.socket().to_owned(), started.user());
    let database = started.database().to_owned();
    let server = Server { socket, user, database, _started: Some(started) };
    make(&server)?;
    fs::write(record, format!("{}\n{}\n{}\n", server.socket.display(), server.user, server.database))?;
    Ok(server)
}
