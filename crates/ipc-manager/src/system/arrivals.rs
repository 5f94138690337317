// SPDX-License-Identifier: MIT OR Apache-2.0
//! Receiving datagrams, many in one call, each into a place that is as large as any that the kernel delivers. Such
//! places are address space; memory is only what datagrams have filled.

use std::io;
use std::os::fd::BorrowedFd;

use super::datagram::Credentials;

/// A datagram that was received.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    /// What of it was kept.
    pub(crate) bytes: &'a [u8],
    /// How large it was.
    pub(crate) size: usize,
    /// Who sent it; `None` where the system does not say.
    pub(crate) sender: Option<Credentials>,
}

#[cfg(target_os = "linux")]
pub(crate) use linux::Arrivals;

#[cfg(target_os = "linux")]
mod linux {
    use std::mem::MaybeUninit;
    use std::os::fd::AsRawFd;
    use std::ptr::NonNull;

    use super::{Arrival, BorrowedFd, Credentials, io};

    /// Most datagrams received in one call; a socket usually holds eleven, unix(7).
    const MOST: usize = 16;
    /// What of a place stays in memory when it is empty.
    const KEPT: usize = 64 << 10;
    /// The smallest and largest place, whatever the system says.
    const PLACE: (usize, usize) = (425_984, 8 << 20);
    /// What an unprivileged sender may make its buffer at most; the kernel doubles it, socket(7).
    const MOST_SENT: &str = "/proc/sys/net/core/wmem_max";
    /// Room for the credentials of a sender, and for nothing else: descriptors that somebody sends along find none, so
    /// the kernel closes them.
    const CONTROL: usize = 32;

    #[repr(C, align(8))]
    #[derive(Clone, Copy)]
    struct Control([MaybeUninit<u8>; CONTROL]);

    /// Datagrams that were received and not taken yet, oldest first.
    #[derive(Debug)]
    pub(crate) struct Arrivals {
        memory: NonNull<u8>,
        place: usize,
        places: usize,
        /// Size and sender of what is in the first places.
        filled: Vec<(usize, Option<Credentials>)>,
        next: usize,
    }

    // SAFETY: the memory is this value's alone.
    unsafe impl Send for Arrivals {}

    impl Arrivals {
        /// Reserves the places; fewer where the process may have little address space.
        pub(crate) fn new() -> io::Result<Self> {
            let sent = std::fs::read_to_string(MOST_SENT).ok().and_then(|most| most.trim().parse::<usize>().ok());
            let place = sent.unwrap_or(0).saturating_mul(2).clamp(PLACE.0, PLACE.1).next_multiple_of(KEPT);
            let mut places = MOST;
            loop {
                match reserve(place * places) {
                    Ok(memory) => return Ok(Self { memory, place, places, filled: Vec::with_capacity(MOST), next: 0 }),
                    Err(error) if places == 1 => return Err(error),
                    Err(_) => places /= 4,
                }
            }
        }

        /// The oldest datagram that was not taken.
        pub(crate) fn front(&self) -> Option<Arrival<'_>> {
            let (size, sender) = *self.filled.get(self.next)?;
            // SAFETY: the place is within the memory, and the kernel has written so many bytes of it.
            let bytes = unsafe {
                std::slice::from_raw_parts(self.memory.as_ptr().add(self.next * self.place), size.min(self.place))
            };
            Some(Arrival { bytes, size, sender })
        }

        /// Takes the oldest datagram.
        pub(crate) fn take(&mut self) {
            let Some((size, _)) = self.filled.get(self.next) else { return };
            if *size > KEPT {
                // SAFETY: the rest of this value's own place, which nobody refers to; it reads as zeros from here on.
                unsafe {
                    let rest = self.memory.as_ptr().add(self.next * self.place + KEPT);
                    libc::madvise(rest.cast(), self.place - KEPT, libc::MADV_DONTNEED);
                }
            }
            self.next += 1;
        }

        /// Receives what is there, once all that was received before is taken. Returns whether anything is there now,
        /// and whether more may wait in the kernel.
        pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<(bool, bool)> {
            if self.next < self.filled.len() {
                return Ok((true, true));
            }
            self.filled.clear();
            self.next = 0;
            let count = self.receive_into_places(socket)?;
            Ok((count > 0, count == self.places))
        }

