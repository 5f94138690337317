// SPDX-License-Identifier: MIT OR Apache-2.0
//! Buses: making one, ending it in good order, looking at it from outside.

mod audit;
mod builder;
mod charge;
mod cleave;
mod gc;
mod observer;
mod on_signal;
mod signal;
mod spawn;

pub use audit::Audit;
pub use builder::SpawnBuilder;
pub use cleave::Cleaved;
pub use gc::{Gc, GcReport};
pub use observer::Observer;
pub use signal::Signal;
pub use spawn::{Spawn, spawn};

/// The names of the owner's own clients; the second while the first is waiting in another thread, and a signal ends the
/// bus. What they send and read is no traffic of the users', so no audit counts it.
const OWNER_NAMES: [&str; 2] = ["spawn", "spawn-on-signal"];
