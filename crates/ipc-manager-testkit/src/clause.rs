// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a clause is, and what it needs of a protocol.

use ipc_manager::{Capabilities, Durability, WaitMechanism};

use crate::Context;

/// One thing that holds, as a sentence and as a test.
///
/// ```
/// let clause = &ipc_manager_testkit::clauses()[0];
/// assert!(clause.id.contains('.') && clause.text.ends_with('.'));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Clause {
    /// Theme and name, such as `order.per_sender`.
    pub id: &'static str,
    /// What holds, in one sentence.
    pub text: &'static str,
    /// Where the requirement comes from: scenarios, faults and defects by their ids.
    pub source: &'static [&'static str],
    /// What a protocol must promise for the clause to apply.
    pub needs: &'static [Need],
    /// The proof. It panics where the clause does not hold.
    pub run: fn(&Context<'_>),
}

impl Clause {
    /// Why the clause does not apply to a protocol; `None` if it does.
    #[must_use]
    pub fn not_applicable(&self, capabilities: &Capabilities) -> Option<&'static str> {
        self.needs.iter().find_map(|need| need.unmet(capabilities))
    }
}

/// What a clause needs of a protocol. There is one for each capability, and one for its absence where that has a
/// clause of its own.
///
/// ```
/// assert_ne!(ipc_manager_testkit::Need::Suspend, ipc_manager_testkit::Need::NoSuspend);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Peers can be different processes.
    Processes,
    /// A peer can leave and keep its mailbox.
    Suspend,
    /// A peer cannot leave and keep its mailbox.
    NoSuspend,
    /// A bus can be looked at without joining it.
    Observable,
    /// A bus cannot be looked at without joining it.
    NotObservable,
    /// An acknowledged message outlives every process on the bus.
    OutlivesProcesses,
    /// An acknowledged message can be made to outlive a power cut.
    OutlivesPower,
    /// Acknowledged messages go with the process that is to read them.
    GoesWithProcess,
    /// A mailbox has a limit of the protocol's own, in messages, and what is past it is refused.
    BoundedMailbox,
    /// A mailbox holds as many messages as the disk does.
    UnboundedMailbox,
    /// What finds no room waits in the outbox of its sender.
    Queues,
    /// Nothing ever waits in the outbox of its sender.
    NeverQueues,
    /// A message can stay in the store until its reader acknowledges it.
    Acknowledges,
    /// What was read has left the store.
    NeverAcknowledges,
    /// Peers hold connections to each other, and need not let others open them.
    Connections,
    /// Peers hold no connections to each other.
    NoConnections,
    /// A payload has a limit of the protocol's own.
    BoundedPayload,
    /// It is not on a server that may ask for a user and a password.
    NoCredentials,
    /// A bus can be for a group of users.
    Groups,
    /// A bus is never for a group of users.
    NoGroups,
    /// A waiting reader is woken through descriptors.
    Descriptors,
    /// A waiting reader looks again and again.
    NoDescriptors,
}

impl Need {
    /// Why a protocol does not meet it; `None` if it does.
    #[must_use]
    pub fn unmet(self, capabilities: &Capabilities) -> Option<&'static str> {
        let polls = capabilities.wait == WaitMechanism::Polling;
        let (met, reason) = match self {
            Self::Processes => (capabilities.crosses_processes, "not promised: all peers are in one process"),
            Self::Suspend => (capabilities.suspend, "not promised: no suspend"),
            Self::NoSuspend => (!capabilities.suspend, "does not apply: suspend is offered"),
            Self::Observable => (capabilities.observable, "not promised: one must join to look"),
            Self::NotObservable => (!capabilities.observable, "does not apply: it can be observed"),
            Self::OutlivesProcesses => {
                (capabilities.durability >= Durability::Kernel, "not promised: messages go with a process")
            }
            Self::OutlivesPower => {
                (capabilities.durability >= Durability::Power, "not promised: messages go with a power cut")
            }
            Self::GoesWithProcess => {
                (capabilities.durability < Durability::Kernel, "does not apply: messages outlive processes")
            }
            Self::BoundedMailbox if capabilities.queues => {
                (false, "does not apply: messages without room are held back")
            }
            Self::BoundedMailbox => (capabilities.most_unread.is_some(), "does not apply: mailboxes have no limit"),
            Self::UnboundedMailbox => {
                (capabilities.most_unread.is_none() && !capabilities.queues, "not promised: mailboxes have a limit")
            }
            Self::Queues => (capabilities.queues, "does not apply: nothing is held back"),
            Self::NeverQueues => (!capabilities.queues, "does not apply: messages without room are held back"),
            Self::Acknowledges => (capabilities.acknowledges, "not promised: what is read leaves the store"),
            Self::NeverAcknowledges => (!capabilities.acknowledges, "does not apply: messages can be acknowledged"),
            Self::Connections => (capabilities.connections, "does not apply: peers hold no connections"),
            Self::NoConnections => (!capabilities.connections, "does not apply: peers hold connections"),
            Self::BoundedPayload => {
                (capabilities.largest_payload.is_some(), "does not apply: no limit but that of the bus")
            }
            Self::NoCredentials => (!capabilities.credentials, "does not apply: servers may ask for a user"),
            Self::Groups => (capabilities.groups, "not promised: buses are for one user, or as a server says"),
            Self::NoGroups => (!capabilities.groups, "does not apply: buses can be for a group"),
            Self::Descriptors => (!polls, "not promised: readers poll"),
            Self::NoDescriptors => (polls, "does not apply: readers are woken"),
        };
        (!met).then_some(reason)
    }
}
