// SPDX-License-Identifier: MIT OR Apache-2.0
//! Torture: real processes send, read, ask, serve and own a bus, and are killed, stopped, interrupted and starved at
//! moments and calls that a seed says. Each keeps a journal; afterwards every acknowledged message is accounted for.
//!
//! A run is a process of its own, since it enters namespaces: there it has a small disk that it may fill, and inotify
//! instances that it may take away. The wall clock is shifted under its processes by a preloaded library.

mod actor;
mod dice;
mod ending;
mod ground;
mod hand;
mod handed;
mod heart;
mod journal;
mod ledger;
mod parts;
mod plan;
mod report;
mod supervise;
mod worker;

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use ipc_manager::Durability;
use serde_json::{Value, json};

use crate::{Context, Subject, engine};
use actor::Stage;
use ground::Ground;
use plan::Part;
use supervise::Supervisor;
use worker::Worker;

/// Asks the suite for torture instead of tests, as JSON: `protocols`, `seed`, `seconds`, `json`, `plan`, `keep`.
const ASKED: &str = "IPC_MANAGER_TORTURE";

/// What the role of a process in here begins with.
const ROLE: &str = "torture:";

/// One run over one protocol.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) seed: u64,
    pub(crate) length: Duration,
    /// Where journals are kept for whoever wants to look.
    pub(crate) keep: Option<PathBuf>,
}

