// SPDX-License-Identifier: MIT OR Apache-2.0
//! Peers that do what they are told: real processes where the protocol allows, else threads.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Map, Value, json};

use crate::line::{self, Broken, Line};
use crate::seen::{Failure, PeerSeen, Seen, Sent};
use crate::{PATIENCE, Subject, User, engine, eventually, watchdog};

/// A peer that is told what to do, one JSON object at a time.
///
/// It is killed when dropped, so that no test leaves a process behind.
///
/// ```
/// use ipc_manager_testkit::{Context, Subject};
/// let subject = Subject::new("LocalMemory"); // whose puppets are threads
/// let context = Context::new(&subject);
/// let bus = context.bus();
/// let (mut a, mut b) = (bus.client("a"), bus.puppet("b"));
/// a.send("b", "hello")?;
/// assert_eq!(b.recv_count(1)[0].content, "hello");
/// b.disconnect();
/// assert!(a.peers()?.is_empty());
/// # drop(a);
/// # Ok::<(), ipc_manager::Error>(())
/// ```
#[derive(Debug)]
pub struct Puppet {
    line: Line,
    body: Body,
    info: String,
    /// The client that it acts as, where it has one.
    client: Option<String>,
    /// The group whose buses it makes and joins.
    group: Option<u32>,
}

#[derive(Debug)]
enum Body {
    Process(Child),
    /// A process that was reaped: its number may be another's by now.
    Reaped(u32),
    Thread(Option<JoinHandle<()>>),
}

impl Puppet {
    /// Starts a puppet that is on no bus yet. It makes its temporary files in the given directory.
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn start(subject: &Subject, info: &str, dir: &Path) -> Self {
        Self::start_with(subject, info, dir, |_| ())
    }

    /// Starts one as another user, which only root can. It must be able to read and write the directory.
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn start_as(user: &User, subject: &Subject, info: &str, dir: &Path) -> Self {
        Self::start_with(subject, info, dir, |command| user.plays(command))
    }

    fn start_with(subject: &Subject, info: &str, dir: &Path, prepare: impl FnOnce(&mut Command)) -> Self {
        let info = info.to_owned();
        if !subject.capabilities().crosses_processes {
            let (their_input, our_output) = line::pipe().expect("a pipe can be made");
            let (our_input, their_output) = line::pipe().expect("a pipe can be made");
            let registry = subject.registry();
            let serve = move || {
                engine::serve(registry, std::fs::File::from(their_input), std::fs::File::from(their_output));
            };
            let thread = std::thread::Builder::new().name("puppet".into()).spawn(serve).expect("a thread can be made");
            let line = Line::new(our_output, our_input);
            return Self { line, body: Body::Thread(Some(thread)), info, client: None, group: None };
        }
        let mut command = engine::program(subject.protocol());
        prepare(&mut command);
        command.env("TMPDIR", dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this program can be started again");
        watchdog::puppet_started(child.id());
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let line = Line::new(input.expect("it is piped").into(), output.expect("it is piped").into());
        Self { line, body: Body::Process(child), info, client: None, group: None }
    }

    /// Has it join buses that a group shares, and no others.
    pub fn set_group(&mut self, gid: Option<u32>) {
        self.group = gid;
    }

    /// Tells it something without waiting for the answer.
    pub fn post(&mut self, request: &Value) {
        let mut request = request.clone();
        if let (Some(client), Some(fields)) = (&self.client, request.as_object_mut())
            && !matches!(fields["op"].as_str(), Some("version" | "spawn" | "connect" | "reconnect"))
        {
            fields.entry("client").or_insert_with(|| client.clone().into());
        }
        // A puppet that is gone shows when the answer is asked for.
        let _ = self.line.write(&request);
    }

    /// The next answer.
    ///
    /// # Errors
    /// Its refusal, or that it is gone.
    ///
    /// # Panics
    /// If none comes in time.
    #[track_caller]
    pub fn answer(&mut self) -> Result<Map<String, Value>, Failure> {
        self.answer_within(PATIENCE * 2)
    }

    #[track_caller]
    fn answer_within(&mut self, patience: Duration) -> Result<Map<String, Value>, Failure> {
        let answer = match self.line.read(patience) {
            Ok(Value::Object(answer)) => answer,
            Ok(other) => panic!("a puppet answered with {other}"),
            Err(Broken::Ended) => return Err(Failure::Gone),
            Err(Broken::Silent(patience)) => panic!("a puppet did not answer within {patience:?}"),
        };
        if answer["ok"] == true {
            return Ok(answer);
        }
        let error = answer.get("error").cloned().unwrap_or_default();
        Err(Failure::Refused { code: error["code"].as_str().unwrap_or("none").to_owned(), error })
    }

    /// Tells it something and waits for the answer.
    ///
    /// # Errors
    /// Its refusal, or that it is gone.
    #[track_caller]
    pub fn call(&mut self, request: &Value) -> Result<Map<String, Value>, Failure> {
        self.post(request);
        self.answer()
    }

    /// Tells it something that must succeed.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn must(&mut self, request: &Value) -> Map<String, Value> {
        self.call(request).unwrap_or_else(|failure| panic!("{} of a puppet failed: {failure:?}", request["op"]))
    }

