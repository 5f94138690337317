// SPDX-License-Identifier: MIT OR Apache-2.0
//! The golden vectors of stores that are one database or one file: each stage is loaded, read through a real client,
//! and written to, so that another reader finds what it knows.

use std::fs;
use std::path::Path;

use ipc_manager::{ConnectionString, Message, Observer, PeerState, Receipt, Route, SerializerSpec};
use ipc_manager_testkit::servers::{Database, Engine, Server, can_start, shared};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test};
use serde_json::{Value, json};

use crate::vectors::{assert_same, folder, manifest, with_blob};

pub fn tests() -> Vec<Test> {
    let on = |engine: Engine, name: &str, run: fn(&Sandbox)| {
        let can: fn() -> Result<(), String> = match engine {
            Engine::PostgreSQL => || can_start(Engine::PostgreSQL),
            Engine::MariaDb => || can_start(Engine::MariaDb),
            Engine::MySql => || can_start(Engine::MySql),
        };
        Test::new(&format!("store_vectors::{name}"), run).only_if(can)
    };
    vec![
        Test::new("store_vectors::sqlite", |sandbox| every_stage("sqlite", sandbox)),
        Test::new("store_vectors::json_file", |sandbox| every_stage("jsonfile", sandbox)),
        on(Engine::PostgreSQL, "postgresql", |sandbox| every_stage("postgresql", sandbox)),
        on(Engine::MariaDb, "mariadb", |sandbox| every_stage("mariadb", sandbox)),
        on(Engine::MySql, "mysql", |sandbox| every_stage("mysql", sandbox)),
        Test::new("store_vectors::a_column_that_is_missing_is_added", a_column_that_is_missing_is_added),
    ]
}

/// A captured stage in a store of its own.
struct Loaded {
    info: ConnectionString,
    database: Option<Database>,
}

fn info(protocol: &str, route: &str) -> ConnectionString {
    let serializer: SerializerSpec = "JSON".parse().unwrap();
    ConnectionString::new(ipc_manager::ProtocolName::new(protocol), serializer, Route::new(route).unwrap())
}

fn load(store: &str, stage: &Value, sandbox: &Sandbox) -> Loaded {
    let files: Vec<&str> = match &stage["files"] {
        Value::Array(files) => files.iter().map(|file| file["file"].as_str().unwrap()).collect(),
        _ => vec![stage["file"].as_str().unwrap()],
    };
    let on_server = |engine: Engine, protocol: &str| {
        let database = shared(engine).and_then(Server::fresh_database).unwrap();
        let dump = fs::read_to_string(folder(store).join(files[0])).unwrap();
        // Captured on MariaDB, whose default of one column MySQL writes in another way.
        database.execute(&dump.replace("DEFAULT unix_timestamp()", "DEFAULT NULL")).unwrap();
        Loaded { info: info(protocol, &database.dbi_dsn()), database: Some(database) }
    };
    match store {
        "postgresql" => on_server(Engine::PostgreSQL, "PostgreSQL"),
        "mariadb" => on_server(Engine::MariaDb, "MariaDB"),
        "mysql" => on_server(Engine::MySql, "MySQL"),
        _ => {
            let at = sandbox.dir().join(files[0]);
            fs::copy(folder(store).join(files[0]), &at).unwrap();
            let protocol = if store == "sqlite" { "SQLite" } else { "JSONFile" };
            Loaded { info: info(protocol, at.to_str().unwrap()), database: None }
        }
    }
}

fn every_stage(store: &str, sandbox: &Sandbox) {
    let manifest = manifest(store);
    let stages = manifest["snapshots"].as_array().unwrap();
    assert!(stages.len() >= 9, "the manifest is not what it was");
    for stage in stages {
        let name = stage["stage"].as_str().unwrap();
        let loaded = load(store, stage, sandbox);
        same_peers(name, stage, &loaded);
        if stage.get("queue_of").is_some() {
            same_messages(name, stage, &loaded);
        }
        if name == "two-connected" {
            what_is_sent_can_be_read_by_others(store, &loaded);
        }
    }
}

