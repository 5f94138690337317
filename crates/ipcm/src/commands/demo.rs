// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm demo`: a text counted by several processes over a bus, and proof that no message was lost.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ipc_manager::{Audit, Client, Spawn};
use serde::Serialize;

use super::demo_count::{Answer, Count, Pieces};
use super::make::{AuditDocument, Making, audit_exit, audit_text, make};
use crate::args::DemoArgs;
use crate::bus_choice::{self, NAME_VARIABLE};
use crate::context::Context;
use crate::escape::escaped;
use crate::exit_code;
use crate::failure::{Failure, Outcome};
use crate::output::table;
use crate::signals::{Input, Signals, Woken};

/// The name of the one who hands out the work.
pub(super) const DISPATCHER: &str = "demo";
/// The text that is counted when no file is named.
const TEXT: &str = include_str!("demo.txt");
/// How many workers there are, and how many pieces each may have before it.
const WORKERS: usize = 4;
const AHEAD: u64 = 8;
/// How many of the most frequent words are shown.
const TOP: usize = 8;
/// How long to wait for the next word of any worker, unless told.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a worker that has left the bus may take to end.
const END: Duration = Duration::from_secs(2);

/// The result, as documents tell of it.
#[derive(Serialize)]
struct Document {
    file: Option<String>,
    protocol: String,
    serializer: String,
    lines: u64,
    words: u64,
    bytes: u64,
    top: Vec<Top>,
    workers: BTreeMap<String, u64>,
    sent: u64,
    received: u64,
    seconds: f64,
    messages_per_second: f64,
    audit: AuditDocument,
}

#[derive(Serialize)]
struct Top {
    word: String,
    count: u64,
}

pub(crate) fn run(context: &mut Context, args: &DemoArgs) -> Outcome {
    let signals = Signals::catch_with_children()?;
    // What cannot be read is found out before anything is made.
    let input = open(args, &signals)?;
    let mut bus = make(context, &args.make, &Making { guard: true, ..Making::default() })?;
    let banner =
        format!("A bus of {}, {}, and {WORKERS} workers:", bus.protocol().short(), bus.serializer().short_name());
    context.out.banner(&banner);
    let client = Client::builder(DISPATCHER, bus.info()).registry(context.registry.clone()).connect()?;
    // Dropped before the bus, so that nobody is left on it whatever happens.
    let mut demo = Demo::start(&bus, client, &signals, args.timeout.unwrap_or(SILENCE))?;
    let worked = demo.work(&mut Pieces::new(input));
    let seconds = demo.started.elapsed().as_secs_f64();
    let audit = demo.finish(&mut bus);
    if let Some(signal) = signals.pending() {
        context.out.note("ipcm: interrupted; the workers have ended and the bus is removed");
        return Ok(exit_code::of_signal(signal));
    }
    worked?;
    let audit = audit?;
    let document = demo.document(args, &bus, &audit, seconds);
    context.out.either(&document, || document.text(&audit))?;
    Ok(audit_exit(&audit))
}

fn open<'a>(args: &DemoArgs, signals: &'a Signals) -> Outcome<Box<dyn BufRead + 'a>> {
    let Some(path) = &args.file else { return Ok(Box::new(TEXT.as_bytes())) };
    if path.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(Input { signals })));
    }
    let unreadable = |error| Failure::io(format!("the file {} cannot be read", path.display()), &error);
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(unreadable(std::io::ErrorKind::IsADirectory.into()));
    }
    Ok(Box::new(BufReader::new(file)))
}

/// A worker, and how much it has before it and behind it.
struct Worker {
    name: String,
    child: Child,
    ready: bool,
    before: u64,
    behind: u64,
}

struct Demo<'a> {
    client: Client,
    signals: &'a Signals,
    silence: Duration,
    /// When the first piece was sent.
    started: Instant,
    workers: Vec<Worker>,
    total: Count,
    sent: u64,
    received: u64,
}

