// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looking for what dead owners left: where, how much of it, and what was found.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::route::Route;
use crate::system::{Deadline, files, tree};

/// What the names of our stores in a temporary directory begin with.
pub(super) const PREFIX: &str = "ipcm-";
/// What follows the prefix in the name of a store that somebody is removing.
const DYING: &str = "dead";

/// How much a brief look may cost: names listed, stores looked at for each protocol, stores removed, and time.
const BRIEF: (usize, usize, usize, Duration) = (50_000, 256, 16, Duration::from_millis(300));

/// A search for what dead owners left, and what it found. [`Protocol::clean`](super::Protocol::clean) does the work.
///
/// ```
/// use ipc_manager::{Cleaning, Registry};
/// let dir = std::env::temp_dir().join(format!("ipcm-doc-cleaning-{}", std::process::id()));
/// std::fs::create_dir(&dir)?;
/// let mut cleaning = Cleaning::of_places([&dir]).dry_run(true);
/// Registry::standard().get("MessageFiles")?.clean(&mut cleaning);
/// assert!(cleaning.into_found().is_empty());
/// std::fs::remove_dir(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Cleaning {
    target: Target,
    is_everywhere: bool,
    is_dry: bool,
    /// Only for a spawn, which must not be kept waiting.
    brief: Option<Deadline>,
    looked_at: usize,
    found: Vec<Leftover>,
    /// Listed once for all protocols.
    candidates: Option<Arc<[PathBuf]>>,
}

#[derive(Debug)]
enum Target {
    Places(Vec<PathBuf>),
    Route(Route),
}

/// Something that a dead owner left.
///
/// ```
/// use ipc_manager::{Fate, Leftover, LeftoverKind};
/// let left = Leftover {
///     kind: LeftoverKind::Bus,
///     protocol: Some("MessageFiles".into()),
///     path: "/tmp/ipcm-1-x".into(),
///     fate: Fate::Found,
/// };
/// assert!(left.fate == Fate::Found && left.kind != LeftoverKind::Server);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// What it is.
    pub kind: LeftoverKind,
    /// The short name of the protocol that it is of, where that is known.
    pub protocol: Option<String>,
    /// Where it is.
    pub path: PathBuf,
    /// What became of it.
    pub fate: Fate,
}

/// What somebody left.
///
/// ```
/// assert_eq!(ipc_manager::LeftoverKind::Server.to_string(), "server");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeftoverKind {
    /// A store.
    Bus,
    /// A private server with its directory, and its processes if any run yet.
    Server,
    /// The doorbells of a bus in a database.
    Doorbells,
}

impl std::fmt::Display for LeftoverKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bus => "bus",
            Self::Server => "server",
            Self::Doorbells => "doorbells",
        })
    }
}

/// What became of something that was left.
///
/// ```
/// assert_eq!(ipc_manager::Fate::Removed.to_string(), "removed");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// It is gone.
    Removed,
    /// It would be, if this were no dry run.
    Found,
    /// It stays; why, in words.
    Kept(String),
}

impl Fate {
    /// It stays for an error, with its causes.
    pub(super) fn kept(error: &dyn std::error::Error) -> Self {
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        Self::Kept(causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}")))
    }
}

impl std::fmt::Display for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Removed => "removed",
            Self::Found => "found",
            Self::Kept(_) => "kept",
        })
    }
}

impl Cleaning {
    /// Looks in these directories.
    #[must_use]
    pub fn of_places(places: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        let mut known = Vec::new();
        for place in places {
            let place: PathBuf = place.into();
            // Each once, however it is spelled.
            if let Ok(real) = std::fs::canonicalize(&place)
                && !known.iter().any(|(_, other)| *other == real)
            {
                known.push((if place.is_absolute() { place } else { real.clone() }, real));
            }
        }
        Self::new(Target::Places(known.into_iter().map(|(place, _)| place).collect()))
    }

