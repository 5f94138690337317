// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a test works: a directory and processes of its own, all of which are gone when the test is, however it ends.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

/// How long anything may take before the test fails. Generous: it is a watchdog, not a measure of speed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A temporary directory, and a bus if one was made.
pub struct Bench {
    dir: PathBuf,
    bus: Option<String>,
}

/// What a process came to.
pub struct Done {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    dir: PathBuf,
}

impl Bench {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("cli-test-{}-{number}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Self { dir, bus: None }
    }

    /// With a bus that stays until the end of the test.
    pub fn with_bus() -> Self {
        let mut bench = Self::new();
        let made = bench.ipcm(&["spawn", "--keep", "-p", "MessageFiles", "-s", "JSON"]);
        assert_eq!(made.code(), 0, "{}", made.shown());
        bench.bus = Some(made.stdout.trim_end().to_owned());
        bench
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn bus(&self) -> &str {
        self.bus.as_deref().unwrap()
    }

    /// The command with an empty environment, but for the bus of this bench.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ipcm"));
        command.args(args);
        self.prepare(&mut command);
        command
    }

    pub fn prepare(&self, command: &mut Command) {
        command.env_clear().env("TMPDIR", &self.dir).current_dir(&self.dir);
        if let Some(bus) = &self.bus {
            command.env("IPCM_BUS", bus);
        }
    }

    /// Runs the command to its end.
    pub fn ipcm(&self, args: &[&str]) -> Done {
        self.ipcm_with(args, b"")
    }

    /// Runs the command to its end, with something on standard input.
    pub fn ipcm_with(&self, args: &[&str], stdin: &[u8]) -> Done {
        self.start(self.command(args)).finish_with(stdin)
    }

    /// Runs a script of the shell, in which `$IPCM` is the command.
    pub fn shell(&self, script: &str) -> Done {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        self.prepare(&mut command);
        command.env("IPCM", env!("CARGO_BIN_EXE_ipcm")).env("PATH", "/usr/bin:/bin");
        self.start(command).finish_with(b"")
    }

    /// Starts a process and leaves it running.
    pub fn start(&self, mut command: Command) -> Running {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let (sender, lines) = channel();
        let stdout = child.stdout.take().unwrap();
        spawn(move || {
            for line in BufReader::new(stdout).split(b'\n') {
                if sender.send(String::from_utf8_lossy(&line.unwrap()).into_owned()).is_err() {
                    return;
                }
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let (sender, errors) = channel();
        spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes);
            let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
        });
        Running { child, stdin, lines, errors, dir: self.dir.clone() }
    }

    /// The record of a peer, as `ipcm peers` tells of it.
    pub fn peer(&self, name: &str) -> Option<serde_json::Value> {
        let peers: serde_json::Value = serde_json::from_str(&self.ipcm(&["--json", "peers"]).stdout).ok()?;
        peers["peers"].as_array()?.iter().find(|peer| peer["name"] == name).cloned()
    }

    /// Waits until a peer is in a state.
    pub fn await_peer(&self, name: &str, state: &str) -> serde_json::Value {
        let mut found = None;
        until(&format!("{name} is {state}"), || {
            found = self.peer(name).filter(|peer| peer["state"] == state);
            found.is_some()
        });
        found.unwrap()
    }

    /// What is left in the temporary directory.
    pub fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(bus) = &self.bus {
            let mut command = Command::new(env!("CARGO_BIN_EXE_ipcm"));
            command.args(["stop", "--timeout", "0"]).env_clear().env("IPCM_BUS", bus);
            let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A process that is still running.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Receiver<String>,
    dir: PathBuf,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input.
    pub fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// The next line of its standard output.
    pub fn line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("no line came from {:?}", self.child),
            Err(RecvTimeoutError::Disconnected) => {
                panic!("no line came before the end: {}", self.errors.recv_timeout(PATIENCE).unwrap_or_default())
            }
        }
    }

    /// Asks one thing of a coprocess.
    pub fn ask(&mut self, request: &str) -> serde_json::Value {
        self.write(&format!("{request}\n"));
        serde_json::from_str(&self.line()).unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for its end, after the end of its standard input.
    pub fn finish(self) -> Done {
        self.finish_with(b"")
    }

    /// Waits for its end, after writing the rest of its standard input.
    pub fn finish_with(mut self, stdin: &[u8]) -> Done {
        let mut pipe = self.stdin.take().unwrap();
        let bytes = stdin.to_vec();
        // Beside the wait: a large input would block until the process has read it.
        let writer = spawn(move || pipe.write_all(&bytes));
        let mut status = None;
        until(&format!("{:?} ends", self.child), || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let _ = writer.join().unwrap();
        let mut stdout = String::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            stdout.push_str(&line);
            stdout.push('\n');
        }
        let stderr = self.errors.recv_timeout(PATIENCE).unwrap();
        Done { status: status.unwrap(), stdout, stderr, dir: self.dir.clone() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Done {
    /// The exit status as a shell sees it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap())
    }

    /// Exit status and both streams in one text, without what differs from run to run.
    pub fn shown(&self) -> String {
        let mut text = format!("exit {}\n", self.code());
        for (name, stream) in [("out", &self.stdout), ("err", &self.stderr)] {
            for line in stream.lines() {
                text.push_str(&format!("{name}| {line}\n"));
            }
        }
        text.replace(&*self.dir.to_string_lossy(), "TMP")
    }
}

/// Replaces what differs from run to run.
pub fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"ipcm-\d+-[0-9a-f]{32}", "BUS");
    settings.add_filter(r"[0-9A-F]{8}-[0-9A-F]{4}-7[0-9A-F]{3}-[0-9A-F]{4}-[0-9A-F]{12}", "ID");
    settings.add_filter(r"ipcm-\d+", "ipcm-PID");
    settings.add_filter(r#""stamp":\d+(\.\d+)?"#, r#""stamp":STAMP"#);
    settings.add_filter(r#""(pid|until|seconds|messages_per_second)":\d+(\.\d+)?"#, r#""$1":N"#);
    settings.add_filter(r"(there is no protocol .*); known are [A-Za-z, ]*", "$1; known are PROTOCOLS");
    settings.add_filter(r"\(process \d+\)", "(process PID)");
    settings
}

/// Compares what a process came to with a snapshot.
#[macro_export]
macro_rules! shows {
    ($done:expr, @$snapshot:literal) => {
        $crate::bench::settings().bind(|| insta::assert_snapshot!($done.shown(), @$snapshot))
    };
}

/// Waits until a condition holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "it did not come about that {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Lets time pass, where that nothing happens meanwhile is what is tested.
pub fn let_pass(duration: Duration) {
    sleep(duration);
}

/// Sends a signal by name.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("/bin/kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Whether a process is there and not a zombie.
pub fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Whether a process has a handler for INT.
pub fn catches_signals(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim();
    u64::from_str_radix(caught, 16).is_ok_and(|signals| signals & 0b10 != 0)
}