    /// Joins the bus.
    ///
    /// # Errors
    /// Its refusal.
    pub fn try_connect(&mut self, name: &str) -> Result<(), Failure> {
        self.join("connect", name)
    }

    /// Continues a name.
    ///
    /// # Errors
    /// Its refusal.
    pub fn try_reconnect(&mut self, name: &str) -> Result<(), Failure> {
        self.join("reconnect", name)
    }

    fn join(&mut self, op: &str, name: &str) -> Result<(), Failure> {
        let answer = self.call(&json!({"op": op, "name": name, "info": self.info, "group": self.group}))?;
        self.client = Some(answer["client"].as_str().expect("a client is a string").to_owned());
        Ok(())
    }

    /// Sends.
    ///
    /// # Errors
    /// Its refusal, or that it is gone.
    pub fn send(&mut self, to: &str, content: impl Into<Value>) -> Result<Sent, Failure> {
        let answer = self.call(&json!({"op": "send", "to": to, "content": content.into()}))?;
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        Ok(Sent { id: text("id"), receipt: text("receipt") })
    }

    /// Takes what is there, waiting for the first.
    ///
    /// # Errors
    /// Its refusal (`timeout` if nothing came), or that it is gone.
    pub fn recv(&mut self, timeout: Duration) -> Result<Vec<Seen>, Failure> {
        let answer = self.call(&json!({"op": "recv", "timeout": timeout.as_secs_f64()}))?;
        Ok(Seen::all_of(&answer))
    }

