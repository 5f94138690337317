// SPDX-License-Identifier: MIT OR Apache-2.0
//! What somebody leaves who is killed while making or removing a bus in a database: the next spawn or connect finishes
//! it, and it is removed without a trace.

use ipc_manager::{Client, Credentials, ErrorKind, Registry, Spawn};
use ipc_manager_testkit::servers::{Database, Engine, Server, can_start, shared};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test};

pub fn tests() -> Vec<Test> {
    let postgresql: fn() -> Result<(), String> = || can_start(Engine::PostgreSQL);
    let mariadb: fn() -> Result<(), String> = || can_start(Engine::MariaDb);
    let mysql: fn() -> Result<(), String> = || can_start(Engine::MySql);
    vec![
        Test::new("half_made::sqlite", on_sqlite),
        Test::new("half_made::postgresql", |_| on_a_server(Engine::PostgreSQL)).only_if(postgresql),
        Test::new("half_made::mariadb", |_| on_a_server(Engine::MariaDb)).only_if(mariadb),
        Test::new("half_made::mysql", |_| on_a_server(Engine::MySql)).only_if(mysql),
    ]
}

/// What is taken away from a whole bus, and whether it still is one then.
type Lack = (&'static str, bool);

const SQLITE: [Lack; 5] = [
    ("DROP TABLE ipcm_messages", false),
    ("DROP TABLE ipcm_messages; DROP TABLE ipcm_peers; DROP TABLE ipcm_damaged", false),
    ("DROP TABLE ipcm_messages; DROP TABLE ipcm_peers; DROP TABLE ipcm_damaged; DROP TABLE ipcm_made", false),
    ("DROP TABLE ipcm_damaged", true),
    ("DROP INDEX ipcm_messages_to", true),
];
const POSTGRESQL: [Lack; 7] = [
    ("DROP TABLE ipcm_messages", false),
    ("DROP TABLE ipcm_messages, ipcm_peers, ipcm_damaged, ipcm_taken", false),
    ("DROP TABLE ipcm_messages, ipcm_peers, ipcm_damaged, ipcm_taken, ipcm_made", false),
    ("DROP TABLE ipcm_taken", true),
    ("DROP INDEX ipcm_messages_to", true),
    ("DROP TRIGGER ipcm_ring ON ipcm_messages", true),
    ("ALTER TABLE ipcm_messages DROP COLUMN ipcm_seq; ALTER TABLE ipcm_messages DROP COLUMN ipcm_more", true),
];
const MYSQL: [Lack; 6] = [
    ("DROP TABLE ipcm_messages", false),
    ("DROP TABLE ipcm_messages, ipcm_peers, ipcm_damaged, ipcm_taken", false),
    ("DROP TABLE ipcm_messages, ipcm_peers, ipcm_damaged, ipcm_taken, ipcm_made", false),
    ("DROP TABLE ipcm_taken", true),
    // A foreign key wants some index.
    ("CREATE INDEX other ON ipcm_messages (`to`); DROP INDEX ipcm_messages_to ON ipcm_messages", true),
    (
        "CREATE INDEX other ON ipcm_messages (`to`); DROP INDEX ipcm_messages_to ON ipcm_messages; \
         ALTER TABLE ipcm_messages DROP COLUMN ipcm_seq",
        true,
    ),
];

/// A database that is somebody's, where buses come and go.
struct Site<'a> {
    protocol: &'static str,
    route: String,
    registry: Registry,
    execute: &'a dyn Fn(&str) -> String,
    /// Names of tables, and how often the index of the mailboxes is there.
    tables: &'static str,
    indexes: &'static str,
}

impl Site<'_> {
    fn spawn(&self) -> Spawn {
        let builder = Spawn::builder().protocol(self.protocol).registry(self.registry.clone()).route(&self.route);
        builder.guard(false).spawn().unwrap()
    }

    fn connect(&self, bus: &Spawn, name: &str) -> ipc_manager::Result<Client> {
        Client::builder(name, bus.info()).registry(self.registry.clone()).connect()
    }

    fn check(&self, (taken_away, is_bus): Lack) {
        let killed = self.spawn();
        (self.execute)(taken_away);
        let mut bus = if is_bus {
            // Whoever joins finishes it, too.
            drop(self.connect(&killed, "early").unwrap());
            assert_eq!((self.execute)(self.indexes), "1", "after {taken_away}");
            killed
        } else {
            let refused = self.connect(&killed, "early").map(drop).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::NoSuchBus, "after {taken_away}: {refused:?}");
            drop(killed);
            self.spawn()
        };
        let (mut a, mut b) = (self.connect(&bus, "a").unwrap(), self.connect(&bus, "b").unwrap());
        a.send("b", &1).unwrap();
        let first = b.recv_timeout(PATIENCE).unwrap();
        a.send("b", &2).unwrap();
        // In front of all, also of those that came meanwhile.
        b.requeue(&[first]).unwrap();
        for number in 1..=2 {
            assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), number, "after {taken_away}");
        }
        assert_eq!((self.execute)(self.indexes), "1", "after {taken_away}");
        a.disconnect().unwrap();
        b.disconnect().unwrap();
        bus.unspawn().unwrap();
        assert_eq!((self.execute)(self.tables), "0", "something is left after {taken_away}");
    }
}

fn on_a_server(engine: Engine) {
    let database: Database = shared(engine).and_then(Server::fresh_database).unwrap();
    let (tables, indexes, lacks): (_, _, &[Lack]) = match engine {
        Engine::PostgreSQL => (
            "SELECT COUNT(*) FROM pg_tables WHERE tablename LIKE 'ipcm%'",
            "SELECT COUNT(*) FROM pg_indexes WHERE indexname = 'ipcm_messages_to'",
            &POSTGRESQL,
        ),
        _ => (
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()",
            "SELECT COUNT(DISTINCT INDEX_NAME) FROM information_schema.STATISTICS \
             WHERE TABLE_SCHEMA = DATABASE() AND INDEX_NAME = 'ipcm_messages_to'",
            &MYSQL,
        ),
    };
    let site = Site {
        protocol: engine.name(),
        route: database.dbi_dsn(),
        registry: Registry::standard().with_credentials(Credentials::none().with_user(database.server().user())),
        execute: &|sql| database.execute(sql).unwrap().trim().to_owned(),
        tables,
        indexes,
    };
    lacks.iter().for_each(|lack| site.check(*lack));
}

fn on_sqlite(sandbox: &Sandbox) {
    let path = sandbox.dir().join("app.sqlite");
    // There before the bus, so that its tables go, and not the file.
    let own = rusqlite::Connection::open(&path).unwrap();
    own.execute_batch("CREATE TABLE orders (number INTEGER)").unwrap();
    let site = Site {
        protocol: "SQLite",
        route: path.to_str().unwrap().to_owned(),
        registry: Registry::standard(),
        execute: &|sql| match sql.starts_with("SELECT") {
            true => own.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().to_string(),
            false => own.execute_batch(sql).map(|()| String::new()).unwrap(),
        },
        tables: "SELECT COUNT(*) FROM sqlite_master WHERE name LIKE 'ipcm%'",
        indexes: "SELECT COUNT(*) FROM sqlite_master WHERE name = 'ipcm_messages_to'",
    };
    SQLITE.iter().for_each(|lack| site.check(*lack));
}
