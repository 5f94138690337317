// SPDX-License-Identifier: MIT OR Apache-2.0
//! The keeper: a small process that cleans up when the owner of a server is gone.
//!
//! It is a shell that blocks on a pipe whose other end only the owner holds, so it notices every way to die. It leads a
//! process group of its own, so that what ends the owner's group does not end it, and it keeps the owner's rights: the
//! account of the server cannot meddle with it. (A death signal of the kernel would come when the *thread* ends that
//! started the server.)

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use crate::engine::Engine;
use crate::error::{Error, Result};

const SCRIPT: &str = include_str!("keeper.sh");

#[derive(Debug)]
pub(crate) struct Keeper {
    process: Child,
    /// Taken when it is let go.
    pipe: Option<ChildStdin>,
}

impl Keeper {
    pub(crate) fn start(engine: Engine, dir: &Path) -> Result<Self> {
        let signal = if engine.end_signal() == rustix::process::Signal::QUIT { "QUIT" } else { "KILL" };
        let mut command = Command::new("sh");
        command.arg("-c").arg(SCRIPT).arg("ipcm-server-keeper").arg(dir).arg(signal);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = command.current_dir("/").process_group(0).spawn();
        let mut process = started.map_err(|error| Error::system("start the keeper", error))?;
        let pipe = process.stdin.take();
        Ok(Self { process, pipe })
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
        let written = match &mut self.pipe {
            Some(pipe) => pipe.write_all(line.as_bytes()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        written.map_err(|error| Error::system("talk to the keeper", error))
    }

    /// Makes the server outlive this process, as long as somebody holds a lock on the file, and a while longer.
    pub(crate) fn share(mut self, lock: &Path, linger: Duration) -> Result<()> {
        self.say(&format!("share {} {}\n", linger.as_secs().max(1), lock.display()))
    }

    /// Ends it; it first removes what is there yet.
    pub(crate) fn let_go(&mut self) {
        self.pipe = None;
        let _ = self.process.wait();
    }
}
