// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm exec`: runs a command for each message. A message whose command fails goes back to the mailbox; where the protocol
//! allows it stays there until the command has succeeded.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use ipc_manager::{Client, ConnectionString, Delivery, Error, ErrorKind, Message};

use crate::bus_choice;
use crate::commands::job;
use crate::commands::seat::Seat;
use crate::context::Context;
use crate::exit_code;
use crate::failure::{Failure, Outcome};
use crate::service_args::ExecArgs;
use crate::signals::{Signals, Woken};

/// How often to look all the same.
const LOOK: Duration = Duration::from_secs(10);

pub(crate) fn run(context: &mut Context, args: &ExecArgs) -> Outcome {
    work(context, args, false)
}

/// Runs a command for each message, which must stay in the mailbox meanwhile.
pub(crate) fn acknowledging(context: &mut Context, args: &ExecArgs) -> Outcome {
    work(context, args, true)
}

fn work(context: &mut Context, args: &ExecArgs, must_hold: bool) -> Outcome {
    let info = context.choose_bus(&args.bus)?;
    let choice = bus_choice::name(&args.name)?;
    let protocol = context.registry.find(info.protocol())?;
    if must_hold && !protocol.capabilities().acknowledges {
        let detail = "messages of this protocol do not stay in the mailbox until they are acknowledged";
        return Err(Error::new(ErrorKind::Unsupported, detail).in_protocol(&protocol.name().short()).into());
    }
    let signals = Signals::catch()?;
    let mut seat = Seat::take(context, &info, &choice)?;
    let mut worker = Worker::new(context, args, &info, &signals)?;
    let worked = worker.work(&mut seat);
    // Whatever ended it: what runs is waited for, so that it is known what goes back.
    let finished = worker.finish(&mut seat.client);
    let (failed, own_exit) = (std::mem::take(&mut worker.failed), worker.exit);
    let left = seat.leave(context, &put_back(failed), true);
    let exit = worked?;
    finished?;
    left?;
    Ok(if exit == exit_code::DONE { own_exit } else { exit })
}

/// A message to work on.
enum Work {
    /// In the mailbox still.
    Held(Delivery),
    /// Taken out of it.
    Taken(Message),
}

impl Work {
    fn message(&self) -> &Message {
        match self {
            Self::Held(delivery) => delivery.message(),
            Self::Taken(message) => message,
        }
    }
}

/// Lets go of what is in the mailbox still, and returns what must go back into it.
fn put_back(failed: Vec<Work>) -> Vec<Message> {
    let taken = failed.into_iter().filter_map(|work| match work {
        Work::Held(delivery) => {
            delivery.put_back();
            None
        }
        Work::Taken(message) => Some(message),
    });
    taken.collect()
}

/// How a command ended, and the message that it was run for.
type Done = (Work, io::Result<ExitStatus>);

struct Worker<'a> {
    context: &'a Context,
    args: &'a ExecArgs,
    info: &'a ConnectionString,
    signals: &'a Signals,
    results: (Sender<Done>, Receiver<Done>),
    /// Rings when there is a result: one end is written to, the other becomes readable.
    bell: (UnixDatagram, UnixDatagram),
    running: usize,
    taken: u64,
    /// Messages that go back.
    failed: Vec<Work>,
    exit: u8,
}

impl<'a> Worker<'a> {
    fn new(
        context: &'a Context,
        args: &'a ExecArgs,
        info: &'a ConnectionString,
        signals: &'a Signals,
    ) -> Outcome<Self> {
        let pair = || {
            let (ring, heard) = UnixDatagram::pair()?;
            heard.set_nonblocking(true)?;
            Ok((ring, heard))
        };
        let bell = pair().map_err(|error: io::Error| Failure::io("sockets cannot be made", &error))?;
        let (running, taken, failed, exit) = (0, 0, Vec::new(), exit_code::DONE);
        Ok(Self { context, args, info, signals, results: channel(), bell, running, taken, failed, exit })
    }

