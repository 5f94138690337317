// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server and its life.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::account::{self, Account};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{self, LOOK_EVERY};
use crate::keeper::Keeper;
use crate::options::Options;
use crate::place::{self, Place};
use crate::programs::{self, Programs};
use crate::{leftovers, mysql_family, postgresql, processes};

/// How long a server may take to end by itself.
const ENDING: Duration = Duration::from_secs(10);

/// A database server of this process's own, gone when this value is.
///
/// It is reached over the Unix socket [`socket`](Self::socket) by this process's user and by root, as
/// [`user`](Self::user) and without a password. It holds one empty database, [`database`](Self::database). Each start
/// makes another server.
///
/// A child that this process forks and that does not execute another program is an owner too: the server stays until
/// both are gone, if neither closes it. Dropping the value in such a child does nothing.
///
/// ```no_run
/// use ipc_manager_servers::{Engine, Options, PrivateServer};
/// let mut server = PrivateServer::start(Engine::MariaDb, &Options::new())?;
/// assert!(server.is_running());
/// server.stop()?;
/// server.start_again()?;
/// server.close()?;
/// # Ok::<(), ipc_manager_servers::Error>(())
/// ```
#[derive(Debug)]
pub struct PrivateServer {
    engine: Engine,
    options: Options,
    programs: Programs,
    account: Option<Account>,
    place: Place,
    /// Who made it: not the process that a copy of this value was forked into.
    owner: u32,
    server: Option<Child>,
    /// Taken when the server is given away or gone.
    keeper: Option<Keeper>,
}

impl PrivateServer {
    /// Makes and starts a server, and waits until it lets clients in.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] if a program is not on this machine, [`ErrorKind::NoPlace`] and [`ErrorKind::NoAccount`]
    /// if it has nowhere to be and nobody to run as, [`ErrorKind::Usage`] for an impossible option,
    /// [`ErrorKind::Failed`] if one of its programs fails, [`ErrorKind::Timeout`] if it takes too long, and
    /// [`ErrorKind::System`] for what the system refuses. Nothing is left then.
    pub fn start(engine: Engine, options: &Options) -> Result<Self> {
        options.check()?;
        let programs = programs::find(engine)?;
        let account = account::for_server(engine)?;
        let deadline = Instant::now() + options.timeout;
        // What cannot be removed is reported by whoever asks for its removal.
        let _ = leftovers::remove_leftovers();
        let place = Place::make(engine, options, account.as_ref())?;
        let keeper = Keeper::start(engine, &place).inspect_err(|_| drop(place::remove(place.top())))?;
        let (options, keeper) = (options.clone(), Some(keeper));
        let owner = std::process::id();
        // From here on dropping it removes everything.
        let mut server = Self { engine, options, programs, account, place, owner, server: None, keeper };
        server.initialise(deadline)?;
        server.launch(deadline)?;
        Ok(server)
    }

    fn initialise(&mut self, deadline: Instant) -> Result<()> {
        let account = self.account.as_ref();
        let jobs = match self.engine {
            Engine::PostgreSQL => postgresql::initialise(&self.programs, &self.place, &self.options)?,
            engine => {
                mysql_family::write_first_statements(&self.place, &self.options)?;
                mysql_family::initialise(engine, &self.programs, &self.place, &self.options)
            }
        };
        let Some(keeper) = &mut self.keeper else { return Err(given_away()) };
        jobs.iter().try_for_each(|job| job::run(job, &self.place, keeper, account, deadline))
    }

    fn launch(&mut self, deadline: Instant) -> Result<()> {
        let job = match self.engine {
            Engine::PostgreSQL => postgresql::serve(&self.programs, &self.place, &self.options),
            engine => mysql_family::serve(engine, &self.programs, &self.place, &self.options),
        };
        let Some(keeper) = &mut self.keeper else { return Err(given_away()) };
        let child = self.server.insert(job.start(&self.place, keeper, self.account.as_ref())?);
        let pid = child.id();
        let fail = |kind, detail: String, place: &Place| {
            let detail = format!("{detail}; {}", job::complaint(place));
            Err(Error::new(kind, "start the server", detail).at(&job.program))
        };
        loop {
            if let Some(status) = job::wait(child, Instant::now())? {
                return fail(ErrorKind::Failed, status.to_string(), &self.place);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let ready = match self.engine {
                Engine::PostgreSQL => postgresql::is_ready(self.place.inner(), pid),
                _ => mysql_family::is_ready(self.place.inner(), left),
            };
            if ready {
                return Ok(());
            }
            if left.is_zero() {
                return fail(ErrorKind::Timeout, "it was not ready in time".into(), &self.place);
            }
            thread::sleep(LOOK_EVERY); // between two looks
        }
    }

    /// Which engine it is.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// The directory with its data and its socket; it is the only one in one with a random name that is removed with it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.place.inner()
    }

