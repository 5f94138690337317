// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two copies of the state beside it: what is being written, and what was written before. They are written over and never
//! made anew, since making and removing files takes longer than all else. See `docs/formats.md`, "JSONFile".

use std::ffi::OsStr;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::state::State;
use crate::system::access::Access;
use crate::system::files::{self, Sync};

const NAMES: [&str; 2] = [".ipcm-copy-0", ".ipcm-copy-1"];
/// The first line: what the copy is, its generation and its length; then the state; then the generation again, which
/// is missing if its writer died on the way.
const HEAD: usize = 43;
const TAIL: usize = 22;
/// A copy with so many bytes more than it needs is cut.
const SLACK: u64 = 4 << 20;

/// What a copy is, as the first byte of its first line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It is being written to the state.
    Writing,
    /// It was written to the state.
    Written,
    /// It is no copy: its writer died as it made it, or it was taken back.
    Void,
}

impl Kind {
    fn mark(self) -> u8 {
        match self {
            Self::Writing => b'w',
            Self::Written => b'd',
            Self::Void => b'x',
        }
    }
}

/// The first line of a copy.
#[derive(Debug, Clone, Copy)]
struct Head {
    kind: Kind,
    generation: u64,
    length: usize,
}

impl Head {
    fn text(&self) -> String {
        format!("{}{:020} {:020}\n", char::from(self.kind.mark()), self.generation, self.length)
    }

    fn tail(&self) -> String {
        format!("\n{:020}\n", self.generation)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let kind = match text.as_bytes().first()? {
            b'w' => Kind::Writing,
            b'd' => Kind::Written,
            _ => Kind::Void,
        };
        let (generation, length) = text.get(1..HEAD - 1)?.split_once(' ')?;
        Some(Self { kind, generation: generation.parse().ok()?, length: length.parse().ok()? })
    }
}

/// See the module. Only whoever holds the lock of the state writes to them.
#[derive(Debug)]
pub(super) struct Copies([OwnedFd; 2]);

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Copy(usize);

impl Copies {
    /// Opens the copies in the folder beside the state. Where they are not there they are made, if that is wanted.
    pub(super) fn open(dir: BorrowedFd<'_>, make: bool, access: Access) -> std::io::Result<Option<Self>> {
        let open = |name: &str| files::open_or_make(dir, OsStr::new(name), make, access);
        let (Some(one), Some(other)) = (open(NAMES[0])?, open(NAMES[1])?) else { return Ok(None) };
        Ok(Some(Self([one, other])))
    }

    fn head(&self, copy: Copy) -> Option<Head> {
        Head::parse(&files::read_at(&self.0[copy.0], 0, HEAD).ok()?)
    }

    fn find(&self, kind: Kind) -> Option<(Copy, Head)> {
        let heads = [Copy(0), Copy(1)].map(|copy| self.head(copy).map(|head| (copy, head)));
        heads.into_iter().flatten().filter(|(_, head)| head.kind == kind).max_by_key(|(_, head)| head.generation)
    }

    /// The copy that a writer did not finish, if there is one; maybe it did not even finish the copy.
    pub(super) fn begun(&self) -> Option<Copy> {
        self.find(Kind::Writing).map(|(copy, _)| copy)
    }

    /// What was written last.
    pub(super) fn last(&self) -> Option<String> {
        self.find(Kind::Written).and_then(|(copy, _)| self.state(copy))
    }

    /// The state in a copy, if that is whole. After a power cut it may not be.
    pub(super) fn state(&self, copy: Copy) -> Option<String> {
        let head = self.head(copy).filter(|head| head.length <= super::file::LARGEST * 2)?;
        let mut rest = files::read_at(&self.0[copy.0], HEAD as u64, head.length + TAIL).ok()?;
        let tail = rest.split_off(rest.len().min(head.length));
        let text = String::from_utf8(rest).ok()?;
        (tail == head.tail().as_bytes() && State::is_one(&text)).then_some(text)
    }

    /// Writes what is about to be written to the state over the older copy.
    pub(super) fn prepare(&self, text: &str, sync: Sync) -> std::io::Result<Copy> {
        let last = self.find(Kind::Written);
        let copy = Copy(last.map_or(0, |(copy, _)| 1 - copy.0));
        let generation = last.map_or(0, |(_, head)| head.generation) + 1;
        let head = Head { kind: Kind::Writing, generation, length: text.len() };
        let mut content = Vec::with_capacity(HEAD + text.len() + TAIL);
        content.extend_from_slice(head.text().as_bytes());
        content.extend_from_slice(text.as_bytes());
        content.extend_from_slice(head.tail().as_bytes());
        let file = &self.0[copy.0];
        files::write_at(file, 0, &content)?;
        let needed = content.len() as u64;
        let size = u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0);
        if size > needed.saturating_add(SLACK) {
            rustix::fs::ftruncate(file, needed)?;
        }
        if sync == Sync::Disk {
            rustix::fs::fsync(file)?;
        }
        Ok(copy)
    }

    /// Takes note that the state is what is in a copy; or, if the copy is not whole, that it is none.
    pub(super) fn settle(&self, copy: Copy) {
        let is_whole = self.head(copy).is_some_and(|head| {
            let at = (HEAD + head.length) as u64;
            files::read_at(&self.0[copy.0], at, TAIL).is_ok_and(|tail| tail == head.tail().as_bytes())
        });
        self.mark(copy, if is_whole { Kind::Written } else { Kind::Void });
    }

    /// Takes a copy back.
    pub(super) fn void(&self, copy: Copy) {
        self.mark(copy, Kind::Void);
    }

    fn mark(&self, copy: Copy, kind: Kind) {
        // One byte that is there already needs no room; whatever else goes wrong, the next writer looks again.
        if let Err(error) = files::write_at(&self.0[copy.0], 0, &[kind.mark()]) {
            log::warn!("a copy of the state cannot be marked: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = r#"{"clients":{},"messages":{},"stats":{}}"#;

    #[test]
    fn what_a_copy_says_is_what_was_done() {
        let dir = std::env::temp_dir().join(format!("ipcm-copies-{}", files::random_suffix()));
        std::fs::create_dir(&dir).unwrap();
        let handle = files::open_dir(&dir).unwrap();
        assert!(Copies::open(std::os::fd::AsFd::as_fd(&handle), false, Access::Private).unwrap().is_none());
        let copies = Copies::open(std::os::fd::AsFd::as_fd(&handle), true, Access::Private).unwrap().unwrap();
        assert!(copies.begun().is_none() && copies.last().is_none());
        let first = copies.prepare(STATE, Sync::Kernel).unwrap();
        assert_eq!((copies.begun(), copies.state(first).as_deref()), (Some(first), Some(STATE)));
        copies.settle(first);
        assert!(copies.begun().is_none());
        let longer = STATE.replace("{}}", "{}, \"x\": 1}");
        let second = copies.prepare(&longer, Sync::Kernel).unwrap();
        assert_ne!(first, second, "what was written last stays");
        assert_eq!(copies.last().as_deref(), Some(STATE));
        copies.settle(second);
        assert_eq!(copies.last(), Some(longer));
        // Written over with less, and its writer died before the end.
        let third = copies.prepare(STATE, Sync::Kernel).unwrap();
        files::write_at(&copies.0[third.0], (HEAD + STATE.len()) as u64, b"torn").unwrap();
        assert!(copies.begun() == Some(third) && copies.state(third).is_none());
        copies.settle(third);
        assert!(copies.begun().is_none() && copies.last().is_some());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
