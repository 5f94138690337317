// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a coprocess holds, and who answers which operation.

use std::collections::{BTreeMap, BTreeSet};

use ipc_manager::{Client, Delivery, Registry, Route, Spawn};

use super::answer::{Failed, Outcome};
use super::request::Request;

/// A handle: its letter is in its name, its number keeps the order in which handles were given out.
pub(super) type Handle = u64;

/// The buses and clients of one coprocess.
pub(super) struct Engine<'a> {
    pub(super) registry: Registry,
    /// Whether a wait is to end early.
    pub(super) asked_to_end: &'a dyn Fn() -> bool,
    buses: BTreeMap<Handle, Spawn>,
    clients: BTreeMap<Handle, Client>,
    /// What was received and is not acknowledged yet, and by which client.
    deliveries: BTreeMap<Handle, (Handle, Delivery)>,
    given: (Handle, Handle, Handle),
}

impl<'a> Engine<'a> {
    pub(super) fn new(registry: Registry, asked_to_end: &'a dyn Fn() -> bool) -> Self {
        let (buses, clients, deliveries) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { registry, asked_to_end, buses, clients, deliveries, given: (0, 0, 0) }
    }

    /// Carries a request out and gives the line that answers it.
    pub(super) fn answer(&mut self, request: &Request) -> String {
        match self.carry_out(request) {
            Ok(answer) => answer.line(request.rid.as_ref()),
            Err(failed) => failed.line(request.rid.as_ref()),
        }
    }

    fn carry_out(&mut self, request: &Request) -> Outcome {
        match request.op {
            "version" => self.version(),
            "spawn" => self.spawn(request),
            "connect" | "reconnect" => self.connect(request),
            "send" | "try_send" => self.send(request),
            "broadcast" => self.broadcast(request),
            "recv" => self.recv(request),
            "requeue" => self.requeue(request),
            "receive" => self.receive(request),
            "acknowledge" => self.acknowledge(request),
            "put_back" | "extend" => self.settle(request),
            "dead" | "revive" => self.dead(request),
            "ready" | "pending" => self.ready(request),
            "peers" => self.peers(request),
            "peer" => self.peer(request),
            "reap" => self.reap(request),
            "stats" | "write_stats" | "read_stats" | "all_stats" => self.stats(request),
            "drain_pending" | "pending_sends" => self.outbox(request),
            "set_blocking" => self.set_blocking(request),
            "suspend" => self.suspend(request),
            "disconnect" => self.disconnect(request),
            "terminate" => self.terminate(request),
            "wait" => self.wait(request),
            "audit" => self.audit(request),
            "shutdown" | "unspawn" => self.shutdown(request),
            "request" => self.request(request),
            "fds" => self.descriptors(request),
            // A request is parsed against the table of operations, and a test goes through all of them.
            other => Err(Failed::usage(format!("the op {other:?} is not carried out"))),
        }
    }

    /// Keeps a bus; its handle.
    pub(super) fn keep_bus(&mut self, bus: Spawn) -> String {
        self.given.0 += 1;
        self.buses.insert(self.given.0, bus);
        format!("b{}", self.given.0)
    }

    /// Keeps a client; its handle.
    pub(super) fn keep_client(&mut self, client: Client) -> String {
        self.given.1 += 1;
        self.clients.insert(self.given.1, client);
        format!("c{}", self.given.1)
    }

    /// Keeps a delivery; its handle.
    pub(super) fn keep_delivery(&mut self, client: Handle, delivery: Delivery) -> String {
        self.given.2 += 1;
        self.deliveries.insert(self.given.2, (client, delivery));
        format!("d{}", self.given.2)
    }

    /// The handle of the delivery that a request means.
    pub(super) fn delivery_handle(&self, request: &Request) -> Result<Handle, Failed> {
        let text = request.required_string("delivery")?;
        let handle = handle(&text, 'd', self.given.2).ok_or_else(|| unknown("delivery", &text))?;
        let (client, _) = self.deliveries.get(&handle).ok_or_else(|| unknown("delivery", &text))?;
        if request.get("client").is_some() && self.client_handle(request)? != *client {
            return Err(Failed::usage(format!("the delivery {text:?} is another client's")));
        }
        Ok(handle)
    }

    /// The delivery under a handle.
    pub(super) fn delivery(&self, handle: Handle) -> Option<&Delivery> {
        self.deliveries.get(&handle).map(|(_, delivery)| delivery)
    }

