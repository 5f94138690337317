// SPDX-License-Identifier: MIT OR Apache-2.0
//! Carries out a plan: injures who runs, starts who died, and ends the run in good order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use ipc_manager::{Client, ConnectionString};
use rustix::process::Signal;

use super::actor::{Actor, Stage, State, TO_LEAVE};
use super::heart::Heart;
use super::journal::{DESCRIPTORS, now};
use super::plan::{Back, CAST, Event, Fault, Part, Point};
use super::worker::{CALL, DONE, Order};
use crate::servers::Database;
use crate::trace::{Call, Step, Traced};

/// How long a process that is to be injured at a call may take to come to it.
const TO_CALL: Duration = Duration::from_millis(150);
/// Pause between two signals of a storm: 500 a second.
const BETWEEN_SIGNALS: Duration = Duration::from_millis(2);
/// How often it is looked whether somebody ended by himself.
const LOOK_EVERY: Duration = Duration::from_millis(40);

/// What is to be done at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Do {
    Injure(usize),
    Cont(usize),
    Calm(usize),
    Start(usize, bool),
    Descriptors(usize),
    Room,
    Watches,
}

/// A run.
pub(super) struct Supervisor<'a> {
    pub(super) stage: Stage<'a>,
    database: Option<&'a Database>,
    pub(super) actors: Vec<Actor>,
    agenda: BinaryHeap<Reverse<(Instant, u64, Do)>>,
    count: u64,
    storms: Vec<usize>,
    clock: i64,
    pub(super) broom: Option<Client>,
    /// Faults that were injected, by their kind.
    pub(super) injected: BTreeMap<&'static str, usize>,
    /// What no contract allows.
    pub(super) violations: Vec<String>,
    pub(super) hung: usize,
    pub(super) leftovers: Vec<String>,
    /// When the clock was set.
    pub(super) clock_steps: Vec<u64>,
    pub(super) heart: Heart,
}

impl<'a> Supervisor<'a> {
    pub(super) fn new(stage: Stage<'a>, database: Option<&'a Database>) -> Self {
        Self {
            stage,
            database,
            actors: CAST.iter().map(|(name, part)| Actor::new(name, *part)).collect(),
            agenda: BinaryHeap::new(),
            count: 0,
            storms: Vec::new(),
            clock: 0,
            broom: None,
            injected: BTreeMap::new(),
            violations: Vec::new(),
            hung: 0,
            leftovers: Vec::new(),
            clock_steps: Vec::new(),
            heart: Heart::start(),
        }
    }

    /// Carries out the plan.
    pub(super) fn run(&mut self, plan: &[Event]) {
        self.actors[0].start(&self.stage, Back::Afresh);
        let info = self.actors[0].line();
        if info.is_empty() {
            self.violations.push("the owner could not make a bus".into());
            return;
        }
        self.stage.info = Some(info);
        for whom in 1..self.actors.len() {
            self.actors[whom].start(&self.stage, Back::Afresh);
        }
        self.broom = self.join_broom();
        let begun = Instant::now();
        for (number, event) in plan.iter().enumerate() {
            self.plan(begun + event.at, Do::Injure(number));
        }
        self.work_off(plan);
        self.end();
    }

    pub(super) fn info(&self) -> ConnectionString {
        self.stage.info.as_deref().unwrap_or_default().parse().expect("the owner prints a sound connection string")
    }

    fn join_broom(&mut self) -> Option<Client> {
        let builder = Client::builder("broom", &self.info()).registry(self.stage.subject.registry());
        let joined = builder.connect();
        joined.map_err(|error| self.violations.push(format!("who sweeps cannot join: {error:?}"))).ok()
    }

    fn plan(&mut self, at: Instant, what: Do) {
        self.count += 1;
        self.agenda.push(Reverse((at, self.count, what)));
    }

    fn plan_in(&mut self, milliseconds: u64, what: Do) {
        self.plan(Instant::now() + Duration::from_millis(milliseconds), what);
    }