    /// Takes what is there now.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn recv_now(&mut self) -> Vec<Seen> {
        match self.recv(Duration::ZERO) {
            Ok(messages) => messages,
            Err(failure) if failure.code() == "timeout" => Vec::new(),
            Err(failure) => panic!("a puppet could not look: {failure:?}"),
        }
    }

    /// Takes messages until so many have come.
    ///
    /// # Panics
    /// If they do not come, or more come with them.
    #[track_caller]
    pub fn recv_count(&mut self, count: usize) -> Vec<Seen> {
        let mut messages = Vec::new();
        while messages.len() < count {
            match self.recv(PATIENCE) {
                Ok(more) if !more.is_empty() => messages.extend(more),
                Ok(_) => panic!("{} of {count} messages came, then none", messages.len()),
                Err(failure) => panic!("{} of {count} messages came, then {failure:?}", messages.len()),
            }
        }
        assert_eq!(messages.len(), count, "more came than were sent: {messages:?}");
        messages
    }

    /// The names of the others.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn peers(&mut self) -> Vec<String> {
        let answer = self.must(&json!({"op": "peers"}));
        serde_json::from_value(answer["peers"].clone()).expect("peers are an array of names")
    }

    /// One peer.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn peer(&mut self, name: &str) -> PeerSeen {
        let answer = self.must(&json!({"op": "peer", "name": name}));
        let claim = |key: &str| answer[key] == true;
        let pid = answer["pid"].as_u64().and_then(|pid| pid.try_into().ok());
        PeerSeen { exists: claim("exists"), active: claim("active"), suspended: claim("suspended"), pid }
    }

    /// The counters.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn stats(&mut self) -> Value {
        self.must(&json!({"op": "stats"}))["stats"].clone()
    }

    /// Leaves for good; unread messages are discarded.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn disconnect(&mut self) {
        self.must(&json!({"op": "disconnect", "unread": "discard"}));
        self.client = None;
    }

    /// Leaves and keeps the mailbox.
    ///
    /// # Errors
    /// Its refusal.
    pub fn suspend(&mut self) -> Result<(), Failure> {
        self.call(&json!({"op": "suspend"}))?;
        self.client = None;
        Ok(())
    }

    /// The process that the puppet is in: this one if it is a thread.
    #[must_use]
    pub fn pid(&self) -> u32 {
        match &self.body {
            Body::Process(child) => child.id(),
            Body::Reaped(pid) => *pid,
            Body::Thread(_) => std::process::id(),
        }
    }

    /// Waits until the puppet sleeps, so that what comes next must wake it. A thread cannot be told apart, so nothing
    /// is waited for there.
    pub fn wait_until_asleep(&self) {
        if let Body::Process(child) = &self.body {
            let stat = format!("/proc/{}/stat", child.id());
            let state = || std::fs::read_to_string(&stat).ok()?.rsplit_once(')')?.1.trim_start().chars().next();
            if cfg!(target_os = "linux") {
                eventually("the puppet to sleep", || matches!(state(), Some('S')));
            }
        }
    }

    /// Kills the process, with no chance to clean up, and reaps it.
    ///
    /// # Panics
    /// If the puppet is a thread.
    pub fn kill(&mut self) {
        self.kill_unreaped();
        self.reap();
    }

    /// Kills the process and leaves it a zombie until the puppet is dropped or reaped.
    ///
    /// # Panics
    /// If the puppet is a thread.
    pub fn kill_unreaped(&mut self) {
        self.signal(Signal::KILL);
        let stat = format!("/proc/{}/stat", self.pid());
        if cfg!(target_os = "linux") {
            eventually("the puppet to die", || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z ")));
        }
    }

    /// Reaps a process that ends, and returns how it ended.
    ///
    /// # Panics
    /// If the puppet is a thread, or was reaped already.
    pub fn reap(&mut self) -> ExitStatus {
        let Body::Process(child) = &mut self.body else { panic!("only a process is reaped, and once") };
        let (pid, status) = (child.id(), child.wait().expect("a child can be waited for"));
        watchdog::puppet_reaped(pid);
        self.body = Body::Reaped(pid);
        status
    }

    /// Freezes the process.
    ///
    /// # Panics
    /// If the puppet is a thread.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen process go on.
    ///
    /// # Panics
    /// If the puppet is a thread.
    pub fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends a signal to the process.
    ///
    /// # Panics
    /// If the puppet is a thread.
    pub fn signal(&self, signal: Signal) {
        let Body::Process(child) = &self.body else { panic!("only a process is signalled, before it is reaped") };
        watchdog::kill(child.id(), signal);
    }

    /// Ends its input, which is the orderly end, and waits for it.
    pub fn end(mut self) {
        self.line.close_input();
        match &mut self.body {
            Body::Process(_) => drop(self.reap()),
            Body::Reaped(_) => {}
            Body::Thread(thread) => drop(thread.take().map(JoinHandle::join)),
        }
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        self.line.close_input();
        match &mut self.body {
            Body::Process(child) => {
                let _ = child.kill();
                let _ = child.wait();
                watchdog::puppet_reaped(child.id());
            }
            Body::Reaped(_) => {}
            Body::Thread(thread) => drop(thread.take().map(JoinHandle::join)),
        }
    }
}
