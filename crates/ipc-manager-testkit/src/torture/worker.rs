// SPDX-License-Identifier: MIT OR Apache-2.0
//! What all processes of a run have in common: what they were told, their journal, orders, and joining.

use std::io::Read;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ipc_manager::{Client, ConnectionString, Error, ErrorKind, Limits, Registry, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use super::dice::Dice;
use super::hand::ATTEMPTS;
use super::journal::{Journal, now};

/// Tells a process what it is to do, as JSON.
pub(super) const ORDERS: &str = "IPC_MANAGER_TESTKIT_ORDERS";

/// How long a call of a worker may take where it says so itself.
pub(super) const CALL: Duration = Duration::from_secs(2);
/// How long one may take that has a deadline of its own.
pub(super) const LEAVING: Duration = Duration::from_secs(6);
/// What a busy machine may add.
const GRACE: Duration = Duration::from_secs(10);
/// How long a name may be refused to who comes back.
const JOINING: Duration = Duration::from_secs(20);

/// How a worker ends that did what it was told.
pub(super) const DONE: u8 = 0;
/// How one ends that could not take its name.
pub(super) const NOT_JOINED: u8 = 41;
/// How one ends whose client cannot be used any more.
pub(super) const UNUSABLE: u8 = 42;

/// What the supervisor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Leave in good order, and end.
    Leave,
    /// Suspend, and end.
    Suspend,
    /// As leaving, but first do all that is left to do.
    Finish,
    /// Do not read for so many milliseconds.
    Deaf(u64),
}

impl Order {
    pub(super) fn line(self) -> String {
        match self {
            Self::Leave => "leave\n".into(),
            Self::Suspend => "suspend\n".into(),
            Self::Finish => "finish\n".into(),
            Self::Deaf(milliseconds) => format!("deaf {milliseconds}\n"),
        }
    }

    fn parse(line: &str) -> Self {
        match line {
            "suspend" => Self::Suspend,
            "finish" => Self::Finish,
            other => other.strip_prefix("deaf ").and_then(|time| time.parse().ok()).map_or(Self::Leave, Self::Deaf),
        }
    }
}

/// Orders that come on the standard input.
#[derive(Debug, Default)]
pub(super) struct Orders(String);

impl Orders {
    /// The next order, waiting for it so long at most. The end of the input is the order to leave.
    pub(super) fn next(&mut self, patience: Duration) -> Option<Order> {
        loop {
            if let Some((line, rest)) = self.0.split_once('\n') {
                let order = Order::parse(line);
                self.0 = rest.to_owned();
                return Some(order);
            }
            let input = std::io::stdin();
            let timeout = Timespec {
                tv_sec: patience.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: patience.subsec_nanos().into(),
            };
            if !matches!(poll(&mut [PollFd::from_borrowed_fd(input.as_fd(), PollFlags::IN)], Some(&timeout)), Ok(1..)) {
                return None;
            }
            let mut buffer = [0; 256];
            match input.lock().read(&mut buffer) {
                Ok(0) => return Some(Order::Leave),
                Ok(size) => self.0.push_str(&String::from_utf8_lossy(&buffer[..size])),
                Err(_) => return None,
            }
        }
    }
}

/// A process of a run.
pub(super) struct Worker {
    pub(super) name: String,
    pub(super) info: Option<ConnectionString>,
    /// The rest of what it was told.
    pub(super) told: Value,
    pub(super) registry: Registry,
    pub(super) journal: Journal,
    pub(super) dice: Dice,
    pub(super) orders: Orders,
    failures: u32,
}

impl Worker {
    pub(super) fn new(registry: Registry) -> Self {
        interrupted_by(rustix::process::Signal::USR1);
        let told = std::env::var(ORDERS).expect("a worker is told what to do");
        let told: Value = serde_json::from_str(&told).expect("orders are JSON");
        let text = |key: &str| told[key].as_str().map(ToOwned::to_owned);
        Self {
            name: text("name").expect("a worker has a name"),
            info: text("info").map(|info| info.parse().expect("a sound connection string")),
            journal: Journal::append(text("journal").expect("a worker keeps a journal").as_ref()),
            dice: Dice::new(told["seed"].as_u64().unwrap_or(0)),
            orders: Orders::default(),
            failures: 0,
            registry,
            told,
        }
    }

