// SPDX-License-Identifier: MIT OR Apache-2.0
//! The figures, as documents and tables tell of them. Field names are frozen.

use serde::Serialize;

use super::figures::{median, rounded};
use super::measure::{Kind, Round, Rounds, times};
use super::service::Request;
use crate::escape::escaped;
use crate::output::table;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) cores: usize,
    pub(super) serializer: String,
    pub(super) rounds: u16,
    pub(super) protocols: Vec<OfProtocol>,
}

/// One protocol.
#[derive(Debug, Serialize)]
pub(super) struct OfProtocol {
    pub(super) protocol: String,
    /// Why it was not measured.
    pub(super) skipped: Option<String>,
    /// What its ratios are to.
    pub(super) floor: Option<String>,
    pub(super) sizes: Vec<OfSize>,
}

/// One size of the content.
#[derive(Debug, Serialize)]
pub(super) struct OfSize {
    pub(super) content_bytes: usize,
    pub(super) message_bytes: usize,
    /// Why there are no figures, or not all.
    pub(super) skipped: Option<String>,
    pub(super) one_way: Vec<OneWay>,
    pub(super) round_trip: Option<RoundTrip>,
    pub(super) request: Option<Request>,
}

/// How many messages a second go one way.
#[derive(Debug, Serialize)]
pub(super) struct OneWay {
    pub(super) senders: usize,
    /// How many messages are sent at once; 1 for one `send` each.
    pub(super) batch: usize,
    pub(super) messages_a_round: u64,
    pub(super) messages_per_second: f64,
    pub(super) megabytes_per_second: f64,
    pub(super) floor_messages_per_second: Option<f64>,
    /// The part of the floor's rate that is reached.
    pub(super) ratio: Option<f64>,
    /// The part of the floor's rate with a call for each message, whatever `batch` is.
    pub(super) ratio_to_single_sends: Option<f64>,
}

/// How long a question and its answer take.
#[derive(Debug, Serialize)]
pub(super) struct RoundTrip {
    pub(super) samples: usize,
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) floor_p50_us: Option<f64>,
    /// How many times as long as the floor's the median is.
    pub(super) ratio: Option<f64>,
}

/// A quotient, where there is something to divide by.
fn ratio(ours: f64, floor: Option<f64>) -> Option<f64> {
    floor.filter(|floor| *floor > 0.0).map(|floor| rounded(ours / floor, 2))
}

impl OfSize {
    /// Adds what came of the rounds of one kind.
    pub(super) fn add(&mut self, kind: Kind, rounds: &Rounds) {
        match kind {
            Kind::OneWay { senders, batch } => self.one_way.push(self.one_way(senders, batch, rounds)),
            Kind::RoundTrip => self.round_trip = Some(round_trip(rounds)),
            Kind::Request => self.request = Some(Request::of(rounds)),
        }
    }

    /// The floor's rate for so many senders with a call for each message, once it was measured.
    fn single_sends(&self, senders: usize) -> Option<f64> {
        let single = self.one_way.iter().find(|one_way| (one_way.senders, one_way.batch) == (senders, 1));
        single.and_then(|single| single.floor_messages_per_second)
    }

    fn one_way(&self, senders: usize, batch: usize, rounds: &Rounds) -> OneWay {
        let rate = |rounds: &[Round]| median(&rounds.iter().map(Round::rate).collect::<Vec<_>>());
        let ours = rate(&rounds.ours);
        let floor = (!rounds.floor.is_empty()).then(|| rate(&rounds.floor));
        // No message is near 53 bits.
        #[allow(clippy::cast_precision_loss)]
        let megabytes = ours * self.content_bytes as f64 / 1e6;
        let floor = floor.map(f64::round);
        OneWay {
            senders,
            batch,
            messages_a_round: rounds.ours.first().map_or(0, |round| round.count),
            messages_per_second: ours.round(),
            megabytes_per_second: rounded(megabytes, 2),
            floor_messages_per_second: floor,
            ratio: ratio(ours, floor),
            ratio_to_single_sends: ratio(ours, self.single_sends(senders).or(floor)),
        }
    }
}

fn round_trip(rounds: &Rounds) -> RoundTrip {
    let (ours, floor) = (times(&rounds.ours), times(&rounds.floor));
    let floor_p50_us = (floor.count() > 0).then(|| floor.microseconds(500));
    let p50_us = ours.microseconds(500);
    RoundTrip {
        samples: ours.count(),
        p50_us,
        p90_us: ours.microseconds(900),
        p99_us: ours.microseconds(990),
        p999_us: ours.microseconds(999),
        floor_p50_us,
        ratio: ratio(p50_us, floor_p50_us),
    }
}

