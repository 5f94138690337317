// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stream sockets with a name in a directory. Nothing here blocks, raises SIGPIPE, or is inherited by programs that are
//! started.

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::AtFlags;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SendAncillaryBuffer, SendFlags, SocketType};

use super::access::{Access, PRIVATE};
use super::datagram::address;

/// As long as the kernel makes it; it cuts a larger number down by itself, listen(2).
const BACKLOG: i32 = 4096;

/// Who made a socket at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) uid: u32,
    /// `None` where the number means nothing here, as that of a process in another pid namespace.
    pub(crate) pid: Option<u32>,
}

/// Makes a listening socket in a directory, mode 0600, or 0660 for a group, whatever the umask. On error nothing of it stays.
pub(crate) fn listen_at(dir: BorrowedFd<'_>, path_of_dir: &Path, name: &OsStr, access: Access) -> io::Result<OwnedFd> {
    let socket = new_socket()?;
    // Before it has a name, where the system can; bind(2) takes the umask off that.
    let _ = rustix::fs::fchmod(&socket, PRIVATE);
    net::bind(&socket, &address(dir, path_of_dir, name)?)?;
    let listening = access.grant_at(dir, name).and_then(|()| Ok(net::listen(&socket, BACKLOG)?));
    match listening {
        Ok(()) => Ok(socket),
        Err(error) => {
            let _ = rustix::fs::unlinkat(dir, name, AtFlags::empty());
            Err(error)
        }
    }
}

/// Connects to a listening socket in a directory. `WouldBlock` if too many wait to be accepted.
pub(crate) fn connect_at(dir: BorrowedFd<'_>, path_of_dir: &Path, name: &OsStr) -> io::Result<OwnedFd> {
    let socket = new_socket()?;
    let address = address(dir, path_of_dir, name)?;
    loop {
        match net::connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether a socket in a directory is open in some process, as far as can be told.
pub(crate) fn is_open_at(dir: BorrowedFd<'_>, path_of_dir: &Path, name: &OsStr) -> bool {
    !connect_at(dir, path_of_dir, name).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn new_socket() -> io::Result<OwnedFd> {
    let flags = net::SocketFlags::CLOEXEC | net::SocketFlags::NONBLOCK;
    Ok(net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn new_socket() -> io::Result<OwnedFd> {
    let socket = net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    prepare(&socket)?;
    Ok(socket)
}

/// Accepts a connection. `WouldBlock` if none waits; `InvalidInput` if none waits and none will, since the socket was
/// shut down.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(net::accept_with(listener, net::SocketFlags::CLOEXEC | net::SocketFlags::NONBLOCK)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let socket = net::accept(listener)?;
    prepare(&socket)?;
    Ok(socket)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn prepare(socket: &OwnedFd) -> io::Result<()> {
    rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(socket, true)?;
    #[cfg(target_vendor = "apple")]
    net::sockopt::set_socket_nosigpipe(socket, true)?;
    Ok(())
}

/// Who is at the other end: for one that was connected to, who made it listen; for one that was accepted, who connected.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = libc::socklen_t::try_from(size_of_val(&found)).unwrap_or(0);
    // SAFETY: the kernel writes at most `length` bytes, which is the size of what is written to; any bits are a ucred.
    let asked = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            std::ptr::from_mut(&mut found).cast(),
            &raw mut length,
        )
    };
    if asked != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Credentials { uid: found.uid, pid: u32::try_from(found.pid).ok().filter(|pid| *pid != 0) })
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    let (mut uid, mut gid) = (0, 0);
    // SAFETY: both places are writable, and the descriptor is open for as long as it is borrowed.
    if unsafe { libc::getpeereid(socket.as_raw_fd(), &raw mut uid, &raw mut gid) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Credentials { uid, pid: None })
}

/// Sends as much as there is room for now, and says how many bytes that was.
pub(crate) fn send_one(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let flags = if cfg!(target_vendor = "apple") { SendFlags::empty() } else { NO_SIGNAL };
    loop {
        match net::send(socket, bytes, flags) {
            Err(Errno::INTR) => {}
            sent => return Ok(sent?),
        }
    }
}

/// Sends as much of all parts together as there is room for now, and says how many bytes that was.
pub(crate) fn send(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = if cfg!(target_vendor = "apple") { SendFlags::empty() } else { NO_SIGNAL };
    loop {
        match net::sendmsg(socket, parts, &mut SendAncillaryBuffer::default(), flags) {
            Err(Errno::INTR) => {}
            sent => return Ok(sent?),
        }
    }
}

#[cfg(not(target_vendor = "apple"))]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
const NO_SIGNAL: SendFlags = SendFlags::empty();

/// Adds to a buffer what is there now, within its spare room; 0 at the end.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        match rustix::io::read(socket, rustix::buffer::spare_capacity(buffer)) {
            Err(Errno::INTR) => {}
            read => return Ok(read?),
        }
    }
}

/// Lets nothing in any more: what came before can still be read, and whoever sends is told. Of a listening socket: who
/// connects is refused.
pub(crate) fn refuse_more(socket: impl AsFd) {
    // It fails only where the other end is gone, and nothing comes from there.
    let _ = net::shutdown(socket, net::Shutdown::Read);
}

/// Whether a call failed for want of descriptors, in this process or in the system.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Whether a connection is over: what is sent on it is not taken.
pub(crate) fn is_broken(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN))
}
