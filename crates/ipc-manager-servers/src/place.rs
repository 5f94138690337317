// SPDX-License-Identifier: MIT OR Apache-2.0
//! The directory of one server: where it is made, who may enter it, and the record in it that tells whose it is.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::account::Account;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::options::Options;

/// What its name begins with; 128 random bits in hexadecimal follow.
pub(crate) const PREFIX: &str = "ipcm-db-";

/// The record in the directory. It is locked by the owner for its lifetime, and belongs to the owner also where the
/// directory belongs to the server's account.
pub(crate) const RECORD: &str = "owner";

/// Longest path of a socket, `sun_path` of unix(7) without the final zero; the BSDs have four bytes less.
const SOCKET_PATH_BYTES: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The longest name of a socket in it.
const SOCKET_NAME_BYTES: usize = "/.s.PGSQL.5432".len();

const OPERATION: &str = "make the server's directory";

#[derive(Debug)]
pub(crate) struct Place {
    dir: PathBuf,
    record: File,
}

impl Place {
    /// Makes one: in the folder that was asked for, or the first that the server's account can reach.
    pub(crate) fn make(engine: Engine, options: &Options, account: Option<&Account>) -> Result<Self> {
        let parents = match &options.parent {
            Some(parent) => vec![parent.clone()],
            None => vec![env::temp_dir(), PathBuf::from("/tmp"), PathBuf::from("/var/tmp")],
        };
        let mut reasons = String::new();
        for parent in parents {
            match usable(&parent, account) {
                Ok(parent) => return Self::make_in(engine, &parent, account),
                Err(reason) => {
                    let separator = if reasons.is_empty() { "" } else { "; " };
                    let _ = write!(reasons, "{separator}{}: {reason}", parent.display());
                }
            }
        }
        Err(Error::new(ErrorKind::NoPlace, OPERATION, reasons))
    }

    fn make_in(engine: Engine, parent: &Path, account: Option<&Account>) -> Result<Self> {
        let random = random().map_err(|error| Error::system(OPERATION, error))?;
        let dir = parent.join(format!("{PREFIX}{random}"));
        let refused = |error| Error::system(OPERATION, error).at(&dir);
        DirBuilder::new().mode(0o700).create(&dir).map_err(refused)?;
        match Self::fill(engine, &dir, account) {
            Ok(record) => Ok(Self { dir, record }),
            Err(error) => {
                let _ = fs::remove_dir_all(&dir);
                Err(refused(error))
            }
        }
    }

    fn fill(engine: Engine, dir: &Path, account: Option<&Account>) -> io::Result<File> {
        let mut record = OpenOptions::new().write(true).create_new(true).mode(0o600).open(dir.join(RECORD))?;
        // Nobody else can have it: whoever sees it unlocked may remove all.
        record.lock()?;
        writeln!(record, "engine {engine}")?;
        DirBuilder::new().mode(0o700).create(dir.join("data"))?;
        if let Some(account) = account {
            std::os::unix::fs::chown(dir.join("data"), Some(account.uid), Some(account.gid))?;
            std::os::unix::fs::chown(dir, Some(account.uid), Some(account.gid))?;
        }
        Ok(record)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Writes down that from now on it belongs to whoever holds a lock on a file.
    pub(crate) fn note_lock(&mut self, lock: &Path) -> io::Result<()> {
        writeln!(self.record, "lock {}", lock.display())
    }
}

/// Removes a directory with all in it, the record last: what is left of a removal that was cut short is a leftover yet.
pub(crate) fn remove(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else if entry.file_name() != RECORD {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir_all(dir)
}

/// What a record says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) engine: Engine,
    pub(crate) lock: Option<PathBuf>,
}

/// What there is in the place of a record.
#[derive(Debug)]
pub(crate) enum Found {
    /// A record that this user made. It is empty as long as its maker has not written it.
    Own(File, Option<Record>),
    /// Nothing: the directory is being made, or its maker died then.
    Nothing,
    /// Something else.
    Foreign,
}

impl Record {
    /// Looks for the record of a directory.
    pub(crate) fn find(dir: &Path, own_uid: u32) -> Found {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(dir.join(RECORD)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Nothing,
            Err(_) => return Found::Foreign,
        };
        if !file.metadata().is_ok_and(|found| found.is_file() && found.uid() == own_uid) {
            return Found::Foreign;
        }
        let mut text = String::new();
        let _ = (&file).take(8192).read_to_string(&mut text);
        Found::Own(file, Self::parse(&text))
    }

    fn parse(text: &str) -> Option<Self> {
        let of = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        let engine = of("engine")?;
        let engine = Engine::ALL.into_iter().find(|known| known.name() == engine)?;
        Some(Self { engine, lock: of("lock").map(PathBuf::from) })
    }
}

/// The real path of a folder in which a server's directory can be, or why it cannot.
fn usable(parent: &Path, account: Option<&Account>) -> Result<PathBuf, String> {
    let parent = fs::canonicalize(parent).map_err(|error| error.to_string())?;
    if parent.to_str().is_none_or(|path| path.contains(char::is_control)) {
        return Err("the path is no plain text".into());
    }
    let room = SOCKET_PATH_BYTES - SOCKET_NAME_BYTES - PREFIX.len() - 32 - 1;
    if parent.as_os_str().len() > room {
        return Err(format!("the path is longer than {room} bytes, so that a socket in it could not be reached"));
    }
    if let Some(account) = account {
        for folder in parent.ancestors() {
            let found = fs::metadata(folder).map_err(|error| error.to_string())?;
            let bit = match (found.uid() == account.uid, found.gid() == account.gid) {
                (true, _) => 0o100,
                (_, true) => 0o010,
                _ => 0o001,
            };
            if found.permissions().mode() & bit == 0 {
                return Err(format!("the user {} cannot enter {}", account.name, folder.display()));
            }
        }
    }
    Ok(parent)
}

/// 128 random bits in hexadecimal.
fn random() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_written() {
        let plain = Record { engine: Engine::MySql, lock: None };
        assert_eq!(Record::parse("engine MySQL\n"), Some(plain));
        let shared = Record { engine: Engine::PostgreSQL, lock: Some("/a b/lock".into()) };
        assert_eq!(Record::parse("engine PostgreSQL\nlock /a b/lock\n"), Some(shared));
        assert_eq!(Record::parse("engine Oracle\n"), None);
        assert_eq!(Record::parse(""), None);
    }

    #[test]
    fn a_path_that_is_too_long_for_a_socket_is_refused() {
        let parent = env::temp_dir().join(format!("ipcm-{}-{}", std::process::id(), "x".repeat(80)));
        fs::create_dir(&parent).unwrap();
        let error = Place::make(Engine::MySql, &Options::new().within(&parent), None).unwrap_err();
        fs::remove_dir(&parent).unwrap();
        assert_eq!(error.kind(), ErrorKind::NoPlace);
        assert!(error.to_string().contains("longer than"), "{error}");
    }
}