        fn receive_into_places(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
            let mut controls = [Control([MaybeUninit::uninit(); CONTROL]); MOST];
            // SAFETY: a part and a header may be all zeros.
            let (mut parts, mut headers): ([libc::iovec; MOST], [libc::mmsghdr; MOST]) = unsafe { std::mem::zeroed() };
            for index in 0..self.places {
                // SAFETY: the place is within the memory.
                parts[index].iov_base = unsafe { self.memory.as_ptr().add(index * self.place) }.cast();
                parts[index].iov_len = self.place;
                let header = &mut headers[index].msg_hdr;
                header.msg_iov = &raw mut parts[index];
                header.msg_iovlen = 1;
                header.msg_control = controls[index].0.as_mut_ptr().cast();
                header.msg_controllen = CONTROL;
            }
            let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC | libc::MSG_CMSG_CLOEXEC;
            let count = u32::try_from(self.places).unwrap_or(1);
            let received = loop {
                // SAFETY: each header points to one part, which points to a place of its own, and to a control buffer
                // of the length that it says; all outlive the call, and nothing else refers to them meanwhile.
                let received = unsafe {
                    libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, flags, std::ptr::null_mut())
                };
                match usize::try_from(received) {
                    Ok(received) => break received,
                    Err(_) => match io::Error::last_os_error() {
                        error if error.kind() == io::ErrorKind::Interrupted => {}
                        error if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                        error => return Err(error),
                    },
                }
            };
            for header in headers.iter().take(received) {
                self.filled.push((header.msg_len as usize, credentials(&header.msg_hdr)));
            }
            Ok(received)
        }
    }

    impl Drop for Arrivals {
        fn drop(&mut self) {
            // SAFETY: mapped by `reserve` with this length, and referred to by nobody any more.
            unsafe { libc::munmap(self.memory.as_ptr().cast(), self.place * self.places) };
        }
    }

    /// Address space of which only what is written to takes memory.
    fn reserve(bytes: usize) -> io::Result<NonNull<u8>> {
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
        // SAFETY: a new mapping, wherever the system likes.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(memory.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// The sender's credentials out of the control data that the kernel wrote.
    fn credentials(header: &libc::msghdr) -> Option<Credentials> {
        // SAFETY: the kernel has filled the control buffer up to the length in the header, and what is the first entry
        // there, if any, is read without regard to alignment once its kind and length say what it is.
        unsafe {
            let first = libc::CMSG_FIRSTHDR(header);
            let entry = first.as_ref()?;
            let length = libc::CMSG_LEN(u32::try_from(size_of::<libc::ucred>()).ok()?) as usize;
            if entry.cmsg_level != libc::SOL_SOCKET
                || entry.cmsg_type != libc::SCM_CREDENTIALS
                || entry.cmsg_len < length
            {
                return None;
            }
            let sender = std::ptr::read_unaligned(libc::CMSG_DATA(first).cast::<libc::ucred>());
            Some(Credentials { uid: sender.uid, pid: u32::try_from(sender.pid).ok().filter(|pid| *pid != 0) })
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::Arrivals;

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use super::{Arrival, BorrowedFd, io};

    /// As large as the kernel delivers on other systems.
    const PLACE: usize = 1 << 20;

    /// The datagram that was received and not taken yet.
    #[derive(Debug)]
    pub(crate) struct Arrivals {
        place: Vec<u8>,
        filled: Option<usize>,
    }

    impl Arrivals {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self { place: vec![0; PLACE], filled: None })
        }

        pub(crate) fn front(&self) -> Option<Arrival<'_>> {
            let size = self.filled?;
            Some(Arrival { bytes: &self.place[..size], size, sender: None })
        }

        pub(crate) fn take(&mut self) {
            self.filled = None;
        }

        /// Receives one datagram, once the one before is taken. Returns whether one is there, and whether more may wait.
        pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<(bool, bool)> {
            while self.filled.is_none() {
                match rustix::net::recv(socket, &mut self.place[..], rustix::net::RecvFlags::empty()) {
                    Ok((_, size)) => self.filled = Some(size),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(rustix::io::Errno::AGAIN) => return Ok((false, false)),
                    Err(error) => return Err(error.into()),
                }
            }
            Ok((true, true))
        }
    }
}
