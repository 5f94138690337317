// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which faults come when: drawn from the seed and from what a protocol promises, and from nothing else.

use std::fmt;
use std::time::Duration;

use super::dice::Dice;
use crate::Subject;
use crate::trace::Call;

/// Who plays along, and as what.
pub(super) const CAST: [(&str, Part); 8] = [
    ("o0", Part::Owner),
    ("r0", Part::Reader),
    ("r1", Part::Reader),
    ("s0", Part::Sender),
    ("s1", Part::Sender),
    ("s2", Part::Sender),
    ("v0", Part::Service),
    ("q0", Part::Asker),
];

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Owner,
    Sender,
    Reader,
    Service,
    Asker,
}

impl Part {
    pub(super) const ALL: [Self; 5] = [Self::Owner, Self::Sender, Self::Reader, Self::Service, Self::Asker];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Sender => "sender",
            Self::Reader => "reader",
            Self::Service => "service",
            Self::Asker => "asker",
        }
    }
}

/// How a process takes its name again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Back {
    /// It continues what was there.
    Continued,
    /// It begins with an empty mailbox, and is told what that threw away.
    Afresh,
}

impl Back {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Continued => "reconnect",
            Self::Afresh => "connect",
        }
    }
}

/// A point of the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    /// The next call of this kind.
    Next(Call),
    /// The call after so many others.
    After(u64),
}

impl Point {
    /// Whether this is it, behind so many other calls.
    pub(super) fn is_at(self, call: Call, passed: u64) -> bool {
        match self {
            Self::Next(wanted) => wanted == call,
            // One that can fail.
            Self::After(count) => passed >= count && call != Call::OTHER,
        }
    }
}

/// What is done to a process, or to what all of them stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// SIGKILL, and somebody takes the name after so many milliseconds.
    Kill(Back, u64),
    /// SIGKILL as it is about to make such a call.
    KillAt(Point, Back, u64),
    /// Such a call fails with the error of this number among those that it can have.
    FailAt(Point, u64),
    /// SIGSTOP, and SIGCONT so many milliseconds later.
    Stop(u64),
    /// Signals that interrupt it, 500 a second.
    Storm(u64),
    /// It leaves in good order and comes back.
    Leave(u64),
    /// It suspends and comes back.
    Suspend(u64),
    /// It lives and does not read.
    Deaf(u64),
    /// So few descriptors are free.
    Descriptors(u64, u64),
    /// The disk of the store is full.
    FullDisk(u64),
    /// No inotify instance can be had.
    NoWatches(u64),
    /// The wall clock of all is set by so many milliseconds.
    Clock(i64),
    /// The server ends all sessions.
    Cut,
    /// Somebody sweeps up what the dead left.
    Sweep,
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) at: Duration,
    /// Index in the cast.
    pub(super) whom: usize,
    pub(super) fault: Fault,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:7.3} s  {}  {:?}", self.at.as_secs_f64(), CAST[self.whom].0, self.fault)
    }
}

/// The plan of a seed.
pub(super) fn draw(seed: u64, length: Duration, subject: &Subject) -> Vec<Event> {
    let mut dice = Dice::new(seed ^ 0x0070_6C61_6E00);
    let mut plan = Vec::new();
    let mut at = Duration::from_millis(150);
    let mut owner_lives = true;
    while at < length {
        let mut whom = usize::try_from(dice.below(CAST.len() as u64)).expect("below a length");
        let fault = if CAST[whom].1 == Part::Owner {
            match dice.below(8) {
                0 if owner_lives => {
                    owner_lives = false;
                    Some(Fault::Kill(Back::Afresh, 0))
                }
                1..5 if owner_lives => Some(Fault::Stop(dice.between(50, 400))),
                _ => Some(Fault::Sweep),
            }
        } else {
            on_peer(&mut dice, CAST[whom].1, subject)
        };
        if let Some(fault) = fault {
            if matches!(fault, Fault::FullDisk(_) | Fault::NoWatches(_) | Fault::Clock(_) | Fault::Cut | Fault::Sweep) {
                // To everybody.
                whom = 0;
            }
            plan.push(Event { at, whom, fault });
        }
        at += Duration::from_millis(dice.between(10, 130));
    }
    plan
}

fn on_peer(dice: &mut Dice, part: Part, subject: &Subject) -> Option<Fault> {
    let capabilities = subject.capabilities();
    // Mostly soon; now and then the others have time to notice.
    let pause = if dice.chance(20) { dice.between(200, 600) } else { dice.between(0, 60) };
    let back = if dice.chance(70) { Back::Continued } else { Back::Afresh };
    Some(match dice.below(100) {
        0..18 => Fault::Kill(back, pause),
        18..32 => Fault::KillAt(point(dice), back, pause),
        32..52 => Fault::FailAt(point(dice), dice.below(60)),
        52..62 => Fault::Stop(dice.between(20, 700)),
        62..69 => Fault::Storm(dice.between(100, 600)),
        69..77 if capabilities.suspend && part == Part::Reader && dice.chance(60) => Fault::Suspend(pause),
        69..77 => Fault::Leave(pause),
        77..83 if part == Part::Reader => Fault::Deaf(dice.between(100, 900)),
        83..88 => Fault::Descriptors(dice.below(4), dice.between(50, 300)),
        88..92 if subject.server().is_none() => Fault::FullDisk(dice.between(50, 400)),
        88..92 => Fault::Cut,
        92..95 => Fault::NoWatches(dice.between(50, 500)),
        95..98 => Fault::Clock(dice.pick(&[-3_600_000, -5_000, -900, -20, 20, 700, 4_000, 3_600_000])),
        _ => Fault::Sweep,
    })
}

fn point(dice: &mut Dice) -> Point {
    if dice.chance(50) { Point::Next(dice.pick(&Call::NAMED)) } else { Point::After(dice.below(80)) }
}
