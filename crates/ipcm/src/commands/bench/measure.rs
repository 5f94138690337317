// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measuring: short rounds, those of the bus and those of the bare transport in turns, so that whatever else the machine
//! does meanwhile hits both alike.

use super::crew::{Crew, Refusal};
use super::figures::{Times, rate};
use crate::failure::Outcome;

/// The name of the worker that all others send to.
pub(super) const READER: &str = "reader";
/// How long a round should take, in nanoseconds.
const ROUND: u64 = 100_000_000;
/// How long a first attempt must take to tell how many messages go into a round.
const TELLING: u64 = 10_000_000;
/// Messages of a first attempt, and most of a round.
const FEW: u64 = 8;
const MOST: u64 = 1 << 20;

/// The name of the worker that sends first.
pub(super) fn sender(number: usize) -> String {
    format!("sender-{number}")
}

/// What may come to nothing because a message is refused.
pub(super) type Measured<T> = Outcome<Result<T, Refusal>>;

/// Goes on with what was measured, or hands the refusal out.
macro_rules! measured {
    ($measured:expr) => {
        match $measured? {
            Ok(measured) => measured,
            Err(refusal) => return Ok(Err(refusal)),
        }
    };
}

/// Workers, and how long a message is for them.
pub(super) struct Side<'a> {
    pub(super) crew: Crew<'a>,
    pub(super) bytes: usize,
}

/// What is done in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// So many senders, each so many messages at once, to one reader.
    OneWay { senders: usize, batch: usize },
    /// One question at a time.
    RoundTrip,
    /// One request to a service at a time.
    Request,
}

/// What came of a round.
pub(super) struct Round {
    /// Messages that arrived, or round trips.
    pub(super) count: u64,
    /// From the first send to the last arrival.
    nanoseconds: u64,
    /// How long each round trip took.
    pub(super) times: Vec<u64>,
}

impl Round {
    pub(super) fn rate(&self) -> f64 {
        rate(self.count, self.nanoseconds)
    }
}

impl Side<'_> {
    pub(super) fn round(&mut self, kind: Kind, count: u64) -> Measured<Round> {
        match kind {
            Kind::OneWay { senders, batch } => self.one_way(senders, batch, count),
            Kind::RoundTrip => self.round_trips(count, ["answer", "ask"]),
            Kind::Request => self.round_trips(count, ["serve", "request"]),
        }
    }

    fn one_way(&mut self, senders: usize, batch: usize, count: u64) -> Measured<Round> {
        let bytes = self.bytes;
        let each = count.div_ceil(senders.max(1) as u64);
        let count = each * senders as u64;
        let mut orders = vec![(0, format!("take {count} {bytes} {senders}"))];
        orders.extend((1..=senders).map(|index| (index, format!("send {READER} {each} {bytes} {batch}"))));
        let answers = measured!(self.crew.tell(&orders));
        let time = |answer: &Vec<u64>, at: usize| answer.get(at).copied().unwrap_or(0);
        let end = answers.first().map_or(0, |answer| time(answer, 1));
        let begin = answers.iter().skip(1).map(|answer| time(answer, 0)).min().unwrap_or(end);
        Ok(Ok(Round { count, nanoseconds: end.saturating_sub(begin), times: Vec::new() }))
    }

    fn round_trips(&mut self, count: u64, [answer, ask]: [&str; 2]) -> Measured<Round> {
        let bytes = self.bytes;
        let asker = sender(1);
        let orders = [(0, format!("{answer} {asker} {count} {bytes}")), (1, format!("{ask} {READER} {count} {bytes}"))];
        let answers = measured!(self.crew.tell(&orders));
        let times = answers.into_iter().nth(1).unwrap_or_default();
        Ok(Ok(Round { count, nanoseconds: times.iter().sum(), times }))
    }

    /// How many messages a round should have: as many as were asked for, or as many as go.
    pub(super) fn fitting(&mut self, kind: Kind, asked: Option<u64>) -> Measured<u64> {
        if let Some(count) = asked {
            measured!(self.round(kind, count.min(FEW)));
            return Ok(Ok(count));
        }
        let mut count = FEW;
        loop {
            let round = measured!(self.round(kind, count));
            if round.nanoseconds >= TELLING || count >= MOST {
                let fitting = u128::from(round.count) * u128::from(ROUND) / u128::from(round.nanoseconds.max(1));
                return Ok(Ok(u64::try_from(fitting).unwrap_or(MOST).clamp(FEW, MOST)));
            }
            count *= 4;
        }
    }
}

/// The rounds of both sides.
pub(super) struct Rounds {
    pub(super) ours: Vec<Round>,
    pub(super) floor: Vec<Round>,
}

/// How long each round trip of these rounds took.
pub(super) fn times(rounds: &[Round]) -> Times {
    Times::of(rounds.iter().flat_map(|round| round.times.iter().copied()))
}

/// Measures both sides in turns; who begins changes, too.
pub(super) fn in_turns(
    ours: &mut Side<'_>,
    mut floor: Option<&mut Side<'_>>,
    kind: Kind,
    rounds: u16,
    messages: Option<u64>,
) -> Measured<Rounds> {
    let ours_count = measured!(ours.fitting(kind, messages));
    let floor_count = match floor.as_deref_mut() {
        Some(floor) => measured!(floor.fitting(kind, messages)),
        None => 0,
    };
    let mut all = Rounds { ours: Vec::new(), floor: Vec::new() };
    for number in 0..rounds {
        for is_ours in [number % 2 == 0, number % 2 == 1] {
            match (is_ours, floor.as_deref_mut()) {
                (true, _) => all.ours.push(measured!(ours.round(kind, ours_count))),
                (false, Some(floor)) => all.floor.push(measured!(floor.round(kind, floor_count))),
                (false, None) => {}
            }
        }
    }
    Ok(Ok(all))
}
