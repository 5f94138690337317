// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stream sockets: one write a message, and reads that fill a large buffer.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};

/// How much is read at once, in bytes.
const BUFFER_BYTES: usize = 64 << 10;

/// A connection that was accepted, and how many bytes of a message have come that is not whole.
struct Accepted {
    stream: UnixStream,
    begun: usize,
}

pub(super) struct Streams {
    directory: PathBuf,
    listener: UnixListener,
    others: BTreeMap<String, UnixStream>,
    /// In the order in which they came: the first sender's is the first.
    accepted: Vec<Accepted>,
    buffer: Vec<u8>,
    copies: Vec<u8>,
}

impl Streams {
    pub(super) fn new(directory: &Path, name: &str) -> io::Result<Self> {
        let listener = UnixListener::bind(directory.join(name))?;
        let (buffer, copies) = (vec![0; BUFFER_BYTES], Vec::new());
        let (others, accepted) = (BTreeMap::new(), Vec::new());
        Ok(Self { directory: directory.to_owned(), listener, others, accepted, buffer, copies })
    }

    fn to(&mut self, name: &str) -> io::Result<&UnixStream> {
        if !self.others.contains_key(name) {
            let stream = UnixStream::connect(self.directory.join(name))?;
            self.others.insert(name.to_owned(), stream);
        }
        self.others.get(name).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn accept(&mut self, count: usize) -> io::Result<()> {
        while self.accepted.len() < count {
            let (stream, _) = self.listener.accept()?;
            self.accepted.push(Accepted { stream, begun: 0 });
        }
        Ok(())
    }
}

impl Accepted {
    fn take(&mut self, bytes: usize, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let all = self.begun + count;
        self.begun = all % bytes;
        Ok(all / bytes)
    }
}

impl super::Transport for Streams {
    fn send(&mut self, to: &str, message: &[u8], times: usize) -> io::Result<()> {
        if times == 1 {
            return self.to(to)?.write_all(message);
        }
        let mut copies = std::mem::take(&mut self.copies);
        copies.clear();
        (0..times).for_each(|_| copies.extend_from_slice(message));
        self.to(to)?.write_all(&copies)?;
        self.copies = copies;
        Ok(())
    }

    fn take(&mut self, bytes: usize, senders: usize) -> io::Result<usize> {
        self.accept(senders)?;
        if let ([only, ..], 1) = (self.accepted.as_mut_slice(), senders) {
            return only.take(bytes, &mut self.buffer);
        }
        let mut ready: Vec<_> =
            self.accepted.iter().map(|accepted| PollFd::new(&accepted.stream, PollFlags::IN)).collect();
        poll(&mut ready, None)?;
        let ready: Vec<bool> = ready.iter().map(|entry| !entry.revents().is_empty()).collect();
        let mut taken = 0;
        for (accepted, _) in self.accepted.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            taken += accepted.take(bytes, &mut self.buffer)?;
        }
        Ok(taken)
    }

    fn ask(&mut self, to: &str, message: &[u8]) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut stream = self.to(to)?;
        stream.write_all(message)?;
        let mut come = 0;
        while come < message.len() {
            match stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => come += count,
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    fn answer(&mut self, _: &str, message: &[u8]) -> io::Result<()> {
        self.await_one(message.len())?;
        match self.accepted.first_mut() {
            Some(first) => first.stream.write_all(message),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}