impl<'a> Demo<'a> {
    /// Starts the workers: this program again, each with the bus in its environment.
    fn start(bus: &Spawn, client: Client, signals: &'a Signals, silence: Duration) -> Outcome<Self> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::io("this program cannot be found to start workers from it", &error))?;
        let (total, started) = (Count::default(), Instant::now());
        let mut demo = Self { client, signals, silence, started, workers: Vec::new(), total, sent: 0, received: 0 };
        for number in 1..=WORKERS {
            let name = format!("worker-{number}");
            let mut command = Command::new(&program);
            command.arg("demo-worker").env(NAME_VARIABLE, &name);
            bus_choice::tell(&mut command, bus.info(), None);
            // A group of its own: Ctrl-C is for the dispatcher, which then ends the workers in order.
            command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
            let child = command.spawn().map_err(|error| Failure::io("a worker cannot be started", &error))?;
            demo.workers.push(Worker { name, child, ready: false, before: 0, behind: 0 });
        }
        Ok(demo)
    }

    /// Hands out all pieces and adds up the answers.
    fn work(&mut self, pieces: &mut Pieces<Box<dyn BufRead + '_>>) -> Outcome<()> {
        let mut more = true;
        loop {
            while let (true, Some(index)) = (more && self.signals.pending().is_none(), self.idlest()) {
                let piece = pieces.next().map_err(|error| Failure::io("the text cannot be read", &error))?;
                let (Some(piece), Some(worker)) = (piece, self.workers.get_mut(index)) else {
                    more = false;
                    break;
                };
                if self.sent == 0 {
                    self.started = Instant::now();
                }
                if let Err(error) = self.client.send(&worker.name, &piece) {
                    // Where nobody reads it, how that worker ended says more.
                    self.check_workers()?;
                    return Err(error.into());
                }
                let worker = &mut self.workers[index];
                worker.before += 1;
                self.sent += 1;
            }
            let done = self.workers.iter().all(|worker| worker.ready && worker.before == 0);
            if (done && !more) || self.signals.pending().is_some() {
                self.total.lines += u64::from(pieces.open_line);
                return Ok(());
            }
            self.next_answers()?;
        }
    }

    /// The worker with the least before it, if one has room for more.
    fn idlest(&self) -> Option<usize> {
        if !self.workers.iter().all(|worker| worker.ready) {
            return None;
        }
        let free = self.workers.iter().enumerate().filter(|(_, worker)| worker.before < AHEAD);
        free.min_by_key(|(_, worker)| (worker.before, worker.behind)).map(|(index, _)| index)
    }

    /// Waits for answers and takes all that are there.
    fn next_answers(&mut self) -> Outcome<()> {
        let deadline = Instant::now() + self.silence;
        loop {
            let mut any = false;
            while let Some(message) = self.client.try_recv()? {
                any = true;
                self.received += 1;
                let from = message.from().as_str();
                let Some(worker) = self.workers.iter_mut().find(|worker| worker.name == from) else { continue };
                match message.parse()? {
                    Answer::Ready => worker.ready = true,
                    Answer::Counted(_, count) => {
                        worker.before = worker.before.saturating_sub(1);
                        worker.behind += 1;
                        self.total.add(count);
                    }
                }
            }
            if any || self.signals.pending().is_some() {
                return Ok(());
            }
            self.check_workers()?;
            if self.signals.wait_for_message(&self.client, false, Some(deadline))? == Woken::Deadline {
                let message = format!("no worker said anything for {:?}", self.silence);
                return Err(Failure::told("timeout", exit_code::TIMEOUT, message));
            }
        }
    }

