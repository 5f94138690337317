// SPDX-License-Identifier: MIT OR Apache-2.0
//! A directory for each worker: a message is a file that is made, renamed when it is whole, read, and removed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

/// How much is read of the kernel's notes at once, in bytes.
const NOTES_BYTES: usize = 64 << 10;

pub(super) struct Files {
    directory: PathBuf,
    name: String,
    made: u64,
    notes: OwnedFd,
    buffer: Vec<u8>,
}

impl Files {
    pub(super) fn new(directory: &Path, name: &str) -> io::Result<Self> {
        let own = directory.join(name);
        fs::create_dir(&own)?;
        let notes = inotify::init(CreateFlags::CLOEXEC)?;
        inotify::add_watch(&notes, &own, WatchFlags::MOVED_TO)?;
        Ok(Self { directory: directory.to_owned(), name: name.to_owned(), made: 0, notes, buffer: Vec::new() })
    }

    /// Reads and removes one file, if it is still there.
    fn take_file(&mut self, name: &OsString) -> io::Result<usize> {
        let path = self.directory.join(&self.name).join(name);
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            opened => opened?,
        };
        self.buffer.clear();
        file.read_to_end(&mut self.buffer)?;
        fs::remove_file(path).map(|()| 1)
    }
}

impl super::Transport for Files {
    fn send(&mut self, to: &str, message: &[u8], times: usize) -> io::Result<()> {
        let place = self.directory.join(to);
        for _ in 0..times {
            self.made += 1;
            let name = format!("{}-{}", self.name, self.made);
            let hidden = place.join(format!(".{name}"));
            let mut file = File::create_new(&hidden)?;
            file.write_all(message)?;
            drop(file);
            fs::rename(hidden, place.join(name))?;
        }
        Ok(())
    }

    fn take(&mut self, _: usize, _: usize) -> io::Result<usize> {
        let mut space = vec![MaybeUninit::uninit(); NOTES_BYTES];
        let mut reader = Reader::new(&self.notes, &mut space);
        let mut names = Vec::new();
        let mut is_overflown = false;
        loop {
            let note = reader.next()?;
            is_overflown |= note.events().contains(ReadFlags::QUEUE_OVERFLOW);
            names.extend(note.file_name().map(|name| OsString::from_vec(name.to_bytes().to_vec())));
            if reader.is_buffer_empty() {
                break;
            }
        }
        if is_overflown {
            let listed = fs::read_dir(self.directory.join(&self.name))?.flatten().map(|entry| entry.file_name());
            names.extend(listed.filter(|name| !name.as_encoded_bytes().starts_with(b".")));
        }
        let mut taken = 0;
        for name in names {
            taken += self.take_file(&name)?;
        }
        Ok(taken)
    }
}
