// SPDX-License-Identifier: MIT OR Apache-2.0
//! The store of the example: who is there, and what waits for them.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind as Io, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipc_manager::{Directory, Error, ErrorKind, PeerName, PeerRecord, PeerState, Result, Route, Stats, Wake};
use serde_json::{Value, json};

/// How often a waiting reader looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The directory of a bus.
#[derive(Debug, Clone)]
pub struct Store {
    pub dir: PathBuf,
}

/// Who is on the bus, as it stands in the file `bus`.
#[derive(Debug, Default)]
pub struct Register {
    pub peers: BTreeMap<PeerName, Entry>,
    pub stats: BTreeMap<PeerName, Value>,
    pub last: u64,
}

/// One peer: the number of its files, its process, and whether it is on its way out.
#[derive(Debug, Clone)]
pub struct Entry {
    pub number: u64,
    pub pid: u32,
    pub is_leaving: bool,
}

/// One message in a mailbox: whether its reader had put it back, and its payload.
pub type Letter = (bool, Vec<u8>);

impl Store {
    /// The store at a route, which need not be there.
    pub fn at(route: &Route) -> Self {
        Self { dir: Path::new(route.as_str()).to_owned() }
    }

    /// An error of the system, as one of the bus.
    pub fn failed(&self, error: io::Error) -> Error {
        let error = match error.kind() {
            Io::NotFound | Io::NotADirectory => Error::new(ErrorKind::NoSuchBus, "there is no bus at this route"),
            _ => Error::system(error, "the store cannot be used"),
        };
        error.in_protocol("+Example::Mailbox").at_path(&self.dir)
    }

