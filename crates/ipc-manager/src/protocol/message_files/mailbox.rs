// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading a mailbox in order, in bounded batches, with a cost a message that does not depend on how many wait.
//!
//! A directory is listed in no order, and a message that is renamed into it during the listing may be missed while a
//! newer one of the same sender is seen. So what waits is indexed by reading it all once, after *two* listings: what
//! the first shows is handed out, together with everything older of the same senders that the second shows. What is
//! newer waits in `later` for the next look. The index is used up before the directory is looked at again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::delivery::Hand;
use super::layout::{self, FileKind};
use crate::error::{Error, ErrorKind};
use crate::limits::Limits;
use crate::message::{Message, Stamp};
use crate::name::PeerName;
use crate::protocol::directory_store::Store;
use crate::protocol::{Damaged, Inbox};
use crate::serializer::Serializer;
use crate::system::files::{self, Untrusted};
use crate::system::tree;

/// Bytes of content kept in memory between the look and the handing out; what is beyond is read again.
const KEPT_BYTES: usize = 64 << 20;
/// Most files set aside that are kept for a person to look at.
const MOST_BAD: usize = 100;

/// One's own mailbox.
#[derive(Debug)]
pub(super) struct Mailbox {
    pub(super) store: Arc<Store>,
    /// What the directory is called; another name while leaving.
    entry: OsString,
    /// Device and inode number, so that another directory in its place is never taken for it.
    identity: (u64, u64),
    /// Open only while something is known to be in it: an open descriptor would keep the kernel from telling that the
    /// directory was removed.
    dir: Option<Arc<OwnedFd>>,
    pub(super) own: PeerName,
    pub(super) limits: Limits,
    /// In the order in which they are handed out: stamp, ordinal, arrival.
    pub(super) index: BTreeMap<(Stamp, u64, u64), Entry>,
    /// Seen, but something older may be on its way.
    later: Vec<Entry>,
    /// Handed out, and neither acknowledged nor put back yet.
    pub(super) hand: Hand,
    arrivals: u64,
    kept_bytes: usize,
    bad: usize,
    /// Files that could not be opened, though they may be sound; each was reported once, and is tried again.
    unreadable: HashSet<OsString>,
}

/// A message that waits.
#[derive(Debug)]
pub(super) struct Entry {
    /// `None` for one that is in memory only, since the disk is full.
    pub(super) file: Option<OsString>,
    from: PeerName,
    key: (Stamp, u64),
    bytes: usize,
    /// The message, while memory allows.
    pub(super) message: Option<Message>,
}

/// What reading one file gave.
enum Read {
    Gone,
    Damaged(Error),
    Message { message: Message, bytes: usize },
}

/// Removes a message's file; fails where that is refused twice, since a refusal that passes must not let what is newer
/// overtake.
fn remove_file(dir: BorrowedFd<'_>, file: &OsStr) -> io::Result<bool> {
    files::remove_file(dir, file).or_else(|_| files::remove_file(dir, file))
}

impl Mailbox {
    pub(super) fn new(store: Arc<Store>, entry: OsString, own: PeerName, limits: Limits) -> io::Result<Self> {
        let identity = files::identity_of(files::open_dir_at(store.dir(), &entry)?)?;
        let (index, later) = (BTreeMap::new(), Vec::new());
        Ok(Self {
            store,
            entry,
            identity,
            dir: None,
            own,
            limits,
            index,
            later,
            hand: Hand::default(),
            arrivals: 0,
            kept_bytes: 0,
            bad: 0,
            unreadable: HashSet::new(),
        })
    }

    /// Takes note that the directory has another name.
    pub(super) fn renamed(&mut self, entry: OsString) {
        self.entry = entry;
    }

    /// The directory; fails with `NotFound` if it was removed, or another is in its place.
    pub(super) fn dir(&mut self) -> io::Result<Arc<OwnedFd>> {
        if let Some(dir) = &self.dir {
            return Ok(Arc::clone(dir));
        }
        let dir = files::open_dir_at(self.store.dir(), &self.entry)?;
        if files::identity_of(&dir)? != self.identity {
            return Err(io::ErrorKind::NotFound.into());
        }
        let dir = Arc::new(dir);
        self.dir = Some(Arc::clone(&dir));
        Ok(dir)
    }

    /// Lets go of the directory if nothing is known to be in it.
    pub(super) fn release(&mut self) {
        if !self.has_known() {
            self.dir = None;
        }
    }

    /// Whether the directory was removed by somebody else.
    pub(super) fn is_gone(&self) -> bool {
        let there = files::stat_at(self.store.dir(), &self.entry).ok().flatten();
        there.map(|stat| files::identity(&stat)) != Some(self.identity)
    }

    /// Whether messages are known that were not handed out.
    pub(super) fn has_known(&self) -> bool {
        !self.index.is_empty() || !self.later.is_empty()
    }

    pub(super) fn has_index(&self) -> bool {
        !self.index.is_empty()
    }

