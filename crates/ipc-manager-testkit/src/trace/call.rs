// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kinds of system calls, and how each can fail.

use std::fmt;

/// A kind of system call: a named point of the code.
///
/// ```
/// use ipc_manager_testkit::trace::Call;
/// assert!(Call::OTHER.errors().is_empty());
/// assert!(Call::NAMED.iter().all(|call| !call.errors().is_empty()));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Open,
    Read,
    Write,
    Resize,
    Sync,
    Rename,
    Remove,
    Make,
    Look,
    Lock,
    Watch,
    Poll,
    Socket,
    Connect,
    Send,
    Receive,
    Other,
}

impl Call {
    /// One that is left alone: memory, threads, time, the process itself.
    pub const OTHER: Self = Self(Kind::Other);

    /// One that has the disk take what was written.
    pub(crate) const SYNC: Self = Self(Kind::Sync);

    /// The kinds that can be made to fail.
    pub const NAMED: [Self; 16] = [
        Self(Kind::Open),
        Self(Kind::Read),
        Self(Kind::Write),
        Self(Kind::Resize),
        Self(Kind::Sync),
        Self(Kind::Rename),
        Self(Kind::Remove),
        Self(Kind::Make),
        Self(Kind::Look),
        Self(Kind::Lock),
        Self(Kind::Watch),
        Self(Kind::Poll),
        Self(Kind::Socket),
        Self(Kind::Connect),
        Self(Kind::Send),
        Self(Kind::Receive),
    ];

    /// The kind of a call by its number.
    #[must_use]
    pub fn of(number: i64) -> Self {
        Self(kind_here(number).unwrap_or_else(|| kind(number)))
    }

    /// Whether its first argument is a descriptor that it works on.
    pub(crate) fn works_on_descriptor(self) -> bool {
        !matches!(self.0, Kind::Open | Kind::Rename | Kind::Remove | Kind::Make | Kind::Poll | Kind::Socket)
    }

    /// The errors that it can be made to fail with.
    #[must_use]
    pub fn errors(self) -> &'static [i32] {
        use libc::{EACCES, EAGAIN, EINTR, EIO, EMFILE, ENOSPC, EPIPE};
        match self.0 {
            Kind::Open => &[EMFILE, EACCES, ENOSPC, EIO, EINTR],
            Kind::Read => &[EIO, EINTR],
            Kind::Write => &[ENOSPC, EIO, EINTR, EPIPE],
            Kind::Resize | Kind::Sync => &[ENOSPC, EIO, EINTR],
            Kind::Rename | Kind::Make => &[ENOSPC, EACCES, EIO],
            Kind::Remove => &[EACCES, EIO],
            Kind::Look => &[EACCES, EIO],
            Kind::Lock => &[EINTR, EAGAIN],
            Kind::Watch => &[EMFILE, ENOSPC],
            Kind::Poll => &[EINTR],
            Kind::Socket => &[EMFILE, EACCES],
            // Not that it was refused: that is no failure, but the kernel's word that nobody has the socket open.
            Kind::Connect => &[EAGAIN, EINTR],
            Kind::Send => &[EPIPE, EAGAIN, EINTR],
            Kind::Receive => &[EAGAIN, EINTR, EIO],
            Kind::Other => &[],
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{:?}", self.0).to_lowercase())
    }
}

fn kind(number: i64) -> Kind {
    match number {
        libc::SYS_openat | libc::SYS_openat2 | libc::SYS_dup | libc::SYS_dup3 | libc::SYS_pidfd_open => Kind::Open,
        libc::SYS_read | libc::SYS_pread64 | libc::SYS_readv | libc::SYS_preadv => Kind::Read,
        libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_writev | libc::SYS_pwritev => Kind::Write,
        libc::SYS_ftruncate | libc::SYS_truncate | libc::SYS_fallocate => Kind::Resize,
        libc::SYS_fsync | libc::SYS_fdatasync => Kind::Sync,
        libc::SYS_renameat2 | libc::SYS_linkat | libc::SYS_symlinkat => Kind::Rename,
        libc::SYS_unlinkat => Kind::Remove,
        libc::SYS_mkdirat | libc::SYS_mknodat | libc::SYS_fchmod | libc::SYS_fchmodat | libc::SYS_bind => Kind::Make,
        libc::SYS_fstat
        | libc::SYS_newfstatat
        | libc::SYS_statx
        | libc::SYS_faccessat
        | libc::SYS_readlinkat
        | libc::SYS_getdents64
        | libc::SYS_fstatfs => Kind::Look,
        libc::SYS_flock | libc::SYS_fcntl => Kind::Lock,
        libc::SYS_inotify_init1 | libc::SYS_inotify_add_watch => Kind::Watch,
        libc::SYS_ppoll => Kind::Poll,
        libc::SYS_socket | libc::SYS_socketpair | libc::SYS_accept4 => Kind::Socket,
        libc::SYS_connect => Kind::Connect,
        libc::SYS_sendto | libc::SYS_sendmsg => Kind::Send,
        libc::SYS_recvfrom | libc::SYS_recvmsg => Kind::Receive,
        _ => Kind::Other,
    }
}

/// Those that this architecture has besides.
#[cfg(target_arch = "x86_64")]
fn kind_here(number: i64) -> Option<Kind> {
    Some(match number {
        libc::SYS_open | libc::SYS_creat | libc::SYS_dup2 => Kind::Open,
        libc::SYS_rename | libc::SYS_renameat | libc::SYS_link | libc::SYS_symlink => Kind::Rename,
        libc::SYS_unlink | libc::SYS_rmdir => Kind::Remove,
        libc::SYS_mkdir | libc::SYS_mknod | libc::SYS_chmod => Kind::Make,
        libc::SYS_stat | libc::SYS_lstat | libc::SYS_access | libc::SYS_readlink => Kind::Look,
        libc::SYS_poll => Kind::Poll,
        libc::SYS_accept => Kind::Socket,
        _ => return None,
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn kind_here(_: i64) -> Option<Kind> {
    None
}
