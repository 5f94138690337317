// SPDX-License-Identifier: MIT OR Apache-2.0
//! A descriptor that one thread makes readable to wake another: level-triggered, never blocking.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;

/// Readable from [`Bell::ring`] until [`Bell::clear`].
#[derive(Debug)]
pub(crate) struct Bell {
    ring: UnixDatagram,
    heard: UnixDatagram,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        let (ring, heard) = UnixDatagram::pair()?;
        ring.set_nonblocking(true)?;
        heard.set_nonblocking(true)?;
        Ok(Self { ring, heard })
    }

    pub(crate) fn ring(&self) {
        // Full means that it rings already.
        let _ = self.ring.send(&[1]);
    }

    pub(crate) fn clear(&self) {
        while self.heard.recv(&mut [0]).is_ok() {}
    }

    /// What a signal handler writes to: a byte of anything rings.
    pub(crate) fn ringing_descriptor(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.heard.as_fd()
    }
}
