// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starting a program in the directory of a server, such that the keeper knows of it before it does anything.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::account::Account;
use crate::error::{Error, ErrorKind, Result};
use crate::keeper::Keeper;
use crate::place::Place;
use crate::processes::MARK;

/// Waits for a line before it becomes the program. If its starter dies first, it never does.
const GATE: &str = r#"umask 077; read -r go || exit 1; input=$1; shift; exec "$@" <"$input""#;

/// Pause between two looks at whether something happened.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A program with all that it is started with.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// What it reads from its standard input.
    pub(crate) input: Option<PathBuf>,
}

impl Job {
    /// Starts it, leading a process group of its own.
    pub(crate) fn start(&self, place: &Place, keeper: &mut Keeper, account: Option<&Account>) -> Result<Child> {
        let refused = |error| Error::system("start a program", error).at(&self.program);
        let log = place.log().map_err(refused)?;
        let mut command = Command::new("sh");
        command.arg("-c").arg(GATE).arg("ipcm-server-gate");
        command.arg(self.input.as_deref().unwrap_or(Path::new("/dev/null")));
        command.arg(&self.program).args(&self.arguments);
        for (name, _) in std::env::vars_os() {
            let foreign = ["PG", "MYSQL", "MARIADB", "LISTEN_", "NOTIFY_SOCKET"];
            if foreign.iter().any(|start| name.as_encoded_bytes().starts_with(start.as_bytes())) {
                command.env_remove(name);
            }
        }
        command.env("HOME", place.inner()).env("TMPDIR", place.inner()).env("LC_ALL", "C").env(MARK, place.top());
        command.stdin(Stdio::piped()).stdout(log.try_clone().map_err(refused)?).stderr(log);
        command.current_dir(place.inner()).process_group(0);
        if let Some(account) = account {
            // Setting a user also gives up all other groups.
            command.uid(account.uid).gid(account.gid);
        }
        let mut child = command.spawn().map_err(refused)?;
        let told = keeper.note_group(child.id()).and_then(|()| {
            let mut gate = child.stdin.take().expect("it was asked for just above");
            gate.write_all(b"go\n").map_err(refused)
        });
        match told {
            Ok(()) => Ok(child),
            Err(error) => {
                signal(&child, Signal::KILL);
                let _ = child.wait();
                Err(error)
            }
        }
    }
}

/// Signals the process group that a child leads. The child was not reaped, so the number is still its own.
pub(crate) fn signal(child: &Child, signal: Signal) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, signal);
    }
}

/// Waits until a child has ended. `None` if it did not in time.
pub(crate) fn wait(child: &mut Child, deadline: Instant) -> Result<Option<ExitStatus>> {
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() >= deadline => return Ok(None),
            Ok(None) => thread::sleep(LOOK_EVERY), // between two looks
            Ok(status) => return Ok(status),
            // The application reaps every child itself: it has ended, and nobody can say how.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::CHILD.raw_os_error()) => {
                return Ok(Some(ExitStatus::default()));
            }
            Err(error) => return Err(Error::system("wait for a program", error)),
        }
    }
}

/// Ends a child and waits for it: with a signal first, and by force when that does not help.
pub(crate) fn end(child: &mut Child, first: Signal, patience: Duration) {
    if matches!(wait(child, Instant::now()), Ok(Some(_))) {
        return;
    }
    signal(child, first);
    if !matches!(wait(child, Instant::now() + patience), Ok(Some(_))) {
        signal(child, Signal::KILL);
        let _ = child.wait();
    }
}

/// Runs a job to its end.
pub(crate) fn run(
    job: &Job,
    place: &Place,
    keeper: &mut Keeper,
    account: Option<&Account>,
    deadline: Instant,
) -> Result<()> {
    const OPERATION: &str = "initialise the server";
    let mut child = job.start(place, keeper, account)?;
    let ended = wait(&mut child, deadline);
    if !matches!(ended, Ok(Some(_))) {
        end(&mut child, Signal::TERM, Duration::from_secs(1));
    }
    keeper.note_nothing()?;
    match ended? {
        Some(status) if status.success() => Ok(()),
        Some(status) => {
            let detail = format!("{status}; {}", complaint(place));
            Err(Error::new(ErrorKind::Failed, OPERATION, detail).at(&job.program))
        }
        None => {
            let detail = format!("it took too long; {}", complaint(place));
            Err(Error::new(ErrorKind::Timeout, OPERATION, detail).at(&job.program))
        }
    }
}

fn last_of(lines: &[&str], count: usize) -> String {
    format!("it said: {}", lines[lines.len().saturating_sub(count)..].join("\n"))
}

/// The end of what the programs said.
pub(crate) fn last_words(place: &Place) -> String {
    const LINES: usize = 12;
    let said = place.said();
    let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.is_empty() { "it said nothing".into() } else { last_of(&lines, LINES) }
}

/// What they said was wrong; all that they said last, if they called nothing an error.
pub(crate) fn complaint(place: &Place) -> String {
    const LINES: usize = 5;
    let said = place.said();
    let lines: Vec<_> = said.lines().filter(|line| is_complaint(line)).collect();
    if lines.is_empty() { last_words(place) } else { last_of(&lines, LINES) }
}

fn is_complaint(line: &str) -> bool {
    ["ERROR", "FATAL", "PANIC", "error: "].iter().any(|word| line.contains(word))
}
