// SPDX-License-Identifier: MIT OR Apache-2.0
//! Private servers: started where a bus is made without a route, and gone with its owner.

use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipc_manager_servers::{Engine, Options, PrivateServer};

use super::secret;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::{Cleaning, Credentials, Fate, Leftover, LeftoverKind};
use crate::route::Route;
use crate::system::process::own_pid;

/// What the folders of private servers are called: their routes are told by it.
const FOLDER: &str = "/ipcm-db-";

/// Servers between their start and their owner's record.
static STARTED: Mutex<Vec<(Route, u32, PrivateServer)>> = Mutex::new(Vec::new());

fn started() -> MutexGuard<'static, Vec<(Route, u32, PrivateServer)>> {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a server, of its own for each bus.
pub(super) fn start(engine: Engine) -> Result<Route> {
    let server = PrivateServer::start(engine, &Options::new()).map_err(|error| {
        let kind = match error.kind() {
            ipc_manager_servers::ErrorKind::Missing => ErrorKind::NotViable,
            _ => ErrorKind::Store,
        };
        Error::new(kind, "a private server cannot be started").with_source(error)
    })?;
    let route = Route::new(&server.dbi_dsn())?;
    started().push((route.clone(), own_pid(), server));
    Ok(route)
}

/// The private servers of owners, and the processes that those are.
static HELD: Mutex<Vec<(Route, u32)>> = Mutex::new(Vec::new());

/// Whether the server at a route is another process's, as it is in a forked child.
pub(super) fn is_anothers(route: &Route) -> bool {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    held.iter().any(|(known, pid)| known == route && *pid != own_pid())
}

/// Whether the server at a route is one of this process, and ends with its owner.
pub(super) fn is_held(route: &Route) -> bool {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let is_here = |known: &Route, pid: u32| known == route && pid == own_pid();
    held.iter().any(|(known, pid)| is_here(known, *pid)) || started().iter().any(|(known, pid, _)| is_here(known, *pid))
}

/// Hands the server over to the record of its owner.
pub(super) fn take(route: &Route) -> Option<PrivateServer> {
    let mut started = started();
    let at = started.iter().position(|(known, pid, _)| known == route && *pid == own_pid())?;
    HELD.lock().unwrap_or_else(PoisonError::into_inner).push((route.clone(), own_pid()));
    Some(started.swap_remove(at).2)
}

/// Ends a server that nobody has taken charge of.
pub(super) fn end(route: &Route) {
    drop(take(route));
}

/// Whether a route leads to a private server.
pub(super) fn is_one(route: &Route) -> bool {
    route.as_str().contains(FOLDER)
}

/// Whether a route leads to a private server that is gone for good: its folder goes with it.
pub(super) fn is_removed(route: &Route) -> bool {
    folder(route).is_some_and(|folder| !std::path::Path::new(folder).exists())
}

/// Who one is to a private server: its superuser, who needs no password. What a user's environment and files say is for
/// other servers.
pub(super) fn credentials(engine: Engine, route: &Route) -> Credentials {
    match engine {
        // Named after the server's owner, whoever joins.
        Engine::PostgreSQL => {
            let owner = folder(route).and_then(|folder| std::fs::metadata(folder).ok()).map(|folder| folder.uid());
            let name = owner.and_then(secret::name_of).or_else(secret::login_name);
            name.map_or_else(Credentials::none, |name| Credentials::none().with_user(&name))
        }
        _ => Credentials::none().with_user("root").with_password(""),
    }
}

/// The folder of the private server that a route leads to.
fn folder(route: &Route) -> Option<&str> {
    let route = route.as_str();
    let named = route.find(FOLDER)?;
    let start = route[..named].rfind(['=', ';', '@']).map_or(0, |at| at + 1);
    let end = route[named + 1..].find(['/', ';']).map_or(route.len(), |at| named + 1 + at);
    Some(&route[start..end])
}

/// Who one is at a route, where nothing else was said.
pub(super) fn or(engine: Engine, route: &Route, given: &Credentials) -> Credentials {
    if is_one(route) && *given == Credentials::none() { credentials(engine, route) } else { given.clone() }
}

/// Removes private servers whose owners and keepers are dead.
pub(super) fn clean(cleaning: &mut Cleaning) {
    let places = cleaning.places().to_vec();
    let found: Vec<_> = match cleaning.is_dry_run() {
        true => ipc_manager_servers::leftovers_in(&places).into_iter().map(|path| (path, Fate::Found)).collect(),
        false => {
            let removed = ipc_manager_servers::remove_leftovers_in(&places).into_iter();
            removed
                .map(|(path, removed)| (path, removed.map_or_else(|error| Fate::kept(&error), |()| Fate::Removed)))
                .collect()
        }
    };
    for (path, fate) in found {
        cleaning.note(Leftover { kind: LeftoverKind::Server, protocol: None, path, fate });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_private_server_is_found_in_its_route() {
        let of = |route: &str| folder(&Route::new(route).unwrap()).map(str::to_owned);
        assert_eq!(of("dbi:Pg:dbname=q;host=/var/tmp/ipcm-db-0f/s").as_deref(), Some("/var/tmp/ipcm-db-0f"));
        assert_eq!(
            of("dbi:MariaDB:dbname=q;mariadb_socket=/tmp/ipcm-db-0f/s/socket").as_deref(),
            Some("/tmp/ipcm-db-0f")
        );
        assert_eq!(of("dbi:Pg:dbname=q;host=/run/pg"), None);
    }
}
