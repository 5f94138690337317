// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows of the table of faults that need a hand in the store: junk among good messages on servers, and a dead peer whose
//! pid is another program's.

use std::fs;
use std::process::{Child, Command};

use ipc_manager::{ErrorKind, PeerState, Receipt, Signal, Spawn};
use ipc_manager_testkit::servers::{Database, Engine, Server, can_start, shared};
use ipc_manager_testkit::{Puppet, Sandbox, Subject, Test};
use serde_json::{Value, json};

use crate::file_bus::contents;

pub fn tests() -> Vec<Test> {
    let postgresql: fn() -> Result<(), String> = || can_start(Engine::PostgreSQL);
    let mariadb: fn() -> Result<(), String> = || can_start(Engine::MariaDb);
    let mysql: fn() -> Result<(), String> = || can_start(Engine::MySql);
    vec![
        Test::new("stored_rows::t11_junk_rows_on_postgresql", |_| junk(Engine::PostgreSQL)).only_if(postgresql),
        Test::new("stored_rows::t11_junk_rows_on_mariadb", |_| junk(Engine::MariaDb)).only_if(mariadb),
        Test::new("stored_rows::t11_junk_rows_on_mysql", |_| junk(Engine::MySql)).only_if(mysql),
        Test::new("stored_rows::t18_on_sqlite", on_sqlite),
        Test::new("stored_rows::t18_on_jsonfile", on_json_file),
        Test::new("stored_rows::t18_on_postgresql", |sandbox| on_a_server(sandbox, Engine::PostgreSQL))
            .only_if(postgresql),
        Test::new("stored_rows::t18_on_mariadb", |sandbox| on_a_server(sandbox, Engine::MariaDb)).only_if(mariadb),
        Test::new("stored_rows::t18_on_mysql", |sandbox| on_a_server(sandbox, Engine::MySql)).only_if(mysql),
    ]
}

fn protocol(engine: Engine) -> &'static str {
    match engine {
        Engine::PostgreSQL => "PostgreSQL",
        Engine::MariaDb => "MariaDB",
        Engine::MySql => "MySQL",
    }
}

fn on_route(protocol: &str, route: &str) -> Spawn {
    let builder = Spawn::builder().protocol(protocol).serializer("JSON").guard(false).route(route);
    builder.signal(Signal::new("TERM").unwrap()).spawn().unwrap()
}

fn junk(engine: Engine) {
    let database = shared(engine).and_then(Server::fresh_database).unwrap();
    let bus = on_route(protocol(engine), &database.dbi_dsn());
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    let (quote, uuid, bytes): (_, _, fn(&str) -> String) = match engine {
        Engine::PostgreSQL => ("\"", "gen_random_uuid()", |text| format!("convert_to({text}, 'UTF8')")),
        _ => ("`", "UUID()", str::to_owned),
    };
    let raw = if engine == Engine::PostgreSQL { "decode('ff0001', 'hex')" } else { "X'ff0001'" };
    let mut junk: Vec<String> =
        ["'null'", "'{\"x\":'", "''", "'1,2'", "REPEAT('[', 100000)"].into_iter().map(bytes).collect();
    junk.push(raw.to_owned());
    for (number, content) in junk.iter().enumerate() {
        a.send("b", &number).unwrap();
        let columns = format!("id, {quote}to{quote}, {quote}from{quote}, stamp, content, broadcast");
        let row = format!("INSERT INTO ipcm_messages ({columns}) VALUES ({uuid}, 'b', 'a', 1.5, {content}, FALSE)");
        database.execute(&row).unwrap();
    }
    a.send("b", "last").unwrap();
    let mut got = Vec::new();
    while b.is_ready().unwrap() {
        got.extend(contents(&b.get_messages().unwrap()));
    }
    let expected: Vec<Value> = (0..junk.len()).map(Value::from).chain([json!("last")]).collect();
    assert_eq!(got, expected, "a row that is no message keeps none that is one");
    let damaged = b.take_damaged();
    assert_eq!(damaged.len(), junk.len(), "{damaged:?}");
    assert!(damaged.iter().all(|damaged| damaged.error().place().table() == Some("ipcm_messages")));
    assert!(b.get_messages().unwrap().is_empty() && b.take_damaged().is_empty(), "reported once");
    let kept = database.execute("SELECT COUNT(*) FROM ipcm_damaged").unwrap();
    assert_eq!(kept.trim(), junk.len().to_string(), "kept for whoever wants to look");
    b.send("a", "usable").unwrap();
}

