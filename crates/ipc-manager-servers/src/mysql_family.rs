// SPDX-License-Identifier: MIT OR Apache-2.0
//! How MariaDB and MySQL are initialised and started, and how they say that they are ready.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::engine::Engine;
use crate::error::Result;
use crate::job::Job;
use crate::options::Options;
use crate::place::Place;
use crate::programs::Programs;

/// Throw-away data: fast rather than safe from a power failure. A commit is handed to the system (the 2), so it
/// survives the end of the server.
const SETTINGS: [(&str, &str); 7] = [
    ("innodb-flush-log-at-trx-commit", "2"),
    ("innodb-flush-method", "nosync"),
    ("innodb-doublewrite", "OFF"),
    ("innodb-buffer-pool-size", "64M"),
    ("performance-schema", "OFF"),
    ("max-connections", "200"),
    ("character-set-server", "utf8mb4"),
];

pub(crate) fn socket(dir: &Path) -> PathBuf {
    dir.join("socket")
}

/// What it executes first.
const FIRST: &str = "first.sql";

pub(crate) const USER: &str = "root";

/// The driver of that name serves both.
pub(crate) fn dbi_dsn(dir: &Path, database: &str) -> String {
    format!("dbi:MariaDB:dbname={database};mariadb_socket={}", socket(dir).display())
}

/// The same for making the data and for serving them; engines refuse data that were made with other sizes.
fn settings(engine: Engine, place: &Place, options: &Options) -> Vec<String> {
    let dir = place.inner().display();
    // Must be the first.
    let mut all = vec!["--no-defaults".to_owned(), format!("--datadir={dir}/data"), format!("--tmpdir={dir}")];
    let own: &[(&str, &str)] = match engine {
        Engine::MySql => &[
            ("innodb-redo-log-capacity", "64M"),
            ("loose-mysqlx", "OFF"),
            // Distributions point it at a folder that is not there.
            ("secure-file-priv", "NULL"),
        ],
        _ => &[("innodb-log-file-size", "48M")],
    };
    all.extend(SETTINGS.iter().chain(own).map(|(name, value)| format!("--{name}={value}")));
    all.extend(["--skip-log-bin", "--skip-networking", "--skip-name-resolve"].map(str::to_owned));
    all.extend(options.settings.iter().map(|(name, value)| format!("--{name}={value}")));
    all
}

/// What makes the data.
pub(crate) fn initialise(engine: Engine, programs: &Programs, place: &Place, options: &Options) -> Vec<Job> {
    let mut arguments = settings(engine, place, options);
    match engine {
        Engine::MySql => arguments.push("--initialize-insecure".to_owned()),
        _ => {
            let fixed = ["--auth-root-authentication-method=normal", "--skip-test-db"];
            arguments.extend(fixed.map(str::to_owned));
        }
    }
    vec![Job { program: programs.init.clone(), arguments, input: None }]
}

/// Made by the server before it lets anybody in, each time it starts. Whoever can reach the socket is let in, under any
/// name that has no account of its own: only the server's account itself and root can.
pub(crate) fn write_first_statements(place: &Place, options: &Options) -> Result<()> {
    let sql = format!(
        "CREATE DATABASE IF NOT EXISTS {};\n\
         CREATE USER IF NOT EXISTS ''@'localhost';\n\
         GRANT ALL PRIVILEGES ON *.* TO ''@'localhost';\n",
        options.database
    );
    place.write(FIRST, &sql).map(drop)
}

pub(crate) fn serve(engine: Engine, programs: &Programs, place: &Place, options: &Options) -> Job {
    let dir = place.inner().display();
    let mut arguments = settings(engine, place, options);
    arguments.extend([
        format!("--socket={}", socket(place.inner()).display()),
        format!("--pid-file={dir}/pid"),
        format!("--init-file={}", place.top().join(FIRST).display()),
    ]);
    Job { program: programs.server.clone(), arguments, input: None }
}

/// It greets whom it lets in: a packet of protocol 10. The socket is there earlier, but nobody answers.
pub(crate) fn is_ready(dir: &Path, patience: Duration) -> bool {
    const GREETING: u8 = 10;
    let greeting = || {
        let mut stream = UnixStream::connect(socket(dir))?;
        stream.set_read_timeout(Some(patience.clamp(Duration::from_millis(10), Duration::from_millis(500))))?;
        // Three bytes of length, one of sequence, then the version of the protocol.
        let mut head = [0; 5];
        stream.read_exact(&mut head)?;
        std::io::Result::Ok(head[4])
    };
    greeting().is_ok_and(|version| version == GREETING)
}