    /// Does what is on the agenda, until there is nothing any more.
    fn work_off(&mut self, plan: &[Event]) {
        let mut looked = Instant::now();
        while let Some(Reverse((at, _, what))) = self.agenda.peek().copied() {
            let was = Instant::now();
            let pause = at.saturating_duration_since(was).min(LOOK_EVERY);
            let pause = if self.storms.is_empty() { pause } else { pause.min(BETWEEN_SIGNALS) };
            std::thread::sleep(pause); // until the next on the agenda
            self.storms.iter().for_each(|whom| self.actors[*whom].signal(Signal::USR1));
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                self.look();
            }
            if at <= Instant::now() {
                self.agenda.pop();
                match what {
                    Do::Injure(number) => self.injure(plan[number]),
                    other => self.mend(other),
                }
            }
        }
    }

    /// Finds who ended by himself.
    pub(super) fn look(&mut self) {
        for actor in &mut self.actors {
            let was_told = actor.state == State::Leaves;
            if let Some(status) = actor.has_ended() {
                if !was_told || status.code() != Some(DONE.into()) {
                    let life = actor.life();
                    let said = std::fs::read_to_string(life.journal.with_extension("stderr")).unwrap_or_default();
                    let said: Vec<&str> = said.lines().take(6).collect();
                    let journal = life.journal.file_name().unwrap_or_default().display().to_string();
                    self.violations.push(format!("{journal} ended by itself: {status} {}", said.join("; ")));
                }
            } else if actor.told.is_some_and(|told| told.elapsed() > TO_LEAVE) && actor.state != State::Gone {
                self.hung += 1;
                self.violations.push(format!("{} does not leave: {}", actor.name, actor.is_at()));
                actor.kill();
            }
        }
    }

    fn injure(&mut self, event: Event) {
        let (whom, runs) = (event.whom, self.actors[event.whom].has_begun());
        let done = match event.fault {
            Fault::Kill(back, pause) => self.kill(whom, back, pause),
            Fault::KillAt(point, back, pause) => runs && self.kill_at(whom, point, back, pause),
            Fault::FailAt(point, error) => runs && self.fail_at(whom, point, error),
            Fault::Stop(time) if runs => {
                self.actors[whom].stop();
                self.plan_in(time, Do::Cont(whom));
                true
            }
            Fault::Storm(time) if runs => {
                self.storms.push(whom);
                self.plan_in(time, Do::Calm(whom));
                true
            }
            Fault::Leave(pause) if runs => self.leave(whom, Order::Leave, Back::Afresh, pause),
            Fault::Suspend(pause) if runs => self.leave(whom, Order::Suspend, Back::Continued, pause),
            Fault::Deaf(time) if runs => {
                self.actors[whom].tell(Order::Deaf(time));
                true
            }
            Fault::Descriptors(free, time) if runs => {
                self.actors[whom].limit_descriptors(Some(free));
                self.plan_in(time, Do::Descriptors(whom));
                true
            }
            Fault::FullDisk(time) => {
                self.plan_in(time, Do::Room);
                self.stage.ground.fill()
            }
            Fault::NoWatches(time) => {
                self.plan_in(time, Do::Watches);
                self.stage.ground.take_watches(true)
            }
            Fault::Clock(by) => {
                self.clock += by;
                self.clock_steps.push(now());
                self.stage.ground.shift_clock(self.clock)
            }
            Fault::Cut => self.cut(),
            Fault::Sweep => self.sweep(),
            _ => false,
        };
        if done {
            *self.injected.entry(kind_of(event.fault)).or_default() += 1;
        }
    }

    fn mend(&mut self, what: Do) {
        match what {
            Do::Cont(whom) => self.actors[whom].cont(),
            Do::Calm(whom) => {
                let storm = self.storms.iter().position(|stormed| *stormed == whom);
                storm.map(|storm| self.storms.swap_remove(storm));
            }
            Do::Start(whom, afresh) => match self.actors[whom].state {
                State::Gone => {
                    let back = if afresh { Back::Afresh } else { Back::Continued };
                    self.actors[whom].start(&self.stage, back);
                }
                // It leaves still.
                State::Leaves => self.plan_in(20, what),
                _ => {}
            },
            Do::Descriptors(whom) => self.actors[whom].limit_descriptors(None),
            Do::Room => self.stage.ground.make_room(),
            Do::Watches => drop(self.stage.ground.take_watches(false)),
            Do::Injure(_) => {}
        }
    }

    fn kill(&mut self, whom: usize, back: Back, pause: u64) -> bool {
        if !matches!(self.actors[whom].state, State::Runs | State::Stopped) {
            return false;
        }
        self.actors[whom].kill();
        self.back(whom, back, pause);
        true
    }

    fn back(&mut self, whom: usize, back: Back, pause: u64) {
        if self.actors[whom].part != Part::Owner {
            self.plan_in(pause, Do::Start(whom, back == Back::Afresh));
        }
    }

    fn leave(&mut self, whom: usize, order: Order, back: Back, pause: u64) -> bool {
        self.actors[whom].tell(order);
        self.plan_in(pause, Do::Start(whom, back == Back::Afresh));
        true
    }

    /// Stops a process as it is about to make such a call, in a place that is not the journal's.
    fn at(&mut self, whom: usize, point: Point) -> Option<(Traced, Call)> {
        let mut traced = Traced::attach(self.actors[whom].pid()?).ok()?;
        let deadline = Instant::now() + TO_CALL;
        let mut passed = 0;
        loop {
            match traced.next_within(deadline.saturating_duration_since(Instant::now())) {
                Step::Call(call) if !is_ours(call, &traced) && point.is_at(call, passed) => {
                    return Some((traced, call));
                }
                Step::Call(_) if Instant::now() < deadline => passed += 1,
                Step::Ended(status) => {
                    self.violations.push(format!("{} ended while it was watched: {status}", self.actors[whom].name));
                    return None;
                }
                _ => {
                    traced.let_go();
                    self.actors[whom].runs_on();
                    return None;
                }
            }
        }
    }

    fn kill_at(&mut self, whom: usize, point: Point, back: Back, pause: u64) -> bool {
        let Some((traced, _)) = self.at(whom, point) else { return false };
        self.actors[whom].signal(Signal::KILL);
        traced.let_go();
        self.actors[whom].dies();
        self.back(whom, back, pause);
        true
    }

    fn fail_at(&mut self, whom: usize, point: Point, error: u64) -> bool {
        let Some((mut traced, call)) = self.at(whom, point) else { return false };
        let mut errors = traced.errors(call);
        if self.stage.subject.server().is_some() {
            // The driver of a database waits for edges: the kernel never says that a socket is not ready when it is, and
            // whoever is told so waits for an edge that has been. Nor is a call interrupted that never blocks.
            errors.retain(|errno| ![libc::EAGAIN, libc::EINTR].contains(errno));
        }
        let which = usize::try_from(error % errors.len().max(1) as u64).unwrap_or(0);
        let failed = errors.get(which).is_some_and(|errno| traced.fail(*errno).is_ok());
        traced.let_go();
        self.actors[whom].runs_on();
        failed
    }

    fn cut(&mut self) -> bool {
        self.database.is_some_and(|database| database.end_sessions().is_ok())
    }

    /// Sweeps while no reader is dead: what is in the mailbox of a dead one would go with it. And while nobody is
    /// stopped: whoever was stopped with a lock of the store is woken by this process, which would wait for the lock.
    fn sweep(&mut self) -> bool {
        let is_safe = |actor: &Actor| match actor.state {
            State::Stopped => false,
            State::Runs => true,
            _ => actor.part != Part::Reader,
        };
        let has_joined = |actor: &Actor| {
            let journal = actor.lives.last().map(|life| life.journal.clone()).unwrap_or_default();
            let is_joined = |record: &Vec<serde_json::Value>| record[0] == "joined";
            actor.part != Part::Reader || super::journal::read(&journal).iter().any(is_joined)
        };
        if !self.actors.iter().all(|actor| is_safe(actor) && has_joined(actor)) {
            return false;
        }
        let Some(broom) = &mut self.broom else { return false };
        let begun = now();
        if broom.reap().is_err() {
            // As with a full disk, which is fine.
            *self.injected.entry("refused sweep").or_default() += 1;
        }
        let ended = now();
        let took = ended.saturating_sub(begun).saturating_sub(self.heart.stalled(begun, ended));
        if u128::from(took) > (CALL * 6).as_nanos() {
            self.hung += 1;
            self.violations.push(format!("a sweep took {} ms", took / 1_000_000));
        }
        true
    }
}

/// Whether a call is about the journal or what the supervisor says, and not the library's.
fn is_ours(call: Call, traced: &Traced) -> bool {
    call.works_on_descriptor()
        && traced
            .first_argument()
            .is_some_and(|first| first <= 2 || (DESCRIPTORS.unsigned_abs().into()..1_024).contains(&first))
}

/// Kinds of faults, for counting.
fn kind_of(fault: Fault) -> &'static str {
    match fault {
        Fault::Kill(..) => "kill",
        Fault::KillAt(..) => "kill at a call",
        Fault::FailAt(..) => "failed call",
        Fault::Stop(_) => "stop",
        Fault::Storm(_) => "signal storm",
        Fault::Leave(_) => "leave",
        Fault::Suspend(_) => "suspend",
        Fault::Deaf(_) => "deaf reader",
        Fault::Descriptors(..) => "no descriptors",
        Fault::FullDisk(_) => "full disk",
        Fault::NoWatches(_) => "no inotify",
        Fault::Clock(_) => "clock step",
        Fault::Cut => "cut sessions",
        Fault::Sweep => "sweep",
    }
}
