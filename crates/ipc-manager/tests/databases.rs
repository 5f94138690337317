// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is particular to buses on servers: passwords, routes, restarts, private servers, foreign writers.

use std::time::Instant;

use ipc_manager::{Client, ConnectionString, Credentials, ErrorKind, Registry, Spawn, Stored};
use ipc_manager_servers::{Options, PrivateServer};
use ipc_manager_testkit::servers::{Engine, Server, can_start, shared};
use ipc_manager_testkit::{PATIENCE, Puppet, Sandbox, Subject, Test, eventually};
use serde_json::json;

pub fn tests() -> Vec<Test> {
    let postgresql: fn() -> Result<(), String> = || can_start(Engine::PostgreSQL);
    let mariadb: fn() -> Result<(), String> = || can_start(Engine::MariaDb);
    let mysql: fn() -> Result<(), String> = || can_start(Engine::MySql);
    vec![
        Test::new("databases::a_password_is_needed_and_shown_nowhere", a_password_is_needed_and_shown_nowhere)
            .only_if(postgresql),
        Test::new("databases::urls_lead_to_the_same_bus", urls_lead_to_the_same_bus).only_if(postgresql),
        Test::new("databases::a_foreign_writer_wakes_a_reader", a_foreign_writer_wakes_a_reader).only_if(postgresql),
        Test::new("databases::in_hand_over_a_crash_of_postgresql", |_| {
            in_hand_over_a_crash(Engine::PostgreSQL, "PostgreSQL");
        })
        .only_if(postgresql),
        Test::new("databases::in_hand_over_a_crash_of_mariadb", |_| in_hand_over_a_crash(Engine::MariaDb, "MariaDB"))
            .only_if(mariadb),
        Test::new("databases::in_hand_over_a_crash_of_mysql", |_| in_hand_over_a_crash(Engine::MySql, "MySQL"))
            .only_if(mysql),
        Test::new("databases::private_postgresql_goes_with_its_bus", |_| private("PostgreSQL")).only_if(postgresql),
        Test::new("databases::private_mariadb_goes_with_its_bus", |_| private("MariaDB")).only_if(mariadb),
        Test::new("databases::private_mysql_goes_with_its_bus", |_| private("MySQL")).only_if(mysql),
        Test::new("databases::a_private_server_cannot_be_kept", |_| a_private_server_cannot_be_kept()),
        Test::new("databases::a_private_server_is_not_handed_on", crate::acts::a_private_server_is_not_handed_on)
            .only_if(postgresql),
        Test::new("databases::a16_content_that_a_foreign_table_would_cut_is_refused", a16_is_refused).only_if(mariadb),
        Test::new("databases::in_one_transaction_sqlite", in_one_transaction),
        Test::new("databases::in_one_transaction_postgresql", |_| in_one_transaction_on_a_server(Engine::PostgreSQL))
            .only_if(postgresql),
        Test::new("databases::in_one_transaction_mariadb", |_| in_one_transaction_on_a_server(Engine::MariaDb))
            .only_if(mariadb),
        Test::new("databases::in_one_transaction_mysql", |_| in_one_transaction_on_a_server(Engine::MySql))
            .only_if(mysql),
    ]
}

