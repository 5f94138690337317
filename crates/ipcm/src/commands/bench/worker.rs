// SPDX-License-Identifier: MIT OR Apache-2.0
//! A worker of `ipcm bench`: a process of its own on the bus, which does what each line on its standard input says.
//!
//! | Order | What it does | Its answer |
//! | --- | --- | --- |
//! | `send TO COUNT BYTES BATCH` | sends so many messages, so many at once | `done BEGIN END` |
//! | `take COUNT BYTES SENDERS` | takes so many messages | `done BEGIN END` |
//! | `ask TO COUNT BYTES` | so many round trips | `done` and the time of each |
//! | `answer TO COUNT BYTES` | the other side of them | `done` |
//! | `request TO COUNT BYTES` | so many requests to the service of a worker | `done` and the time of each |
//! | `serve TO COUNT BYTES` | is that service until it has answered them | `done` |
//!
//! Times are in nanoseconds of the clock that all processes share. What went wrong is answered `failed CODE WORDS`. A
//! program that moves bytes over a bare transport speaks the same, so both are measured alike.

use std::io::{BufRead, Write};

use ipc_manager::{Client, Error, ErrorKind, Registry};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::time::{ClockId, clock_gettime};

use super::service;
use crate::args::{BusArgs, NameArgs};
use crate::bus_choice;
use crate::context::Context;
use crate::exit_code;
use crate::failure::{Failure, Outcome, chain};

pub(super) fn run(context: &mut Context) -> Outcome {
    // Whoever gives the orders may be killed, and then nobody ends what it started.
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| Failure::io("a worker cannot be tied to its parent", &error.into()))?;
    let info = context.choose_bus(&BusArgs::default())?;
    let name = bus_choice::name(&NameArgs::default())?.name;
    let mut client = Client::builder(&name, &info).registry(context.registry.clone()).connect()?;
    answer("ready")?;
    for order in std::io::stdin().lock().lines() {
        let order = order.map_err(|error| Failure::io("the orders cannot be read", &error))?;
        match obey(&mut client, &context.registry, &order) {
            Ok(done) => answer(&done)?,
            Err(error) => answer(&format!("failed {} {}", error.code(), chain(&error).join(": ")))?,
        }
    }
    // What is unread belongs to a round that was given up.
    let _ = client.disconnect();
    Ok(exit_code::DONE)
}

fn answer(line: &str) -> Outcome<()> {
    let mut stdout = std::io::stdout().lock();
    let written = writeln!(stdout, "{}", line.replace('\n', " ")).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::io("the answer cannot be written", &error))
}

fn obey(client: &mut Client, registry: &Registry, order: &str) -> Result<String, Error> {
    let words: Vec<&str> = order.split(' ').collect();
    let number = |at: usize| -> Result<usize, Error> {
        let word: &str = words.get(at).copied().unwrap_or_default();
        word.parse().map_err(|_| Error::new(ErrorKind::Usage, format!("the order {order:?} lacks a number")))
    };
    match words.as_slice() {
        ["send", to, ..] => send(client, to, number(2)?, &content(number(3)?), number(4)?),
        ["take", ..] => take(client, number(1)?),
        ["ask", to, ..] => ask(client, to, number(2)?, &content(number(3)?)),
        ["answer", to, ..] => reply(client, to, number(2)?, &content(number(3)?)),
        ["request", to, ..] => service::request(client, registry, to, number(2)?, &content(number(3)?)),
        ["serve", ..] => service::serve(client, registry, number(2)?, &content(number(3)?)),
        _ => Err(Error::new(ErrorKind::Usage, format!("there is no order {order:?}"))),
    }
}

/// A text that has so many bytes as JSON, and that no compression makes away with.
pub(super) fn content(bytes: usize) -> String {
    let mut state = 1_u32;
    let letters = (2..bytes).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'A' + u8::try_from((state >> 16) % 26).unwrap_or(0))
    });
    letters.collect()
}

fn send(client: &mut Client, to: &str, count: usize, content: &str, batch: usize) -> Result<String, Error> {
    let begin = now();
    if batch <= 1 {
        for _ in 0..count {
            client.send(to, content)?;
        }
    } else {
        let mut left = count;
        while left > 0 {
            let mut messages = Vec::with_capacity(left.min(batch));
            while messages.len() < left.min(batch) {
                messages.push(client.message(to, content)?);
            }
            left -= messages.len();
            client.send_all(messages)?;
        }
    }
    Ok(format!("done {begin} {}", now()))
}

fn take(client: &mut Client, count: usize) -> Result<String, Error> {
    let begin = now();
    let mut taken = 0;
    while taken < count {
        let more = client.get_messages()?.len();
        taken += more;
        if more == 0 && taken < count {
            client.recv()?;
            taken += 1;
        }
    }
    Ok(format!("done {begin} {}", now()))
}

fn ask(client: &mut Client, to: &str, count: usize, content: &str) -> Result<String, Error> {
    let mut answer = String::from("done");
    for _ in 0..count {
        let begin = now();
        client.send(to, content)?;
        client.recv()?;
        answer.push_str(&format!(" {}", now() - begin));
    }
    Ok(answer)
}

fn reply(client: &mut Client, to: &str, count: usize, content: &str) -> Result<String, Error> {
    for _ in 0..count {
        client.recv()?;
        client.send(to, content)?;
    }
    Ok("done".to_owned())
}

/// Nanoseconds of the clock that all processes share.
pub(super) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // Neither is negative, and a machine does not run for centuries.
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_has_its_size() {
        for bytes in [2, 3, 100, 4096] {
            assert_eq!(serde_json::to_string(&content(bytes)).unwrap().len(), bytes);
        }
    }
}
