// SPDX-License-Identifier: MIT OR Apache-2.0
//! Owners that are killed: nothing stays, neither a process nor a file.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};

use ipc_manager_servers::{Engine, ErrorKind, Options, PrivateServer, leftovers, remove_leftovers};
use ipc_manager_testkit::{Sandbox, Suite, eventually, eventually_some};
use rustix::process::{Pid, Signal, kill_process};

crate::over_engines![
    "owners":
    a_killed_owner_leaves_nothing,
    one_killed_during_the_start_leaves_nothing,
    what_a_killed_keeper_leaves_is_found_and_removed,
    the_owner_of_a_lost_keeper_removes_it_all,
    a_forked_copy_does_nothing,
    it_starts_whatever_the_umask,
];

pub fn add_to(suite: Suite) -> Suite {
    suite.act("owner", own).act("forks", fork).act("leftovers", find).act("viable", crate::starts::say_what_is_missing)
}

/// What tells an act its engine.
const ENGINE: &str = "ENGINE";

pub fn engine_of_act() -> Engine {
    let name = env::var(ENGINE).unwrap();
    Engine::ALL.into_iter().find(|engine| engine.name() == name).unwrap()
}

/// What tells an act its umask, in octal.
const UMASK: &str = "IPCT_UMASK";

/// Owns a server until its input ends.
fn own() -> ExitCode {
    if let Ok(mask) = env::var(UMASK) {
        rustix::process::umask(rustix::fs::Mode::from_bits_truncate(u32::from_str_radix(&mask, 8).unwrap()));
    }
    let server = PrivateServer::start(engine_of_act(), &Options::new()).unwrap();
    println!("{}", server.dir().parent().unwrap().display());
    let _ = std::io::stdin().read(&mut [0]);
    server.close().unwrap();
    ExitCode::SUCCESS
}

/// Owns a server, of which a forked child drops and tries to use its copies.
fn fork() -> ExitCode {
    let mut server = PrivateServer::start(engine_of_act(), &Options::new()).unwrap();
    // SAFETY: no other thread runs: this process plays an act and has started none.
    match unsafe { libc::fork() } {
        0 => {
            let refused = server.stop().map_err(|error| error.kind());
            drop(server);
            ExitCode::from(if refused == Err(ErrorKind::Usage) { 0 } else { 1 })
        }
        child => {
            let mut status = 0;
            // SAFETY: it is a child of this process, and the status a place of its own.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0, "the child should have been refused");
            assert!(server.is_running() && keeper(server.dir().parent().unwrap()).as_raw_nonzero().get() > 1);
            assert!(server.socket().exists());
            server.close().unwrap();
            ExitCode::SUCCESS
        }
    }
}

/// Says what is left over in its temporary folder, and removes it.
fn find() -> ExitCode {
    let found = leftovers();
    // A keeper may do the same at the same time.
    let removed = remove_leftovers().unwrap();
    assert!(removed.iter().all(|dir| found.contains(dir) || !dir.exists()));
    for dir in removed {
        println!("{}", dir.display());
    }
    ExitCode::SUCCESS
}

/// An owner in a process of its own, whose temporary folder is the test's.
struct Owner(Child);

impl Owner {
    fn start(engine: Engine, sandbox: &Sandbox) -> Self {
        Self::play("owner", engine, sandbox, &[])
    }