fn a_password_is_needed_and_shown_nowhere(sandbox: &Sandbox) {
    let server = PrivateServer::start(Engine::PostgreSQL, &Options::new()).unwrap();
    let secret = "s3cret-in-no-output";
    let sql = format!("CREATE ROLE app LOGIN PASSWORD '{secret}'; CREATE DATABASE app OWNER app");
    for statement in sql.split("; ") {
        psql(&server, "quickdb", statement);
    }
    // Whoever is not the superuser must show a password.
    let files = psql(&server, "quickdb", "SHOW hba_file");
    let hba = std::fs::read_to_string(files.trim()).unwrap();
    std::fs::write(files.trim(), format!("local all app scram-sha-256\n{hba}")).unwrap();
    psql(&server, "quickdb", "SELECT pg_reload_conf()");
    let route = server.dbi_dsn().replace("quickdb", "app");
    let credentials = Credentials::none().with_user("app").with_password(secret);
    let spawn = || Spawn::builder().protocol("PostgreSQL").route(&route).guard(false);
    let mut bus = spawn().credentials(credentials.clone()).spawn().unwrap();
    let text =
        format!("{bus} {bus:?} {:?} {credentials:?}", Registry::standard().with_credentials(credentials.clone()));
    assert!(!text.contains(secret), "{text}");
    let info = bus.info().clone();
    let builder = |name: &str| Client::builder(name, &info).user("app");
    let refused = builder("a").password("another").connect().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Permission, "{refused:?}");
    assert!(!format!("{refused:?}").contains(secret));
    let mut a = builder("a").password(secret).connect().unwrap();
    let subject = Subject::new("PostgreSQL");
    let mut b = Puppet::start(&subject, &info.to_string(), sandbox.dir());
    let connect = json!({"op": "connect", "name": "b", "info": info.to_string(), "user": "app", "password": secret});
    b.must(&connect);
    a.send("b", "x").unwrap();
    assert_eq!(b.recv_count(1)[0].content, "x");
    let arguments = std::fs::read_to_string(format!("/proc/{}/cmdline", b.pid())).unwrap();
    assert!(!arguments.contains(secret));
    b.disconnect();
    drop(a);
    bus.unspawn().unwrap();
    let tables = psql(&server, "app", "SELECT COUNT(*) FROM pg_tables WHERE tablename LIKE 'ipcm%'");
    assert_eq!(tables.trim(), "0", "what was made is removed");
}

fn psql(server: &PrivateServer, database: &str, sql: &str) -> String {
    let client = ipc_manager_servers::client_program(Engine::PostgreSQL).unwrap();
    let host = server.socket().parent().unwrap().to_owned();
    let output = std::process::Command::new(client)
        .args(["-X", "-q", "-A", "-t", "-d", database, "-c", sql, "-U", &server.user(), "-h"])
        .arg(host)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn urls_lead_to_the_same_bus(_: &Sandbox) {
    let database = shared(Engine::PostgreSQL).and_then(Server::fresh_database).unwrap();
    let host = database.dbi_dsn().split("host=").nth(1).unwrap().replace('/', "%2F");
    let url = format!("postgres://{host}/{}", database.name());
    let mut bus = Spawn::builder().protocol("PostgreSQL").route(&url).guard(false).spawn().unwrap();
    assert!(bus.route().as_str().starts_with("dbi:Pg:dbname="), "others read no URLs: {bus}");
    let by_url = ConnectionString::parse(&json!(["PostgreSQL", "JSON::Zstd", url]).to_string()).unwrap();
    let mut a = ipc_manager::connect("a", &by_url).unwrap();
    let mut b = bus.connect("b").unwrap();
    a.send("b", "x").unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "x");
    drop((a, b));
    bus.unspawn().unwrap();
    let missing = ConnectionString::parse(&json!(["PostgreSQL", "JSON", url.replace("ipcm_", "no_")]).to_string());
    assert_eq!(ipc_manager::connect("a", &missing.unwrap()).unwrap_err().kind(), ErrorKind::NoSuchBus);
}

fn a_foreign_writer_wakes_a_reader(_: &Sandbox) {
    let database = shared(Engine::PostgreSQL).and_then(Server::fresh_database).unwrap();
    let bus = Spawn::builder().protocol("PostgreSQL").serializer("JSON").route(&database.dbi_dsn()).guard(false);
    let bus = bus.spawn().unwrap();
    let (mut a, _b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let started = Instant::now();
            (a.recv_timeout(PATIENCE).unwrap(), started.elapsed(), a)
        });
        database
            .execute(
                "INSERT INTO ipcm_messages (id, \"to\", \"from\", stamp, content, broadcast) VALUES \
                 (gen_random_uuid(), 'a', 'b', 1800000000.5, convert_to('{\"x\":1}', 'UTF8'), FALSE)",
            )
            .unwrap();
        let (message, _, a) = reader.join().unwrap();
        assert_eq!(message.content(), &json!({"x": 1}));
        assert!(!a.wake().unwrap().descriptors.is_empty());
        drop(a);
    });
}

