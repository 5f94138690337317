// SPDX-License-Identifier: MIT OR Apache-2.0
//! Datagram sockets with a name in a directory. Nothing here waits, raises SIGPIPE, or is inherited by programs that
//! are started.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;
use rustix::net::{self, SocketAddrUnix, sockopt};

use super::access::{Access, PRIVATE};

/// What the kernel keeps of a send buffer for itself; unix(7) says how large the rest is.
const OVERHEAD: usize = 32;

/// Whether something is a socket in the file system.
pub(crate) fn is_socket(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Socket
}

fn new_socket() -> io::Result<OwnedFd> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Makes a socket under a name in a directory, mode 0600, or 0660 for a group, whatever the umask; the kernel says of each datagram that comes
/// who sent it. On error nothing of it stays.
pub(crate) fn bind_at(dir: BorrowedFd<'_>, path_of_dir: &Path, name: &OsStr, access: Access) -> io::Result<OwnedFd> {
    let socket = new_socket()?;
    // Before it has a name, where the system can: bind(2) takes the umask off that.
    let _ = rustix::fs::fchmod(&socket, PRIVATE);
    #[cfg(target_os = "linux")]
    sockopt::set_socket_passcred(&socket, true)?;
    net::bind(&socket, &address(dir, path_of_dir, name)?)?;
    if let Err(error) = access.grant_at(dir, name) {
        let _ = rustix::fs::unlinkat(dir, name, AtFlags::empty());
        return Err(error);
    }
    Ok(socket)
}

/// A socket of which all that is sent goes to the one under a name in a directory. `ConnectionRefused`: nobody has it
/// open any more.
pub(crate) fn connect_at(dir: BorrowedFd<'_>, path_of_dir: &Path, name: &OsStr) -> io::Result<OwnedFd> {
    let socket = new_socket()?;
    let address = address(dir, path_of_dir, name)?;
    retried(|| net::connect(&socket, &address))?;
    Ok(socket)
}

/// The address of a name in a directory: through the descriptor where the system can, so that a long path does not
/// matter and nobody can put another directory in its place.
pub(super) fn address(dir: BorrowedFd<'_>, path_of_dir: &Path, name: &OsStr) -> io::Result<SocketAddrUnix> {
    let path = if Path::new("/proc/self/fd").exists() {
        PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name)
    } else {
        path_of_dir.join(name)
    };
    Ok(SocketAddrUnix::new(path.as_os_str().as_bytes())?)
}

/// Has every later send to this socket fail. What was sent before can still be received.
pub(crate) fn refuse_more(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(net::shutdown(socket, net::Shutdown::Read)?)
}

/// How large a datagram can leave this socket.
pub(crate) fn largest(socket: BorrowedFd<'_>) -> io::Result<usize> {
    Ok(sockopt::socket_send_buffer_size(socket)?.saturating_sub(OVERHEAD))
}

/// Asks for datagrams up to this size; returns what was granted, which may be less.
pub(crate) fn enlarge(socket: BorrowedFd<'_>, size: usize) -> io::Result<usize> {
    // The kernel doubles what it is asked for; socket(7).
    sockopt::set_socket_send_buffer_size(socket, size.saturating_add(OVERHEAD).div_ceil(2))?;
    largest(socket)
}

/// Sends one datagram, whole or not at all.
pub(crate) fn send(socket: BorrowedFd<'_>, payload: &[u8]) -> io::Result<()> {
    // On systems without the flag a datagram socket raises no signal either.
    #[cfg(not(target_vendor = "apple"))]
    let flags = net::SendFlags::NOSIGNAL;
    #[cfg(target_vendor = "apple")]
    let flags = net::SendFlags::empty();
    retried(|| net::send(socket, payload, flags)).map(drop)
}

fn retried<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

/// Sends datagrams in order, each whole or not at all; returns how many went. An error is that of the first.
#[cfg(target_os = "linux")]
pub(crate) fn send_many(socket: BorrowedFd<'_>, payloads: &[&[u8]]) -> io::Result<usize> {
    if let [payload] = payloads {
        return send(socket, payload).map(|()| 1);
    }
    let mut parts: Vec<libc::iovec> = payloads
        .iter()
        .map(|payload| libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() })
        .collect();
    let mut headers: Vec<libc::mmsghdr> = parts
        .iter_mut()
        .map(|part| {
            // SAFETY: of a header every field may be zero.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header
        })
        .collect();
    let count = u32::try_from(headers.len()).unwrap_or(u32::MAX);
    loop {
        // SAFETY: each header points to one part, which points to a payload; all outlive the call, which only reads.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_NOSIGNAL) };
        match usize::try_from(sent) {
            Ok(sent) => return Ok(sent),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

/// Sends datagrams in order, each whole or not at all; returns how many went. An error is that of the first.
#[cfg(not(target_os = "linux"))]
pub(crate) fn send_many(socket: BorrowedFd<'_>, payloads: &[&[u8]]) -> io::Result<usize> {
    for (sent, payload) in payloads.iter().enumerate() {
        match send(socket, payload) {
            Err(_) if sent > 0 => return Ok(sent),
            done => done?,
        }
    }
    Ok(payloads.len())
}

/// Who sent a datagram, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) uid: u32,
    /// `None` where the number means nothing here, as that of a process in another pid namespace.
    pub(crate) pid: Option<u32>,
}

/// Whether anybody has the socket open that stands under a name.
pub(crate) fn is_open_at(dir: BorrowedFd<'_>, path_of_dir: &Path, name: &OsStr) -> bool {
    !connect_at(dir, path_of_dir, name).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