/// Tortures as the environment asks, if it does.
pub(crate) fn command(subjects: &[Subject]) -> Option<ExitCode> {
    let asked: Value = serde_json::from_str(&std::env::var(ASKED).ok()?).expect("what is asked for is JSON");
    let wanted: Vec<String> = serde_json::from_value(asked["protocols"].clone()).unwrap_or_default();
    let run = Asked {
        seed: asked["seed"].as_u64().unwrap_or(1),
        length: Duration::from_secs(asked["seconds"].as_u64().unwrap_or(60)),
        keep: asked["keep"].as_str().map(PathBuf::from),
    };
    let crosses = |subject: &&Subject| subject.capabilities().crosses_processes;
    let is_wanted = |subject: &&Subject| {
        wanted.is_empty() || wanted.iter().any(|name| [subject.name(), subject.protocol()].contains(&&**name))
    };
    let chosen: Vec<&Subject> = subjects.iter().filter(crosses).filter(is_wanted).collect();
    if chosen.is_empty() {
        eprintln!("no protocol of that name has peers in different processes");
        return Some(ExitCode::from(2));
    }
    if asked["plan"] == true {
        for subject in chosen {
            println!("{}", subject.protocol());
            plan::draw(run.seed, run.length, subject).iter().for_each(|event| println!("  {event}"));
        }
        return Some(ExitCode::SUCCESS);
    }
    let mut reports = Vec::new();
    for subject in chosen {
        if let Err(reason) = subject.can_run() {
            eprintln!("{} cannot run here: {reason}", subject.protocol());
            continue;
        }
        eprintln!("{}: {} s with seed {}", subject.protocol(), run.length.as_secs(), run.seed);
        reports.push(in_a_process(subject, &run));
    }
    let all_held = reports.iter().all(report::held);
    if asked["json"] == true {
        println!("{}", Value::from(reports));
    } else {
        print(&reports);
    }
    Some(if all_held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(reports: &[Value]) {
    println!("{}", report::head());
    reports.iter().for_each(|report| println!("{}", report::row(report)));
    println!();
    reports.iter().flat_map(report::remarks).for_each(|remark| println!("{remark}"));
    for report in reports.iter().filter(|report| !report::held(report)) {
        println!("to see it again: {}", again(report));
    }
}

/// The command that runs the same plan.
fn again(report: &Value) -> String {
    let (protocol, seed, seconds) = (&report["protocol"], &report["seed"], &report["seconds"]);
    let protocol = protocol.as_str().unwrap_or_default();
    format!("cargo xtask torture --protocol {protocol} --seed {seed} --seconds {seconds}")
}

/// Tortures one protocol for a short while; prints the row.
///
/// # Panics
/// If anything is not as the contract says.
pub(crate) fn bounded(subject: &Subject, run: &Asked) {
    let report = in_a_process(subject, run);
    print(std::slice::from_ref(&report));
    let counts = ["acked", "once", "lost", "doubled", "corrupt", "out_of_order", "hung"];
    let count = |key: &str| report[key].as_u64().and_then(|count| count.try_into().ok()).unwrap_or(0);
    crate::tally::note(counts.map(count));
    assert!(report::held(&report), "{:?}; again with: {}", report["violations"], again(&report));
}

/// Runs it in a process of its own; returns its report.
fn in_a_process(subject: &Subject, run: &Asked) -> Value {
    let broken = |what: String| report::broken(subject.protocol(), run.seed, &what);
    let mut command = engine::program(&format!("{ROLE}run:{}", subject.protocol()));
    let told = json!({"seed": run.seed, "milliseconds": u64::try_from(run.length.as_millis()).unwrap_or(u64::MAX),
        "keep": run.keep});
    command.env(worker::ORDERS, told.to_string()).env_remove(ASKED).stdin(Stdio::null()).stdout(Stdio::piped());
    let output = match command.spawn().and_then(std::process::Child::wait_with_output) {
        Ok(output) => output,
        Err(error) => return broken(format!("it could not be started: {error}")),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    match said.lines().last().and_then(|line| serde_json::from_str(line).ok()) {
        Some(report) if output.status.success() => report,
        _ => broken(format!("the run did not come to its end: {}", output.status)),
    }
}

/// Plays the role of a process in here, if it is one.
pub(crate) fn play(subjects: &[Subject], role: &str) -> Option<ExitCode> {
    let (part, protocol) = role.strip_prefix(ROLE)?.split_once(':')?;
    let subject = subjects.iter().find(|subject| subject.protocol() == protocol).expect("a subject of that protocol");
    if part == "run" {
        return Some(run(subject));
    }
    let part = Part::ALL.into_iter().find(|known| known.name() == part).expect("a part that is known");
    let worker = Worker::new(subject.registry());
    Some(match part {
        Part::Owner => parts::own(worker, protocol),
        Part::Sender => parts::send(worker),
        Part::Reader => parts::read(worker),
        Part::Service => parts::serve(worker),
        Part::Asker => parts::ask(worker),
    })
}

/// The process of a run: carries out the plan and prints the report.
fn run(subject: &Subject) -> ExitCode {
    let told = std::env::var(worker::ORDERS).expect("a run is told what to do");
    let told: Value = serde_json::from_str(&told).expect("orders are JSON");
    let seed = told["seed"].as_u64().unwrap_or(1);
    let length = Duration::from_millis(told["milliseconds"].as_u64().unwrap_or(0));
    // Ignored from the start, and so in all that are started from here, until they hear it themselves.
    // SAFETY: this process has one thread, and no handler of this signal.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
    let context = Context::new(subject);
    let ground = Ground::prepare(context.sandbox().dir(), subject.server().is_none());
    let [journals, temporary] = ["journals", "tmp"].map(|name| {
        let dir = context.sandbox().dir().join(name);
        std::fs::create_dir(&dir).expect("a directory can be made");
        dir
    });
    let route = context.route_in(&ground.store);
    let database = context.database();
    let stage = Stage { subject, ground: &ground, journals: &journals, temporary: &temporary, route, info: None, seed };
    let plan = plan::draw(seed, length, subject);
    let mut supervisor = Supervisor::new(stage, database.as_deref());
    supervisor.run(&plan);
    let is_durable = subject.capabilities().durability >= Durability::Kernel;
    let count = |kinds: &[&str]| kinds.iter().filter_map(|kind| supervisor.injected.get(kind)).sum::<usize>();
    let weather = ledger::Weather {
        stalls: supervisor.heart.stalls(),
        clock: supervisor.clock_steps.clone(),
        refusals: if subject.protocol() == "MessageFiles" { count(&["failed call", "full disk"]) } else { 0 },
    };
    let sums = ledger::add_up(&supervisor.actors, &weather, is_durable, subject.server().is_none());
    let mut violations = supervisor.violations.clone();
    violations.extend(sums.violations.iter().take(20).cloned());
    let report = json!({
        "protocol": subject.protocol(), "seed": seed, "seconds": length.as_secs(),
        "planned": plan.len(), "faults": supervisor.injected.values().sum::<usize>(), "injected": supervisor.injected,
        "kills": count(&["kill", "kill at a call"]), "stops": count(&["stop"]),
        "acked": sums.acked, "once": sums.once, "refused": sums.refused, "in_doubt": sums.in_doubt,
        "again": sums.again, "excused": sums.excused, "lost": sums.lost, "doubled": sums.doubled, "corrupt": sums.corrupt,
        "out_of_order": sums.out_of_order, "hung": sums.late + supervisor.hung,
        "asked": sums.asked, "answered": format!("{}/{}", sums.answered, sums.asked),
        "leftovers": supervisor.leftovers, "violations": violations, "missing": ground.missing,
    });
    if let Some(keep) = told["keep"].as_str() {
        keep_journals(&journals, Path::new(keep));
    }
    println!("{report}");
    ExitCode::SUCCESS
}

fn keep_journals(journals: &Path, keep: &Path) {
    let _ = std::fs::create_dir_all(keep);
    for entry in std::fs::read_dir(journals).into_iter().flatten().flatten() {
        let _ = std::fs::copy(entry.path(), keep.join(entry.file_name()));
    }
}