/// What is in hand when a server crashes can be acknowledged once it is back, or comes again.
fn in_hand_over_a_crash(engine: Engine, protocol: &str) {
    let mut server = PrivateServer::start(engine, &Options::new()).unwrap();
    let registry = Registry::standard().with_credentials(Credentials::none().with_user(&server.user()));
    let bus = Spawn::builder().protocol(protocol).registry(registry).route(&server.dbi_dsn()).guard(false);
    let bus = bus.spawn().unwrap();
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    for number in 0..4 {
        a.send("b", &number).unwrap();
    }
    let (first, second) = (b.receive_timeout(PATIENCE).unwrap(), b.receive_timeout(PATIENCE).unwrap());
    first.acknowledge(&mut b).unwrap();
    server.kill().unwrap();
    server.start_again().unwrap();
    let is_done = second.acknowledge(&mut b).inspect_err(|error| assert!(error.is_retryable(), "{error:?}")).is_ok();
    let mut got = Vec::new();
    while got.last() != Some(&3) {
        let delivery = b.receive_timeout(PATIENCE).unwrap();
        let content = delivery.message().content().as_u64().unwrap();
        assert_eq!(delivery.attempts(), if content == 1 { 2 } else { 1 });
        delivery.acknowledge(&mut b).unwrap();
        got.push(content);
    }
    assert!(if is_done { got == [2, 3] } else { got == [1, 2, 3] || got == [2, 3] }, "{is_done} {got:?}");
    assert!(b.try_receive().unwrap().is_none());
    b.disconnect().unwrap();
    a.disconnect().unwrap();
}

fn private(protocol: &str) {
    let mut bus = Spawn::builder().protocol(protocol).spawn().unwrap();
    let route = bus.route().as_str().to_owned();
    let dir = route.split(['=', ';']).find(|part| part.starts_with('/')).unwrap().to_owned();
    let folder = std::path::Path::new(&dir).ancestors().find(|at| at.to_str().unwrap().contains("ipcm-db-")).unwrap();
    assert!(folder.exists());
    let mut other = Spawn::builder().protocol(protocol).spawn().unwrap();
    assert_ne!(bus.route(), other.route(), "each bus has a server of its own");
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    a.send("b", "x").unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), "x");
    drop((a, b));
    assert!(bus.shutdown().unwrap().is_balanced());
    let error = bus.connect("late").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchBus, "{error:?}");
    other.shutdown().unwrap();
    drop(bus);
    let at = std::path::Path::new(&dir);
    eventually("the server is gone with all that it had", || !at.exists());
}

/// Found out before one is started.
fn a_private_server_cannot_be_kept() {
    for (protocol, engine) in
        [("PostgreSQL", Engine::PostgreSQL), ("MariaDB", Engine::MariaDb), ("MySQL", Engine::MySql)]
    {
        let refused = Spawn::builder().protocol(protocol).guard(false).spawn().unwrap_err();
        let expected = if can_start(engine).is_ok() { ErrorKind::Unsupported } else { ErrorKind::NotViable };
        assert_eq!(refused.kind(), expected, "{refused:?}");
        let says = expected == ErrorKind::NotViable || refused.to_string().contains("give a route");
        assert!(says, "{refused}");
    }
}

fn a16_is_refused(_: &Sandbox) {
    let database = shared(Engine::MariaDb).and_then(Server::fresh_database).unwrap();
    // As the reference implementation makes them.
    let dump = std::fs::read_to_string(crate::vectors::folder("mariadb").join("01-spawned.sql")).unwrap();
    database.execute(&dump).unwrap();
    let info = json!(["MariaDB", "JSON", database.dbi_dsn()]).to_string();
    let info = ConnectionString::parse(&info).unwrap();
    let (mut a, mut b) = (ipc_manager::connect("a", &info).unwrap(), ipc_manager::connect("b", &info).unwrap());
    let error = a.send("b", &"x".repeat(65_534)).unwrap_err();
    assert_eq!((error.kind(), error.stored()), (ErrorKind::TooLarge, Some(Stored::No)), "{error:?}");
    a.send("b", &"x".repeat(65_533)).unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content().as_str().unwrap().len(), 65_533);
    // These tables take names that differ by case for one.
    let error = ipc_manager::connect("A", &info).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NameInUse, "{error:?}");
    assert_eq!(b.send("A", "x").unwrap_err().kind(), ErrorKind::NoSuchPeer);
}