    fn work(&mut self, seat: &mut Seat) -> Outcome {
        let timeout = if self.args.drain { Some(self.args.timeout.unwrap_or_default()) } else { self.args.timeout };
        let mut deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            self.note_ended(&mut seat.client)?;
            if let Some(signal) = self.signals.pending() {
                return Ok(exit_code::of_signal(signal));
            }
            if self.exit != exit_code::DONE && !self.args.keep_going {
                return Ok(self.exit);
            }
            if self.args.count == Some(self.taken) {
                return Ok(exit_code::DONE);
            }
            if self.running >= usize::from(self.args.jobs) {
                self.pause(None, None)?;
                continue;
            }
            let taken = next(&mut seat.client)?;
            for damaged in seat.client.take_damaged() {
                self.context.out.note(&format!("ipcm: a damaged message was set aside: {}", damaged.error()));
            }
            match taken {
                Some(work) if work.message().is_terminate() => {
                    done_with(work, &mut seat.client)?;
                    return Ok(exit_code::DONE);
                }
                Some(work) => {
                    self.taken += 1;
                    self.start(work)?;
                    deadline = timeout.map(|timeout| Instant::now() + timeout);
                }
                // What runs may take as long as it likes.
                None if self.running == 0 && deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                    return self.out_of_time();
                }
                None => {
                    self.pause(Some(&seat.client), deadline.filter(|_| self.running == 0))?;
                }
            }
        }
    }

    /// Sleeps until a command has ended, a message may be there, or a signal came.
    fn pause(&self, client: Option<&Client>, deadline: Option<Instant>) -> Outcome<Woken> {
        let mut descriptors = vec![self.bell.1.as_fd()];
        let mut most = deadline.map_or(LOOK, |deadline| deadline.saturating_duration_since(Instant::now()).min(LOOK));
        if let Some(client) = client {
            let wake = client.wake()?;
            most = most.min(wake.look_every);
            descriptors.extend(wake.descriptors);
        }
        self.signals.wait(&descriptors, false, Some(most))
    }

    /// What it means that no message came in time.
    fn out_of_time(&self) -> Outcome {
        match (self.args.drain, self.taken) {
            (true, 1..) => Ok(exit_code::DONE),
            (true, 0) => Ok(exit_code::NOTHING),
            (false, 0) if self.args.timeout.is_some_and(|timeout| timeout.is_zero()) => Ok(exit_code::NOTHING),
            (false, taken) => {
                let message = format!("no message came in time after {taken} of them");
                Err(Failure::told("timeout", exit_code::TIMEOUT, message))
            }
        }
    }

    /// Runs the command for a message; a thread waits for it.
    fn start(&mut self, work: Work) -> Outcome<()> {
        let mut command = job::command(&self.args.command, (self.info, self.context.group()), work.message())?;
        if let Work::Held(delivery) = &work {
            command.env(job::ATTEMPTS_VARIABLE, delivery.attempts().to_string());
        }
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                let program = command.get_program().to_string_lossy().into_owned();
                self.failed.push(work);
                return Err(Failure::io(format!("the command {program} cannot be run"), &error));
            }
        };
        let input = job::input(work.message().raw_content().as_json(), self.args.raw);
        let done = self.results.0.clone();
        let bell = self.bell.0.try_clone().map_err(|error| Failure::io("a socket cannot be made", &error))?;
        std::thread::spawn(move || {
            let status = job::wait(child, input).map(|(status, _)| status);
            // Who waits for it outlives it.
            let _ = done.send((work, status));
            let _ = bell.send(&[1]);
        });
        self.running += 1;
        Ok(())
    }

    fn note_ended(&mut self, client: &mut Client) -> Outcome<()> {
        while self.bell.1.recv(&mut [0]).is_ok() {}
        while let Ok(done) = self.results.1.try_recv() {
            self.note(done, client)?;
        }
        Ok(())
    }

    fn note(&mut self, (work, status): Done, client: &mut Client) -> Outcome<()> {
        self.running -= 1;
        let (exit, how) = match status {
            Ok(status) if status.success() => return done_with(work, client),
            Ok(status) => (job::exit_of(status), job::how(status)),
            Err(error) => (exit_code::FAILURE, format!("the command cannot be waited for: {error}")),
        };
        self.context.out.note(&format!("ipcm: {how}; the message {} goes back", work.message().id()));
        self.failed.push(work);
        if self.exit == exit_code::DONE {
            self.exit = exit;
        }
        Ok(())
    }

    /// Waits for what still runs.
    fn finish(&mut self, client: &mut Client) -> Outcome<()> {
        let mut finished = Ok(());
        while self.running > 0 {
            let done = self.results.1.recv();
            let done = done.map_err(|_| Failure::told("store", exit_code::FAILURE, "a command was lost"))?;
            finished = self.note(done, client).and(finished);
        }
        // As they came, so that they come again in order.
        let stamp = |work: &Work| work.message().stamp().as_seconds();
        self.failed.sort_by(|a, b| stamp(a).total_cmp(&stamp(b)));
        finished
    }
}

/// The next message, which stays in the mailbox where the protocol allows.
fn next(client: &mut Client) -> Outcome<Option<Work>> {
    Ok(if client.capabilities().acknowledges {
        client.try_receive()?.map(Work::Held)
    } else {
        client.try_recv()?.map(Work::Taken)
    })
}

/// Takes a message out of the mailbox that was worked on.
fn done_with(work: Work, client: &mut Client) -> Outcome<()> {
    match work {
        Work::Held(delivery) => Ok(delivery.acknowledge(client)?),
        Work::Taken(_) => Ok(()),
    }
}