    /// Looks at the directory and indexes what waits. Damaged files are set aside and reported.
    pub(super) fn look(&mut self, serializer: &dyn Serializer, inbox: &mut Inbox) -> io::Result<()> {
        let looked = self.try_look(serializer, inbox);
        if looked.is_err() {
            // A part of a listing would hand out the newer before the older.
            self.index.retain(|_, entry| entry.file.is_none());
            self.later.clear();
            self.kept_bytes = self.index.values().map(|entry| entry.bytes).sum();
        }
        looked
    }

    fn try_look(&mut self, serializer: &dyn Serializer, inbox: &mut Inbox) -> io::Result<()> {
        let dir = self.dir()?;
        let first = layout::all(dir.as_fd(), FileKind::Ready)?;
        if first.is_empty() {
            // Nothing is known but what is in memory only, and that is in the index.
            self.later.clear();
            self.kept_bytes = self.index.values().map(|entry| entry.bytes).sum();
            self.release();
            return Ok(());
        }
        let second = layout::all(dir.as_fd(), FileKind::Ready)?;
        // Older than the first listing, so whatever is older than them is in there, too.
        let later: HashMap<OsString, Entry> =
            self.later.drain(..).filter_map(|entry| Some((entry.file.clone()?, entry))).collect();
        let mut known = later;
        let mut newest: HashMap<PeerName, (Stamp, u64)> = HashMap::new();
        let in_first: HashSet<OsString> = first.iter().cloned().collect();
        // Put back a moment ago, and taken in before the look.
        let known_files = self.index.values().filter_map(|entry| entry.file.as_ref()).chain(self.hand.files());
        let indexed: HashSet<OsString> = known_files.cloned().collect();
        for file in first.into_iter().filter(|file| !indexed.contains(file)) {
            let entry = match known.remove(&file) {
                Some(entry) => entry,
                None => match self.load(dir.as_fd(), &file, serializer, inbox)? {
                    Some((message, bytes)) => self.entry_of(Some(file), message, bytes),
                    None => continue,
                },
            };
            let newest = newest.entry(entry.from.clone()).or_insert(entry.key);
            *newest = (*newest).max(entry.key);
            self.admit(entry);
        }
        for file in second.into_iter().filter(|file| !in_first.contains(file)) {
            let Some((message, bytes)) = self.load(dir.as_fd(), &file, serializer, inbox)? else { continue };
            let entry = self.entry_of(Some(file), message, bytes);
            if newest.get(&entry.from).is_some_and(|newest| entry.key <= *newest) {
                self.admit(entry);
            } else {
                self.later.push(entry);
            }
        }
        // Known once, but taken by somebody else.
        self.kept_bytes -=
            known.values().filter(|entry| entry.message.is_some()).map(|entry| entry.bytes).sum::<usize>();
        self.release();
        Ok(())
    }

    /// Reads one file. What is no message is set aside; what cannot be read now is left where it is; both are reported.
    pub(super) fn load(
        &mut self,
        dir: BorrowedFd<'_>,
        file: &OsStr,
        serializer: &dyn Serializer,
        inbox: &mut Inbox,
    ) -> io::Result<Option<(Message, usize)>> {
        // Once more: a refusal that passes must not let what is newer overtake.
        let read = match self.read(dir, file, serializer).or_else(|_| self.read(dir, file, serializer)) {
            Err(error) if is_of_one_file(&error) => {
                self.report_unreadable(file.to_owned(), error, inbox);
                return Ok(None);
            }
            read => read?,
        };
        Ok(match read {
            Read::Gone => None,
            Read::Damaged(error) => {
                self.set_aside(dir, file, error, inbox);
                None
            }
            Read::Message { message, bytes } => {
                self.unreadable.remove(file);
                Some((message, bytes))
            }
        })
    }

    pub(super) fn entry_of(&mut self, file: Option<OsString>, message: Message, bytes: usize) -> Entry {
        let keep = file.is_none() || self.kept_bytes + bytes <= KEPT_BYTES;
        self.kept_bytes += if keep { bytes } else { 0 };
        let (from, key) = (message.from().clone(), message.order_key());
        Entry { file, from, key, bytes, message: keep.then_some(message) }
    }

    /// Takes note that an entry has left the index.
    pub(super) fn no_longer_keeps(&mut self, entry: &Entry) {
        self.kept_bytes -= if entry.message.is_some() { entry.bytes } else { 0 };
    }

    pub(super) fn admit(&mut self, entry: Entry) {
        self.arrivals += 1;
        self.index.insert((entry.key.0, entry.key.1, self.arrivals), entry);
    }