    /// Takes a delivery out, with the client that received it.
    pub(super) fn take_delivery(&mut self, handle: Handle) -> Option<(Delivery, &mut Client)> {
        let (client, delivery) = self.deliveries.remove(&handle)?;
        Some((delivery, self.clients.get_mut(&client)?))
    }

    /// The handle of the client that a request means.
    pub(super) fn client_handle(&self, request: &Request) -> Result<Handle, Failed> {
        Ok(match request.string("client")? {
            Some(text) => handle(&text, 'c', self.given.1).ok_or_else(|| unknown("client", &text))?,
            None => {
                // One that has left is meant only where there is no other.
                let connected = self.clients.iter().filter(|(_, client)| client.is_connected());
                let connected: Vec<Handle> = connected.map(|(handle, _)| *handle).collect();
                let all: Vec<Handle> = self.clients.keys().copied().collect();
                match (connected.as_slice(), all.as_slice()) {
                    ([one], _) | ([], [one]) => *one,
                    (connected, _) => return Err(ambiguous("client", connected.len())),
                }
            }
        })
    }

    /// The client that a request means.
    pub(super) fn client(&mut self, request: &Request) -> Result<&mut Client, Failed> {
        let handle = self.client_handle(request)?;
        self.clients.get_mut(&handle).ok_or_else(|| unknown("client", &format!("c{handle}")))
    }

    /// The handle of the bus that a request means.
    pub(super) fn bus_handle(&self, request: &Request) -> Result<Handle, Failed> {
        match request.string("bus")? {
            Some(text) => match handle(&text, 'b', self.given.0) {
                Some(handle) if self.buses.contains_key(&handle) => Ok(handle),
                Some(_) => Err(Failed::coded(ipc_manager::ErrorKind::NoSuchBus, format!("the bus {text} has ended"))),
                None => Err(unknown("bus", &text)),
            },
            None => {
                let handles: Vec<Handle> = self.buses.keys().copied().collect();
                match handles.as_slice() {
                    [one] => Ok(*one),
                    several => Err(ambiguous("bus", several.len())),
                }
            }
        }
    }

    /// The bus that a request means.
    pub(super) fn bus(&mut self, request: &Request) -> Result<&mut Spawn, Failed> {
        let handle = self.bus_handle(request)?;
        self.buses.get_mut(&handle).ok_or_else(|| unknown("bus", &format!("b{handle}")))
    }

    /// Gives a bus up.
    pub(super) fn forget_bus(&mut self, handle: Handle) {
        self.buses.remove(&handle);
    }

    /// The clients of this process on a bus that have not left it.
    pub(super) fn clients_on<'b>(&'b mut self, route: &'b Route) -> impl Iterator<Item = &'b mut Client> {
        self.clients.values_mut().filter(move |client| client.is_connected() && client.info().route() == route)
    }

    /// Disconnects every client, then shuts down every guarded bus.
    pub(super) fn leave_all(&mut self) {
        // What was received and not acknowledged waits for whoever continues the name.
        let in_hand: BTreeSet<Handle> =
            std::mem::take(&mut self.deliveries).into_values().map(|(client, _)| client).collect();
        self.clients.retain(|handle, _| !in_hand.contains(handle));
        for client in self.clients.values_mut().filter(|client| client.is_connected()) {
            // Nobody is left to be told; what was unread is discarded, as the caller chose by ending.
            let _ = client.disconnect();
        }
        self.clients.clear();
        for (_, mut bus) in std::mem::take(&mut self.buses) {
            if bus.is_guarded() {
                let _ = bus.shutdown();
            }
        }
    }
}

/// The number in a handle that was given out.
fn handle(text: &str, letter: char, given: Handle) -> Option<Handle> {
    text.strip_prefix(letter)?.parse().ok().filter(|number| (1..=given).contains(number))
}

fn unknown(what: &str, text: &str) -> Failed {
    Failed::usage(format!("there is no {what} {text:?}"))
}

fn ambiguous(what: &str, count: usize) -> Failed {
    Failed::usage(match count {
        0 => format!("there is no {what} to do this with"),
        _ => format!("there are {count} of them, so `{what}` must say which one is meant"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::request::OPERATIONS;
    use super::*;

    #[test]
    fn every_operation_is_carried_out() {
        for (op, _) in OPERATIONS {
            let mut engine = Engine::new(Registry::standard(), &|| false);
            let request = Request::parse(format!("{{\"op\":\"{op}\"}}").as_bytes()).unwrap();
            let answer = engine.answer(&request);
            assert!(!answer.contains("is not carried out"), "{answer}");
            engine.leave_all();
        }
    }
}