    /// Looks everywhere where stores without a route are made: the temporary directory, `XDG_RUNTIME_DIR`, `/tmp`, and,
    /// for private servers, `/var/tmp`.
    #[must_use]
    pub fn everywhere() -> Self {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|place| is_own_directory(place));
        let places = [Some(std::env::temp_dir()), runtime, Some("/tmp".into()), Some("/var/tmp".into())];
        Self { is_everywhere: true, ..Self::of_places(places.into_iter().flatten()) }
    }

    /// Looks at one store and nothing else.
    #[must_use]
    pub fn of_route(route: &Route) -> Self {
        Self::new(Target::Route(route.clone()))
    }

    /// Looks in one directory, and not for long.
    pub(crate) fn brief(place: &Path) -> Self {
        let mut cleaning = Self::of_places([place]);
        cleaning.brief = Some(Deadline::after(BRIEF.3));
        cleaning
    }

    fn new(target: Target) -> Self {
        Self {
            target,
            is_everywhere: false,
            is_dry: false,
            brief: None,
            looked_at: 0,
            found: Vec::new(),
            candidates: None,
        }
    }

    /// Whether it is done everywhere, so that also what is not in one of the places is looked for.
    #[must_use]
    pub fn is_everywhere(&self) -> bool {
        self.is_everywhere
    }

    /// Sets whether things are only found, and nothing is changed.
    #[must_use]
    pub fn dry_run(mut self, is_dry: bool) -> Self {
        self.is_dry = is_dry;
        self
    }

    /// Whether nothing may be changed.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.is_dry
    }

    /// The directories to look in; none if one store is meant.
    #[must_use]
    pub fn places(&self) -> &[PathBuf] {
        match &self.target {
            Target::Places(places) => places,
            Target::Route(_) => &[],
        }
    }

    /// The store that is meant, if it is only one.
    #[must_use]
    pub fn route(&self) -> Option<&Route> {
        match &self.target {
            Target::Places(_) => None,
            Target::Route(route) => Some(route),
        }
    }

    /// Whether somebody waits who wants something else, so that nothing long may be begun.
    #[must_use]
    pub fn is_brief(&self) -> bool {
        self.brief.is_some()
    }

    /// The next protocol looks from the start.
    pub(crate) fn begin(&mut self) {
        self.looked_at = 0;
    }

    /// Counts something that is looked at; no once that was enough.
    pub fn may_go_on(&mut self) -> bool {
        self.looked_at += 1;
        let Some(deadline) = self.brief else { return true };
        // The first few in any case, so that leftovers also go where the machine is slow.
        let removed = self.found.len();
        self.looked_at <= BRIEF.1 && removed < BRIEF.2 && (removed < 2 || !deadline.has_passed())
    }

    /// Notes what was found, unless it was already.
    pub fn note(&mut self, left: Leftover) {
        if !self.found.iter().any(|known| known.path == left.path) {
            self.found.push(left);
        }
    }

    /// What was found.
    #[must_use]
    pub fn into_found(self) -> Vec<Leftover> {
        self.found
    }

    /// Directories of this user's in the places that are called as our stores are.
    pub(super) fn candidates(&mut self) -> Arc<[PathBuf]> {
        let Target::Places(places) = &self.target else { return Arc::new([]) };
        let most = if self.brief.is_some() { BRIEF.0 } else { usize::MAX };
        let list = || -> Arc<[PathBuf]> {
            let entries = places.iter().filter_map(|place| std::fs::read_dir(place).ok()).flatten().flatten();
            let named = entries.take(most).filter(|entry| entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()));
            let mut paths: Vec<_> = named.map(|entry| entry.path()).filter(|path| is_own_directory(path)).collect();
            paths.sort();
            if most != usize::MAX && !paths.is_empty() {
                // Where there are more than one look takes, each begins elsewhere.
                let start = crate::system::process::own_pid() as usize % paths.len();
                paths.rotate_left(start);
            }
            paths.into()
        };
        Arc::clone(self.candidates.get_or_insert_with(list))
    }
}

/// Whether a path leads to a directory of this user's, and not over a link.
fn is_own_directory(path: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    path.is_absolute() && path.symlink_metadata().is_ok_and(|found| found.is_dir() && found.uid() == own)
}

/// A name for a store in a temporary directory that nobody else has or can guess.
pub(super) fn fresh_name() -> String {
    format!("{PREFIX}{}-{}", crate::system::process::own_pid(), files::random_suffix())
}

/// A name for a store that is being removed: nobody looks for it there.
pub(super) fn dying_name() -> String {
    format!("{PREFIX}{DYING}-{}", files::random_suffix())
}

/// Whose store a path is, told by its name, which only ours have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NamedFor {
    /// The process that made it.
    Maker(u32),
    /// Whoever was removing it.
    Remover,
}

impl NamedFor {
    /// Reads the last component of a path: prefix, pid or `dead`, random suffix.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let name = path.file_name().and_then(OsStr::to_str)?.strip_prefix(PREFIX)?;
        let (who, suffix) = name.split_once('-')?;
        let is_random = suffix.len() == 32 && suffix.bytes().all(|byte| byte.is_ascii_hexdigit());
        match who {
            _ if !is_random => None,
            DYING => Some(Self::Remover),
            pid => pid.parse().ok().map(Self::Maker),
        }
    }

    /// Whether it may be that the process is still about to finish what it began in a directory.
    pub(super) fn may_go_on(self, path: &Path) -> bool {
        let Self::Maker(pid) = self else { return false };
        let changed = path.symlink_metadata().ok().and_then(|found| found.modified().ok());
        changed.is_some_and(|changed| crate::system::process::was_there(pid, changed))
    }
}

/// Renames a directory where it is, so that nobody finds it any more. Returns its new path.
pub(super) fn move_aside(path: &Path, identity: (u64, u64)) -> std::io::Result<PathBuf> {
    let aside = dying_name();
    tree::rename_path(path, identity, OsStr::new(&aside))?;
    Ok(path.with_file_name(aside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_stores_are_told_from_others() {
        assert_eq!(NamedFor::of(Path::new(&format!("/x/{}", dying_name()))), Some(NamedFor::Remover));
        let own = crate::system::process::own_pid();
        assert_eq!(NamedFor::of(Path::new(&fresh_name())), Some(NamedFor::Maker(own)));
        for other in ["ipcm-mine", "ipcm-1-0123", "ipcm-x-0123456789abcdef0123456789abcdef", "x", "/"] {
            assert_eq!(NamedFor::of(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn a_brief_look_ends() {
        let mut cleaning = Cleaning::brief(Path::new("/nonexistent"));
        assert!((0..BRIEF.1).all(|_| cleaning.may_go_on()) && !cleaning.may_go_on());
        cleaning.begin();
        assert!(cleaning.may_go_on());
        let mut thorough = Cleaning::of_places([""; 0]);
        assert!((0..10 * BRIEF.1).all(|_| thorough.may_go_on()));
    }
}