    fn read(&self, dir: BorrowedFd<'_>, file: &OsStr, serializer: &dyn Serializer) -> io::Result<Read> {
        let corrupt = |detail: String| Read::Damaged(Error::new(ErrorKind::Corrupt, detail));
        Ok(match files::read_untrusted(dir, file, self.limits.encoded_bytes, self.store.access)? {
            Untrusted::Gone => Read::Gone,
            Untrusted::Refused(why) => corrupt(format!("this is no message: {why}")),
            Untrusted::TooLarge { bytes } => {
                let limit = self.limits.encoded_bytes;
                let detail = format!("the message file has {bytes} bytes, and the limit is {limit}");
                Read::Damaged(Error::new(ErrorKind::TooLarge, detail))
            }
            Untrusted::Content(payload) => match decode(&payload, serializer, &self.limits) {
                Ok(message) if message.to().is_some_and(|to| *to != self.own) => {
                    corrupt(format!("the message in {}'s mailbox is addressed to somebody else", self.own))
                }
                Ok(message) => Read::Message { message, bytes: payload.len() },
                Err(error) => Read::Damaged(error),
            },
        })
    }

    /// Hands out at most so many messages, the first in order, removing each file just before.
    pub(super) fn take(
        &mut self,
        most: usize,
        bytes: usize,
        serializer: &dyn Serializer,
        inbox: &mut Inbox,
    ) -> io::Result<()> {
        if self.index.is_empty() {
            return Ok(());
        }
        let dir = self.dir()?;
        let mut taken = 0;
        while inbox.len() < most {
            let Some(first) = self.index.first_entry() else { break };
            if taken > 0 && taken + first.get().bytes > bytes {
                break;
            }
            let entry = first.remove();
            taken += entry.bytes;
            self.no_longer_keeps(&entry);
            let Some(file) = entry.file else {
                // One that was put back, and is nowhere else any more.
                entry.message.into_iter().for_each(|message| inbox.accept_again(message));
                continue;
            };
            let message = match entry.message {
                Some(message) => Some(message),
                None => self.load(dir.as_fd(), &file, serializer, inbox)?.map(|(message, _)| message),
            };
            // Who removes it has it: two readers never both hand it out.
            match message {
                Some(message) if remove_file(dir.as_fd(), &file)? => {
                    if layout::is_put_back(&file) {
                        inbox.accept_again(message);
                    } else {
                        inbox.accept(message);
                    }
                }
                _ => {}
            }
        }
        self.release();
        Ok(())
    }

    /// Reports a file that cannot be read now, once. It stays where it is.
    fn report_unreadable(&mut self, file: OsString, error: io::Error, inbox: &mut Inbox) {
        let path = self.store.path(&self.entry).join(&file);
        if self.unreadable.insert(file) {
            let error = Error::system(error, "a message cannot be read now, and is left where it is");
            inbox.set_aside(Damaged::new(error.in_protocol(super::NAME).at_path(path)));
        }
    }

    /// Moves what is no message out of the way, or removes it where enough of it is kept already.
    fn set_aside(&mut self, dir: BorrowedFd<'_>, file: &OsStr, error: Error, inbox: &mut Inbox) {
        let bad = layout::bad(file);
        let kept = self.bad < MOST_BAD && files::rename(dir, file, &bad).is_ok();
        if kept {
            self.bad += 1;
        } else if tree::remove(dir, file).is_err() && !self.unreadable.insert(file.to_owned()) {
            // It can be neither moved nor removed, and was reported.
            return;
        }
        let path = self.store.path(&self.entry);
        let damaged = Damaged::new(error.in_protocol(super::NAME).at_path(path.join(file)));
        inbox.set_aside(if kept { damaged.kept_at(path.join(bad)) } else { damaged });
    }

    /// Whether a message is being written: one whose file is not old yet, since a dead writer's file stays.
    pub(super) fn any_pending(&mut self) -> io::Result<bool> {
        let dir = self.dir()?;
        self.release();
        for name in layout::all(dir.as_fd(), FileKind::Pending)? {
            if files::stat_at(dir.as_fd(), &name)?.is_some_and(|stat| !layout::is_stale(&stat)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes everything that is no complete message, and then the directory itself; `Ok(false)` if a message came.
    pub(super) fn remove(&mut self) -> io::Result<bool> {
        let dir = match self.dir() {
            Ok(dir) => dir,
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        self.release();
        super::removal::refuse_half_written(dir.as_fd())?;
        files::remove_empty_dir(self.store.dir(), &self.entry)
    }

    /// Whether a complete message is in the directory.
    pub(super) fn any_ready(&mut self) -> io::Result<bool> {
        let dir = self.dir()?;
        self.release();
        let (mut any, unreadable, hand) = (false, &self.unreadable, &self.hand);
        files::for_each_name(dir.as_fd(), |name, _| {
            any = layout::kind_of(name) == FileKind::Ready && !unreadable.contains(name) && !hand.has(name);
            if any { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(any)
    }
}

/// Whether an error of opening or reading is about that file, and not about this process or the whole machine.
fn is_of_one_file(error: &io::Error) -> bool {
    !matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
        && error.kind() != io::ErrorKind::NotFound
}

/// Decodes one message.
pub(super) fn decode(payload: &[u8], serializer: &dyn Serializer, limits: &Limits) -> crate::error::Result<Message> {
    let text = serializer.decode(payload, limits.decoded_bytes)?;
    Message::from_json(&text, limits)
}
