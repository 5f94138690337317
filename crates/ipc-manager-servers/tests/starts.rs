// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a started server is: ready, reachable by its user, private, and nobody else's.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use ipc_manager_servers::{Engine, ErrorKind, Options, PrivateServer, client_program, viable};
use ipc_manager_testkit::{Sandbox, Test};

crate::over_engines![
    "starts":
    it_is_ready_private_and_not_root,
    two_of_them_are_apart,
    a_failing_start_leaves_nothing_and_says_why,
];

pub fn tests() -> Vec<Test> {
    ipc_manager_testkit::tests![what_is_missing_is_named]
}

/// A server in the test's own directory, where nothing else is.
pub fn start(engine: Engine, sandbox: &Sandbox) -> PrivateServer {
    start_with(engine, sandbox, Options::new()).unwrap()
}

fn start_with(
    engine: Engine,
    sandbox: &Sandbox,
    options: Options,
) -> Result<PrivateServer, ipc_manager_servers::Error> {
    // The account of a server that root starts must be able to pass.
    fs::set_permissions(sandbox.dir(), fs::Permissions::from_mode(0o711)).unwrap();
    PrivateServer::start(engine, &options.within(sandbox.dir()))
}

/// Asks a server with the engine's own client, as a user. `Err` is what the client said.
pub fn ask_as(user: &str, server: &PrivateServer, sql: &str) -> Result<String, String> {
    let mut command = Command::new(client_program(server.engine()).unwrap());
    match server.engine() {
        Engine::PostgreSQL => {
            command.args(["-X", "-w", "-A", "-t", "-d", server.database(), "-c", sql]).arg("-h").arg(server.dir())
        }
        _ => command
            .args(["--no-defaults", "--batch", "--skip-column-names", "-D", server.database(), "-e", sql])
            .arg("-S")
            .arg(server.socket()),
    };
    command
        .stdin(Stdio::null())
        .env_remove("PGPASSWORD")
        .args([if server.engine() == Engine::PostgreSQL { "-U" } else { "-u" }, user]);
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

pub fn ask(server: &PrivateServer, sql: &str) -> String {
    ask_as(&server.user(), server, sql).unwrap()
}

fn it_is_ready_private_and_not_root(engine: Engine, sandbox: &Sandbox) {
    let mut server = start_with(engine, sandbox, Options::new().database("orders")).unwrap();
    assert!(server.is_running());
    assert_eq!(ask(&server, "SELECT 1 + 1"), "2");
    let name = if engine == Engine::PostgreSQL { "current_database()" } else { "DATABASE()" };
    assert_eq!(ask(&server, &format!("SELECT {name}")), "orders");
    assert!(server.dbi_dsn().contains("dbname=orders;"), "{}", server.dbi_dsn());
    let version = ask(&server, "SELECT version()");
    assert_eq!(version.contains("MariaDB"), engine == Engine::MariaDb, "{version}");
    // Accounts with passwords can be made: grants are in force.
    match engine {
        Engine::PostgreSQL => ask(&server, "CREATE ROLE alice LOGIN PASSWORD 'secret'"),
        _ => ask(&server, "CREATE USER alice@localhost IDENTIFIED BY 'secret'"),
    };
    assert!(ask_as("alice", &server, "SELECT 1").is_err());
    if engine != Engine::PostgreSQL {
        assert_eq!(ask_as("anybody", &server, "SELECT 1"), Ok("1".into()));
    }

    let found = fs::metadata(server.dir()).unwrap();
    assert_eq!(found.permissions().mode() & 0o7777, 0o700);
    let around = fs::metadata(server.dir().parent().unwrap()).unwrap();
    assert_eq!((around.uid(), around.permissions().mode() & 0o007), (rustix::process::geteuid().as_raw(), 0));
    assert!(server.socket().as_os_str().len() < 108);
    let pid = server.pid().unwrap();
    let process = fs::metadata(format!("/proc/{pid}")).unwrap();
    assert_ne!(process.uid(), 0);
    assert_eq!(process.uid(), found.uid());
    assert_no_network(pid);
    server.close().unwrap();
    assert!(sandbox.listing().is_empty());
}

/// The process listens on no port: none of its sockets is in the tables of internet sockets.
fn assert_no_network(pid: u32) {
    let mut inodes = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        if let Some(inode) = target.to_str().and_then(|text| text.strip_prefix("socket:[")) {
            inodes.push(inode.trim_end_matches(']').to_owned());
        }
    }
    assert!(!inodes.is_empty(), "it has no socket at all");
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        let listed = text.lines().filter_map(|line| line.split_whitespace().nth(9));
        assert!(!listed.into_iter().any(|inode| inodes.iter().any(|own| own == inode)), "it listens on {table}");
    }
}

fn two_of_them_are_apart(engine: Engine, sandbox: &Sandbox) {
    let (one, other) = (start(engine, sandbox), start(engine, sandbox));
    assert_ne!(one.dir(), other.dir());
    ask(&one, "CREATE TABLE t (n INTEGER)");
    assert!(ask_as(&other.user(), &other, "SELECT n FROM t").is_err());
    drop(one);
    assert_eq!(ask(&other, "SELECT 1"), "1");
    drop(other);
    assert!(sandbox.listing().is_empty());
}

fn a_failing_start_leaves_nothing_and_says_why(engine: Engine, sandbox: &Sandbox) {
    let error = start_with(engine, sandbox, Options::new().setting("no_such_setting_of_any", "1")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    let sentence = error.to_string().replace('-', "_");
    assert!(sentence.contains("no_such_setting_of_any"), "{sentence}");
    assert!(sandbox.listing().is_empty());
    let error = start_with(engine, sandbox, Options::new().timeout(std::time::Duration::ZERO)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(sandbox.listing().is_empty());
    let error = start_with(engine, sandbox, Options::new().database("a; b")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}

fn what_is_missing_is_named(sandbox: &Sandbox) {
    for engine in Engine::ALL {
        // Only this process reads it, and its tests run one after the other or apart.
        let missing = with_folder(engine, sandbox.dir());
        assert_eq!(missing.0, Some(engine));
        let expected: &[&str] = match engine {
            Engine::PostgreSQL => &["initdb", "postgres"],
            Engine::MariaDb => &["mariadb-install-db", "mariadbd"],
            Engine::MySql => &["mysqld"],
        };
        assert_eq!(missing.1, expected);
    }
}

/// Asks a process of its own, whose environment names the folder.
fn with_folder(engine: Engine, folder: &Path) -> (Option<Engine>, Vec<String>) {
    let mut command = ipc_manager_testkit::Suite::command("viable");
    let output = command.env(engine.folder_variable(), folder).env("ENGINE", engine.name()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words = text.split_whitespace().map(str::to_owned);
    let name = words.next();
    (Engine::ALL.into_iter().find(|engine| Some(engine.name()) == name.as_deref()), words.collect())
}

/// The act of that process.
pub fn say_what_is_missing() -> std::process::ExitCode {
    let engine = crate::owners::engine_of_act();
    if let Err(missing) = viable(engine) {
        println!("{} {}", missing.engine(), missing.programs().join(" "));
    }
    std::process::ExitCode::SUCCESS
}