/// A rate, short: `812k`.
pub(super) fn short_rate(rate: f64) -> String {
    match rate {
        rate if rate >= 999_500.0 => format!("{:.2}M", rate / 1e6),
        rate if rate >= 99_950.0 => format!("{:.0}k", rate / 1e3),
        rate if rate >= 9_995.0 => format!("{:.1}k", rate / 1e3),
        rate if rate >= 999.5 => format!("{:.2}k", rate / 1e3),
        rate => format!("{rate:.0}"),
    }
}

/// A time in microseconds, short: `8.4`, `1250`.
pub(super) fn short_time(microseconds: f64) -> String {
    if microseconds < 99.95 { format!("{microseconds:.1}") } else { format!("{microseconds:.0}") }
}

/// A size in bytes, short: `64 KiB`.
pub(super) fn short_size(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        bytes if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} B"),
    }
}

impl Report {
    /// The figures for a person.
    pub(super) fn text(&self) -> String {
        let measured = || self.protocols.iter().flat_map(|protocol| &protocol.sizes);
        let mut columns: Vec<(usize, usize)> = Vec::new();
        for one_way in measured().flat_map(|size| &size.one_way) {
            if !columns.contains(&(one_way.senders, one_way.batch)) {
                columns.push((one_way.senders, one_way.batch));
            }
        }
        let mut head = vec!["protocol".to_owned(), "content".to_owned()];
        head.extend(columns.iter().map(|(senders, batch)| {
            let how = if *batch > 1 { "send_all" } else { "send" };
            if *senders == 1 { how.to_owned() } else { format!("{senders} x {how}") }
        }));
        head.extend(["p50", "p90", "p99", "p99.9", "request p50"].map(str::to_owned));
        let mut rows = vec![head];
        for protocol in &self.protocols {
            rows.extend(protocol.sizes.iter().map(|size| row(protocol, size, &columns)));
        }
        let mut text = if rows.len() > 1 { table(&rows) } else { String::new() };
        text.push_str(&self.notes());
        text
    }

    fn notes(&self) -> String {
        let mut text = String::new();
        if self.protocols.iter().any(|protocol| !protocol.sizes.is_empty()) {
            let (cores, serializer, rounds) = (self.cores, &self.serializer, self.rounds);
            text.push_str(&format!(
                "\nmessages a second, and round trips in microseconds, between processes; {serializer}, {cores} cores, median \
                 of {rounds} rounds\nrequest: to a service, with the ratio to the round trip of two plain messages, \
                 measured in turns with it\n"
            ));
        }
        let floors: Vec<String> = self
            .protocols
            .iter()
            .filter_map(|protocol| Some(format!("{} {}", protocol.protocol, escaped(protocol.floor.as_deref()?))))
            .collect();
        if !floors.is_empty() {
            text.push_str(
                "(x): ratio to the same bytes without the bus, one call a message, measured in turns with it: ",
            );
            text.push_str(&format!("{}\n", floors.join(", ")));
        }
        for protocol in &self.protocols {
            if let Some(reason) = &protocol.skipped {
                text.push_str(&format!("{}: not measured: {}\n", protocol.protocol, escaped(reason)));
            }
            for size in &protocol.sizes {
                if let Some(reason) = &size.skipped {
                    let bytes = short_size(size.content_bytes);
                    text.push_str(&format!("{}, {bytes}: not measured: {}\n", protocol.protocol, escaped(reason)));
                }
            }
        }
        text
    }
}

fn row(protocol: &OfProtocol, size: &OfSize, columns: &[(usize, usize)]) -> Vec<String> {
    let with = |figure: String, ratio: Option<f64>| match ratio {
        Some(ratio) => format!("{figure} ({ratio:.2})"),
        None => figure,
    };
    let mut row = vec![protocol.protocol.clone(), short_size(size.content_bytes)];
    for (senders, batch) in columns {
        let found = size.one_way.iter().find(|one_way| (one_way.senders, one_way.batch) == (*senders, *batch));
        row.push(
            found.map_or("-".to_owned(), |found| {
                with(short_rate(found.messages_per_second), found.ratio_to_single_sends)
            }),
        );
    }
    match &size.round_trip {
        Some(trip) => {
            row.push(with(short_time(trip.p50_us), trip.ratio));
            row.extend([trip.p90_us, trip.p99_us, trip.p999_us].map(short_time));
        }
        None => row.extend(["-"; 4].map(str::to_owned)),
    }
    // Its ratio is to two plain messages.
    row.push(size.request.as_ref().map_or("-".to_owned(), |it| with(short_time(it.p50_us), it.ratio)));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let rates = [0.0, 999.4, 1234.0, 12_345.0, 812_345.0, 999_999.0, 1_234_567.0];
        assert_eq!(rates.map(short_rate), ["0", "999", "1.23k", "12.3k", "812k", "1.00M", "1.23M"]);
        assert_eq!([8.44, 99.99, 1250.2].map(short_time), ["8.4", "100", "1250"]);
        assert_eq!([100, 4096, 5000, 1 << 20].map(short_size), ["100 B", "4 KiB", "5000 B", "1 MiB"]);
    }
}
