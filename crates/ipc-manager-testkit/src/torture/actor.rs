// SPDX-License-Identifier: MIT OR Apache-2.0
//! One name of a run, and the processes that have it one after the other.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::ground::Ground;
use super::journal::{self, now};
use super::plan::{Back, Part};
use super::worker::{ORDERS, Order};
use crate::{Subject, engine, watchdog};

/// One process that had a name.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) back: Back,
    pub(super) journal: PathBuf,
    /// When it was surely dead; never while it lives.
    pub(super) ended: u64,
    /// Whether it was killed.
    pub(super) was_killed: bool,
    /// When it was stopped, from when until when.
    pub(super) stops: Vec<(u64, u64)>,
}

/// What the process of a name does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Runs,
    Stopped,
    /// It was told to leave.
    Leaves,
    Gone,
}

/// One name of a run.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) name: &'static str,
    pub(super) part: Part,
    pub(super) state: State,
    pub(super) child: Option<Child>,
    pub(super) lives: Vec<Life>,
    /// When the process was told to leave.
    pub(super) told: Option<Instant>,
}

impl Actor {
    pub(super) fn new(name: &'static str, part: Part) -> Self {
        Self { name, part, state: State::Gone, child: None, lives: Vec::new(), told: None }
    }

    /// Starts the next process of the name.
    pub(super) fn start(&mut self, stage: &Stage<'_>, back: Back) {
        self.bury();
        let number = self.lives.len();
        let journal = stage.journals.join(format!("{}-{number:03}", self.name));
        let told = json!({
            "name": self.name,
            "info": stage.info,
            "route": stage.route,
            "back": back.name(),
            "number": number,
            "journal": journal,
            "seed": stage.seed ^ (number as u64) << 8 ^ u64::from(self.name.as_bytes()[1]) ^ (self.part as u64) << 4,
        });
        let role = format!("torture:{}:{}", self.part.name(), stage.subject.protocol());
        let mut command = engine::program(&role);
        stage.ground.put_under(&mut command);
        let said = File::create(journal.with_extension("stderr")).expect("what a worker says can be kept");
        command.env(ORDERS, told.to_string()).env("TMPDIR", stage.temporary).env("RUST_BACKTRACE", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(said);
        let child = command.spawn().expect("this program can be started again");
        watchdog::puppet_started(child.id());
        self.child = Some(child);
        self.state = State::Runs;
        self.told = None;
        self.lives.push(Life { back, journal, ended: u64::MAX, was_killed: false, stops: Vec::new() });
    }

    /// Whether the process runs, and has got as far as the part that is to be injured.
    pub(super) fn has_begun(&self) -> bool {
        let noted = self.lives.last().and_then(|life| std::fs::metadata(&life.journal).ok());
        self.state == State::Runs && (self.part == Part::Owner || noted.is_some_and(|noted| noted.len() > 0))
    }

    /// The first line that the process prints.
    pub(super) fn line(&mut self) -> String {
        let mut line = String::new();
        if let Some(output) = self.child.as_mut().and_then(|child| child.stdout.as_mut()) {
            let _ = BufReader::new(output).read_line(&mut line);
        }
        line.trim_end().to_owned()
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub(super) fn life(&mut self) -> &mut Life {
        self.lives.last_mut().expect("who was started has a life")
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            watchdog::kill(pid, signal);
        }
    }

    /// Kills the process, and leaves it a zombie until the next one of the name.
    pub(super) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.dies();
    }

    /// Waits until the process is dead that was killed.
    pub(super) fn dies(&mut self) {
        if let Some(pid) = self.pid().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
            let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
            let _ = rustix::process::waitid(rustix::process::WaitId::Pid(pid), options);
        }
        self.has_died(true);
    }

    fn has_died(&mut self, was_killed: bool) {
        self.cont_noted();
        self.state = State::Gone;
        let life = self.life();
        life.ended = now();
        life.was_killed = was_killed;
    }

    /// How the process ended, if it did by itself.
    pub(super) fn has_ended(&mut self) -> Option<ExitStatus> {
        if self.state == State::Gone {
            return None;
        }
        let status = self.child.as_mut()?.try_wait().ok()??;
        watchdog::puppet_reaped(self.pid()?);
        self.child = None;
        self.has_died(false);
        Some(status)
    }

    fn bury(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            watchdog::puppet_reaped(child.id());
        }
    }

    pub(super) fn stop(&mut self) {
        self.signal(Signal::STOP);
        self.state = State::Stopped;
        self.life().stops.push((now(), u64::MAX));
    }

    pub(super) fn cont(&mut self) {
        if self.state == State::Stopped {
            self.signal(Signal::CONT);
            self.state = State::Runs;
            self.cont_noted();
        }
    }

    /// Continues one that nobody wants stopped: who is let go by a tracer can stay stopped.
    pub(super) fn runs_on(&self) {
        if matches!(self.state, State::Runs | State::Leaves) {
            self.signal(Signal::CONT);
        }
    }

    fn cont_noted(&mut self) {
        if let Some(stop) = self.life().stops.last_mut().filter(|stop| stop.1 == u64::MAX) {
            stop.1 = now();
        }
    }

    /// Tells the process something.
    pub(super) fn tell(&mut self, order: Order) {
        if let Some(input) = self.child.as_mut().and_then(|child| child.stdin.as_mut()) {
            // One that is gone shows otherwise.
            let _ = input.write_all(order.line().as_bytes());
        }
        if !matches!(order, Order::Deaf(_)) {
            self.state = State::Leaves;
            self.told = Some(Instant::now());
        }
    }

    /// Sets how many descriptors the process may have: so many more than it has; as many as before for `None`.
    pub(super) fn limit_descriptors(&self, free: Option<u64>) {
        let Some(pid) = self.pid() else { return };
        let Some(process) = rustix::process::Pid::from_raw(pid.cast_signed()) else { return };
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let numbers = open.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let highest = numbers.filter(|number| *number < journal::DESCRIPTORS).max().unwrap_or(2);
        let own = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let current = free.map_or(own.current, |free| Some(u64::from(highest.unsigned_abs()) + 1 + free));
        let limit = rustix::process::Rlimit { current, maximum: own.maximum };
        let _ = rustix::process::prlimit(Some(process), rustix::process::Resource::Nofile, limit);
    }

    /// What the process is at, as far as the system tells.
    pub(super) fn is_at(&self) -> String {
        let Some(pid) = self.pid() else { return "it is gone".into() };
        let of = |what: &str| std::fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap_or_default();
        format!("call {}, waits in {}", of("syscall").trim(), of("wchan").trim())
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.bury();
    }
}

/// What processes of a run are told and stand on.
pub(super) struct Stage<'a> {
    pub(super) subject: &'a Subject,
    pub(super) ground: &'a Ground,
    pub(super) journals: &'a Path,
    pub(super) temporary: &'a Path,
    pub(super) route: Option<String>,
    pub(super) info: Option<String>,
    pub(super) seed: u64,
}

/// How long who was told to leave may take for it.
pub(super) const TO_LEAVE: Duration = Duration::from_secs(40);
