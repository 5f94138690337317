// SPDX-License-Identifier: MIT OR Apache-2.0
//! Encrypted connections to servers that listen on a port of their own and have a certificate made for the test.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use ipc_manager::{Client, Credentials, Error, ErrorKind, Result, Spawn};
use ipc_manager_servers::{Options, PrivateServer};
use ipc_manager_testkit::servers::{Engine, can_start};
use ipc_manager_testkit::{PATIENCE, Sandbox, Test, eventually};
use mysql::prelude::Queryable;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

pub fn tests() -> Vec<Test> {
    let postgresql: fn() -> std::result::Result<(), String> = || can_start(Engine::PostgreSQL);
    let mariadb: fn() -> std::result::Result<(), String> = || can_start(Engine::MariaDb);
    let mysql: fn() -> std::result::Result<(), String> = || can_start(Engine::MySql);
    vec![
        Test::new("tls::postgresql", postgresql_is_encrypted).only_if(postgresql),
        Test::new("tls::mariadb", |sandbox| mysql_family_is_encrypted(sandbox, Engine::MariaDb)).only_if(mariadb),
        Test::new("tls::mysql", |sandbox| mysql_family_is_encrypted(sandbox, Engine::MySql)).only_if(mysql),
        Test::new("tls::mariadb_without", |sandbox| mysql_family_cannot(sandbox, Engine::MariaDb)).only_if(mariadb),
        Test::new("tls::mysql_without", |sandbox| mysql_family_cannot(sandbox, Engine::MySql)).only_if(mysql),
        Test::new("tls::what_is_not_understood_is_refused", what_is_not_understood_is_refused),
    ]
}

const SECRET: &str = "s3cret";

/// An authority, a certificate of it for `localhost`, and another authority.
struct Certificates {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    another: PathBuf,
}

fn authority() -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params.self_signed(&key).unwrap().pem(), Issuer::new(params, key))
}

impl Certificates {
    fn make(dir: &Path) -> Self {
        let (authority, issuer) = authority();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &issuer).unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        Self {
            authority: write("authority", &authority),
            certificate: write("certificate", &certificate.pem()),
            key: write("key", &key.serialize_pem()),
            another: write("another", &self::authority().0),
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server on a port; the port may have been taken by somebody else in between.
fn on_a_port(engine: Engine, options: &Options) -> (PrivateServer, u16) {
    let mut tries = 0;
    loop {
        let port = free_port();
        match PrivateServer::start(engine, &options.clone().setting("port", port.to_string())) {
            Ok(server) => return (server, port),
            Err(error) if tries == 2 => panic!("{error:?}"),
            Err(_) => tries += 1,
        }
    }
}

fn credentials(user: &str) -> Credentials {
    Credentials::none().with_user(user).with_password(SECRET)
}

fn spawn(protocol: &str, route: &str, user: &str) -> Result<Spawn> {
    Spawn::builder().protocol(protocol).route(route).guard(false).credentials(credentials(user)).spawn()
}

/// A message goes over the bus, whose connection string alone says that it is encrypted. Then the bus is removed.
fn talk(protocol: &str, route: &str, user: &str, meanwhile: impl FnOnce()) {
    let mut bus = spawn(protocol, route, user).unwrap();
    let join = |name: &str| Client::builder(name, bus.info()).user(user).password(SECRET).connect().unwrap();
    let (mut a, mut b) = (join("a"), join("b"));
    a.send("b", &"x".repeat(100_000)).unwrap();
    assert_eq!(b.recv_timeout(PATIENCE).unwrap().content().as_str().map(str::len), Some(100_000));
    meanwhile();
    drop((a, b));
    bus.unspawn().unwrap();
}

fn refused(protocol: &str, route: &str, user: &str) -> Error {
    let error = spawn(protocol, route, user).map(|bus| bus.to_string()).unwrap_err();
    assert!(!format!("{error:?}").contains(SECRET));
    error
}

fn kind_of(protocol: &str, route: &str, user: &str) -> ErrorKind {
    refused(protocol, route, user).kind()
}

/// A client of the superuser's.
fn postgresql_admin(server: &PrivateServer, port: u16) -> postgres::Client {
    let mut config = postgres::Config::new();
    config.host_path(server.dir()).port(port).user(&server.user()).dbname("quickdb");
    config.connect(postgres::NoTls).unwrap()
}

/// Gives the server a certificate, and a user who needs a password.
fn prepare_postgresql(server: &PrivateServer, port: u16, certificates: &Certificates) {
    let mut admin = postgresql_admin(server, port);
    // The server insists on a key that is its own and that nobody else reads.
    let owner = std::fs::metadata(server.dir()).unwrap();
    for (from, name) in [(&certificates.certificate, "server.crt"), (&certificates.key, "server.key")] {
        let to = server.dir().join(name);
        std::fs::copy(from, &to).unwrap();
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o600)).unwrap();
        chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
        let setting = if name.ends_with("crt") { "ssl_cert_file" } else { "ssl_key_file" };
        admin.batch_execute(&format!("ALTER SYSTEM SET {setting} = '{}'", to.display())).unwrap();
    }
    let access: String = admin.query_one("SHOW hba_file", &[]).unwrap().get(0);
    let rules = std::fs::read_to_string(&access).unwrap();
    std::fs::write(&access, format!("{rules}host all app 127.0.0.1/32 scram-sha-256\n")).unwrap();
    admin.batch_execute(&format!("CREATE ROLE app LOGIN PASSWORD '{SECRET}'")).unwrap();
    admin.batch_execute("CREATE DATABASE app OWNER app").unwrap();
}