    /// The bus.
    pub(super) fn info(&self) -> &ConnectionString {
        self.info.as_ref().expect("all but the owner are told of a bus")
    }

    /// Which process of its name it is.
    pub(super) fn number(&self) -> u64 {
        self.told["number"].as_u64().unwrap_or(0)
    }

    /// Does something, and notes if it took longer than it may.
    pub(super) fn timed<T>(&self, operation: &str, may_take: Duration, work: impl FnOnce() -> T) -> T {
        timed(&self.journal, operation, may_take, work)
    }

    /// Notes that a call failed. `false` if that goes on and on.
    pub(super) fn bears(&mut self, operation: &str, error: &Error) -> bool {
        self.journal.failed(operation, error);
        self.failures += 1;
        std::thread::sleep(Duration::from_millis(5)); // what is wrong may pass
        self.failures < 1_000
    }

    /// Notes that a call succeeded.
    pub(super) fn is_well(&mut self) {
        self.failures = 0;
    }

    /// Takes the name.
    pub(super) fn join(&mut self) -> Result<Client> {
        let mut mode = self.told["back"].as_str().unwrap_or("connect").to_owned();
        let deadline = Instant::now() + JOINING;
        let limits = Limits { delivery_attempts: ATTEMPTS, ..Limits::default() };
        loop {
            self.journal.note(&json!(["joining", mode, now()]));
            let builder =
                Client::builder(&self.name, self.info()).registry(self.registry.clone()).limits(limits.clone());
            let joined = self.timed("join", CALL, || match &*mode {
                "reconnect" => builder.reconnect(),
                _ => builder.connect(),
            });
            match joined {
                Ok(client) => {
                    self.journal.note(&json!(["joined", client.discarded(), now()]));
                    return Ok(client);
                }
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(error) => {
                    self.journal.failed("join", &error);
                    if error.kind() == ErrorKind::NoSuchPeer {
                        // There is nothing to continue: whoever it was died before it had the name.
                        "connect".clone_into(&mut mode);
                    } else if error.kind() == ErrorKind::NameInUse && error.to_string().contains("suspended") {
                        // Who was to continue the name died before it had it, and a suspended name cannot begin anew.
                        "reconnect".clone_into(&mut mode);
                    }
                    std::thread::sleep(Duration::from_millis(10)); // what is wrong may pass
                }
            }
        }
    }

    /// Leaves for good; what was unread goes to the handler.
    pub(super) fn leave(&mut self, client: &mut Client, handler: impl Fn(&Journal, &ipc_manager::Message)) -> ExitCode {
        // What is in hand meanwhile.
        self.journal.note(&json!(["batch", 1_000]));
        let deadline = Instant::now() + JOINING;
        loop {
            let journal = &self.journal;
            let left = timed(journal, "disconnect", LEAVING, || {
                client.disconnect_with(|batch| batch.iter().for_each(|message| handler(journal, message)))
            });
            match left {
                Ok(()) => {}
                // What found no room is accounted for by the caller.
                Err(error) if error.kind() == ErrorKind::Timeout && !client.is_connected() => {}
                Err(error) => {
                    self.journal.failed("disconnect", &error);
                    if client.is_connected() && Instant::now() < deadline {
                        std::thread::sleep(Duration::from_millis(10)); // what is wrong may pass
                        continue;
                    }
                    if client.is_connected() {
                        return ExitCode::from(UNUSABLE);
                    }
                }
            }
            self.journal.note(&json!(["left", now()]));
            return ExitCode::from(DONE);
        }
    }
}

/// Does something, and notes if it took longer than it may.
pub(super) fn timed<T>(journal: &Journal, operation: &str, may_take: Duration, work: impl FnOnce() -> T) -> T {
    let begun = now();
    let done = work();
    let ended = now();
    let most = may_take + GRACE;
    if u128::from(ended - begun) > most.as_nanos() {
        journal.note(&json!(["late", operation, begun, ended, u64::try_from(most.as_nanos()).unwrap_or(u64::MAX)]));
    }
    done
}

/// Lets a signal interrupt this process's calls, and do nothing else.
fn interrupted_by(signal: rustix::process::Signal) {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: zero is a sound value of each of its fields: no flags, so that calls are not begun again by themselves.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
    // SAFETY: the handler does nothing, so it may run at any moment.
    unsafe { libc::sigaction(signal.as_raw(), &raw const action, std::ptr::null_mut()) };
}
