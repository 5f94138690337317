// SPDX-License-Identifier: MIT OR Apache-2.0
//! What asking a service costs beside two plain messages: the workers' part of it, and the figures.

use ipc_manager::{Client, Error, ErrorKind, Handle, Registry, Reply, Service};
use serde::Serialize;
use std::time::Duration;

use super::figures::rounded;
use super::measure::{Kind, Measured, Rounds, Side, times};
use super::worker::now;

/// How long who asks waits for the service to be there.
const READY: Duration = Duration::from_secs(10);

/// How long a request to a service takes, and how long two plain messages, measured in turns.
#[derive(Debug, Serialize)]
pub(super) struct Request {
    pub(super) samples: usize,
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    /// The median round trip of two plain messages.
    pub(super) plain_p50_us: f64,
    /// How many times as long as that the median is.
    pub(super) ratio: Option<f64>,
}

impl Request {
    /// Of rounds of requests, and of plain round trips in place of the bare transport's.
    pub(super) fn of(rounds: &Rounds) -> Self {
        let (times, plain) = (times(&rounds.ours), times(&rounds.floor));
        let (p50_us, plain_p50_us) = (times.microseconds(500), plain.microseconds(500));
        Self {
            samples: times.count(),
            p50_us,
            p90_us: times.microseconds(900),
            p99_us: times.microseconds(990),
            p999_us: times.microseconds(999),
            plain_p50_us,
            ratio: (plain_p50_us > 0.0).then(|| rounded(p50_us / plain_p50_us, 2)),
        }
    }
}

/// Measures requests and plain round trips in turns, with the same workers.
pub(super) fn beside_plain(workers: &mut Side<'_>, rounds: u16, messages: Option<u64>) -> Measured<Rounds> {
    let mut counts = [0; 2];
    let kinds = [Kind::Request, Kind::RoundTrip];
    for (count, kind) in counts.iter_mut().zip(kinds) {
        *count = measured!(workers.fitting(kind, messages));
    }
    let mut all = [Vec::new(), Vec::new()];
    for number in 0..usize::from(rounds) * 2 {
        // Who begins changes, too.
        let which = (number + number / 2) % 2;
        all[which].push(measured!(workers.round(kinds[which], counts[which])));
    }
    let [ours, floor] = all;
    Ok(Ok(Rounds { ours, floor }))
}

/// Is a service until it has answered so many requests.
pub(super) fn serve(client: &Client, registry: &Registry, count: usize, content: &str) -> Result<String, Error> {
    let (answer, mut left) = (content.to_owned(), count);
    Service::builder(&of_reader(client.name().as_str()))
        .bus(client.info())
        .registry(registry.clone())
        .on_request(move |service, _| {
            left = left.saturating_sub(1);
            if left == 0 {
                service.terminate(0);
            }
            Ok(Reply::new(&answer)?)
        })
        .run()?;
    Ok("done".to_owned())
}

/// Asks a service so many times.
pub(super) fn request(
    client: &Client,
    registry: &Registry,
    to: &str,
    count: usize,
    content: &str,
) -> Result<String, Error> {
    let to = of_reader(to);
    let mut handle = Handle::with_registry(&to, client.info(), registry.clone())?;
    if !handle.ready(Some(READY))? {
        return Err(Error::new(ErrorKind::Timeout, "the service did not come"));
    }
    let mut answer = String::from("done");
    for _ in 0..count {
        let begin = now();
        handle.request(&to, content)?;
        answer.push_str(&format!(" {}", now() - begin));
    }
    Ok(answer)
}

/// The name of a worker's service: beside its own, so that nobody takes the one for the other.
fn of_reader(name: &str) -> String {
    format!("{name}-service")
}