/// A program that has nothing to do with the bus; killed when dropped.
struct Stranger(Child);

impl Stranger {
    /// One that did not start when that other process did. A process is told from a later one with its pid by when it
    /// started, in ticks of the kernel; no pid comes again within a tick, but this one is to seem to.
    fn start_after(other: Option<u64>) -> Self {
        loop {
            let stranger = Self(Command::new("sleep").arg("300").spawn().unwrap());
            if started(stranger.0.id()) != other {
                return stranger;
            }
        }
    }
}

/// When a process started, in ticks since the machine did.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name, which may contain anything; the start is the 22nd.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The holder on record, with a stranger's pid, and nothing but the process to tell by.
fn with_pid(holder: &str, pid: u32) -> Value {
    let mut holder: Value = serde_json::from_str(holder).unwrap();
    let fields = holder.as_object_mut().unwrap();
    fields.remove("bell");
    fields.remove("porch");
    assert!(fields.contains_key("start"));
    fields.insert("pid".to_owned(), pid.into());
    holder
}

/// A peer is killed, and its pid given to a stranger, as the store has it: `rename` writes that.
fn a_stranger_is_no_peer(sandbox: &Sandbox, mut bus: Spawn, subject: &Subject, give: impl FnOnce(u32)) {
    let mut a = bus.connect("a").unwrap();
    let mut puppet = Puppet::start(subject, &bus.to_string(), sandbox.dir());
    puppet.try_connect("p").unwrap();
    let since = started(puppet.pid());
    assert!(since.is_some());
    puppet.kill();
    let mut stranger = Stranger::start_after(since);
    give(stranger.0.id());
    let peer = a.peer("p").unwrap().unwrap();
    assert_eq!((peer.pid, peer.state), (Some(stranger.0.id()), PeerState::Dead), "it is seen as gone");
    assert_eq!(a.send("p", "x").unwrap(), Receipt::Stored);
    bus.terminate().unwrap();
    assert!(a.recv_timeout(ipc_manager_testkit::PATIENCE).unwrap().is_terminate());
    let next = bus.connect("p").unwrap();
    assert!(next.discarded() >= 1, "the name is free");
    drop((a, next));
    assert!(stranger.0.try_wait().unwrap().is_none(), "the stranger was signalled");
    bus.unspawn().unwrap();
    let error = bus.connect("p").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchBus, "{error:?}");
}

fn on_sqlite(sandbox: &Sandbox) {
    let at = sandbox.dir().join("bus");
    let bus = on_route("SQLite", at.to_str().unwrap());
    a_stranger_is_no_peer(sandbox, bus, &Subject::new("SQLite"), |pid| {
        let raw = rusqlite::Connection::open(&at).unwrap();
        let holder: String =
            raw.query_row("SELECT ipcm_holder FROM ipcm_peers WHERE id = 'p'", [], |row| row.get(0)).unwrap();
        let holder = with_pid(&holder, pid).to_string();
        let changed = raw.execute("UPDATE ipcm_peers SET pid = ?1, ipcm_holder = ?2 WHERE id = 'p'", (pid, holder));
        assert_eq!(changed.unwrap(), 1);
    });
}

fn on_json_file(sandbox: &Sandbox) {
    let at = sandbox.dir().join("bus");
    let bus = on_route("JSONFile", at.to_str().unwrap());
    a_stranger_is_no_peer(sandbox, bus, &Subject::new("JSONFile"), |pid| {
        let mut state: Value = serde_json::from_slice(&fs::read(&at).unwrap()).unwrap();
        let client = &mut state["clients"]["p"];
        client["ipcm_holder"] = with_pid(&client["ipcm_holder"].to_string(), pid);
        client["pid"] = pid.into();
        fs::write(&at, state.to_string()).unwrap();
    });
}

fn on_a_server(sandbox: &Sandbox, engine: Engine) {
    let database: Database = shared(engine).and_then(Server::fresh_database).unwrap();
    let bus = on_route(protocol(engine), &database.dbi_dsn());
    a_stranger_is_no_peer(sandbox, bus, &Subject::new(protocol(engine)), |pid| {
        let holder = database.execute("SELECT ipcm_holder FROM ipcm_peers WHERE id = 'p'").unwrap();
        let holder = with_pid(holder.trim(), pid);
        let sql = format!("UPDATE ipcm_peers SET pid = {pid}, ipcm_holder = '{holder}' WHERE id = 'p'");
        database.execute(&sql).unwrap();
    });
}
