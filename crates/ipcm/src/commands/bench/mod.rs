// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm bench`: what each protocol does on this machine, measured between real processes.

mod chart;
mod crew;
mod figures;
#[macro_use]
mod measure;
mod progress;
mod report;
mod service;
mod worker;

use std::path::Path;
use std::process::Command;

use ipc_manager::{Envelope, Limits, Message, Spawn};

use crate::args::MakeArgs;
use crate::bench_args::BenchArgs;
use crate::bus_choice::{self, NAME_VARIABLE, protocol_named, serializer_named};
use crate::commands::make::{Making, make};
use crate::context::Context;
use crate::exit_code;
use crate::failure::{Failure, Outcome};
use crate::signals::Signals;
use crew::Crew;
use measure::{Kind, Measured, READER, Side, in_turns, sender};
use progress::Progress;
use report::{OfProtocol, OfSize, Report};

/// Runs a worker.
pub(super) fn work(context: &mut Context) -> Outcome {
    worker::run(context)
}

pub(crate) fn run(context: &mut Context, args: &BenchArgs) -> Outcome {
    let signals = Signals::catch_with_children()?;
    let wanted = wanted(context, args)?;
    let steps = wanted.len() * args.size.len() * kinds(args).len();
    let mut bench = Bench { context, args, signals: &signals, progress: Progress::new(steps, !context.out.json) };
    let mut protocols = Vec::new();
    for protocol in &wanted {
        match bench.protocol(protocol) {
            Ok(measured) => protocols.push(measured),
            Err(failure) => {
                drop(bench);
                let Some(signal) = signals.pending() else { return Err(failure) };
                context.out.note("ipcm: interrupted; the workers have ended and the bus is removed");
                return Ok(exit_code::of_signal(signal));
            }
        }
    }
    drop(bench);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let serializer = serializer_named(&args.serializer, &context.registry)?.short_name();
    let report = Report { cores, serializer, rounds: args.rounds, protocols };
    if let Some(file) = &args.svg {
        let written = std::fs::write(file, chart::svg(&report));
        written.map_err(|error| Failure::io(format!("the file {} cannot be written", file.display()), &error))?;
    }
    context.out.either(&report, || report.text())?;
    Ok(exit_code::DONE)
}

/// The protocols to measure, and for those that cannot be, why not.
fn wanted(context: &Context, args: &BenchArgs) -> Outcome<Vec<(String, Option<String>)>> {
    if args.all {
        return Ok(context
            .registry
            .protocols()
            .map(|protocol| {
                let skipped = if protocol.capabilities().crosses_processes {
                    protocol.viable().err().map(|reason| reason.to_string())
                } else {
                    Some("its buses live within one process".to_owned())
                };
                (protocol.name().short(), skipped)
            })
            .collect());
    }
    if !args.protocol.is_empty() {
        let named = args.protocol.iter().map(|name| {
            let name = protocol_named(name, &context.registry);
            Ok((name.map_err(|error| Failure::from(error).exit(exit_code::USAGE))?, None))
        });
        return named.collect();
    }
    let works = |protocol: &&std::sync::Arc<dyn ipc_manager::Protocol>| {
        let can = protocol.capabilities();
        can.automatic && can.crosses_processes && protocol.viable().is_ok()
    };
    let first = context.registry.protocols().find(works).map(|protocol| protocol.name().short());
    let first = first.ok_or_else(|| Failure::told("not_viable", exit_code::NOT_VIABLE, "no protocol works here"))?;
    Ok(vec![(first, None)])
}

/// Everything that is measured for one size.
fn kinds(args: &BenchArgs) -> Vec<Kind> {
    let one_way = args.senders.iter().flat_map(|senders| {
        [1, usize::from(args.batch)].map(|batch| Kind::OneWay { senders: usize::from(*senders), batch })
    });
    one_way.chain([Kind::RoundTrip, Kind::Request]).collect()
}

struct Bench<'a> {
    context: &'a Context,
    args: &'a BenchArgs,
    signals: &'a Signals,
    progress: Progress,
}

