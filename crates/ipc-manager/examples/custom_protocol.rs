// SPDX-License-Identifier: MIT OR Apache-2.0
//! A protocol of one's own, outside the crate: one file a mailbox, one file that says who is there, one lock.
//!
//! It is small rather than fast: every change is made under one lock of the whole bus, and every file is replaced as a
//! whole by a rename, so a process may be killed at any instruction and leaves the old file or the new one. Each peer
//! holds a lock on a file of its own for as long as it lives, which is how the others know that it does.
//!
//! What it does not offer it does not claim: peers cannot suspend, readers look again instead of being woken.
//! The conformance suite runs over it: `crates/ipc-manager-testkit/tests/third_party.rs`.
//!
//! > a bus of +Example::Mailbox
//! > worker got {"job":7} from boss
//! > boss got "done" from worker
//! > sent 2, read 2, balanced: true
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

#[path = "custom_protocol/store.rs"]
mod store;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use ipc_manager::{
    Capabilities, Cleaning, Client, Connection, Connections, CreateOptions, Credentials, Damaged, Deliveries,
    Directory, Durability, Envelope, Error, ErrorKind, Hold, Inbox, Leave, Limits, Message, Mode, NotViable,
    OpenOptions, Opened, Payloads, PeerName, Protocol, ProtocolName, Receipt, Registry, Result, Route, Serializer,
    Spawn, Stats, Stored, WaitMechanism, Wake, Wanted,
};
use serde_json::json;
use store::{Entry, Letter, Listing, Store};

/// The protocol. Stateless: everything is in the store.
#[derive(Debug)]
pub struct Mailbox;

impl Protocol for Mailbox {
    fn name(&self) -> ProtocolName {
        ProtocolName::new("+Example::Mailbox")
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            automatic: false,
            crosses_processes: true,
            suspend: false,
            observable: true,
            largest_payload: None,
            most_unread: None,
            queues: false,
            acknowledges: false,
            connections: false,
            durability: Durability::Kernel,
            credentials: false,
            groups: false,
            wait: WaitMechanism::Polling,
        }
    }

    fn viable(&self) -> Result<(), NotViable> {
        Ok(())
    }

    fn create(&self, options: &CreateOptions) -> Result<Route> {
        let route = match &options.route {
            Some(route) => route.clone(),
            None => {
                let name = format!("mailboxes-{}-{}", std::process::id(), ipc_manager::MessageId::generate());
                Route::new(std::env::temp_dir().join(name).to_str().unwrap_or_default())?
            }
        };
        let store = Store::at(&route);
        fs::DirBuilder::new().mode(0o700).create(&store.dir).map_err(|error| store.failed(error))?;
        let made = store.replace("bus", b"{}").and_then(|()| store.replace("lock", b""));
        made.inspect_err(|_| drop(fs::remove_dir_all(&store.dir)))?;
        Ok(route)
    }

    fn hold(
        &self,
        _route: &Route,
        _credentials: &Credentials,
        _guarded: bool,
        _instead_of: Option<Hold>,
    ) -> Result<Hold> {
        Ok(Hold::none())
    }

    fn open(&self, route: &Route, options: OpenOptions) -> Result<Opened> {
        open(Store::at(route), options)
    }

    fn observe(
        &self,
        route: &Route,
        _credentials: &Credentials,
        _serializer: Arc<dyn Serializer>,
    ) -> Result<Box<dyn Directory>> {
        let store = Store::at(route);
        store.locked(|_| Ok(()))?;
        Ok(Box::new(Listing { store, own: None }))
    }

    fn clean(&self, _cleaning: &mut Cleaning) {
        // Owners leave no record, so what a killed one left cannot be told from what is in use: it all stays.
    }

    fn destroy(&self, route: &Route, _credentials: &Credentials) -> Result<()> {
        let store = Store::at(route);
        // Only what is a bus is removed, and only with the lock: nobody is half-way through anything then.
        match store.locked(|_| fs::remove_dir_all(&store.dir).map_err(|error| store.failed(error))) {
            Err(error) if error.kind() == ErrorKind::NoSuchBus => Ok(()),
            removed => removed,
        }
    }
}

/// One peer on a bus of mailboxes.
#[derive(Debug)]
struct MailboxConnection {
    listing: Listing,
    store: Store,
    name: PeerName,
    number: u64,
    /// Locked until this is dropped or the process ends.
    _life: File,
    serializer: Arc<dyn Serializer>,
    limits: Limits,
}

