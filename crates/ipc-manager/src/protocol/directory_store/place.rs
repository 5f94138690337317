// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a store is made when nobody says where, and how much room a place leaves for the names of sockets.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::Kind;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::NotViable;
use crate::route::Route;
use crate::system::files;

/// Longest path of a socket that the reference counts on, on every platform, with the slash and the end of the text.
const SOCKET_PATH: usize = 104;
/// The short form of a name, which every name must be able to take.
const SHORT_FORM: usize = 42;

/// Longest name of a socket that stands on disk as it is. Counted on the spelling of the route: all peers must come to
/// the same.
pub(in crate::protocol) fn room_for_socket(route: &Route) -> usize {
    SOCKET_PATH.saturating_sub(files::name_bytes(route.as_str()).len() + 2)
}

/// A private place for stores, in which one of this name leaves room for every peer: the temporary directory, or one
/// with a shorter path where that is too long.
pub(in crate::protocol) fn fresh(kind: Kind, name: &str) -> Result<PathBuf> {
    let temporary = std::env::temp_dir();
    let mut places = vec![temporary.clone()];
    places.extend(std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|place| is_own_directory(place)));
    places.push("/tmp".into());
    let mut invalid = None;
    for place in places {
        let Some(path) = place.join(name).to_str().map(str::to_owned) else {
            let detail = "the temporary directory's path is not UTF-8, and a route must be";
            invalid.get_or_insert(Error::new(ErrorKind::InvalidName, detail).at_path(place));
            continue;
        };
        if (kind.max_name)(&Route::new(&path)?) >= SHORT_FORM {
            return Ok(place);
        }
        let detail = "the temporary directory's path is so long that no socket in a bus there could have a name; \
                      give the bus a route, or set TMPDIR to a shorter one";
        invalid.get_or_insert(Error::new(ErrorKind::InvalidName, detail).at_path(place));
    }
    let nowhere = || Error::new(ErrorKind::InvalidName, "there is no temporary directory").at_path(temporary);
    Err(invalid.unwrap_or_else(nowhere).in_protocol(kind.protocol))
}

/// Whether a path is that of a directory of this user's.
fn is_own_directory(path: &std::path::Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    path.is_absolute() && path.metadata().is_ok_and(|found| found.is_dir() && found.uid() == own)
}

/// The place where a store would be made where no route is given, if one can be made there.
pub(in crate::protocol) fn viable(kind: Kind) -> Result<PathBuf, NotViable> {
    let place = fresh(kind, &crate::protocol::cleaning::fresh_name()).map_err(|error| NotViable(error.to_string()))?;
    match rustix::fs::access(&place, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
        Ok(()) => Ok(place),
        Err(error) => {
            let path = place.display();
            Err(NotViable(format!("the temporary directory {path} cannot be written to: {error}")))
        }
    }
}