impl<'a> Bench<'a> {
    fn protocol(&mut self, (protocol, skipped): &(String, Option<String>)) -> Outcome<OfProtocol> {
        let mut measured =
            OfProtocol { protocol: protocol.clone(), skipped: skipped.clone(), floor: None, sizes: Vec::new() };
        if skipped.is_some() {
            self.progress.step(self.args.size.len() * kinds(self.args).len());
            return Ok(measured);
        }
        let serializer = Some(self.args.serializer.clone());
        let making = MakeArgs { protocol: vec![protocol.clone()], serializer };
        let mut bus = make(self.context, &making, &Making { guard: true, ..Making::default() })?;
        for bytes in &self.args.size {
            measured.sizes.push(self.size(&bus, &mut measured.floor, *bytes)?);
        }
        bus.shutdown()?;
        Ok(measured)
    }

    fn size(&mut self, bus: &Spawn, floor_name: &mut Option<String>, bytes: usize) -> Outcome<OfSize> {
        let message_bytes = self.encoded(bus, bytes)?;
        let mut size = OfSize {
            content_bytes: bytes,
            message_bytes,
            skipped: None,
            one_way: Vec::new(),
            round_trip: None,
            request: None,
        };
        let mut ours = Side { crew: self.workers(bus)?, bytes };
        let place = Place::new()?;
        let mut floor = self.floor(bus, &place, message_bytes, floor_name)?;
        let kinds = kinds(self.args);
        for (number, kind) in kinds.iter().enumerate() {
            self.progress.show(&format!("{}, {}", bus.protocol().short(), report::short_size(bytes)));
            let rounds: Measured<_> = match kind {
                Kind::Request => service::beside_plain(&mut ours, self.args.rounds, self.args.messages),
                _ => in_turns(&mut ours, floor.as_mut(), *kind, self.args.rounds, self.args.messages),
            };
            match rounds? {
                Ok(rounds) => size.add(*kind, &rounds),
                Err(refusal) if refusal.is_of_size() => {
                    // Whoever waited for that message waits still; all of them are replaced with the next size.
                    size.skipped = Some(refusal.words().to_owned());
                    self.progress.step(kinds.len() - number);
                    return Ok(size);
                }
                Err(refusal) => return Err(refusal.into()),
            }
            self.progress.step(1);
        }
        Ok(size)
    }

    /// How many bytes a message with such a content has in the store.
    fn encoded(&self, bus: &Spawn, bytes: usize) -> Outcome<usize> {
        let message = Message::builder(&sender(1)).to(READER).content(&worker::content(bytes))?.build()?;
        let serializer = self.context.registry.serializers().resolve(bus.serializer())?;
        Ok(Envelope::new(&message, &*serializer, &Limits::DEFAULT)?.payload()?.len())
    }

    fn names(&self) -> impl Iterator<Item = String> {
        let senders = self.args.senders.iter().copied().max().unwrap_or(1).into();
        std::iter::once(READER.to_owned()).chain((1..=senders).map(sender))
    }

    /// This program again, once for each name.
    fn workers(&self, bus: &Spawn) -> Outcome<Crew<'a>> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::io("this program cannot be found to start workers from it", &error))?;
        let commands = self.names().map(|name| {
            let mut command = Command::new(&program);
            command.arg("bench-worker").env(NAME_VARIABLE, name);
            bus_choice::tell(&mut command, bus.info(), None);
            command
        });
        Ok(Crew::start(commands, self.signals, self.args.timeout)?.0)
    }

    /// The workers of the bare transport under a protocol, if there is such a thing.
    fn floor(&self, bus: &Spawn, place: &Place, bytes: usize, named: &mut Option<String>) -> Outcome<Option<Side<'a>>> {
        let Some(program) = &self.args.floor else { return Ok(None) };
        let commands = self.names().map(|name| {
            let mut command = Command::new(program);
            command.arg("floor-worker").arg(bus.protocol().short()).arg(&place.0).arg(name);
            command
        });
        let (crew, first) = Crew::start(commands, self.signals, self.args.timeout)?;
        *named = first.first().and_then(|line| line.strip_prefix("ready ")).map(str::to_owned);
        Ok(named.is_some().then_some(Side { crew, bytes }))
    }
}

/// A directory for the files and sockets of a bare transport.
struct Place(std::path::PathBuf);

impl Place {
    fn new() -> Outcome<Self> {
        let place = std::env::temp_dir().join(format!("ipcm-bench-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&place);
        create_private(&place).map_err(|error| Failure::io("a place for the bare transport cannot be made", &error))?;
        Ok(Self(place))
    }
}

fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(path)
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
