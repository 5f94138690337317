// SPDX-License-Identifier: MIT OR Apache-2.0
//! The keeper: a small process that cleans up when the owner of a server is gone.
//!
//! It is a shell that blocks on a socket whose other end only the owner holds, so it notices every way to die. It leads a
//! process group of its own, so that what ends the owner's group does not end it, and it keeps the owner's rights: the
//! account of the server cannot meddle with it. (A death signal of the kernel would come when the *thread* ends that
//! started the server.)

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::place::Place;

const SCRIPT: &str = include_str!("keeper.sh");

#[derive(Debug)]
pub(crate) struct Keeper {
    process: Child,
    /// Taken when it is let go.
    line: Option<UnixStream>,
}

impl Keeper {
    pub(crate) fn start(engine: Engine, place: &Place) -> Result<Self> {
        let signal = if engine.end_signal() == rustix::process::Signal::QUIT { "QUIT" } else { "KILL" };
        let mut command = Command::new("sh");
        command.arg("-c").arg(SCRIPT).arg("ipcm-server-keeper").arg(place.top()).arg(signal);
        let record = place.record().map_err(|error| Error::system("start the keeper", error))?;
        let (line, theirs) = UnixStream::pair().map_err(|error| Error::system("start the keeper", error))?;
        command.stdin(OwnedFd::from(theirs)).stdout(record).stderr(Stdio::null());
        let started = command.current_dir("/").process_group(0).spawn();
        let process = started.map_err(|error| Error::system("start the keeper", error))?;
        Ok(Self { process, line: Some(line) })
    }

    /// Tells it what runs now.
    pub(crate) fn note_group(&mut self, group: u32) -> Result<()> {
        self.say(&format!("group {group}\n"))
    }

    /// Tells it that nothing runs.
    pub(crate) fn note_nothing(&mut self) -> Result<()> {
        self.say("group 0\n")
    }

    fn say(&mut self, line: &str) -> Result<()> {
        let mut rest = line.as_bytes();
        while let (Some(stream), false) = (&self.line, rest.is_empty()) {
            // A pipe would raise a signal that ends a process which has the default for it, once its reader is gone.
            match rustix::net::send(stream, rest, rustix::net::SendFlags::NOSIGNAL) {
                Ok(sent) => rest = &rest[sent..],
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::system("talk to the keeper", error)),
            }
        }
        Ok(())
    }

    /// Makes the server outlive this process, as long as somebody holds a lock on the file, and a while longer.
    pub(crate) fn share(mut self, lock: &Path, linger: Duration) -> Result<()> {
        self.say(&format!("share {} {}\n", linger.as_secs().max(1), lock.display()))
    }

    /// Ends it; it first removes what is there yet.
    pub(crate) fn let_go(&mut self) {
        self.line = None;
        let _ = self.process.wait();
    }
}