    fn play(act: &str, engine: Engine, sandbox: &Sandbox, more: &[(&str, &str)]) -> Self {
        // The account of a server that root starts must be able to pass.
        fs::set_permissions(sandbox.dir(), fs::Permissions::from_mode(0o711)).unwrap();
        let mut command = Suite::command(act);
        command.env("TMPDIR", sandbox.dir()).env(ENGINE, engine.name()).envs(more.iter().copied());
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// The directory with all of its server, once that is ready.
    fn server_dir(&mut self) -> PathBuf {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        PathBuf::from(line.trim_end())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The processes that a directory occurs in: in their arguments or as where they work.
fn processes(dir: &Path) -> Vec<Pid> {
    let text = dir.to_str().unwrap();
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    let concerned = pids.filter(|pid| {
        let of = |name: &str| format!("/proc/{}/{name}", pid.as_raw_nonzero());
        let arguments = fs::read(of("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(text)
            || fs::read_link(of("cwd")).is_ok_and(|cwd| cwd.starts_with(dir))
    });
    concerned.collect()
}

fn keeper(dir: &Path) -> Pid {
    let is_keeper = |pid: &Pid| {
        let arguments = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|argument| argument == b"ipcm-server-keeper")
    };
    processes(dir).into_iter().find(is_keeper).unwrap()
}

fn assert_nothing_is_left(sandbox: &Sandbox) {
    eventually("all processes to end", || processes(sandbox.dir()).is_empty());
    eventually("all files to be removed", || sandbox.listing().is_empty());
}

fn a_killed_owner_leaves_nothing(engine: Engine, sandbox: &Sandbox) {
    let mut owner = Owner::start(engine, sandbox);
    let dir = owner.server_dir();
    assert!(dir.starts_with(sandbox.dir()) && processes(&dir).len() >= 2);
    let servers: Vec<_> = processes(&dir).iter().map(|pid| pid.as_raw_nonzero().get().to_string()).collect();
    owner.kill();
    assert_nothing_is_left(sandbox);
    // Shared memory of System V stays until it is removed; field 5 is the pid of its maker. proc_sysvipc(5)
    let segments = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let makers = segments.lines().filter_map(|line| line.split_whitespace().nth(4));
    assert!(!makers.into_iter().any(|maker| servers.iter().any(|pid| pid == maker)), "{segments}");
}

fn one_killed_during_the_start_leaves_nothing(engine: Engine, sandbox: &Sandbox) {
    // At three points: as soon as the directory is there, as soon as data are, and somewhat later.
    for entries in [1, 4, 40] {
        let mut owner = Owner::start(engine, sandbox);
        eventually("the start to get so far", || sandbox.listing().len() >= entries);
        owner.kill();
        assert_nothing_is_left_after_start(sandbox);
    }
}

/// Before there is a keeper, nobody but the next start or sweep can remove the empty directory.
fn assert_nothing_is_left_after_start(sandbox: &Sandbox) {
    eventually("all processes to end", || processes(sandbox.dir()).is_empty());
    eventually("all files to be removed", || {
        sandbox.listing().is_empty() || {
            sweep(sandbox);
            sandbox.listing().is_empty()
        }
    });
}

/// What a process finds and removes whose temporary folder is the test's.
pub fn sweep(sandbox: &Sandbox) -> Vec<PathBuf> {
    let output = Suite::command("leftovers").env("TMPDIR", sandbox.dir()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all = String::from_utf8(output.stdout).unwrap();
    all.lines().map(PathBuf::from).filter(|dir| dir.starts_with(sandbox.dir())).collect()
}

fn what_a_killed_keeper_leaves_is_found_and_removed(engine: Engine, sandbox: &Sandbox) {
    let mut owner = Owner::start(engine, sandbox);
    let dir = owner.server_dir();
    assert!(sweep(sandbox).is_empty(), "a server of a living owner is no leftover");
    kill_process(keeper(&dir), Signal::KILL).unwrap();
    owner.kill();
    assert!(!processes(&dir).is_empty(), "the server should run yet");
    assert_eq!(sweep(sandbox), [dir]);
    assert_nothing_is_left(sandbox);
}

fn a_forked_copy_does_nothing(engine: Engine, sandbox: &Sandbox) {
    let mut actor = Owner::play("forks", engine, sandbox, &[]);
    let status = eventually_some("the owner to end", || actor.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
    assert_nothing_is_left(sandbox);
}

fn the_owner_of_a_lost_keeper_removes_it_all(engine: Engine, sandbox: &Sandbox) {
    let mut owner = Owner::start(engine, sandbox);
    let dir = owner.server_dir();
    kill_process(keeper(&dir), Signal::KILL).unwrap();
    drop(owner.0.stdin.take());
    let status = eventually_some("the owner to end", || owner.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
    assert_nothing_is_left(sandbox);
}

fn it_starts_whatever_the_umask(engine: Engine, sandbox: &Sandbox) {
    let mut owner = Owner::play("owner", engine, sandbox, &[(UMASK, "777")]);
    let dir = owner.server_dir();
    assert!(dir.starts_with(sandbox.dir()), "there is no server");
    // The account of a server that root starts may pass through the outermost.
    let top = if rustix::process::geteuid().is_root() { 0o710 } else { 0o700 };
    for (name, expected) in [("", top), ("s", 0o700), ("s/data", 0o700), ("owner", 0o600), ("log", 0o600)] {
        let mode = fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, expected, "{name:?}");
    }
    drop(owner.0.stdin.take());
    let status = eventually_some("the owner to end", || owner.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
    assert_nothing_is_left(sandbox);
}
