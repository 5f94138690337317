// SPDX-License-Identifier: MIT OR Apache-2.0
//! Doorbells: datagram sockets in a folder, one for each life of a peer. Whoever stored something rings; the ring is
//! a hint and carries nothing. The kernel refuses to ring a socket whose process is gone, so a bell also tells who lives.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;

use super::access::Access;
use super::files;

/// What the names of bells begin with.
const PREFIX: &str = "bell-";

/// A socket that was not hung up for so long, in seconds, never will be.
const MAKING: u64 = 10;

/// A folder that bells hang in.
#[derive(Debug)]
pub(crate) struct Porch {
    dir: OwnedFd,
    path: PathBuf,
    /// Device and inode number, which tell it from every other.
    identity: (u64, u64),
    access: Access,
}

impl Porch {
    pub(crate) fn new(dir: OwnedFd, path: PathBuf, access: Access) -> io::Result<Self> {
        let identity = files::identity_of(&dir)?;
        Ok(Self { dir, path, identity, access })
    }

    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Whom it is for.
    pub(crate) fn access(&self) -> Access {
        self.access
    }

    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The address of a socket: by descriptor where that can be, since the path of an address has 108 bytes at most;
    /// unix(7).
    fn address(&self, name: &OsStr) -> PathBuf {
        let parent = if cfg!(target_os = "linux") {
            PathBuf::from(format!("/proc/self/fd/{}", self.dir.as_raw_fd()))
        } else {
            self.path.clone()
        };
        parent.join(name)
    }

    /// Whether a name in the folder is that of a bell.
    pub(crate) fn is_bell(name: &OsStr) -> bool {
        name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
    }

    /// Whether somebody is behind a bell, also one that is not hung up yet; `None` if it cannot be known.
    pub(crate) fn is_answered(&self, name: &OsStr) -> Option<bool> {
        let hidden = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).map(|suffix| format!(".new-{suffix}"));
        // Once more, since it may be hung up in between.
        let names = [Some(name), hidden.as_deref().map(OsStr::new), hidden.as_ref().map(|_| name)];
        let mut answered = Some(false);
        for name in names.into_iter().flatten() {
            answered = self.is_answered_at(name);
            if answered != Some(false) {
                break;
            }
        }
        answered
    }

    fn is_answered_at(&self, name: &OsStr) -> Option<bool> {
        let asking = UnixDatagram::unbound().ok()?;
        match asking.connect(self.address(name)) {
            Ok(()) => Some(true),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Some(false),
                _ => None,
            },
        }
    }

    /// Whether a bell hangs there that nobody is behind any more. One that is gone says nothing: somebody may have tidied.
    pub(crate) fn is_deserted(&self, name: &OsStr) -> bool {
        let asked = UnixDatagram::unbound().and_then(|asking| asking.connect(self.address(name)));
        asked.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    }

    /// Removes bells that nobody is behind.
    pub(crate) fn remove_dead_bells(&self) {
        for name in files::names(self.dir()).unwrap_or_default() {
            // For a moment after it was made nobody is behind a socket yet.
            let is_left =
                || name.as_encoded_bytes().starts_with(b".new-") && files::is_older(self.dir(), &name, MAKING);
            if (Self::is_bell(&name) || is_left()) && self.is_answered(&name) == Some(false) {
                let _ = files::remove_file(self.dir(), &name);
            }
        }
    }
}

/// A bell of one's own. Taken down when dropped.
#[derive(Debug)]
pub(crate) struct Doorbell {
    heard: UnixDatagram,
    porch: Arc<Porch>,
    name: OsString,
    /// What the socket is called while nobody is to see it.
    hidden: Option<OsString>,
    is_deaf: bool,
}

impl Doorbell {
    /// Makes a bell that can be rung under its name, but that those who watch the folder do not see yet.
    pub(crate) fn prepare(porch: &Arc<Porch>) -> io::Result<Self> {
        let suffix = files::random_suffix();
        let (name, hidden) = (OsString::from(format!("{PREFIX}{suffix}")), OsString::from(format!(".new-{suffix}")));
        let heard = UnixDatagram::bind(porch.address(&hidden))?;
        // Whatever the umask: who rings must be able to write to it. The folder keeps everybody else out.
        porch.access.grant_at(porch.dir(), &hidden).inspect_err(|_| {
            let _ = files::remove_file(porch.dir(), &hidden);
        })?;
        let bell = Self { heard, porch: Arc::clone(porch), name, hidden: Some(hidden), is_deaf: false };
        bell.heard.set_nonblocking(true)?;
        Ok(bell)
    }

    /// Hangs it up: from here on those who watch the folder know of it.
    pub(crate) fn publish(&mut self) -> io::Result<()> {
        if let Some(hidden) = &self.hidden {
            files::rename(self.porch.dir(), hidden, &self.name)?;
            self.hidden = None;
            // Whoever rang in between found nothing.
            self.ring();
        }
        Ok(())
    }