/// The peers are those of the manifest, as far as it lists them.
fn same_peers(name: &str, stage: &Value, loaded: &Loaded) {
    let mut observer = Observer::new(&loaded.info).unwrap();
    let peers = observer.peers().unwrap();
    let Some(rows) = stage["rows"]["ipcm_peers"].as_array() else { return };
    let registered: Vec<_> = rows.iter().filter(|row| !row["active"].is_null()).collect();
    assert_eq!(peers.len(), registered.len(), "{name}: {peers:?}");
    for (peer, row) in peers.iter().zip(registered) {
        assert_eq!(peer.name.as_str(), row["id"], "{name}");
        assert_eq!(peer.pid.map(u64::from), row["pid"].as_u64(), "{name}");
        let until = row["suspend_expires"].as_f64().or_else(|| row["suspend_expires"].as_str()?.parse().ok());
        match peer.state {
            PeerState::Suspended { until: Some(at) } => {
                let seconds = at.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
                assert_eq!(Some(seconds), until, "{name}");
            }
            // The process of the capture has ended; or its pid is somebody else's now.
            state => assert!(until.is_none() && !matches!(state, PeerState::Suspended { .. }), "{name}: {state:?}"),
        }
    }
    let stats = observer.stats().unwrap();
    for row in rows.iter().filter(|row| !row["stats"].is_null()) {
        let expected: Value = serde_json::from_str(row["stats"].as_str().unwrap()).unwrap();
        let got = serde_json::to_value(&stats[row["id"].as_str().unwrap()]).unwrap();
        assert_eq!(got, expected, "{name}");
    }
}

/// Whoever continues the receiver reads what was sent to it, in order.
fn same_messages(name: &str, stage: &Value, loaded: &Loaded) {
    let mut receiver = ipc_manager::reconnect("receiver", &loaded.info).unwrap();
    let messages = receiver.get_messages().unwrap();
    let expected: Vec<Value> = stage["messages"].as_array().unwrap().iter().map(with_blob).collect();
    // The last of the captured rows is a broadcast, which the manifest describes elsewhere.
    assert!(messages.len() >= expected.len(), "{name}: {} messages", messages.len());
    for (message, mut expected) in messages.iter().zip(expected) {
        let case = expected["case"].take();
        let expected = expected.as_object_mut().unwrap();
        expected.remove("case");
        if loaded.database.is_some() || loaded.info.protocol().short() == "SQLite" {
            // There is no column for them.
            expected.insert("stamp_ord".into(), 0.into());
        }
        if !message.id().as_str().eq(expected["id"].as_str().unwrap()) {
            assert!(message.id().as_str().eq_ignore_ascii_case(expected["id"].as_str().unwrap()), "{case}");
            expected.insert("id".into(), message.id().as_str().into());
        }
        assert_same(&format!("{name}: {case}"), message, &Value::Object(expected.clone()));
    }
    assert!(receiver.take_damaged().is_empty());
    assert!(receiver.get_messages().unwrap().is_empty());
}

