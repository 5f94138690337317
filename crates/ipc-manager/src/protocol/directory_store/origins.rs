// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether who sent a message holds the name that it claims: the kernel says which process it was, and the store says
//! who holds the name.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Store, disk_name};
use crate::message::Origin;
use crate::name::PeerName;

/// For how long what was found is believed.
const BELIEVED: Duration = Duration::from_secs(1);
/// Most names that are remembered.
const MOST: usize = 1_024;

/// What was found lately.
#[derive(Debug, Default)]
pub(in crate::protocol) struct Origins {
    found: HashMap<PeerName, (u32, Origin, Instant)>,
}

impl Origins {
    /// Compares the process that sent a message with the holder of the name that it claims.
    pub(in crate::protocol) fn of(&mut self, store: &Store, from: &PeerName, pid: Option<u32>) -> Origin {
        let Some(pid) = pid else { return Origin::Unknown };
        let now = Instant::now();
        if let Some((known, origin, found)) = self.found.get(from)
            && *known == pid
            && now.duration_since(*found) < BELIEVED
        {
            return *origin;
        }
        let origin = match holder(store, from) {
            Some(holder) if holder == pid => Origin::Confirmed { pid },
            Some(_) => Origin::Mismatch { pid },
            // It may have left since, which says nothing against it.
            None => Origin::Unknown,
        };
        if self.found.len() >= MOST {
            self.found.clear();
        }
        self.found.insert(from.clone(), (pid, origin, now));
        origin
    }
}

/// The process that holds a name, if there is one whose number means something here.
fn holder(store: &Store, name: &PeerName) -> Option<u32> {
    let entry = store.state(&disk_name(store, name).ok()?).ok().flatten()?;
    match &entry.identity {
        Some(identity) => identity.pid_here(),
        None => entry.pid,
    }
    .filter(|_| entry.state.is_alive())
}
