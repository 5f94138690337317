// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether the process at the other end of a connection holds the name that it goes by. A hello is a claim; the kernel
//! knows the process, and the store knows which one holds the name.

use super::link::{Link, Standing};
use crate::message::Origin;
use crate::name::PeerName;
use crate::protocol::directory_store::{Seat, disk_name};
use crate::system::{datagram, files};

/// What the store says of a name, seen from a process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) standing: Standing,
    /// Whether its holder is there.
    pub(super) is_alive: bool,
    /// Whether its holder is of this implementation.
    pub(super) is_kin: bool,
}

/// Compares a process with the holder of a name.
pub(super) fn seen(seat: &Seat, name: &PeerName, pid: Option<u32>) -> Seen {
    let not_there = |standing| Seen { standing, is_alive: false, is_kin: false };
    let Ok(disk) = disk_name(&seat.store, name) else { return not_there(Standing::Nobody) };
    match seat.store.state(&disk) {
        // What cannot be read says nothing against anybody.
        Err(_) => Seen { standing: Standing::Unknown, is_alive: true, is_kin: false },
        Ok(None) => not_there(Standing::Nobody),
        Ok(Some(entry)) => {
            let holder = match &entry.identity {
                Some(holder) => holder.pid_here(),
                None => entry.pid,
            };
            let standing = match (pid, holder) {
                (Some(pid), Some(holder)) if pid == holder => Standing::Holder,
                (Some(_), Some(_)) => Standing::Stranger,
                _ => Standing::Unknown,
            };
            Seen { standing, is_alive: entry.state.is_alive(), is_kin: entry.identity.is_some() }
        }
    }
}

/// Whether a name can be connected to; `None` if no peer has it.
pub(super) fn listens(seat: &Seat, name: &PeerName) -> Option<bool> {
    let disk = disk_name(&seat.store, name).ok()?;
    let stat = files::stat_at(seat.store.dir(), &disk).ok().flatten()?;
    super::layout::is_entry(&stat).then(|| datagram::is_socket(&stat))
}

impl Link {
    /// Notes what the store says of the name that the other end goes by.
    pub(super) fn judge(&mut self, seat: &Seat) -> Seen {
        let Some(name) = &self.name else {
            return Seen { standing: Standing::Unknown, is_alive: true, is_kin: false };
        };
        let seen = seen(seat, name, self.pid);
        self.standing = seen.standing;
        self.is_kin = seen.is_kin;
        self.is_listener = listens(seat, name).unwrap_or(false);
        seen
    }

    /// Whether what is sent to its name may go over it.
    pub(super) fn may_carry(&self) -> bool {
        self.can_send && (self.is_opened_here || matches!(self.standing, Standing::Holder | Standing::Unknown))
    }

    /// Whether it still leads to who holds the name; to be asked now and then.
    pub(super) fn is_still_right(&mut self, seat: &Seat) -> bool {
        let before = self.standing;
        let seen = self.judge(seat);
        // Who holds the name was never told by the process where the first look already said otherwise.
        seen.is_alive && (seen.standing != Standing::Stranger || before == Standing::Stranger)
    }

    /// What is known of who sent a message that claims to be from somebody.
    pub(super) fn origin(&mut self, seat: &Seat, from: &PeerName) -> Origin {
        let Some(pid) = self.pid else { return Origin::Unknown };
        let standing = match (&self.name, &self.compared) {
            (Some(name), _) if name == from => self.standing,
            (_, Some((compared, standing))) if compared == from => *standing,
            _ => {
                let standing = seen(seat, from, Some(pid)).standing;
                self.compared = Some((from.clone(), standing));
                standing
            }
        };
        match standing {
            Standing::Holder => Origin::Confirmed { pid },
            Standing::Stranger => Origin::Mismatch { pid },
            Standing::Unknown | Standing::Nobody => Origin::Unknown,
        }
    }
}
