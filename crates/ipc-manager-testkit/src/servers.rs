// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real database servers for tests: one of each engine for all processes of a test run, and a database for each test.
//!
//! Starting a server takes seconds, and under `cargo nextest` each test is a process. So the first process that needs a
//! server starts it, and the others find it, by a file in the target directory. Each holds a lock while it lives; the
//! keeper of the server ends it when nobody has held one for a while, also when the tests were killed.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub use ipc_manager_servers::Engine;
use ipc_manager_servers::{Options, PrivateServer, client_program, viable};

/// How long a server stays when no test uses it any more.
const LINGER: Duration = Duration::from_secs(10);

/// Why there is no server.
///
/// ```
/// use ipc_manager_testkit::servers::{Engine, Reason, can_start, shared};
/// if let Err(why) = can_start(Engine::MySql) {
///     let reason: Reason = shared(Engine::MySql).unwrap_err();
///     assert_eq!(reason.to_string(), why);
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Reason(String);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Reason {}

/// A server that this process shares with the other tests of the run, until it ends.
///
/// ```no_run
/// use ipc_manager_testkit::servers::{Engine, shared};
/// let database = shared(Engine::PostgreSQL)?.fresh_database()?;
/// println!("{}", database.dbi_dsn());
/// # Ok::<(), ipc_manager_testkit::servers::Reason>(())
/// ```
#[derive(Debug)]
pub struct Server {
    engine: Engine,
    dir: PathBuf,
    socket: PathBuf,
    user: String,
    database: String,
    client: PathBuf,
    /// The server stays while this is open.
    _in_use: File,
}

/// A database of a test's own, dropped with it.
///
/// ```no_run
/// use ipc_manager_testkit::servers::{Engine, shared};
/// let database = shared(Engine::PostgreSQL)?.fresh_database()?;
/// database.execute("create table orders (number integer)")?;
/// assert_eq!(database.execute("select count(*) from orders")?.trim(), "0");
/// # Ok::<(), ipc_manager_testkit::servers::Reason>(())
/// ```
#[derive(Debug)]
pub struct Database {
    server: &'static Server,
    name: String,
}

/// Whether this machine has what a server of this kind needs, without starting one: for
/// [`Test::only_if`](crate::Test::only_if), so that a test is shown as ignored with the reason where it has not.
///
/// # Errors
/// The reason, one sentence.
///
/// ```
/// use ipc_manager_testkit::{Test, servers};
/// let can = || servers::can_start(servers::Engine::MySql);
/// let test = Test::new("mysql::is_there", |_| ()).only_if(can);
/// # drop(test);
/// ```
pub fn can_start(engine: Engine) -> Result<(), String> {
    static ANSWERS: Mutex<BTreeMap<Engine, Result<(), String>>> = Mutex::new(BTreeMap::new());
    let mut answers = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
    // Asked once: to tell the engines apart their programs are run, and each test asks.
    let answer = answers.entry(engine).or_insert_with(|| {
        let both = viable(engine).and_then(|()| client_program(engine).map(drop));
        both.map_err(|missing| missing.to_string())
    });
    answer.clone()
}

/// The server of this engine. The first caller of a run waits for its start, others for the first one's.
///
/// # Errors
/// [`Reason`] says why there is none: a program is missing, or the start failed.
///
/// # Panics
/// Never.
pub fn shared(engine: Engine) -> Result<&'static Server, Reason> {
    static SERVERS: Mutex<BTreeMap<Engine, &'static Server>> = Mutex::new(BTreeMap::new());
    let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = servers.get(&engine) {
        return Ok(server);
    }
    can_start(engine).map_err(Reason)?;
    // Kept until the process ends: only then does it let go of the lock.
    let server: &'static Server = Box::leak(Box::new(join(engine).map_err(|error| failed(engine, &error))?));
    servers.insert(engine, server);
    Ok(server)
}

fn failed(engine: Engine, error: &dyn std::error::Error) -> Reason {
    let source = error.source().map_or(String::new(), |source| format!(": {source}"));
    Reason(format!("there is no shared {engine}: {error}{source}"))
}

/// Finds the server of the run, or starts it.
fn join(engine: Engine) -> io::Result<Server> {
    let folder = meeting_place(engine)?;
    let open = |name| OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(name);
    let lock = folder.join("in-use");
    let in_use = open(lock.clone())?;
    // From here on the keeper of a server that is there lets it live.
    in_use.lock_shared()?;
    let starting = open(folder.join("starting"))?;
    starting.lock()?;
    let state = folder.join("server");
    if let Some(server) = read_state(engine, &state, &in_use)? {
        return Ok(server);
    }
    let server =
        PrivateServer::start(engine, &Options::new().setting("max_connections", "400")).map_err(io::Error::other)?;
    let text = [
        server.dir().display().to_string(),
        server.socket().display().to_string(),
        server.user(),
        server.database().to_owned(),
    ];
    server.share(&lock, LINGER).map_err(io::Error::other)?;
    let fresh = folder.join("server.new");
    fs::write(&fresh, text.join("\n"))?;
    fs::rename(fresh, &state)?;
    read_state(engine, &state, &in_use)?.ok_or_else(|| io::Error::other("it ended as soon as it was started"))
}

