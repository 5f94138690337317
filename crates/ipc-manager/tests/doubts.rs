// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connections that are cut as a transaction is committed, so that nobody knows whether it was: what is done again then
//! is done once.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ipc_manager::{Client, Credentials, Message, Registry, Spawn, Suspend};
use ipc_manager_testkit::servers::{Engine, Server, can_start, shared};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test};

pub fn tests() -> Vec<Test> {
    let postgresql: fn() -> Result<(), String> = || can_start(Engine::PostgreSQL);
    let mariadb: fn() -> Result<(), String> = || can_start(Engine::MariaDb);
    let mysql: fn() -> Result<(), String> = || can_start(Engine::MySql);
    vec![
        Test::new("doubts::postgresql", |_| all(Engine::PostgreSQL)).only_if(postgresql),
        Test::new("doubts::mariadb", |_| all(Engine::MariaDb)).only_if(mariadb),
        Test::new("doubts::mysql", |_| all(Engine::MySql)).only_if(mysql),
    ]
}

/// Where a connection is cut.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// The server is not asked to commit.
    Before = 1,
    /// It has committed, and its answer is lost.
    Behind = 2,
}

const NOWHERE: usize = 0;

/// A socket in front of that of a server.
struct Wire {
    dir: PathBuf,
    cut: Arc<AtomicUsize>,
}

impl Wire {
    fn new(sandbox: &Sandbox, engine: Engine, server: &Path) -> Self {
        let (dir, cut) = (sandbox.dir().to_owned(), Arc::new(AtomicUsize::new(NOWHERE)));
        let name = if engine == Engine::PostgreSQL { ".s.PGSQL.5432" } else { "socket" };
        let listener = UnixListener::bind(dir.join(name)).unwrap();
        let (server, its_cut) = (server.to_owned(), Arc::clone(&cut));
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                connect(client.unwrap(), UnixStream::connect(&server).unwrap(), &its_cut);
            }
        });
        Self { dir, cut }
    }

    fn route(&self, engine: Engine, database: &str) -> String {
        let dir = self.dir.display();
        match engine {
            Engine::PostgreSQL => format!("dbi:Pg:dbname={database};host={dir}"),
            _ => format!("dbi:MariaDB:dbname={database};mariadb_socket={dir}/socket"),
        }
    }

    /// Cuts the connection of whoever commits next.
    fn cut_next(&self, cut: Cut) {
        self.cut.store(cut as usize, Ordering::SeqCst);
    }

    fn assert_was_cut(&self) {
        assert_eq!(self.cut.load(Ordering::SeqCst), NOWHERE, "nobody has committed");
    }
}

/// Carries what two sides say to each other, in two threads, until one of them ends.
fn connect(client: UnixStream, server: UnixStream, cut: &Arc<AtomicUsize>) {
    let is_cut = Arc::new(AtomicBool::new(false));
    let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let is_cut_there = Arc::clone(&is_cut);
    std::thread::spawn(move || {
        carry(&mut from_server, &mut to_client, |_| !is_cut_there.load(Ordering::SeqCst));
    });
    let (mut from_client, mut to_server, cut) = (client, server, Arc::clone(cut));
    std::thread::spawn(move || {
        carry(&mut from_client, &mut to_server, |said| {
            let commits = said.windows(6).any(|word| word == b"COMMIT");
            match if commits { cut.swap(NOWHERE, Ordering::SeqCst) } else { NOWHERE } {
                at if at == Cut::Before as usize => false,
                at => {
                    is_cut.fetch_or(at == Cut::Behind as usize, Ordering::SeqCst);
                    true
                }
            }
        });
    });
}

fn carry(from: &mut UnixStream, to: &mut UnixStream, mut passes: impl FnMut(&[u8]) -> bool) {
    let mut said = vec![0; 1 << 16];
    loop {
        match from.read(&mut said) {
            Ok(count) if count > 0 && passes(&said[..count]) => {
                if to.write_all(&said[..count]).is_err() {
                    break;
                }
            }
            _ => break,
        }
    }
    // Either may be closed already.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// A bus behind a wire.
struct Site {
    wire: Wire,
    registry: Registry,
    bus: Spawn,
}

impl Site {
    fn client(&self, name: &str) -> Client {
        Client::builder(name, self.bus.info()).registry(self.registry.clone()).connect().unwrap()
    }

    fn again(&self, name: &str) -> Client {
        Client::builder(name, self.bus.info()).registry(self.registry.clone()).reconnect().unwrap()
    }
}

fn all(engine: Engine) {
    // A socket's path has a hundred bytes.
    let sandbox = Sandbox::short();
    let database = shared(engine).and_then(Server::fresh_database).unwrap();
    let wire = Wire::new(&sandbox, engine, database.server().socket());
    let registry = Registry::standard().with_credentials(Credentials::none().with_user(database.server().user()));
    let route = wire.route(engine, database.name());
    let bus = Spawn::builder().protocol(engine.name()).registry(registry.clone()).route(&route).guard(false);
    let mut site = Site { wire, registry, bus: bus.spawn().unwrap() };
    for cut in [Cut::Before, Cut::Behind] {
        a_requeue_is_done_once(&site, cut);
        a_suspension_is_done_once(&site, cut);
        what_was_taken_is_put_back_once(&site, cut);
    }
    site.bus.unspawn().unwrap();
}

/// Reads numbers from 0 on, and that nothing is behind them.
fn assert_has(reader: &mut Client, count: u64) {
    for number in 0..count {
        assert_eq!(reader.recv_timeout(PATIENCE).unwrap().content(), number);
    }
    assert!(reader.try_recv().unwrap().is_none(), "more than was sent");
}

fn post(sender: &mut Client, count: u64) {
    for number in 0..count {
        sender.send("reader", &number).unwrap();
    }
}

fn a_requeue_is_done_once(site: &Site, cut: Cut) {
    let (mut sender, mut reader) = (site.client("sender"), site.client("reader"));
    post(&mut sender, 4);
    let mut messages: Vec<Message> = Vec::new();
    while messages.len() < 3 {
        messages.extend(reader.get_at_most(3 - messages.len()).unwrap());
    }
    site.wire.cut_next(cut);
    reader.requeue(&messages).unwrap();
    site.wire.assert_was_cut();
    // Whoever does not know does it again.
    reader.requeue(&messages).unwrap();
    assert_has(&mut reader, 4);
    reader.disconnect().unwrap();
    sender.disconnect().unwrap();
}

fn a_suspension_is_done_once(site: &Site, cut: Cut) {
    let (mut sender, mut reader) = (site.client("sender"), site.client("reader"));
    post(&mut sender, 2);
    site.wire.cut_next(cut);
    reader.suspend(Suspend::open_ended()).unwrap();
    site.wire.assert_was_cut();
    let mut reader = site.again("reader");
    assert_has(&mut reader, 2);
    reader.disconnect().unwrap();
    sender.disconnect().unwrap();
}

/// What was taken as the connection was lost is handed to nobody, and waits for who continues the name.
fn what_was_taken_is_put_back_once(site: &Site, cut: Cut) {
    let (mut sender, mut reader) = (site.client("sender"), site.client("reader"));
    post(&mut sender, 2);
    site.wire.cut_next(Cut::Behind);
    assert!(reader.try_recv().unwrap_err().is_away());
    site.wire.assert_was_cut();
    site.wire.cut_next(cut);
    reader.suspend(Suspend::open_ended()).unwrap();
    site.wire.assert_was_cut();
    let mut reader = site.again("reader");
    assert_has(&mut reader, 2);
    reader.disconnect().unwrap();
    sender.disconnect().unwrap();
}
