// SPDX-License-Identifier: MIT OR Apache-2.0
//! Private servers: started where a bus is made without a route, and gone with its owner.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ipc_manager_servers::{Engine, Options, PrivateServer};

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
    let Some(at) = route.as_str().find(FOLDER) else { return false };
    let begin = route.as_str()[..at].rfind(['=', ';']).map_or(0, |before| before + 1);
    let name = at + FOLDER.len();
    let end = route.as_str()[name..].find(['/', ';']).map_or(route.as_str().len(), |length| name + length);
    !std::path::Path::new(&route.as_str()[begin..end]).exists()
}

/// Who one is to a private server: nobody needs a password there, but every name is its superuser's.
pub(super) fn credentials(engine: Engine) -> Credentials {
    match engine {
        Engine::PostgreSQL => Credentials::none(),
        _ => Credentials::none().with_user("root"),
    }
}

/// Who one is at a route, where nothing else was said.
pub(super) fn or(engine: Engine, route: &Route, given: &Credentials) -> Credentials {
    if is_one(route) && *given == Credentials::none() { credentials(engine) } else { given.clone() }
}

/// Removes private servers whose owners and keepers are dead.
pub(super) fn clean(cleaning: &mut Cleaning) {
    let places = cleaning.places().to_vec();
    let found: Vec<_> = match cleaning.is_dry_run() {
        true => ipc_manager_servers::leftovers_in(&places).into_iter().map(|path| (path, Fate::Found)).collect(),
        false => {
            let removed = ipc_manager_servers::remove_leftovers_in(&places).into_iter();
            removed
                .map(|(path, removed)| {
                    (path, removed.map_or_else(|error| Fate::Kept(error.to_string()), |()| Fate::Removed))
                })
                .collect()
        }
    };
    for (path, fate) in found {
        cleaning.note(Leftover { kind: LeftoverKind::Server, protocol: None, path, fate });
    }
}