    /// Makes sure that every worker still lives: none ends before it is told to.
    fn check_workers(&mut self) -> Outcome<()> {
        for worker in &mut self.workers {
            let ended =
                worker.child.try_wait().map_err(|error| Failure::io("a worker cannot be waited for", &error))?;
            if let Some(status) = ended {
                let (name, pid, before) = (&worker.name, worker.child.id(), worker.before);
                let message = format!(
                    "{name} (process {pid}) {} before it finished, with {before} pieces before it; there is no result",
                    how(status)
                );
                return Err(Failure::told("peer_gone", exit_code::PEER_GONE, message));
            }
        }
        Ok(())
    }

    /// Leaves the bus, ends it, and sees the workers end.
    fn finish(&mut self, bus: &mut Spawn) -> Outcome<Audit> {
        // What is still unread belongs to work that was given up, and the audit tells of it.
        let _ = self.client.disconnect();
        // They have stored their counters once they have ended, so that is when the bus is audited.
        let asked = bus.terminate();
        let deadline = Instant::now() + END;
        while self.workers.iter_mut().any(|worker| matches!(worker.child.try_wait(), Ok(None))) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.signals.wait_for_child(left).is_err() {
                break;
            }
        }
        asked?;
        Ok(bus.shutdown()?)
    }

    fn document(&self, args: &DemoArgs, bus: &Spawn, audit: &Audit, seconds: f64) -> Document {
        let messages = self.sent + self.received;
        let top = self.total.top(TOP).into_iter().map(|(word, count)| Top { word: word.to_owned(), count });
        Document {
            file: args.file.as_ref().map(|file| file.to_string_lossy().into_owned()),
            protocol: bus.protocol().short(),
            serializer: bus.serializer().short_name(),
            lines: self.total.lines,
            words: self.total.words,
            bytes: self.total.bytes,
            top: top.collect(),
            workers: self.workers.iter().map(|worker| (worker.name.clone(), worker.behind)).collect(),
            sent: self.sent,
            received: self.received,
            seconds,
            messages_per_second: rate(messages, seconds),
            audit: AuditDocument::new(audit),
        }
    }
}

/// Ends the workers that did not end by themselves, and waits for every one.
impl Drop for Demo<'_> {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            if matches!(worker.child.try_wait(), Ok(None)) {
                let _ = worker.child.kill();
            }
            let _ = worker.child.wait();
        }
    }
}

impl Document {
    fn text(&self, audit: &Audit) -> String {
        let row = |key: &str, value: String| vec![key.to_owned(), value];
        let workers = self.workers.iter().map(|(name, pieces)| format!("{name} {pieces}")).collect::<Vec<_>>();
        let messages = self.sent + self.received;
        let mut rows = vec![
            row("text", self.file.as_deref().map_or("the one that comes with ipcm".to_owned(), escaped)),
            row("lines", self.lines.to_string()),
            row("words", self.words.to_string()),
            row("bytes", self.bytes.to_string()),
        ];
        for (index, top) in self.top.iter().enumerate() {
            let key = if index == 0 { "frequent" } else { "" };
            rows.push(row(key, format!("{:>5}  {}", top.count, escaped(&top.word))));
        }
        rows.push(row("bus", format!("{}, {}", self.protocol, self.serializer)));
        rows.push(row("workers", format!("{} (pieces each)", workers.join(", "))));
        rows.push(row("messages", format!("{} to the workers, {} back", self.sent, self.received)));
        let rate = format!("{:.0} messages/s ({messages} in {:.3} s)", self.messages_per_second, self.seconds);
        rows.push(row("rate", rate));
        table(&rows) + &audit_text(audit)
    }
}

/// Messages a second; of no time at all nothing can be said.
fn rate(messages: u64, seconds: f64) -> f64 {
    // So many messages that the number loses digits would take years.
    #[allow(clippy::cast_precision_loss)]
    if seconds > 0.0 { (messages as f64 / seconds).round() } else { 0.0 }
}

/// How a process ended, in words.
fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (_, Some(signal)) => format!("was ended by signal {signal}"),
        (code, _) => format!("ended with status {}", code.unwrap_or_default()),
    }
}
