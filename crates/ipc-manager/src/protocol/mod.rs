// SPDX-License-Identifier: MIT OR Apache-2.0
//! Protocols: how messages travel. Two traits that implementers write, the list of what is built in, and selection.

mod capabilities;
mod envelope;
mod inbox;
mod registry;
mod traits;

mod atomic_pipe;
mod directory_store;
mod local_memory;
mod message_files;
mod unix_socket;

use std::sync::Arc;

pub use capabilities::{Capabilities, Durability, WaitMechanism};
pub use envelope::Envelope;
pub use inbox::{Damaged, Inbox};
pub use registry::Registry;
pub use traits::{
    Connection, CreateOptions, Directory, Hold, Leave, Mode, NotViable, OpenOptions, Opened, PeerRecord, PeerState,
    Protocol, Receipt, Wake, Wanted,
};

/// Every built-in protocol, in the order in which `spawn` tries them.
fn standard() -> Vec<Arc<dyn Protocol>> {
    vec![
        Arc::new(atomic_pipe::AtomicPipe),
        Arc::new(unix_socket::UnixSocket),
        Arc::new(message_files::MessageFiles),
        Arc::new(local_memory::LocalMemory),
    ]
}
