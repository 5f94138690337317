// SPDX-License-Identifier: MIT OR Apache-2.0
//! A datagram socket for each worker: one call a message, or one call for many.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

/// More than a datagram can have, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

pub(super) struct Datagrams {
    directory: PathBuf,
    own: UnixDatagram,
    others: BTreeMap<String, UnixDatagram>,
    buffer: Vec<u8>,
}

impl Datagrams {
    pub(super) fn new(directory: &Path, name: &str) -> io::Result<Self> {
        let own = UnixDatagram::bind(directory.join(name))?;
        Ok(Self { directory: directory.to_owned(), own, others: BTreeMap::new(), buffer: vec![0; BUFFER_BYTES] })
    }
}

impl super::Transport for Datagrams {
    fn send(&mut self, to: &str, message: &[u8], times: usize) -> io::Result<()> {
        if !self.others.contains_key(to) {
            let socket = UnixDatagram::unbound()?;
            socket.connect(self.directory.join(to))?;
            self.others.insert(to.to_owned(), socket);
        }
        let Some(socket) = self.others.get(to) else { return Ok(()) };
        if times == 1 {
            return socket.send(message).map(drop);
        }
        let parts = [IoSlice::new(message)];
        let mut sent = 0;
        while sent < times {
            let mut nothing: Vec<_> = (sent..times).map(|_| SendAncillaryBuffer::default()).collect();
            let mut all: Vec<_> = nothing.iter_mut().map(|nothing| MMsgHdr::new(&parts, nothing)).collect();
            sent += sendmmsg(socket, &mut all, SendFlags::empty())?;
        }
        Ok(())
    }

    fn take(&mut self, _: usize, _: usize) -> io::Result<usize> {
        self.own.recv(&mut self.buffer).map(|_| 1)
    }
}