fn postgresql_is_encrypted(sandbox: &Sandbox) {
    let certificates = Certificates::make(sandbox.dir());
    let (server, port) = on_a_port(Engine::PostgreSQL, &Options::new().setting("listen_addresses", "127.0.0.1"));
    prepare_postgresql(&server, port, &certificates);
    let admin = || postgresql_admin(&server, port);
    let switch = |on: &str| {
        admin().batch_execute(&format!("ALTER SYSTEM SET ssl = {on}")).unwrap();
        admin().batch_execute("SELECT pg_reload_conf()").unwrap();
        eventually("the server has its new settings", || {
            admin().query_one("SHOW ssl", &[]).unwrap().get::<_, String>(0) == on
        });
    };
    switch("on");
    let route = |host: &str, more: &str| format!("dbi:Pg:dbname=app;host={host};port={port}{more}");
    let root = format!(";sslrootcert={}", certificates.authority.display());
    let sessions = |is_encrypted: bool| {
        let sql =
            "SELECT COUNT(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'app' AND ssl = $1";
        admin().query_one(sql, &[&is_encrypted]).unwrap().get::<_, i64>(0)
    };
    let encrypted = [
        route("localhost", &format!(";sslmode=verify-full{root}")),
        // The name is none of the certificate's.
        route("127.0.0.1", &format!(";sslmode=verify-ca{root}")),
        route("127.0.0.1", ";sslmode=require"),
        // As PostgreSQL's own clients do it when nothing is said.
        route("127.0.0.1", ""),
        format!("postgres://localhost:{port}/app?sslmode=verify-full&sslrootcert={}", certificates.authority.display()),
    ];
    for route in &encrypted {
        let says = || assert!(sessions(true) >= 2 && sessions(false) == 0, "{route} is not encrypted");
        talk("PostgreSQL", route, "app", says);
    }
    talk("PostgreSQL", &route("localhost", ";sslmode=disable"), "app", || assert!(sessions(true) == 0));
    let another = format!(";sslrootcert={}", certificates.another.display());
    let untrusted = [
        route("localhost", &format!(";sslmode=verify-full{another}")),
        route("localhost", &format!(";sslmode=verify-ca{another}")),
        // A certificate to trust is there to be checked.
        route("localhost", &format!(";sslmode=require{another}")),
        route("127.0.0.1", &format!(";sslmode=verify-full{root}")),
        route("localhost", ";sslmode=verify-full;sslrootcert=/nowhere"),
    ];
    for route in &untrusted {
        assert_eq!(kind_of("PostgreSQL", route, "app"), ErrorKind::Permission, "{route}");
    }
    switch("off");
    assert_eq!(kind_of("PostgreSQL", &encrypted[0], "app"), ErrorKind::Unsupported);
    assert_eq!(kind_of("PostgreSQL", &encrypted[2], "app"), ErrorKind::Unsupported);
    talk("PostgreSQL", &encrypted[3], "app", || assert!(sessions(false) >= 2));
}

fn protocol(engine: Engine) -> &'static str {
    if engine == Engine::MySql { "MySQL" } else { "MariaDB" }
}

/// A server on a port, with a user who must, and one who need not be encrypted.
fn mysql_on_a_port(engine: Engine, options: Options) -> (PrivateServer, u16) {
    let options = options.setting("skip_networking", "0").setting("bind_address", "127.0.0.1");
    let (server, port) = on_a_port(engine, &options);
    let admin = mysql::OptsBuilder::new().socket(server.socket().to_str()).user(Some(server.user()));
    let mut admin = mysql::Conn::new(admin).unwrap();
    for (user, more) in [("app", "REQUIRE SSL"), ("open", "")] {
        let sql = format!("CREATE USER {user}@'127.0.0.1' IDENTIFIED BY '{SECRET}' {more}");
        admin.query_drop(sql).unwrap();
        admin.query_drop(format!("GRANT ALL PRIVILEGES ON quickdb.* TO {user}@'127.0.0.1'")).unwrap();
    }
    (server, port)
}

