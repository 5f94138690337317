// SPDX-License-Identifier: MIT OR Apache-2.0
//! The other side of a puppet: this same program, started again to do what it is told.

use std::io::{BufReader, Read, Write};
use std::process::{Command, ExitCode};

use ipc_manager::Registry;

use crate::Subject;

/// Tells a started program what to be: a protocol whose registry to serve, or an act behind `act:`.
const ROLE: &str = "IPC_MANAGER_TESTKIT_ROLE";

/// The process that the started program must not outlive.
const PARENT: &str = "IPC_MANAGER_TESTKIT_PARENT";

/// This program, to be started in a role.
pub(crate) fn program(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a running program has a path"));
    command.envs(roles(role));
    command
}

/// What tells a started program which role it has.
pub(crate) fn roles(role: &str) -> [(&'static str, String); 2] {
    [(ROLE, role.to_owned()), (PARENT, std::process::id().to_string())]
}

/// Something that this program does when it is started again under a name, in a process without other threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Act {
    pub(crate) name: &'static str,
    pub(crate) play: fn() -> ExitCode,
}

/// Plays the role that this process was started for, if it was.
pub(crate) fn play(subjects: &[Subject], acts: &[Act]) -> Option<ExitCode> {
    let role = std::env::var(ROLE).ok()?;
    // First: whoever becomes another user is asked anew with whom to die.
    crate::user::become_it();
    die_with_parent();
    die_of_broken_pipes();
    hear_signals();
    if let Some(name) = role.strip_prefix("act:") {
        let act = acts.iter().find(|act| act.name == name).unwrap_or_else(|| panic!("there is no act {name:?}"));
        return Some((act.play)());
    }
    for play_it in [crate::torture::play, crate::steps::play, crate::actor::play] {
        if let Some(code) = play_it(subjects, &role).or_else(|| crate::trace::play(&role)) {
            return Some(code);
        }
    }
    let subject = subjects.iter().find(|subject| subject.protocol() == role);
    let subject = subject.unwrap_or_else(|| panic!("there is no subject for the protocol {role:?}"));
    serve(subject.registry(), std::io::stdin(), std::io::stdout());
    Some(ExitCode::SUCCESS)
}

/// Runs the engine until its input ends.
pub(crate) fn serve(registry: Registry, input: impl Read + Send + 'static, output: impl Write + Send + 'static) {
    if let Err(error) = ipcm::coproc::serve(registry, BufReader::new(input), output) {
        // Whoever drives it sees the end of the output; the reason is for the reader of the log.
        eprintln!("a puppet ended: {error}");
    }
}

/// As a program that leaves the signal to the system, which this language does not by itself: so that a broken pipe that
/// reaches the host of a client shows.
fn die_of_broken_pipes() {
    let always = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let signal = rustix::process::Signal::PIPE.as_raw();
    let _ = signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, always);
}

/// A signal that interrupts whoever hears it, and does nothing else to anybody.
pub(crate) const HARMLESS: rustix::process::Signal = rustix::process::Signal::WINCH;

/// Has [`HARMLESS`] interrupt this process: without a handler it is ignored before it gets that far.
pub(crate) fn hear_signals() {
    let heard = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let _ = signal_hook::flag::register(HARMLESS.as_raw(), heard);
}

/// Whatever happens to the test process, also a kill: its children go with it, stopped ones too.
fn die_with_parent() {
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let parent = rustix::process::getppid().map(rustix::process::Pid::as_raw_nonzero);
    let expected = std::env::var(PARENT).ok().and_then(|pid| pid.parse().ok());
    if parent.map(std::num::NonZero::get) != expected {
        // It died before the signal was asked for.
        std::process::exit(1);
    }
}