fn open(store: Store, options: OpenOptions) -> Result<Opened> {
    let OpenOptions { name, mode, serializer, limits, .. } = options;
    let refuse = |kind, why: &str| Err(Error::new(kind, why).about_peer(name.as_str()));
    let (number, life, stats, discarded) = store.locked(|register| {
        let held = register.peers.get(&name).cloned();
        let mut discarded = 0;
        let (mut letters, mut stats) = (Vec::new(), register.stats_of(&name));
        match (mode, &held) {
            (Mode::Reconnect, None) => return refuse(ErrorKind::NoSuchPeer, "there is no such peer to continue"),
            (_, Some(held)) if store.is_alive(held) => {
                return refuse(ErrorKind::NameInUse, "a live peer has that name");
            }
            (Mode::Reconnect, Some(held)) => letters = store.letters(held.number)?,
            (Mode::Connect, Some(held)) => {
                discarded = store.letters(held.number)?.len();
                stats = Stats::default();
            }
            (Mode::Connect, None) => {}
        }
        register.last += 1;
        let entry = Entry { number: register.last, pid: std::process::id(), is_leaving: false };
        store.store_letters(entry.number, &letters)?;
        store.replace(&format!("{}.life", entry.number), b"")?;
        let life = File::open(store.dir.join(format!("{}.life", entry.number))).map_err(|error| store.failed(error))?;
        life.lock().map_err(|error| store.failed(error))?;
        // Only names are given here, so a kill before the register is stored leaves files that nobody looks at.
        let number = entry.number;
        register.peers.insert(name.clone(), entry);
        Ok((number, life, stats, discarded))
    })?;
    let listing = Listing { store: store.clone(), own: Some(name.clone()) };
    let connection = MailboxConnection { listing, store, name, number, _life: life, serializer, limits };
    Ok(Opened { connection: Box::new(connection), stats, discarded })
}

impl MailboxConnection {
    fn decode(&self, payload: &[u8]) -> Result<Message> {
        let text = self.serializer.decode(payload, self.limits.decoded_bytes)?;
        Message::from_json(&text, &self.limits)
    }
}

impl Connection for MailboxConnection {
    fn deliver(&mut self, envelopes: &[Envelope<'_>], receipts: &mut Vec<Receipt>) -> Result<()> {
        let before = receipts.len();
        let delivered = self.store.locked(|register| {
            // Mailbox by mailbox in memory, each stored once; then a receipt for every message.
            let mut mailboxes: BTreeMap<u64, Vec<Letter>> = BTreeMap::new();
            let mut refused = None;
            let mut granted = Vec::new();
            for envelope in envelopes {
                let to = register.peers.get(envelope.to()).filter(|entry| !entry.is_leaving);
                let (Some(entry), Ok(payload)) = (to, envelope.payload()) else {
                    let nobody = || Error::new(ErrorKind::NoSuchPeer, "no peer of that name is on the bus");
                    refused = Some(envelope.payload().err().unwrap_or_else(nobody).about_peer(envelope.to().as_str()));
                    break;
                };
                let letters = match mailboxes.entry(entry.number) {
                    Slot::Occupied(slot) => slot.into_mut(),
                    Slot::Vacant(slot) => slot.insert(self.store.letters(entry.number)?),
                };
                letters.push((false, payload.to_vec()));
                granted.push(if self.store.is_alive(entry) { Receipt::Delivered } else { Receipt::Stored });
            }
            for (number, letters) in &mailboxes {
                self.store.store_letters(*number, letters)?;
            }
            receipts.extend(granted);
            Ok(refused)
        });
        match delivered {
            Ok(None) => Ok(()),
            Ok(Some(refused)) => Err(refused.with_stored(Stored::No)),
            // Several mailboxes are several files; some may have been stored already.
            Err(error) if envelopes.len() > 1 && receipts.len() == before => Err(error.with_stored(Stored::Maybe)),
            Err(error) => Err(error.with_stored(Stored::No)),
        }
    }

    fn room(&self, _: &PeerName) -> Wake<'_> {
        Wake { descriptors: vec![], look_every: std::time::Duration::from_millis(20) }
    }

