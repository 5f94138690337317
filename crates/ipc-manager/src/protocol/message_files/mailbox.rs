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
use std::path::PathBuf;

use super::layout::{self, FileKind};
use crate::error::{Error, ErrorKind};
use crate::limits::Limits;
use crate::message::{Message, Stamp};
use crate::name::PeerName;
use crate::protocol::{Damaged, Inbox};
use crate::serializer::Serializer;
use crate::system::files::{self, Untrusted};

/// Bytes of content kept in memory between the look and the handing out; what is beyond is read again.
const KEPT_BYTES: usize = 16 << 20;
/// Most files set aside that are kept for a person to look at.
const MOST_BAD: usize = 100;

/// One's own mailbox.
#[derive(Debug)]
pub(super) struct Mailbox {
    dir: OwnedFd,
    /// For messages to people; everything goes by the descriptor.
    path: PathBuf,
    own: PeerName,
    limits: Limits,
    /// In the order in which they are handed out: stamp, ordinal, arrival.
    index: BTreeMap<(Stamp, u64, u64), Entry>,
    /// Seen, but something older may be on its way.
    later: Vec<Entry>,
    arrivals: u64,
    kept_bytes: usize,
    bad: usize,
}

/// A message that waits.
#[derive(Debug)]
struct Entry {
    file: OsString,
    from: PeerName,
    key: (Stamp, u64),
    bytes: usize,
    /// The message, while memory allows.
    message: Option<Message>,
}

/// What reading one file gave.
enum Read {
    Gone,
    Damaged(Error),
    Message { message: Message, bytes: usize },
}

impl Mailbox {
    pub(super) fn new(dir: OwnedFd, path: PathBuf, own: PeerName, limits: Limits) -> Self {
        Self { dir, path, own, limits, index: BTreeMap::new(), later: Vec::new(), arrivals: 0, kept_bytes: 0, bad: 0 }
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
        let first = self.list()?;
        if first.is_empty() {
            self.later.clear();
            return Ok(());
        }
        let second = self.list()?;
        // Older than the first listing, so whatever is older than them is in there, too.
        let later: HashMap<OsString, Entry> = self.later.drain(..).map(|entry| (entry.file.clone(), entry)).collect();
        let mut known = later;
        let mut newest: HashMap<PeerName, (Stamp, u64)> = HashMap::new();
        let in_first: HashSet<OsString> = first.iter().cloned().collect();
        for file in first {
            let Some(entry) = self.entry(known.remove(&file), file, serializer, inbox)? else { continue };
            let newest = newest.entry(entry.from.clone()).or_insert(entry.key);
            *newest = (*newest).max(entry.key);
            self.admit(entry);
        }
        for file in second.into_iter().filter(|file| !in_first.contains(file)) {
            let Some(entry) = self.entry(None, file, serializer, inbox)? else { continue };
            if newest.get(&entry.from).is_some_and(|newest| entry.key <= *newest) {
                self.admit(entry);
            } else {
                self.later.push(entry);
            }
        }
        Ok(())
    }

    /// The names of all complete messages.
    fn list(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        files::for_each_name(self.dir.as_fd(), |name, _| {
            if layout::kind_of(name) == FileKind::Ready {
                names.push(name.to_owned());
            }
            ControlFlow::Continue(())
        })?;
        Ok(names)
    }

    fn entry(
        &mut self,
        known: Option<Entry>,
        file: OsString,
        serializer: &dyn Serializer,
        inbox: &mut Inbox,
    ) -> io::Result<Option<Entry>> {
        if known.is_some() {
            return Ok(known);
        }
        Ok(match self.read(&file, serializer)? {
            Read::Gone => None,
            Read::Damaged(error) => {
                self.set_aside(&file, error, inbox);
                None
            }
            Read::Message { message, bytes } => {
                let keep = self.kept_bytes + bytes <= KEPT_BYTES;
                self.kept_bytes += if keep { bytes } else { 0 };
                let (from, key) = (message.from().clone(), message.order_key());
                Some(Entry { file, from, key, bytes, message: keep.then_some(message) })
            }
        })
    }

    fn admit(&mut self, entry: Entry) {
        self.arrivals += 1;
        self.index.insert((entry.key.0, entry.key.1, self.arrivals), entry);
    }