    /// Whether others can ring it.
    pub(crate) fn is_hung(&self) -> bool {
        self.hidden.is_none() && !self.is_deaf
    }

    /// From here on no ring is heard, and whoever rings is told so; those who ask whether somebody is behind it still find
    /// that. unix(7), shutdown(2): the kernel decides both under one lock. Its descriptor is not to be waited for any more.
    #[cfg(any(feature = "sqlite", feature = "postgresql", feature = "mysql"))]
    pub(crate) fn go_deaf(&mut self) -> io::Result<()> {
        self.heard.shutdown(std::net::Shutdown::Read)?;
        self.is_deaf = true;
        Ok(())
    }

    /// Where it hangs.
    pub(crate) fn porch(&self) -> &Porch {
        &self.porch
    }

    pub(crate) fn name(&self) -> &OsStr {
        &self.name
    }

    /// Makes it readable: something is left that its owner knows of.
    pub(crate) fn ring(&self) {
        if let Ok(ringer) = Ringer::new(&self.porch) {
            ringer.ring(&self.name);
        }
    }

    /// Forgets the rings until now. To be done before looking.
    pub(crate) fn clear(&self) {
        while !self.is_deaf && self.heard.recv(&mut [0]).is_ok() {}
    }

    /// None once it is deaf: then it would be readable for ever.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        (!self.is_deaf).then(|| self.heard.as_fd())
    }

    /// Takes it down. Those who watch the folder are told.
    pub(crate) fn take_down(&self) {
        let name = self.hidden.as_ref().unwrap_or(&self.name);
        let _ = files::remove_file(self.porch.dir(), name);
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        self.take_down();
    }
}

/// What others' bells are rung with.
#[derive(Debug)]
pub(crate) struct Ringer {
    socket: UnixDatagram,
    porch: Arc<Porch>,
    /// The bell that the socket is connected to: most ring the same again and again, and finding it takes longest.
    last: RefCell<Option<OsString>>,
}

impl Ringer {
    pub(crate) fn new(porch: &Arc<Porch>) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, porch: Arc::clone(porch), last: RefCell::new(None) })
    }

    /// Rings, and never waits. Returns whether somebody surely heard it; a full queue rings already.
    pub(crate) fn ring(&self, bell: &OsStr) -> bool {
        let mut last = self.last.borrow_mut();
        let is_connected = if last.as_deref() == Some(bell) {
            Ok(())
        } else {
            *last = None;
            self.socket.connect(self.porch.address(bell)).inspect(|()| *last = Some(bell.to_owned()))
        };
        match is_connected.and_then(|()| self.socket.send(&[1])) {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
            Err(_) => {
                *last = None;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::poll::{self, Woken};
    use std::time::Duration;

    #[test]
    fn a_bell_is_heard_until_it_is_cleared_and_tells_who_lives() {
        let path = std::env::temp_dir().join(format!("ipct-bell-{}", files::random_suffix()));
        files::make_dir_at(rustix::fs::CWD, path.as_os_str(), Access::Private).unwrap();
        let porch = Arc::new(Porch::new(files::open_dir(&path).unwrap(), path.clone(), Access::Private).unwrap());
        let mut bell = Doorbell::prepare(&porch).unwrap();
        assert_eq!(porch.is_answered(bell.name()), Some(true), "it is there before it was hung up");
        assert!(!Ringer::new(&porch).unwrap().ring(bell.name()), "it hangs before it was published");
        bell.publish().unwrap();
        bell.clear();
        let is_rung = || poll::readable(&[bell.descriptor().unwrap()], Duration::ZERO).unwrap() == Woken::Ready;
        assert!(!is_rung());
        let ringer = Ringer::new(&porch).unwrap();
        assert!((0..2_000).all(|_| ringer.ring(bell.name())));
        assert!(is_rung());
        bell.clear();
        assert!(!is_rung());
        let name = bell.name().to_owned();
        assert_eq!(porch.is_answered(&name), Some(true));
        #[cfg(any(feature = "sqlite", feature = "postgresql", feature = "mysql"))]
        {
            bell.go_deaf().unwrap();
            bell.clear();
            assert!(!ringer.ring(&name) && !Ringer::new(&porch).unwrap().ring(&name), "a deaf bell is heard");
            assert!(porch.is_answered(&name) == Some(true) && !porch.is_deserted(&name) && !bell.is_hung());
        }
        // As a killed process leaves it: the name is there, and nobody behind it.
        let left = OsString::from("bell-left");
        drop(UnixDatagram::bind(porch.address(&left)).unwrap());
        assert!(porch.is_answered(&left) == Some(false) && !ringer.ring(&left));
        porch.remove_dead_bells();
        assert_eq!(files::names(porch.dir()).unwrap(), [name]);
        drop(bell);
        assert!(files::names(porch.dir()).unwrap().is_empty());
        std::fs::remove_dir(path).unwrap();
    }
}