    fn collect(&mut self, most: usize, bytes: usize, inbox: &mut Inbox) -> Result<()> {
        let taken = self.store.locked(|_| {
            let mut letters = self.store.letters(self.number)?;
            let (mut count, mut size) = (0, 0);
            while let Some((_, payload)) = letters.get(count)
                && inbox.len() + count < most
                && (count == 0 || size + payload.len() <= bytes)
            {
                (count, size) = (count + 1, size + payload.len());
            }
            let rest = letters.split_off(count);
            // Given up before it is handed out: whoever is killed in between loses what was in hand, and no more.
            if count > 0 {
                self.store.store_letters(self.number, &rest)?;
            }
            Ok(letters)
        })?;
        for (was_put_back, payload) in taken {
            match self.decode(&payload) {
                Ok(message) if was_put_back => inbox.accept_again(message),
                Ok(message) => inbox.accept(message),
                Err(error) => inbox.set_aside(Damaged::new(error)),
            }
        }
        Ok(())
    }

    fn is_ready(&mut self) -> Result<bool> {
        match fs::metadata(self.store.mailbox(self.number)) {
            Ok(metadata) => Ok(metadata.len() > 0),
            Err(error) => Err(self.store.failed(error)),
        }
    }

    fn is_pending(&mut self) -> Result<bool> {
        Ok(false)
    }

    fn put_back(&mut self, messages: &[Message]) -> Result<()> {
        let mut letters = Vec::new();
        for message in messages {
            let mut payload = Vec::new();
            self.serializer.encode(&message.to_json(&self.limits)?, &mut payload)?;
            letters.push((true, payload));
        }
        self.store.locked(|_| {
            letters.extend(self.store.letters(self.number)?);
            self.store.store_letters(self.number, &letters)
        })
    }

    fn wake(&self, _wanted: Wanted) -> Wake<'_> {
        self.listing.wake()
    }

    fn directory(&mut self) -> &mut dyn Directory {
        &mut self.listing
    }

    fn connections(&mut self) -> Option<&mut dyn Connections> {
        None
    }

    fn payloads(&mut self) -> Option<&mut dyn Payloads> {
        None
    }

    fn deliveries(&mut self) -> Option<&mut dyn Deliveries> {
        None
    }

    fn unlist(&mut self) -> Result<()> {
        self.store.locked(|register| {
            if let Some(entry) = register.peers.get_mut(&self.name).filter(|entry| entry.number == self.number) {
                entry.is_leaving = true;
            }
            Ok(())
        })
    }

    fn seal(&mut self, _inbox: &mut Inbox) -> Result<()> {
        // Unlisting and sending exclude each other, so nothing can have come since.
        Ok(())
    }

    fn close(&mut self, leave: Leave, stats: &Stats) -> Result<()> {
        if !matches!(leave, Leave::Disconnect) {
            return Err(Error::new(ErrorKind::Unsupported, "a peer of this protocol cannot suspend"));
        }
        self.store.locked(|register| {
            register.stats.insert(self.name.clone(), serde_json::to_value(stats).unwrap_or_default());
            if register.peers.get(&self.name).is_some_and(|entry| entry.number == self.number) {
                let entry = register.peers.remove(&self.name);
                entry.iter().for_each(|entry| self.store.remove_files(entry));
            }
            Ok(())
        })
    }
}

/// The standard protocols and this one.
pub fn registry() -> Registry {
    Registry::standard().with(Arc::new(Mailbox))
}

/// A short conversation over it.
pub fn main() -> Result<()> {
    let mut bus = Spawn::builder().protocol("+Example::Mailbox").registry(registry()).spawn()?;
    println!("a bus of {}", bus.protocol().short());
    let join = |name: &str| Client::builder(name, bus.info()).registry(registry()).connect();
    let (mut boss, mut worker) = (join("boss")?, join("worker")?);
    boss.send("worker", &json!({"job": 7}))?;
    let job = worker.recv()?;
    println!("worker got {} from {}", job.content(), job.from());
    worker.send("boss", "done")?;
    let answer = boss.recv()?;
    println!("boss got {} from {}", answer.content(), answer.from());
    boss.disconnect()?;
    worker.disconnect()?;
    let audit = bus.shutdown()?;
    println!("sent {}, read {}, balanced: {}", audit.sent(), audit.read(), audit.is_balanced());
    Ok(())
}