    fn read(&self, file: &OsStr, serializer: &dyn Serializer) -> io::Result<Read> {
        let corrupt = |detail: String| Read::Damaged(Error::new(ErrorKind::Corrupt, detail));
        Ok(match files::read_untrusted(self.dir.as_fd(), file, self.limits.encoded_bytes)? {
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
        let mut taken = 0;
        while inbox.len() < most {
            let Some(first) = self.index.first_entry() else { break };
            if taken > 0 && taken + first.get().bytes > bytes {
                break;
            }
            let entry = first.remove();
            taken += entry.bytes;
            let message = match entry.message {
                Some(message) => {
                    self.kept_bytes -= entry.bytes;
                    Some(message)
                }
                None => match self.read(&entry.file, serializer)? {
                    Read::Message { message, .. } => Some(message),
                    Read::Gone => None,
                    Read::Damaged(error) => {
                        self.set_aside(&entry.file, error, inbox);
                        None
                    }
                },
            };
            // Who removes it has it: two readers never both hand it out.
            match message {
                Some(message) if files::remove_file(self.dir.as_fd(), &entry.file)? => {
                    if layout::is_put_back(&entry.file) {
                        inbox.accept_again(message);
                    } else {
                        inbox.accept(message);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Moves what is no message out of the way, or removes it where enough of it is kept already.
    fn set_aside(&mut self, file: &OsStr, error: Error, inbox: &mut Inbox) {
        let bad = layout::bad(file);
        let kept = self.bad < MOST_BAD && files::rename(self.dir.as_fd(), file, &bad).is_ok();
        if kept {
            self.bad += 1;
        } else {
            let _ = crate::system::tree::remove(self.dir.as_fd(), file);
        }
        let damaged = Damaged::new(error.in_protocol(super::NAME).at_path(self.path.join(file)));
        inbox.set_aside(if kept { damaged.kept_at(self.path.join(bad)) } else { damaged });
    }

    /// Whether a message is being written: one whose file is not old yet, since a dead writer's file stays.
    pub(super) fn any_pending(&self) -> io::Result<bool> {
        let mut pending = Vec::new();
        files::for_each_name(self.dir.as_fd(), |name, _| {
            if layout::kind_of(name) == FileKind::Pending {
                pending.push(name.to_owned());
            }
            ControlFlow::Continue(())
        })?;
        for name in pending {
            if files::stat_at(self.dir.as_fd(), &name)?.is_some_and(|stat| !layout::is_stale(&stat)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts a payload into the own mailbox, as a message that was put back. That it is there already is fine.
    pub(super) fn restore(&self, payload: &[u8], serializer: &dyn Serializer) -> io::Result<()> {
        let message = decode(payload, serializer, &self.limits).ok();
        let file = layout::put_back(message.as_ref().map(Message::id));
        let mut pending = file.clone();
        pending.push(".pend");
        files::remove_file(self.dir.as_fd(), &pending)?;
        files::create_whole(self.dir.as_fd(), &pending, payload, files::Sync::Kernel)?;
        match files::rename_new(self.dir.as_fd(), &pending, &file) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                files::remove_file(self.dir.as_fd(), &pending).map(drop)
            }
            renamed => renamed,
        }
    }

    /// Removes everything that is no complete message, and then the directory itself; `Ok(false)` if a message came.
    pub(super) fn remove(&mut self, store: BorrowedFd<'_>, entry: &OsStr) -> io::Result<bool> {
        for name in files::names(self.dir.as_fd())? {
            // A message that is being written is refused hereby: its writer cannot rename it any more.
            if layout::kind_of(&name) != FileKind::Ready {
                crate::system::tree::remove(self.dir.as_fd(), &name)?;
            }
        }
        files::remove_empty_dir(store, entry)
    }

    /// Whether the directory was removed by somebody else.
    pub(super) fn is_gone(&self) -> bool {
        rustix::fs::fstat(&self.dir).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Whether a complete message is in the directory.
    pub(super) fn any_ready(&self) -> io::Result<bool> {
        let mut any = false;
        files::for_each_name(self.dir.as_fd(), |name, _| {
            any = layout::kind_of(name) == FileKind::Ready;
            if any { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(any)
    }
}

/// Decodes one message.
pub(super) fn decode(payload: &[u8], serializer: &dyn Serializer, limits: &Limits) -> crate::error::Result<Message> {
    let text = serializer.decode(payload, limits.decoded_bytes)?;
    Message::from_json(&text, limits)
}