    /// The path of its socket. Clients of PostgreSQL are told the folder as their host, which is [`dir`](Self::dir).
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        match self.engine {
            Engine::PostgreSQL => postgresql::socket(self.dir(), &self.options),
            _ => mysql_family::socket(self.dir()),
        }
    }

    /// Its database.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.options.database
    }

    /// Its superuser, who needs no password: on PostgreSQL the login name of this process's user, which clients take by
    /// themselves, else `root`. MariaDB and MySQL let in any other name too that has no account; who has one needs its
    /// password.
    #[must_use]
    pub fn user(&self) -> String {
        match self.engine {
            Engine::PostgreSQL => postgresql::user(),
            _ => mysql_family::USER.to_owned(),
        }
    }

    /// The data source name as DBI writes it, such as `dbi:Pg:dbname=quickdb;host=/tmp/ipcm-db-…/s`.
    #[must_use]
    pub fn dbi_dsn(&self) -> String {
        match self.engine {
            Engine::PostgreSQL => postgresql::dbi_dsn(self.dir(), &self.options),
            _ => mysql_family::dbi_dsn(self.dir(), self.database()),
        }
    }

    /// The pid of the server, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// Whether it runs: not after [`stop`](Self::stop) or [`kill`](Self::kill), nor if it ended by itself.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.server.as_mut().is_some_and(|server| matches!(job::wait(server, Instant::now()), Ok(None)))
    }

    /// The end of what it and its tools said.
    #[must_use]
    pub fn last_words(&self) -> String {
        job::last_words(&self.place)
    }

    /// Shuts it down in order. Its data stay.
    ///
    /// # Errors
    /// [`ErrorKind::System`] if its processes do not end.
    pub fn stop(&mut self) -> Result<()> {
        self.end(self.engine.stop_signal())
    }

    /// Kills it. What was committed stays; what was not is lost.
    ///
    /// # Errors
    /// [`ErrorKind::System`] if its processes do not end.
    pub fn kill(&mut self) -> Result<()> {
        self.end(Signal::KILL)
    }

    /// Starts it after [`stop`](Self::stop) or [`kill`](Self::kill), with the same data on the same socket, and waits
    /// until it lets clients in. A server that runs is left alone.
    ///
    /// # Errors
    /// [`ErrorKind::Failed`], [`ErrorKind::Timeout`] or [`ErrorKind::System`], as for [`start`](Self::start).
    pub fn start_again(&mut self) -> Result<()> {
        self.check_owner()?;
        if self.is_running() {
            return Ok(());
        }
        self.end(Signal::KILL)?;
        self.launch(Instant::now() + self.options.timeout)
    }

    /// A copy that was forked must not act: the processes are not its children.
    fn check_owner(&self) -> Result<()> {
        if self.owner == std::process::id() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Usage, "use the server", "it belongs to the process that this one was forked from"))
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        self.check_owner()?;
        let Some(mut server) = self.server.take() else { return Ok(()) };
        job::end(&mut server, signal, ENDING);
        if let Some(keeper) = &mut self.keeper {
            keeper.note_nothing()?;
        }
        // The sessions of a killed PostgreSQL notice by themselves, a little later.
        if !processes::wait_until_none(self.place.top(), Instant::now() + ENDING) {
            let detail = "its processes do not end";
            return Err(Error::new(ErrorKind::Timeout, "end the server", detail).at(self.dir()));
        }
        Ok(())
    }

    /// Gives it away: from now on it lives as long as any process holds a lock on a file (`flock`), and `linger`
    /// longer, and no longer ends with this value. The caller must hold such a lock already. Seconds are counted whole.
    ///
    /// # Errors
    /// [`ErrorKind::System`] if the program `flock` is missing, which the keeper needs then, and [`ErrorKind::Usage`] if
    /// the path of the file is not absolute or no plain text. The server is gone then.
    pub fn share(mut self, lock: &Path, linger: Duration) -> Result<()> {
        const OPERATION: &str = "share the server";
        self.check_owner()?;
        let plain = lock.to_str().is_some_and(|path| path.starts_with('/') && !path.contains(char::is_control));
        if !plain || lock.display().to_string().ends_with(' ') {
            return Err(Error::new(ErrorKind::Usage, OPERATION, "the path is not absolute or no plain text").at(lock));
        }
        let tried = std::process::Command::new("flock").arg("--version").output();
        tried.map_err(|error| Error::system(OPERATION, error).at(Path::new("flock")))?;
        self.place.note_lock(lock).map_err(|error| Error::system(OPERATION, error).at(self.place.top()))?;
        match self.keeper.take() {
            Some(keeper) => keeper.share(lock, linger),
            None => Err(given_away()),
        }
    }

    /// Ends it and removes all that it had.
    ///
    /// # Errors
    /// [`ErrorKind::System`] if the directory cannot be removed.
    pub fn close(mut self) -> Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> Result<()> {
        if self.owner != std::process::id() {
            return Ok(());
        }
        let Some(mut keeper) = self.keeper.take() else { return Ok(()) };
        if let Some(mut server) = self.server.take() {
            job::end(&mut server, self.engine.end_signal(), ENDING);
        }
        let _ = keeper.note_nothing();
        let mut removed = place::remove(self.place.top());
        if removed.is_err() {
            // Something that was just ending wrote yet.
            processes::wait_until_none(self.place.top(), Instant::now() + ENDING);
            removed = place::remove(self.place.top());
        }
        keeper.let_go();
        match removed {
            Err(error) if self.place.top().exists() => {
                Err(Error::system("remove the server", error).at(self.place.top()))
            }
            _ => Ok(()),
        }
    }
}

fn given_away() -> Error {
    Error::new(ErrorKind::Usage, "use the server", "it was given away")
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        let _ = self.remove();
    }
}
