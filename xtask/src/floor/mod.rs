// SPDX-License-Identifier: MIT OR Apache-2.0
//! The floor of a protocol: the same bytes over the same transport, by a program that does nothing else. It speaks the
//! orders of `ipcm bench-worker`.

mod clock;
#[cfg(feature = "databases")]
mod database;
mod datagram;
mod file;
#[cfg(feature = "databases")]
mod mysql;
mod pipe;
#[cfg(feature = "databases")]
mod postgresql;
#[cfg(feature = "databases")]
mod server;
#[cfg(feature = "databases")]
mod sqlite;
mod stream;

use std::io::{self, BufRead, Write};
use std::path::Path;

use clock::now;

/// A transport, as one process has it.
trait Transport {
    /// Sends a message so many times to a worker, in one go where that is possible.
    fn send(&mut self, to: &str, message: &[u8], times: usize) -> io::Result<()>;

    /// Waits for messages of so many bytes from so many workers, and tells how many came whole.
    fn take(&mut self, bytes: usize, senders: usize) -> io::Result<usize>;

    /// Sends a question, and waits for the answer, which is as long.
    fn ask(&mut self, to: &str, message: &[u8]) -> io::Result<()> {
        self.send(to, message, 1)?;
        self.await_one(message.len())
    }

    /// Waits for a question, and answers it.
    fn answer(&mut self, to: &str, message: &[u8]) -> io::Result<()> {
        self.await_one(message.len())?;
        self.send(to, message, 1)
    }

    /// Waits for one message.
    fn await_one(&mut self, bytes: usize) -> io::Result<()> {
        while self.take(bytes, 1)? == 0 {}
        Ok(())
    }
}

/// Carries out the orders on standard input: the arguments are a protocol, a directory and the name of this worker.
pub(crate) fn work(_: &Path, arguments: &[String]) -> Result<(), String> {
    let [protocol, directory, name] = arguments else { return Err("a protocol, a directory and a name".into()) };
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| error.to_string())?;
    serve(protocol, Path::new(directory), name).map_err(|error| error.to_string())
}

fn serve(protocol: &str, directory: &Path, name: &str) -> io::Result<()> {
    let (what, mut transport): (&str, Box<dyn Transport>) = match protocol {
        "AtomicPipe" => ("to a pipe", Box::new(pipe::Pipes::new(directory, name)?)),
        "UnixSocket" => ("to a datagram socket", Box::new(datagram::Datagrams::new(directory, name)?)),
        "ConnectionUnix" => ("to a stream socket", Box::new(stream::Streams::new(directory, name)?)),
        "MessageFiles" => ("to a file made, renamed, read and removed", Box::new(file::Files::new(directory, name)?)),
        _ => match database(protocol, directory, name)? {
            Some(database) => database,
            None => {
                println!("none");
                return Ok(());
            }
        },
    };
    println!("ready {what}");
    for order in io::stdin().lock().lines() {
        let answer = obey(&mut *transport, &order?).unwrap_or_else(|error| format!("failed store {error}"));
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{answer}")?;
        stdout.flush()?;
    }
    Ok(())
}

/// The bare driver of a database, if the protocol has one.
#[cfg(feature = "databases")]
fn database(protocol: &str, directory: &Path, name: &str) -> io::Result<Option<(&'static str, Box<dyn Transport>)>> {
    use database::Rows;
    use ipc_manager_servers::Engine;
    const WHAT: &str = "to the bare driver inserting and deleting";
    let transport: Box<dyn Transport> = match protocol {
        "SQLite" => Box::new(Rows::new(sqlite::Sqlite::new(directory, name)?)),
        "PostgreSQL" => Box::new(Rows::new(postgresql::Postgresql::new(directory, name)?)),
        "MariaDB" => Box::new(Rows::new(mysql::Mysql::new(Engine::MariaDb, directory, name)?)),
        "MySQL" => Box::new(Rows::new(mysql::Mysql::new(Engine::MySql, directory, name)?)),
        _ => return Ok(None),
    };
    Ok(Some((WHAT, transport)))
}

#[cfg(not(feature = "databases"))]
fn database(_: &str, _: &Path, _: &str) -> io::Result<Option<(&'static str, Box<dyn Transport>)>> {
    Ok(None)
}

/// Inserts rows into the tables of a bus, with the bare driver.
#[cfg(feature = "databases")]
pub(crate) struct Inserter {
    table: Box<dyn database::Table>,
    made: u64,
}

#[cfg(feature = "databases")]
impl Inserter {
    /// As a peer of that name.
    pub(crate) fn new(protocol: &str, route: &str, name: &str) -> io::Result<Self> {
        use ipc_manager_servers::Engine;
        let server = |user: &str| server::of_route(route, user).ok_or_else(|| io::Error::other("no such route"));
        let table: Box<dyn database::Table> = match protocol {
            "SQLite" => Box::new(sqlite::Sqlite::at(Path::new(route), name)?),
            "PostgreSQL" => {
                let user = std::env::var("PGUSER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| "root".into());
                Box::new(postgresql::Postgresql::at(server(&user)?, name)?)
            }
            "MariaDB" => Box::new(mysql::Mysql::at(Engine::MariaDb, server("root")?, name)?),
            "MySQL" => Box::new(mysql::Mysql::at(Engine::MySql, server("root")?, name)?),
            _ => return Err(io::Error::other(format!("{protocol} is on no database"))),
        };
        Ok(Self { table, made: 0 })
    }

    /// Inserts one row.
    pub(crate) fn insert(&mut self, to: &str, content: &[u8]) -> io::Result<()> {
        self.made += 1;
        let id = database::id(self.made);
        self.table.insert(to, &[id], content)
    }
}

fn obey(transport: &mut dyn Transport, order: &str) -> io::Result<String> {
    let words: Vec<&str> = order.split(' ').collect();
    let number = |at: usize| -> io::Result<usize> {
        let word: &str = words.get(at).copied().unwrap_or_default();
        word.parse().map_err(|_| io::Error::other(format!("the order {order:?} lacks a number")))
    };
    match words.as_slice() {
        ["send", to, ..] => send(transport, to, number(2)?, &vec![b'x'; number(3)?], number(4)?),
        ["take", ..] => take(transport, number(1)?, number(2)?, number(3)?),
        ["ask", to, ..] => {
            let message = vec![b'x'; number(3)?];
            let mut answer = String::from("done");
            for _ in 0..number(2)? {
                let begin = now();
                transport.ask(to, &message)?;
                answer.push_str(&format!(" {}", now() - begin));
            }
            Ok(answer)
        }
        ["answer", to, ..] => {
            let message = vec![b'x'; number(3)?];
            for _ in 0..number(2)? {
                transport.answer(to, &message)?;
            }
            Ok("done".to_owned())
        }
        _ => Err(io::Error::other(format!("there is no order {order:?}"))),
    }
}

fn send(transport: &mut dyn Transport, to: &str, count: usize, message: &[u8], batch: usize) -> io::Result<String> {
    let begin = now();
    let mut left = count;
    while left > 0 {
        let times = left.min(batch.max(1));
        transport.send(to, message, times)?;
        left -= times;
    }
    Ok(format!("done {begin} {}", now()))
}

fn take(transport: &mut dyn Transport, count: usize, bytes: usize, senders: usize) -> io::Result<String> {
    let begin = now();
    let mut taken = 0;
    while taken < count {
        taken += transport.take(bytes, senders)?;
    }
    Ok(format!("done {begin} {}", now()))
}
