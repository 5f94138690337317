// SPDX-License-Identifier: MIT OR Apache-2.0
//! A named pipe for each worker: one write a message, and reads that fill a large buffer.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};

/// How large a pipe is asked for, in bytes, as the protocol does.
const PIPE_BYTES: usize = 1 << 20;
/// How much is read at once, in bytes.
const BUFFER_BYTES: usize = 64 << 10;

pub(super) struct Pipes {
    directory: PathBuf,
    own: File,
    others: BTreeMap<String, File>,
    buffer: Vec<u8>,
    /// Bytes of a message that has not come whole.
    begun: usize,
    copies: Vec<u8>,
}

impl Pipes {
    pub(super) fn new(directory: &Path, name: &str) -> io::Result<Self> {
        let path = directory.join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        // Open for writing as well, so that it does not end when a writer does.
        let own = OpenOptions::new().read(true).write(true).open(path)?;
        // What is not granted is done without.
        let _ = rustix::pipe::fcntl_setpipe_size(&own, PIPE_BYTES);
        let (buffer, copies) = (vec![0; BUFFER_BYTES], Vec::new());
        Ok(Self { directory: directory.to_owned(), own, others: BTreeMap::new(), buffer, begun: 0, copies })
    }
}

impl super::Transport for Pipes {
    fn send(&mut self, to: &str, message: &[u8], times: usize) -> io::Result<()> {
        if !self.others.contains_key(to) {
            let pipe = OpenOptions::new().write(true).open(self.directory.join(to))?;
            self.others.insert(to.to_owned(), pipe);
        }
        let Some(mut pipe) = self.others.get(to) else { return Ok(()) };
        if times == 1 {
            return pipe.write_all(message);
        }
        self.copies.clear();
        (0..times).for_each(|_| self.copies.extend_from_slice(message));
        pipe.write_all(&self.copies)
    }

    fn take(&mut self, bytes: usize, _: usize) -> io::Result<usize> {
        let all = self.begun + self.own.read(&mut self.buffer)?;
        self.begun = all % bytes;
        Ok(all / bytes)
    }
}
