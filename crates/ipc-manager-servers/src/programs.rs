// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding the servers' programs on this machine.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::engine::Engine;

/// Where packages put servers, beside `PATH`. A folder of `PATH` is looked at first; `*` is any name, the highest
/// version first.
const FOLDERS: [&str; 12] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/usr/local/mysql/bin",
    "/usr/bin",
    "/usr/sbin",
    "/usr/libexec",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/local/libexec",
    "/opt/homebrew/bin",
    "/usr/pkg/bin",
];

/// Which programs of an engine are missing on this machine.
///
/// ```
/// use ipc_manager_servers::{Engine, viable};
/// if let Err(missing) = viable(Engine::MariaDb) {
///     assert!(missing.to_string().contains(missing.programs()[0]));
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    engine: Engine,
    programs: Vec<&'static str>,
    overridden: Option<PathBuf>,
}

impl Missing {
    /// Whose programs.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Their names, without a folder; at least one.
    #[must_use]
    pub fn programs(&self) -> &[&'static str] {
        &self.programs
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.programs.len() == 1 { "is" } else { "are" };
        write!(f, "{} of {} {verb} not in ", self.programs.join(" and "), self.engine)?;
        match &self.overridden {
            Some(folder) => write!(f, "{}, which {} names", folder.display(), self.engine.folder_variable()),
            None => write!(f, "PATH nor where packages put it; {} can name its folder", self.engine.folder_variable()),
        }
    }
}

impl std::error::Error for Missing {}

/// The programs that a start needs.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) server: PathBuf,
    /// What makes the first data; MySQL's server does it itself.
    pub(crate) init: PathBuf,
}

/// A program by the names that it goes by, the one to tell a user first.
type Names = &'static [&'static str];

const fn needs(engine: Engine) -> (Names, Names) {
    match engine {
        Engine::PostgreSQL => (&["postgres"], &["initdb"]),
        Engine::MariaDb => (&["mariadbd", "mysqld"], &["mariadb-install-db", "mysql_install_db"]),
        Engine::MySql => (&["mysqld"], &["mysqld"]),
    }
}

/// Whether a private server of this kind could be started: whether its programs are here.
///
/// # Errors
/// [`Missing`] says which are not.
pub fn viable(engine: Engine) -> Result<(), Missing> {
    find(engine).map(drop)
}

/// The engine's command-line client: `psql`, `mariadb` or `mysql`. No server needs it.
///
/// # Errors
/// [`Missing`] if it is not on this machine.
pub fn client_program(engine: Engine) -> Result<PathBuf, Missing> {
    let names: Names = match engine {
        Engine::PostgreSQL => &["psql"],
        Engine::MariaDb => &["mariadb", "mysql"],
        Engine::MySql => &["mysql"],
    };
    look(engine, &folders(engine), names).ok_or_else(|| missing(engine, vec![names[0]]))
}

pub(crate) fn find(engine: Engine) -> Result<Programs, Missing> {
    let (server_names, init_names) = needs(engine);
    let folders = folders(engine);
    let server = look(engine, &folders, server_names);
    // Programs of one version belong together: the other one is first looked for beside the first.
    let beside = server.as_deref().and_then(|server| fs::canonicalize(server).ok());
    let beside = beside.as_deref().and_then(Path::parent).map(Path::to_owned);
    let init_folders: Vec<_> = beside.into_iter().chain(folders.iter().cloned()).collect();
    let init = match &server {
        // One that does both.
        Some(server) if init_names == server_names => Some(server.clone()),
        _ => look(engine, &init_folders, init_names),
    };
    match (server, init) {
        (Some(server), Some(init)) => Ok(Programs { server, init }),
        (server, init) => {
            let lacking = [(server, server_names[0]), (init, init_names[0])];
            let lacking: BTreeSet<_> =
                lacking.into_iter().filter(|(found, _)| found.is_none()).map(|(_, name)| name).collect();
            Err(missing(engine, lacking.into_iter().collect()))
        }
    }
}

fn missing(engine: Engine, programs: Vec<&'static str>) -> Missing {
    Missing { engine, programs, overridden: overridden(engine) }
}

fn overridden(engine: Engine) -> Option<PathBuf> {
    env::var_os(engine.folder_variable()).filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

fn folders(engine: Engine) -> Vec<PathBuf> {
    if let Some(folder) = overridden(engine) {
        return vec![folder];
    }
    let path = env::var_os("PATH").unwrap_or_default();
    // A relative folder means another one in each working directory.
    let mut all: Vec<PathBuf> = env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    FOLDERS.iter().for_each(|folder| all.extend(expand(folder)));
    all
}

/// Expands the one `*` of a pattern, the highest version first.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![PathBuf::from(pattern)] };
    let (parent, start) = before.rsplit_once('/').unwrap_or(("", before));
    let listed = fs::read_dir(parent).into_iter().flatten().flatten();
    let names = listed.filter_map(|entry| entry.file_name().into_string().ok());
    let mut versions: Vec<String> = names.filter_map(|name| name.strip_prefix(start).map(str::to_owned)).collect();
    let number = |version: &String| -> Vec<u64> { version.split('.').map(|part| part.parse().unwrap_or(0)).collect() };
    versions.sort_by_key(|version| std::cmp::Reverse(number(version)));
    versions.iter().map(|version| PathBuf::from(format!("{before}{version}{after}"))).collect()
}

fn look(engine: Engine, folders: &[PathBuf], names: Names) -> Option<PathBuf> {
    let candidates = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    candidates.into_iter().find(|program| is_program(program) && is_of(engine, program))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// MariaDB also installs its programs under the names of MySQL's: those are asked whose they are.
fn is_of(engine: Engine, program: &Path) -> bool {
    let name = program.file_name().and_then(OsStr::to_str).unwrap_or_default();
    if engine == Engine::PostgreSQL || !name.starts_with("mysql") {
        return true;
    }
    if name == "mysql_install_db" {
        return engine == Engine::MariaDb;
    }
    // What is only another name for MariaDB's program needs no asking.
    let real = fs::canonicalize(program).unwrap_or_default();
    if real.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with("mariadb")) {
        return engine == Engine::MariaDb;
    }
    let asked = Command::new(program).args(["--no-defaults", "--version"]).stdin(Stdio::null()).output();
    let Ok(output) = asked else { return false };
    let is_mariadb = String::from_utf8_lossy(&output.stdout).contains("MariaDB");
    output.status.success() && is_mariadb == (engine == Engine::MariaDb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_what_is_missing() {
        let some = Missing { engine: Engine::PostgreSQL, programs: vec!["initdb", "postgres"], overridden: None };
        assert_eq!(
            some.to_string(),
            "initdb and postgres of PostgreSQL are not in PATH nor where packages put it; \
             IPCM_POSTGRESQL_BIN can name its folder"
        );
        let one = Missing { engine: Engine::MySql, programs: vec!["mysqld"], overridden: Some("/x".into()) };
        assert_eq!(one.to_string(), "mysqld of MySQL is not in /x, which IPCM_MYSQL_BIN names");
    }

    #[test]
    fn the_highest_version_comes_first() {
        let dir = env::temp_dir().join(format!("ipcm-versions-{}", std::process::id()));
        for version in ["9.6", "15", "8", "16"] {
            fs::create_dir_all(dir.join(version).join("bin")).unwrap();
        }
        let found = expand(&format!("{}/*/bin", dir.display()));
        fs::remove_dir_all(&dir).unwrap();
        let expected: Vec<_> = ["16", "15", "9.6", "8"].iter().map(|version| dir.join(version).join("bin")).collect();
        assert_eq!(found, expected);
    }
}
