// SPDX-License-Identifier: MIT OR Apache-2.0
//! The directory of one server: where it is made, who may enter it, and the record in it that tells whose it is.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, fchown,
};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::account::Account;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::options::Options;

/// What its name begins with; 128 random bits in hexadecimal follow.
pub(crate) const PREFIX: &str = "ipcm-db-";

/// The record in the directory, locked by the owner and its keeper for their lifetimes.
const RECORD: &str = "owner";

/// The directory in it that belongs to the server's account. All around it belongs to the owner, so that when root is
/// the owner nothing that root opens or removes by its path can be replaced by the account.
const INNER: &str = "s";

/// Longest path of a socket, `sun_path` of unix(7) without the final zero; the BSDs have four bytes less.
const SOCKET_PATH_BYTES: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The longest name of a socket in it.
const SOCKET_NAME_BYTES: usize = "/s/.s.PGSQL.5432".len();

const OPERATION: &str = "make the server's directory";

#[derive(Debug)]
pub(crate) struct Place {
    top: PathBuf,
    inner: PathBuf,
    record: File,
    log: File,
    /// Who else may read what is written for the server.
    reader: Option<u32>,
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
        let top = parent.join(format!("{PREFIX}{random}"));
        let refused = |error| Error::system(OPERATION, error).at(&top);
        new_dir(&top).map_err(refused)?;
        Self::fill(engine, &top, account).map_err(|error| {
            let _ = fs::remove_dir_all(&top);
            refused(error)
        })
    }

    fn fill(engine: Engine, top: &Path, account: Option<&Account>) -> io::Result<Self> {
        let mut record = new_file(&top.join(RECORD))?;
        // Nobody else can have it: whoever sees it unlocked may remove all.
        record.lock()?;
        writeln!(record, "engine {engine}")?;
        let log = new_file(&top.join("log"))?;
        let inner = top.join(INNER);
        for dir in [&inner, &inner.join("data")] {
            new_dir(dir)?;
            if let Some(account) = account {
                chown(dir, Some(account.uid), Some(account.gid))?;
            }
        }
        if let Some(account) = account {
            // The account can pass, and no more.
            chown(top, None, Some(account.gid))?;
            fs::set_permissions(top, fs::Permissions::from_mode(0o710))?;
        }
        Ok(Self { top: top.to_owned(), inner, record, log, reader: account.map(|account| account.gid) })
    }

    /// All of it. The name is random.
    pub(crate) fn top(&self) -> &Path {
        &self.top
    }

    /// What the server has: its data and its socket.
    pub(crate) fn inner(&self) -> &Path {
        &self.inner
    }

    /// The record, whose lock stays as long as any copy is open.
    pub(crate) fn record(&self) -> io::Result<File> {
        self.record.try_clone()
    }

    /// Where its programs write what they have to say.
    pub(crate) fn log(&self) -> io::Result<File> {
        self.log.try_clone()
    }

    /// What they said.
    pub(crate) fn said(&self) -> String {
        let mut text = Vec::new();
        let mut part = [0; 8192];
        while let Ok(count @ 1..) = self.log.read_at(&mut part, text.len() as u64) {
            text.extend_from_slice(&part[..count]);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Writes a file that the server can read.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.top.join(name);
        let write = || {
            let mut file = new_file(&path)?;
            file.write_all(text.as_bytes())?;
            if let Some(group) = self.reader {
                fchown(&file, None, Some(group))?;
                file.set_permissions(fs::Permissions::from_mode(0o640))?;
            }
            io::Result::Ok(path.clone())
        };
        write().map_err(|error| Error::system("write a file for the server", error).at(&path))
    }

    /// Writes down that from now on it belongs to whoever holds a lock on a file.
    pub(crate) fn note_lock(&mut self, lock: &Path) -> io::Result<()> {
        writeln!(self.record, "lock {}", lock.display())
    }
}

/// Makes a directory of mode 0700, whatever the umask.
fn new_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).inspect_err(|_| drop(fs::remove_dir(path)))
}

/// Makes a file of mode 0600, whatever the umask.
fn new_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Removes a directory with all in it, the record last: what is left of a removal that was cut short is a leftover yet.
pub(crate) fn remove(top: &Path) -> io::Result<()> {
    match fs::remove_dir_all(top.join(INNER)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::remove_dir_all(top),
    }
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
