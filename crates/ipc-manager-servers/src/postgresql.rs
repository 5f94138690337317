// SPDX-License-Identifier: MIT OR Apache-2.0
//! How PostgreSQL is initialised and started, and how it says that it is ready.

use std::fs;
use std::path::{Path, PathBuf};

use crate::account;
use crate::error::Result;
use crate::job::Job;
use crate::options::Options;
use crate::place::Place;
use crate::programs::Programs;

/// The number in the name of the socket; it listens on no port, unless the settings say so.
const PORT: u16 = 5432;

/// Throw-away data: fast rather than safe from a power failure, small, and nothing outside the directory.
const SETTINGS: [(&str, &str); 11] = [
    ("listen_addresses", ""),
    ("unix_socket_permissions", "0700"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("wal_level", "minimal"),
    ("max_wal_senders", "0"),
    ("max_connections", "200"),
    ("shared_buffers", "32MB"),
    // Files in the directory instead of in /dev/shm, where they would outlive a killed server.
    ("dynamic_shared_memory_type", "mmap"),
    ("logging_collector", "off"),
    ("jit", "off"),
];

/// Who is let in, and how.
const ACCESS: &str = "access";

/// The port that was asked for.
fn port(options: &Options) -> Option<&str> {
    options.settings.iter().rev().find(|(name, _)| name == "port").map(|(_, port)| port.as_str())
}

pub(crate) fn socket(dir: &Path, options: &Options) -> PathBuf {
    let standard = PORT.to_string();
    dir.join(format!(".s.PGSQL.{}", port(options).unwrap_or(&standard)))
}

pub(crate) fn user() -> String {
    account::own_name()
}

pub(crate) fn dbi_dsn(dir: &Path, options: &Options) -> String {
    let port = port(options).map_or_else(String::new, |port| format!(";port={port}"));
    format!("dbi:Pg:dbname={};host={}{port}", options.database, dir.display())
}

fn data(place: &Place) -> String {
    place.inner().join("data").display().to_string()
}

fn settings(place: &Place, options: &Options) -> Vec<String> {
    let own = SETTINGS.iter().map(|(name, value)| format!("{name}={value}"));
    let socket = format!("unix_socket_directories={}", place.inner().display());
    let access = format!("hba_file={}", place.top().join(ACCESS).display());
    let asked = options.settings.iter().map(|(name, value)| format!("{name}={value}"));
    let all = own.chain([socket, access, format!("port={PORT}")]).chain(asked);
    all.flat_map(|setting| ["-c".to_owned(), setting]).collect()
}

/// What makes the data, one after the other.
pub(crate) fn initialise(programs: &Programs, place: &Place, options: &Options) -> Result<Vec<Job>> {
    // Only the account itself and root can reach the socket; other roles have passwords or are not let in.
    let access = format!("local all \"{}\" trust\nlocal all all scram-sha-256\n", user().replace('"', "\"\""));
    place.write(ACCESS, &access)?;
    let fixed = ["--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"];
    let mut arguments: Vec<String> = fixed.iter().map(|argument| (*argument).to_owned()).collect();
    arguments.extend([format!("--pgdata={}", data(place)), format!("--username={}", user())]);
    let init = Job { program: programs.init.clone(), arguments, input: None };
    // A server of one session, without a client; it reads one statement a line.
    let sql = format!("CREATE DATABASE {}\n", options.database);
    let input = place.write("first.sql", &sql)?;
    let mut arguments = vec!["--single".to_owned(), "-D".to_owned(), data(place)];
    arguments.extend(settings(place, options));
    arguments.push("postgres".to_owned());
    let create = Job { program: programs.server.clone(), arguments, input: Some(input) };
    Ok(vec![init, create])
}

pub(crate) fn serve(programs: &Programs, place: &Place, options: &Options) -> Job {
    let mut arguments = vec!["-D".to_owned(), data(place)];
    arguments.extend(settings(place, options));
    Job { program: programs.server.clone(), arguments, input: None }
}

/// Its own protocol for that: line 1 of `postmaster.pid` is its pid, line 8 its state; `pg_ctl` reads the same.
pub(crate) fn is_ready(dir: &Path, pid: u32) -> bool {
    let text = fs::read_to_string(dir.join("data/postmaster.pid")).unwrap_or_default();
    let mut lines = text.lines();
    lines.next().and_then(|line| line.trim().parse().ok()) == Some(pid)
        && lines.nth(6).is_some_and(|state| state.trim() == "ready")
}