/// What our clients write into captured tables is what another implementation reads there.
fn what_is_sent_can_be_read_by_others(store: &str, loaded: &Loaded) {
    let mut sender = ipc_manager::reconnect("sender", &loaded.info).unwrap();
    let id = "0198C0DE-0000-7000-8000-0123456789AB";
    let message = Message::builder("sender").to("receiver").content(&json!({"hello": "world"})).unwrap();
    let message = message.id(id).stamp(1_800_000_000.123_456).extra("trace", 1).build().unwrap();
    assert_eq!(sender.send_message(message).unwrap(), Receipt::Stored);
    let sql = "SELECT `id`, `to`, `from`, `stamp`, `content`, `broadcast` FROM ipcm_messages";
    let row: Vec<String> = match (store, &loaded.database) {
        ("jsonfile", _) => {
            let state: Value = serde_json::from_slice(&fs::read(loaded.info.route().as_str()).unwrap()).unwrap();
            let message = &state["messages"]["receiver"][0];
            let text = |key: &str| message[key].as_str().unwrap().to_owned();
            assert_eq!(state["clients"]["sender"]["pid"], std::process::id());
            let stamp = message["stamp"].to_string();
            let content = message["content"].to_string();
            vec![text("id"), text("to"), text("from"), stamp, content, "0".into()]
        }
        (_, Some(database)) => {
            let sql = match store {
                "postgresql" => sql
                    .replace('`', "\"")
                    .replace("\"content\"", "convert_from(content, 'UTF8')")
                    .replace("\"broadcast\"", "CAST(broadcast AS int)"),
                _ => sql.to_owned(),
            };
            database.execute(&sql).unwrap().trim_end().split('\t').map(str::to_owned).collect()
        }
        _ => {
            let raw = rusqlite::Connection::open(loaded.info.route().as_str()).unwrap();
            let read = |row: &rusqlite::Row<'_>| {
                let content: Vec<u8> = row.get(4)?;
                let stamp: f64 = row.get(3)?;
                let flag: i64 = row.get(5)?;
                let (id, to, from): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok(vec![id, to, from, stamp.to_string(), String::from_utf8(content).unwrap(), flag.to_string()])
            };
            raw.query_row(sql, [], read).unwrap()
        }
    };
    assert!(row[0].eq_ignore_ascii_case(id), "{row:?}");
    assert_eq!((row[1].as_str(), row[2].as_str()), ("receiver", "sender"));
    assert!((row[3].parse::<f64>().unwrap() - 1_800_000_000.123_456).abs() < 1e-6, "{row:?}");
    assert_eq!(
        serde_json::from_str::<Value>(&row[4]).unwrap(),
        json!({"hello": "world"}),
        "only the content is stored"
    );
    assert_eq!(row[5], "0");
    let mut receiver = ipc_manager::reconnect("receiver", &loaded.info).unwrap();
    let got = receiver.recv_timeout(PATIENCE).unwrap();
    assert_eq!((got.id().as_str(), got.extra().get("trace")), (id, Some(&json!(1))));
}

/// Tables of an older version, before there were deadlines.
fn a_column_that_is_missing_is_added(sandbox: &Sandbox) {
    let at: &Path = &sandbox.dir().join("old.sqlite");
    let raw = rusqlite::Connection::open(at).unwrap();
    raw.execute_batch(
        "CREATE TABLE ipcm_peers (id VARCHAR(512) NOT NULL PRIMARY KEY, pid INTEGER, active REAL, stats BLOB);
         CREATE TABLE ipcm_messages (id UUID NOT NULL PRIMARY KEY, `to` VARCHAR(512) NOT NULL, `from` VARCHAR(512) NOT NULL,
             stamp REAL NOT NULL, content BLOB NOT NULL, broadcast BOOL NOT NULL DEFAULT 0);
         CREATE TABLE theirs (x INTEGER);
         INSERT INTO ipcm_peers VALUES ('old', NULL, 1.5, NULL);",
    )
    .unwrap();
    let info = info("SQLite", at.to_str().unwrap());
    assert_eq!(Observer::new(&info).unwrap().peers().unwrap().len(), 1, "one can look at it as it is");
    let mut a = ipc_manager::connect("a", &info).unwrap();
    assert_eq!(a.send("old", "x").unwrap(), Receipt::Stored);
    a.suspend(ipc_manager::Suspend::within(PATIENCE)).unwrap();
    let columns: i64 = raw
        .query_row("SELECT COUNT(*) FROM pragma_table_info('ipcm_peers') WHERE name = 'suspend_expires'", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(columns, 1);
    // Whose tables they were keeps its file and all else that is in it.
    ipc_manager::Spawn::adopt(&info).unwrap().unspawn().unwrap();
    let theirs: i64 = raw.query_row("SELECT COUNT(*) FROM theirs", [], |row| row.get(0)).unwrap();
    assert_eq!(theirs, 0);
}
