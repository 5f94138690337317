// SPDX-License-Identifier: MIT OR Apache-2.0
//! A place on the bus for as long as a command runs: taken without throwing a mailbox away, and left likewise.

use ipc_manager::{Client, ConnectionString, ErrorKind, Message, Observer, PeerState, Suspend};

use crate::bus_choice::NameChoice;
use crate::context::Context;
use crate::escape::escaped;
use crate::failure::{Failure, Outcome};

/// A client, and how its name was found.
#[derive(Debug)]
pub(crate) struct Seat {
    /// The client.
    pub(crate) client: Client,
    /// Whether somebody chose the name, so that its mailbox may be waited for.
    chosen: bool,
    /// How the name was left when it was found suspended: it is left the same way again.
    suspended: Option<Suspend>,
}

impl Seat {
    /// Joins the bus. A mailbox that was suspended, or whose process died, is continued.
    pub(crate) fn take(context: &Context, info: &ConnectionString, choice: &NameChoice) -> Outcome<Self> {
        let suspended = if choice.chosen { suspended(context, info, &choice.name)? } else { None };
        let client = Client::builder(&choice.name, info).registry(context.registry.clone()).join()?;
        Ok(Self { client, chosen: choice.chosen, suspended })
    }

    /// Leaves the bus. The mailbox is kept if it was found suspended, or has unread messages that somebody may come
    /// back for; `unprinted` are messages that were taken out of it and go back first.
    pub(crate) fn leave(mut self, context: &Context, unprinted: &[Message], reader: bool) -> Outcome<()> {
        let put_back = if unprinted.is_empty() { Ok(()) } else { self.client.requeue(unprinted) };
        let own = self.client.name().to_string();
        let has_dead = |client: &mut Client| client.dead(&own).is_ok_and(|dead| !dead.is_empty());
        let unread = self.client.is_ready().unwrap_or(false) || (reader && has_dead(&mut self.client));
        let wanted = self.suspended.is_some() || (unread && (self.chosen || reader));
        let left = if wanted && self.client.capabilities().suspend {
            let name = self.client.name().to_string();
            let left = self.client.suspend(self.suspended.unwrap_or_else(Suspend::open_ended));
            if left.is_ok() {
                context
                    .out
                    .banner(&format!("The mailbox is kept; `ipcm recv --name {}` continues it.", escaped(&name)));
            }
            left
        } else {
            self.client.disconnect()
        };
        put_back?;
        match left {
            Err(error) if error.kind() == ErrorKind::UnreadMessages => {
                let count = error.messages().len();
                context.out.note(&format!("ipcm: {count} unread messages were discarded with the mailbox"));
                Ok(())
            }
            // The bus ended first, and the mailbox with it.
            Err(error) if error.kind() == ErrorKind::NoSuchBus => Ok(()),
            Err(error) => Err(Failure::from(error)),
            Ok(()) => Ok(()),
        }
    }
}

/// How a name was left, if it is suspended.
fn suspended(context: &Context, info: &ConnectionString, name: &str) -> Outcome<Option<Suspend>> {
    let protocol = context.registry.find(info.protocol())?;
    if !protocol.capabilities().suspend {
        return Ok(None);
    }
    let record = Observer::with_registry(info, &context.registry)?.peer(name)?;
    Ok(match record.map(|record| record.state) {
        Some(PeerState::Suspended { until }) => Some(until.map_or_else(Suspend::open_ended, Suspend::until)),
        _ => None,
    })
}