/// The application's own change and the message are there together, or neither is.
fn in_one_transaction(sandbox: &Sandbox) {
    let at = sandbox.dir().join("app.sqlite");
    let mut own = rusqlite::Connection::open(&at).unwrap();
    own.execute_batch("CREATE TABLE orders (number INTEGER)").unwrap();
    let mut bus = Spawn::builder().in_database_of(&mut own).unwrap().guard(false).spawn().unwrap();
    assert_eq!(bus.route().as_str(), at.to_str().unwrap());
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    for (number, is_kept) in [(1, false), (2, true)] {
        let mut transaction = own.transaction().unwrap();
        transaction.execute("INSERT INTO orders VALUES (?1)", [number]).unwrap();
        let posted = a.send_in(&mut transaction, "b", &number).unwrap();
        assert_eq!(posted.receipt(), ipc_manager::Receipt::Delivered);
        let refused = a.send_in(&mut transaction, "nobody", &number).unwrap_err();
        assert_eq!((refused.kind(), refused.stored()), (ErrorKind::NoSuchPeer, Some(Stored::No)));
        assert!(b.try_recv().unwrap().is_none(), "it is there before the commit");
        if is_kept {
            transaction.commit().unwrap();
            a.committed(posted);
        } else {
            transaction.rollback().unwrap();
        }
    }
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), 2);
    assert!(b.try_recv().unwrap().is_none());
    assert_eq!(a.stats().sent["b"], 1);
    let orders: i64 = own.query_row("SELECT SUM(number) FROM orders", [], |row| row.get(0)).unwrap();
    assert_eq!(orders, 2);
    let limits = ipc_manager::Limits { unread_messages: Some(1), ..ipc_manager::Limits::DEFAULT };
    let mut c = Client::builder("c", bus.info()).limits(limits).connect().unwrap();
    let mut transaction = own.transaction().unwrap();
    drop(c.send_in(&mut transaction, "b", &3).unwrap());
    assert_eq!(c.send_in(&mut transaction, "b", &4).unwrap_err().kind(), ErrorKind::WouldBlock);
    transaction.rollback().unwrap();
    drop((a, b, c));
    bus.unspawn().unwrap();
    own.query_row("SELECT COUNT(*) FROM orders", [], |_| Ok(())).expect("the application's own table stays");
}

fn in_one_transaction_on_a_server(engine: Engine) {
    let database = shared(engine).and_then(Server::fresh_database).unwrap();
    let protocol = match engine {
        Engine::PostgreSQL => "PostgreSQL",
        Engine::MariaDb => "MariaDB",
        Engine::MySql => "MySQL",
    };
    let registry = Registry::standard().with_credentials(Credentials::none().with_user(database.server().user()));
    let bus = Spawn::builder().protocol(protocol).registry(registry).route(&database.dbi_dsn()).guard(false);
    let bus = bus.spawn().unwrap();
    let (mut a, mut b) = (bus.connect("a").unwrap(), bus.connect("b").unwrap());
    let mut post = |transaction: &mut dyn ipc_manager::Transaction, number: i32| {
        let posted = a.send_in(transaction, "b", &number).unwrap();
        assert!(b.try_recv().unwrap().is_none(), "it is there before the commit");
        posted
    };
    let posted = match engine {
        Engine::PostgreSQL => {
            let mut config = postgres::Config::new();
            config.user(database.server().user()).dbname(database.name());
            config.host_path(database.server().socket().parent().unwrap());
            let mut own = config.connect(postgres::NoTls).unwrap();
            drop(post(&mut own.transaction().unwrap(), 1));
            let mut transaction = own.transaction().unwrap();
            let posted = post(&mut transaction, 2);
            transaction.commit().unwrap();
            posted
        }
        _ => {
            let options = mysql::OptsBuilder::new()
                .socket(database.server().socket().to_str())
                .user(Some(database.server().user()))
                .db_name(Some(database.name()));
            let mut own = mysql::Conn::new(options).unwrap();
            drop(post(&mut own.start_transaction(mysql::TxOpts::default()).unwrap(), 1));
            let mut transaction = own.start_transaction(mysql::TxOpts::default()).unwrap();
            let posted = post(&mut transaction, 2);
            transaction.commit().unwrap();
            posted
        }
    };
    a.committed(posted);
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content(), 2);
    assert!(b.try_recv().unwrap().is_none());
}
