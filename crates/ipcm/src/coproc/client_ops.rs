// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations on clients, but for sending and receiving.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::time::SystemTime;

use ipc_manager::{Client, ConnectionString, ErrorKind, Group, Limits, Message, PeerState, Suspend};
use serde_json::Value;

use super::answer::{Answer, Failed, Outcome};
use super::engine::Engine;
use super::request::Request;

impl Engine<'_> {
    pub(super) fn connect(&mut self, request: &Request) -> Outcome {
        let name = request.required_string("name")?;
        let info = self.info_for(request)?;
        let listen = request.boolean("listen")?.unwrap_or(true);
        let mut builder = Client::builder(&name, &info).registry(self.registry.clone()).listen(listen);
        if let Some(hold) = request.seconds("hold")? {
            builder = builder.hold(hold);
        }
        if let Some(most) = request.count("delivery_attempts")? {
            let delivery_attempts = u32::try_from(most).unwrap_or(u32::MAX);
            builder = builder.limits(Limits { delivery_attempts, ..Limits::default() });
        }
        if let Some(user) = request.string("user")? {
            builder = builder.user(&user);
        }
        if let Some(password) = request.string("password")? {
            builder = builder.password(&password);
        }
        let group = match request.string("group")? {
            Some(group) => Some(Group::new(&group)?),
            // A bus of this process's own says it.
            None if request.get("info").is_none() => self.bus(request)?.group(),
            None => None,
        };
        if let Some(group) = group {
            builder = builder.group(group);
        }
        let client = if request.op == "connect" { builder.connect()? } else { builder.reconnect()? };
        let (name, discarded) = (client.name().to_string(), client.discarded());
        let answer = Answer::new().with("client", &self.keep_client(client)).with("name", &name);
        Ok(if discarded > 0 { answer.with("discarded", &discarded) } else { answer })
    }

    /// The connection string that a request gives, or that of the bus that it means.
    fn info_for(&mut self, request: &Request) -> Result<ConnectionString, Failed> {
        match (request.get("info"), request.get("bus")) {
            (Some(_), Some(_)) => Err(Failed::usage("`info` and `bus` exclude each other")),
            (Some(Value::String(text)), None) => Ok(ConnectionString::parse(text)?),
            (Some(value), None) => Ok(ConnectionString::from_value(value)?),
            (None, _) => Ok(self.bus(request)?.info().clone()),
        }
    }

    pub(super) fn ready(&mut self, request: &Request) -> Outcome {
        let client = self.client(request)?;
        let value = if request.op == "ready" { client.is_ready()? } else { client.is_pending()? };
        Ok(Answer::new().with("value", &value))
    }

    pub(super) fn peers(&mut self, request: &Request) -> Outcome {
        let peers = self.client(request)?.peers()?;
        let names: Vec<&str> = peers.iter().map(|name| name.as_str()).collect();
        Ok(Answer::new().with("peers", &names))
    }

    pub(super) fn peer(&mut self, request: &Request) -> Outcome {
        let name = request.required_string("name")?;
        let timeout = request.seconds("timeout")?;
        let client = self.client(request)?;
        if let Some(timeout) = timeout {
            client.wait_for_peer(&name, Some(timeout))?;
        }
        let record = client.peer(&name)?;
        let state = record.as_ref().map(|record| record.state);
        let suspended = matches!(state, Some(PeerState::Suspended { .. }));
        // A suspended peer has no process that could be active, whatever number is on record.
        let pid = record.as_ref().filter(|_| !suspended).and_then(|record| record.pid);
        Ok(Answer::new()
            .with("exists", &record.is_some())
            .with("active", &matches!(state, Some(PeerState::Active)))
            .with("suspended", &suspended)
            .with("pid", &pid))
    }

    pub(super) fn reap(&mut self, request: &Request) -> Outcome {
        let removed = self.client(request)?.reap()?;
        Ok(Answer::new().with("removed", &removed.len()))
    }

    pub(super) fn stats(&mut self, request: &Request) -> Outcome {
        let client = self.client(request)?;
        Ok(match request.op {
            "read_stats" => Answer::new().with("stats", &client.read_stats()?),
            "all_stats" => {
                let all = client.all_stats()?;
                let all: BTreeMap<&str, _> = all.iter().map(|(name, stats)| (name.as_str(), stats)).collect();
                Answer::new().with("stats", &all)
            }
            op => {
                if op == "write_stats" {
                    client.write_stats()?;
                }
                Answer::new().with("stats", &client.stats())
            }
        })
    }

    pub(super) fn outbox(&mut self, request: &Request) -> Outcome {
        let client = self.client(request)?;
        Ok(match request.op {
            "drain_pending" => Answer::new().with("delivered", &client.drain_pending()?),
            _ => Answer::new().with("pending", &client.pending_sends()),
        })
    }

    pub(super) fn set_blocking(&mut self, request: &Request) -> Outcome {
        request.required("value")?;
        let value = request.boolean("value")?.unwrap_or(true);
        self.client(request)?.set_blocking(value);
        Ok(Answer::new())
    }

    pub(super) fn suspend(&mut self, request: &Request) -> Outcome {
        let suspend = match (request.seconds("expires_in")?, request.seconds("expires_at")?) {
            (Some(_), Some(_)) => return Err(Failed::usage("`expires_in` and `expires_at` exclude each other")),
            (Some(within), None) => Suspend::within(within),
            (None, Some(at)) => {
                let until = SystemTime::UNIX_EPOCH.checked_add(at);
                Suspend::until(until.ok_or_else(|| Failed::usage("`expires_at` is too far away"))?)
            }
            (None, None) => Suspend::open_ended(),
        };
        self.client(request)?.suspend(suspend)?;
        Ok(Answer::new())
    }

    pub(super) fn disconnect(&mut self, request: &Request) -> Outcome {
        let unread = request.string("unread")?;
        let client = self.client(request)?;
        let mut messages: Vec<Message> = Vec::new();
        match unread.as_deref().unwrap_or("error") {
            "return" => client.disconnect_with(|unread| messages.extend(unread))?,
            how @ ("error" | "discard") => match client.disconnect() {
                Err(error) if error.kind() == ErrorKind::UnreadMessages => {
                    let failed = Failed::from(&error);
                    if how == "error" {
                        // The client is gone all the same, so this is the last time that anybody sees them.
                        messages = error.into_messages();
                        return Err(failed.beside(Answer::new().with_messages(&messages, &[])));
                    }
                }
                other => other?,
            },
            other => {
                let message = format!("`unread` must be error, return or discard, not {other:?}");
                return Err(Failed::usage(message));
            }
        }
        let damaged = client.take_damaged();
        Ok(Answer::new().with_messages(&messages, &damaged))
    }

    pub(super) fn descriptors(&mut self, request: &Request) -> Outcome {
        let client = self.client(request)?;
        let numbers: Vec<i32> = client.wake()?.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        Ok(Answer::new().with("readable", &numbers))
    }
}
