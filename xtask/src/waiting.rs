// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask bench --waiting`: what a message costs while so many others wait, how much `send_all` gains, and how
//! soon a reader that sleeps has a message, on the buses in databases.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use ipc_manager::{Client, Error, Message, Result, Spawn};

use crate::floor::Inserter;

/// The databases that are measured unless some are named, and how many messages wait.
const PROTOCOLS: &str = "SQLite,PostgreSQL,MariaDB,MySQL";
const ROWS: &str = "10,1000,100000,1000000";
/// Messages that are sent at once.
const BATCH: usize = 1_000;
/// Messages that each figure is the median of.
const SAMPLES: usize = 400;
/// Long enough that a reader sleeps.
const ASLEEP: Duration = Duration::from_millis(3);

const USAGE: &str = "usage: cargo xtask bench --waiting [--protocol NAME,...] [--rows COUNT,...]";

/// Measures, and prints a line for each figure.
pub(crate) fn run(_: &std::path::Path, arguments: &[String]) -> std::result::Result<(), String> {
    let (mut protocols, mut rows) = (PROTOCOLS.to_owned(), ROWS.to_owned());
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        let value = rest.next().ok_or(USAGE)?.clone();
        match option.as_str() {
            "--protocol" | "-p" => protocols = value,
            "--rows" => rows = value,
            _ => return Err(USAGE.into()),
        }
    }
    let rows: Vec<usize> = rows
        .split(',')
        .map(|count| count.parse().map_err(|_| USAGE.to_owned()))
        .collect::<std::result::Result<_, _>>()?;
    for protocol in protocols.split(',') {
        measure(protocol, &rows).map_err(|error| format!("{protocol}: {error}"))?;
    }
    Ok(())
}

fn measure(protocol: &str, rows: &[usize]) -> Result<()> {
    let mut bus = Spawn::builder().protocol(protocol).serializer("JSON").spawn()?;
    let mut sender = bus.connect("sender")?;
    let (end, commit) = wake_up(&mut sender, bus.connect("sleeper")?)?;
    println!(
        "{protocol}: a sleeping reader has a message {end:.0} µs after its send ended, {commit:.0} µs after it began"
    );
    let mut reader = bus.connect("reader")?;
    let (mut waiting, mut many) = (0, 0.0);
    let inserter = Inserter::new(protocol, bus.route().as_str(), "bare");
    let mut inserter = inserter.map_err(|error| Error::system(error, "the bare driver cannot connect"))?;
    let _bare = bus.connect("bare")?;
    for count in rows {
        let mut times = Vec::new();
        while waiting < *count {
            let messages = messages(&sender, BATCH.min(count - waiting))?;
            let sent = u32::try_from(messages.len()).unwrap_or(1);
            waiting += messages.len();
            let begun = Instant::now();
            sender.send_all(messages)?;
            times.push(begun.elapsed() / sent);
        }
        many = if times.is_empty() { many } else { median(times) };
        let (send, take, raw) = cost(&mut sender, &mut reader, &mut inserter)?;
        println!(
            "{protocol}: {count} waiting: send {send:.1} µs ({:.2} of the bare insert's rate), take {take:.1} µs; \
             send_all of {BATCH} {many:.1} µs a message ({:.1} times the rate of send)",
            raw / send,
            send / many
        );
    }
    drop((sender, reader));
    bus.shutdown().map(drop)
}

fn messages(sender: &Client, count: usize) -> Result<Vec<Message>> {
    (0..count).map(|_| sender.message("reader", &"x".repeat(98))).collect()
}

/// Medians of what one send, one take and one bare insert into the same table cost, in microseconds, in turns.
fn cost(sender: &mut Client, reader: &mut Client, inserter: &mut Inserter) -> Result<(f64, f64, f64)> {
    let (mut sends, mut takes, mut inserts) = (Vec::new(), Vec::new(), Vec::new());
    let content = "x".repeat(98);
    let json = format!("{content:?}");
    for round in 0..2 * SAMPLES {
        let begun = Instant::now();
        if round % 2 == 0 {
            sender.send("reader", &content)?;
            sends.push(begun.elapsed());
        } else {
            let inserted = inserter.insert("reader", json.as_bytes());
            inserts.push(begun.elapsed());
            inserted.map_err(|error| Error::system(error, "the bare driver cannot insert"))?;
        }
        let begun = Instant::now();
        reader.recv()?;
        takes.push(begun.elapsed());
    }
    Ok((median(sends), median(takes), median(inserts)))
}

/// Medians of the time until a reader that sleeps has a message, in microseconds: after its send ended, and after it
/// began.
fn wake_up(sender: &mut Client, mut reader: Client) -> Result<(f64, f64)> {
    let (told, heard) = mpsc::channel();
    let reading = std::thread::spawn(move || {
        for _ in 0..SAMPLES {
            let taken = reader.recv().map(|_| Instant::now());
            if told.send(taken).is_err() {
                break;
            }
        }
    });
    let (mut after_end, mut after_begin) = (Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        std::thread::sleep(ASLEEP); // until the reader surely does
        let begun = Instant::now();
        sender.send("sleeper", "x")?;
        let ended = Instant::now();
        let Ok(taken) = heard.recv() else { break };
        let taken = taken?;
        after_end.push(taken.saturating_duration_since(ended));
        after_begin.push(taken.saturating_duration_since(begun));
    }
    let _ = reading.join();
    Ok((median(after_end), median(after_begin)))
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}