    /// Does something while nobody else changes the bus. What it leaves in the register is stored.
    pub fn locked<T>(&self, work: impl FnOnce(&mut Register) -> Result<T>) -> Result<T> {
        // Never made here: a bus that was removed stays removed.
        let lock = File::open(self.dir.join("lock")).map_err(|error| self.failed(error))?;
        lock.lock().map_err(|error| self.failed(error))?;
        let before = fs::read(self.dir.join("bus")).map_err(|error| self.failed(error))?;
        let mut register = Register::from_json(&before).ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "the register of the bus is damaged").at_path(self.dir.join("bus"))
        })?;
        let done = work(&mut register)?;
        let after = register.to_json();
        if after != before && self.dir.exists() {
            self.replace("bus", &after)?;
        }
        Ok(done)
    }

    /// Puts a whole file in place of another one in one step.
    pub fn replace(&self, name: &str, content: &[u8]) -> Result<()> {
        let new = self.dir.join(format!("{name}.new"));
        let written = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
        written
            .and_then(|mut file| io::Write::write_all(&mut file, content))
            .and_then(|()| fs::rename(&new, self.dir.join(name)))
            .map_err(|error| self.failed(error))
    }

    /// The path of a mailbox.
    pub fn mailbox(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number}.box"))
    }

    /// Reads a mailbox: records of one byte (put back or not), a length, and a payload. That there is none is empty.
    pub fn letters(&self, number: u64) -> Result<Vec<Letter>> {
        let mut bytes = Vec::new();
        match File::open(self.mailbox(number)).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Err(error) if error.kind() != Io::NotFound => return Err(self.failed(error)),
            _ => {}
        }
        let (mut letters, mut rest) = (Vec::new(), &bytes[..]);
        while let Some((head, tail)) = rest.split_first_chunk::<9>() {
            let length = u64::from_be_bytes([head[1], head[2], head[3], head[4], head[5], head[6], head[7], head[8]]);
            let Some((payload, tail)) = usize::try_from(length).ok().and_then(|size| tail.split_at_checked(size))
            else {
                return Err(Error::new(ErrorKind::Corrupt, "a mailbox is cut short").at_path(self.mailbox(number)));
            };
            letters.push((head[0] == 1, payload.to_vec()));
            rest = tail;
        }
        Ok(letters)
    }

    /// Replaces a mailbox.
    pub fn store_letters(&self, number: u64, letters: &[Letter]) -> Result<()> {
        let mut bytes = Vec::new();
        for (was_put_back, payload) in letters {
            bytes.push(u8::from(*was_put_back));
            bytes.extend((payload.len() as u64).to_be_bytes());
            bytes.extend(payload);
        }
        self.replace(&format!("{number}.box"), &bytes)
    }

    /// Whether the holder lives: it holds the lock of its file then. To be asked with the lock of the bus.
    pub fn is_alive(&self, entry: &Entry) -> bool {
        let life = File::open(self.dir.join(format!("{}.life", entry.number)));
        life.is_ok_and(|life| matches!(life.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Removes what belongs to one peer.
    pub fn remove_files(&self, entry: &Entry) {
        for name in [format!("{}.box", entry.number), format!("{}.life", entry.number)] {
            let _ = fs::remove_file(self.dir.join(name));
        }
    }

    fn record(&self, name: &PeerName, entry: &Entry) -> Result<PeerRecord> {
        let state = match (self.is_alive(entry), entry.is_leaving) {
            (false, _) => PeerState::Dead,
            (true, true) => PeerState::Leaving,
            (true, false) => PeerState::Active,
        };
        let unread = Some(self.letters(entry.number)?.len() as u64);
        Ok(PeerRecord { name: name.clone(), pid: Some(entry.pid), since: None, state, unread })
    }
}

impl Register {
    fn from_json(bytes: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let mut register = Self { last: value["last"].as_u64().unwrap_or(0), ..Self::default() };
        for (name, entry) in value["peers"].as_object().into_iter().flatten() {
            let (number, pid) = (entry["number"].as_u64()?, u32::try_from(entry["pid"].as_u64()?).ok()?);
            let entry = Entry { number, pid, is_leaving: entry["leaving"] == true };
            register.peers.insert(PeerName::foreign(name).ok()?, entry);
        }
        for (name, stats) in value["stats"].as_object().into_iter().flatten() {
            register.stats.insert(PeerName::foreign(name).ok()?, stats.clone());
        }
        Some(register)
    }

    fn to_json(&self) -> Vec<u8> {
        let entry = |entry: &Entry| json!({"number": entry.number, "pid": entry.pid, "leaving": entry.is_leaving});
        let peers = self.peers.iter().map(|(name, peer)| (name.to_string(), entry(peer)));
        let stats = self.stats.iter().map(|(name, stats)| (name.to_string(), stats.clone()));
        let (peers, stats) = (Value::Object(peers.collect()), Value::Object(stats.collect()));
        json!({"last": self.last, "peers": peers, "stats": stats}).to_string().into_bytes()
    }

    /// The counters that a name has in the store.
    pub fn stats_of(&self, name: &PeerName) -> Stats {
        self.stats.get(name).and_then(|stats| Stats::from_value(stats).ok()).unwrap_or_default()
    }
}

/// The register as a peer, or an observer, sees it.
#[derive(Debug)]
pub struct Listing {
    pub store: Store,
    pub own: Option<PeerName>,
}

impl Directory for Listing {
    fn peers(&mut self) -> Result<Vec<PeerRecord>> {
        self.store.locked(|register| {
            let others = register.peers.iter().filter(|(name, _)| Some(*name) != self.own.as_ref());
            others.map(|(name, entry)| self.store.record(name, entry)).collect()
        })
    }

    fn peer(&mut self, name: &PeerName) -> Result<Option<PeerRecord>> {
        self.store.locked(|register| register.peers.get(name).map(|entry| self.store.record(name, entry)).transpose())
    }

    fn sweep(&mut self) -> Result<Vec<PeerName>> {
        self.store.locked(|register| {
            let is_dead =
                |(name, entry): &(&PeerName, &Entry)| Some(*name) != self.own.as_ref() && !self.store.is_alive(entry);
            let dead: Vec<PeerName> = register.peers.iter().filter(is_dead).map(|(name, _)| name.clone()).collect();
            for name in &dead {
                register.stats.remove(name);
                register.peers.remove(name).iter().for_each(|entry| self.store.remove_files(entry));
            }
            Ok(dead)
        })
    }

    fn stats(&mut self) -> Result<Vec<(PeerName, Stats)>> {
        self.store.locked(|register| {
            let stats = |(name, stats): (&PeerName, &Value)| Some((name.clone(), Stats::from_value(stats).ok()?));
            Ok(register.stats.iter().filter_map(stats).collect())
        })
    }

    fn save_stats(&mut self, name: &PeerName, stats: &Stats) -> Result<()> {
        let stats = serde_json::to_value(stats).unwrap_or_default();
        self.store.locked(|register| {
            register.stats.insert(name.clone(), stats);
            Ok(())
        })
    }

    fn watch_peers(&mut self, _on: bool) {}

    fn wake(&self) -> Wake<'_> {
        Wake { descriptors: Vec::new(), look_every: LOOK_EVERY }
    }
}
