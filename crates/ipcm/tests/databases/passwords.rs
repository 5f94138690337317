// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bus in an existing database, from several processes that are let in by a password, which is seen nowhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use ipc_manager_testkit::servers::{Database, Engine, Server, shared};
use ipc_manager_testkit::{Sandbox, Test, eventually};

use crate::ENGINES;

/// What all passwords begin with.
const SECRET: &str = "s3cret-that-nobody-sees";

/// One for each engine: the test of another may just have its client make a user, which is seen in the process list.
fn secret(engine: Engine) -> &'static str {
    match engine {
        Engine::PostgreSQL => "s3cret-that-nobody-sees-p",
        Engine::MariaDb => "s3cret-that-nobody-sees-d",
        Engine::MySql => "s3cret-that-nobody-sees-y",
    }
}

pub fn tests() -> Vec<Test> {
    let of = |(engine, protocol, can): (Engine, &'static str, crate::Can)| {
        let run: fn(&Sandbox) = match engine {
            Engine::PostgreSQL => |sandbox| a_password_is_seen_nowhere(sandbox, Engine::PostgreSQL, "PostgreSQL"),
            Engine::MariaDb => |sandbox| a_password_is_seen_nowhere(sandbox, Engine::MariaDb, "MariaDB"),
            Engine::MySql => |sandbox| a_password_is_seen_nowhere(sandbox, Engine::MySql, "MySQL"),
        };
        Test::new(&format!("passwords::{}", protocol.to_lowercase()), run).only_if(can)
    };
    ENGINES.map(of).into()
}

/// Where a user keeps a password.
#[derive(Clone, Copy)]
enum Kept {
    Nowhere,
    InTheEnvironment(&'static str),
    InAFile,
}

/// A home of its own for each way to keep a password.
struct Home<'a> {
    engine: Engine,
    dir: &'a Path,
    user: &'a str,
    kept: Kept,
}

impl Home<'_> {
    fn write(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let _ = fs::remove_dir_all(self.dir);
        fs::create_dir(self.dir).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ipcm"));
        command.args(args).env_clear().env("HOME", self.dir).env("TMPDIR", self.dir).current_dir(self.dir);
        match (self.engine, self.kept) {
            (Engine::PostgreSQL, kept) => {
                command.env("PGUSER", self.user);
                match kept {
                    Kept::Nowhere => {}
                    Kept::InTheEnvironment(secret) => drop(command.env("PGPASSWORD", secret)),
                    Kept::InAFile => self.write(".pgpass", &format!("*:*:*:{}:{}\n", self.user, secret(self.engine))),
                }
            }
            (_, Kept::InAFile) => {
                self.write(
                    ".my.cnf",
                    &format!("[client]\nuser = {}\npassword = \"{}\"\n", self.user, secret(self.engine)),
                );
            }
            (_, kept) => {
                self.write(".my.cnf", &format!("[client]\nuser = {}\n", self.user));
                if let Kept::InTheEnvironment(secret) = kept {
                    command.env("MYSQL_PWD", secret);
                }
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self, args: &[&str]) -> Child {
        self.command(args).spawn().unwrap()
    }

    fn run(&self, args: &[&str]) -> Output {
        checked(self.command(args).output().unwrap())
    }

    fn must(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// What a process said, without the password in it.
fn checked(output: Output) -> Output {
    for said in [&output.stdout, &output.stderr] {
        let said = String::from_utf8_lossy(said);
        assert!(!said.contains(SECRET), "the password is shown: {said}");
    }
    output
}

/// As anybody on the machine sees it.
fn assert_in_no_process_list(engine: Engine) {
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments);
        assert!(!arguments.contains(secret(engine)), "the password is in the process list: {arguments:?}");
    }
}

/// A user who needs the password and may do everything in the database.
fn with_user(engine: Engine) -> (Database, String) {
    let database = shared(engine).and_then(Server::fresh_database).unwrap();
    let user = format!("u{}", database.name().trim_start_matches("ipcm_"));
    let (name, secret) = (database.name(), secret(engine));
    let statements = match engine {
        // With what becomes of the user at the end: the server itself does not live for long.
        Engine::PostgreSQL => {
            [format!("CREATE ROLE {user} LOGIN PASSWORD '{secret}'"), format!("ALTER DATABASE {name} OWNER TO {user}")]
        }
        _ => [
            format!("CREATE USER {user}@localhost IDENTIFIED BY '{secret}'"),
            format!("GRANT ALL PRIVILEGES ON {name}.* TO {user}@localhost"),
        ],
    };
    statements.iter().for_each(|sql| drop(database.execute(sql).unwrap()));
    (database, user)
}

fn a_password_is_seen_nowhere(sandbox: &Sandbox, engine: Engine, protocol: &str) {
    let (database, user) = with_user(engine);
    let (here, there, elsewhere) = (sandbox.dir().join("a"), sandbox.dir().join("b"), sandbox.dir().join("c"));
    let home = |dir, kept| Home { engine, dir, user: &user, kept };
    let file = home(&here, Kept::InAFile);
    let environment = home(&there, Kept::InTheEnvironment(secret(engine)));
    // Under another name, so that the route is not that of a private server, to which everybody is its superuser.
    let link = sandbox.dir().join("server");
    let server = database.server();
    let (to, key) = match engine {
        Engine::PostgreSQL => (server.dir(), "dbi:Pg:host"),
        _ => (server.socket(), "dbi:MariaDB:mariadb_socket"),
    };
    std::os::unix::fs::symlink(to, &link).unwrap();
    let route = format!("{key}={};dbname={}", link.display(), database.name());
    let info = file.must(&["spawn", "--keep", "-p", protocol, "--route", &route]);
    let bus = ["--bus", info.trim_end()];
    let reader = environment.start(&["recv", bus[0], bus[1], "--name", "b", "--content", "--timeout", "60s"]);
    eventually("the reader to join", || file.must(&["--json", "peers", bus[0], bus[1]]).contains("\"b\""));
    assert_in_no_process_list(engine);
    file.must(&["send", bus[0], bus[1], "--name", "a", "b", "{\"x\":7}"]);
    let reader = checked(reader.wait_with_output().unwrap());
    assert_eq!(String::from_utf8_lossy(&reader.stdout), "{\"x\":7}\n", "{}", String::from_utf8_lossy(&reader.stderr));
    for kept in [Kept::Nowhere, Kept::InTheEnvironment("wrong")] {
        let refused = home(&elsewhere, kept).run(&["peers", bus[0], bus[1]]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        // PostgreSQL's own words where it is not even tried: no password is at hand.
        assert!(matches!(refused.status.code(), Some(10 | 1)) && refused.stdout.is_empty(), "{said}");
    }
    file.must(&["info", bus[0], bus[1]]);
    environment.must(&["stop", bus[0], bus[1]]);
    let left = environment.run(&["peers", bus[0], bus[1]]);
    assert_eq!(left.status.code(), Some(9), "{}", String::from_utf8_lossy(&left.stderr));
}