fn mysql_family_is_encrypted(sandbox: &Sandbox, engine: Engine) {
    let certificates = Certificates::make(sandbox.dir());
    // Where the server's account can read them.
    let dir = std::env::temp_dir().join(format!("ipct-tls-{}-{}", engine.name(), std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let _remove = Removed(dir.clone());
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut options = Options::new();
    for (setting, from) in [("ssl_cert", &certificates.certificate), ("ssl_key", &certificates.key)] {
        let to = dir.join(setting);
        std::fs::copy(from, &to).unwrap();
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o644)).unwrap();
        options = options.setting(setting, to.to_str().unwrap());
    }
    let (_server, port) = mysql_on_a_port(engine, options);
    let protocol = protocol(engine);
    let route = |host: &str, more: &str| format!("dbi:MariaDB:dbname=quickdb;host={host};port={port}{more}");
    let root = format!(";mariadb_ssl_ca_file={}", certificates.authority.display());
    let full = format!(";mariadb_ssl=1;mariadb_ssl_verify_server_cert=1{root}");
    let scheme = protocol.to_lowercase();
    let encrypted = [
        route("localhost", &full),
        route("127.0.0.1", ";mariadb_ssl=1"),
        route("127.0.0.1", ";mysql_ssl=1;mysql_ssl_optional=1"),
        format!(
            "{scheme}://localhost:{port}/quickdb?ssl-mode=VERIFY_IDENTITY&ssl-ca={}",
            certificates.authority.display()
        ),
    ];
    for route in &encrypted {
        // The server lets this user in no other way.
        talk(protocol, route, "app", || ());
    }
    assert_eq!(kind_of(protocol, &route("127.0.0.1", ""), "app"), ErrorKind::Permission);
    assert_eq!(kind_of(protocol, &route("127.0.0.1", ";mariadb_ssl=0"), "app"), ErrorKind::Permission);
    let another = format!(";mariadb_ssl_ca_file={}", certificates.another.display());
    let untrusted = [
        route("localhost", &format!(";mariadb_ssl=1;mariadb_ssl_verify_server_cert=1{another}")),
        route("localhost", &format!(";mariadb_ssl=1{another}")),
        route("127.0.0.1", &full),
        // The name is checked with the certificate here.
        route("127.0.0.1", &format!(";mariadb_ssl=1{root}")),
        // A public authority never signed it.
        route("localhost", ";mariadb_ssl=1;mariadb_ssl_verify_server_cert=1"),
        route("localhost", ";mariadb_ssl=1;mariadb_ssl_ca_file=/nowhere"),
    ];
    for route in &untrusted {
        let error = refused(protocol, route, "open");
        assert_eq!(error.kind(), ErrorKind::Permission, "{route}: {error:?}");
        assert!(!error.is_retryable());
    }
}

fn mysql_family_cannot(_: &Sandbox, engine: Engine) {
    let (setting, value) = if engine == Engine::MySql { ("tls_version", "") } else { ("ssl", "0") };
    let (server, port) = mysql_on_a_port(engine, Options::new().setting(setting, value));
    let protocol = protocol(engine);
    let route = |more: &str| format!("dbi:MariaDB:dbname=quickdb;host=127.0.0.1;port={port}{more}");
    assert_eq!(kind_of(protocol, &route(";mariadb_ssl=1"), "open"), ErrorKind::Unsupported);
    let socket = format!("{};mariadb_ssl=1", server.dbi_dsn());
    assert_eq!(kind_of(protocol, &socket, &server.user()), ErrorKind::Unsupported, "a socket is not encrypted");
    if engine == Engine::MariaDb {
        talk(protocol, &route(";mariadb_ssl=1;mariadb_ssl_optional=1"), "open", || ());
    }
}

struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn what_is_not_understood_is_refused(_: &Sandbox) {
    for route in ["dbi:Pg:dbname=a;host=h;sslmode=sometimes", "postgres://h/a?sslcert=/x", "dbi:Pg:dbname=a;sslkey=/x"]
    {
        assert_eq!(kind_of("PostgreSQL", route, "app"), ErrorKind::InvalidInfo, "{route}");
    }
    for route in ["dbi:MariaDB:dbname=a;host=h;mariadb_ssl=maybe", "dbi:mysql:dbname=a;host=h;mysql_ssl_cipher=x"] {
        assert_eq!(kind_of("MariaDB", route, "app"), ErrorKind::InvalidInfo, "{route}");
    }
}
