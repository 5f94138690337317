// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a protocol promises, as data. Each field is backed by a clause of the conformance suite.

use std::fmt;

/// What a protocol promises and what it can do. What is not promised is refused as
/// [`Unsupported`](crate::ErrorKind::Unsupported), never answered wrongly.
///
/// ```
/// let registry = ipc_manager::Registry::standard();
/// let files = registry.get("MessageFiles")?.capabilities();
/// assert!(files.suspend && files.crosses_processes);
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether `spawn` may pick it when nothing was asked for.
    pub automatic: bool,
    /// Whether peers can be different processes.
    pub crosses_processes: bool,
    /// Whether a peer can leave and keep its mailbox.
    pub suspend: bool,
    /// Whether a bus can be looked at without joining it.
    pub observable: bool,
    /// Largest payload in bytes, where the protocol itself has a limit.
    pub largest_payload: Option<usize>,
    /// Most unread messages of one mailbox, where the protocol itself has a limit. Beyond it sends would block.
    pub most_unread: Option<usize>,
    /// Whether a message without room waits in the outbox of its sender, where that may not wait itself. Elsewhere it is
    /// refused.
    pub queues: bool,
    /// Whether a message can stay in the store until its reader acknowledges it.
    pub acknowledges: bool,
    /// Whether peers hold connections to each other, which can be looked at and closed, and which some peers do not let
    /// others open.
    pub connections: bool,
    /// What an acknowledged message outlives.
    pub durability: Durability,
    /// Whether it is on a server that may ask for a user and a password.
    pub credentials: bool,
    /// Whether a bus can be for a group of users rather than for one.
    pub groups: bool,
    /// How a reader learns of a message.
    pub wait: WaitMechanism,
}

/// What an acknowledged message outlives.
///
/// ```
/// use ipc_manager::Durability;
/// assert!(Durability::Process < Durability::Kernel && Durability::Kernel < Durability::Power);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Durability {
    /// Nothing: it goes with the process that holds the store.
    Process,
    /// Every process on the bus; it goes with a power cut.
    Kernel,
    /// A power cut.
    Power,
}

/// How a reader learns of a message.
///
/// ```
/// assert_eq!(ipc_manager::WaitMechanism::Inotify.to_string(), "inotify");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitMechanism {
    /// A descriptor of its own becomes readable.
    Descriptor,
    /// The kernel tells of changes in a directory; polled where it cannot.
    Inotify,
    /// Whoever sends rings a socket of the reader's; polled for peers that do not know it.
    Doorbell,
    /// Only by looking again.
    Polling,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::Kernel => "kernel",
            Self::Power => "power",
        })
    }
}

impl fmt::Display for WaitMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Descriptor => "descriptor",
            Self::Inotify => "inotify",
            Self::Doorbell => "doorbell",
            Self::Polling => "polling",
        })
    }
}