/// The server that a file tells of, if it is there and answers.
fn read_state(engine: Engine, state: &Path, in_use: &File) -> io::Result<Option<Server>> {
    let text = fs::read_to_string(state).unwrap_or_default();
    let [dir, socket, user, database] = text.lines().collect::<Vec<_>>()[..] else { return Ok(None) };
    if UnixStream::connect(socket).is_err() {
        return Ok(None);
    }
    Ok(Some(Server {
        engine,
        dir: dir.into(),
        socket: socket.into(),
        user: user.to_owned(),
        database: database.to_owned(),
        client: client_program(engine).map_err(io::Error::other)?,
        _in_use: in_use.try_clone()?,
    }))
}

/// Where the processes of a run meet: in the target directory, which the test program is somewhere in. Users meet apart.
fn meeting_place(engine: Engine) -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    let uid = rustix::process::geteuid().as_raw();
    let folder = target.map_or_else(std::env::temp_dir, Path::to_owned).join(format!("ipcm-test-servers-{uid}"));
    let folder = folder.join(engine.name());
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    Ok(folder)
}

impl Server {
    /// Which engine it is.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Its directory, which is the host that clients of PostgreSQL are told.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its superuser, who needs no password.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Makes an empty database for one test.
    ///
    /// # Errors
    /// [`Reason`] if the server refuses.
    pub fn fresh_database(&'static self) -> Result<Database, Reason> {
        let name = format!("ipcm_{}", random().map_err(|error| failed(self.engine, &error))?);
        self.execute(&self.database, &format!("CREATE DATABASE {name}"))?;
        Ok(Database { server: self, name })
    }

    /// Executes statements as the superuser, with the engine's own client, and returns the rows as text: a line each,
    /// columns apart by tabs.
    ///
    /// # Errors
    /// [`Reason`] with the words of the client if it fails.
    pub fn execute(&self, database: &str, sql: &str) -> Result<String, Reason> {
        let mut command = Command::new(&self.client);
        match self.engine {
            Engine::PostgreSQL => {
                for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
                    command.env_remove(name);
                }
                command.args(["-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql]);
                command.arg("-h").arg(&self.dir).arg("-U").arg(&self.user)
            }
            _ => {
                // It must be the first.
                command.args(["--no-defaults", "--batch", "--skip-column-names", "-D", database, "-e", sql]);
                command.arg("-S").arg(&self.socket).arg("-u").arg(&self.user)
            }
        };
        let output = command.stdin(Stdio::null()).output().map_err(|error| failed(self.engine, &error))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Reason(format!("{} refused {sql:?}: {said}", self.engine)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Database {
    /// The server that it is on.
    #[must_use]
    pub fn server(&self) -> &'static Server {
        self.server
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its data source name as DBI writes it, which is the route of a bus in it.
    #[must_use]
    pub fn dbi_dsn(&self) -> String {
        let (server, name) = (self.server, &self.name);
        match server.engine {
            Engine::PostgreSQL => format!("dbi:Pg:dbname={name};host={}", server.dir.display()),
            _ => format!("dbi:MariaDB:dbname={name};mariadb_socket={}", server.socket.display()),
        }
    }

    /// Executes statements in it; see [`Server::execute`].
    ///
    /// # Errors
    /// [`Reason`] with the words of the client if it fails.
    pub fn execute(&self, sql: &str) -> Result<String, Reason> {
        self.server.execute(&self.name, sql)
    }

    /// Ends every session in it but the own, as an administrator may.
    ///
    /// # Errors
    /// [`Reason`] with the words of the client if it fails.
    pub fn end_sessions(&self) -> Result<(), Reason> {
        if self.server.engine == Engine::PostgreSQL {
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";
            return self.execute(sql).map(drop);
        }
        let sql = format!(
            "SELECT id FROM information_schema.processlist WHERE db = '{}' AND id <> connection_id()",
            self.name
        );
        for id in self.execute(&sql)?.lines() {
            // One that has ended meanwhile is no failure.
            let _ = self.execute(&format!("KILL {id}"));
        }
        Ok(())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, name) = (self.server, &self.name);
        let sql = match server.engine {
            Engine::PostgreSQL => format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
            // A transaction that was left open is not waited for: the server itself does not live for long.
            _ => format!("SET SESSION lock_wait_timeout = 2; DROP DATABASE IF EXISTS {name}"),
        };
        let _ = server.execute(&server.database, &sql);
    }
}

fn random() -> io::Result<String> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
