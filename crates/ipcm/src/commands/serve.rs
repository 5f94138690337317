// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm serve`: a service whose answers are the output of a command.

use std::collections::{BTreeMap, VecDeque};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ipc_manager::{Callback, Content, Group, Reply, Request, Service, ServiceResult, Signal, Ticket};
use rustix::process::{Pid, Signal as ProcessSignal, kill_process};
use serde_json::Value;

use crate::commands::job;
use crate::context::Context;
use crate::exit_code;
use crate::failure::Outcome;
use crate::service_args::ServeArgs;

/// The signals that ask the command to end.
const SIGNALS: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::HUP];

pub(crate) fn run(context: &mut Context, args: &ServeArgs) -> Outcome {
    let info = context.choose_bus(&args.bus)?;
    let mut builder = Service::builder(&args.service).bus(&info).registry(context.registry.clone());
    builder = builder.expose_error_details(true).version(env!("CARGO_PKG_VERSION"));
    builder = builder.about(args.about.as_deref().unwrap_or(if args.echo {
        "answers what it is asked"
    } else {
        "runs a command for each request"
    }));
    for signal in SIGNALS {
        builder = builder.on_signal(signal, |service, signal| {
            service.terminate(i32::from(exit_code::of_signal(signal.number())));
            Ok(())
        });
    }
    if let Some(timeout) = args.timeout {
        let end = Instant::now() + timeout;
        builder = builder.should_end(move |_| Ok(Instant::now() >= end));
    }
    if args.echo {
        builder = builder.on_request(|_, request| Ok(Reply::new(&format!("echo: {}", text(request.value())))?));
    } else {
        let jobs = Jobs::new(args, context.group());
        let (starting, cancelling, ending) = (jobs.clone(), jobs.clone(), jobs);
        builder = builder
            .on_request(move |service, request| {
                starting.take(service, request.clone())?;
                Ok(Reply::Later)
            })
            .on_cancelled(move |_, ticket| {
                cancelling.cancel(ticket);
                Ok(())
            })
            .append(Callback::cleanup(move |_| {
                ending.end();
                Ok(())
            }));
    }
    context.out.banner(&format!("serving {}; a terminate message or a signal ends it", args.service));
    let value = builder.run()?;
    Ok(u8::try_from(value).unwrap_or(exit_code::FAILURE))
}

/// A value as text: a string as it is, all else as JSON.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The commands that run, and the requests that wait for one to end.
#[derive(Clone)]
struct Jobs(Arc<Mutex<State>>);

struct State {
    arguments: Vec<std::ffi::OsString>,
    group: Option<Group>,
    raw: bool,
    most: usize,
    waiting: VecDeque<Request>,
    /// The pid of each command that runs; `None` while it is being started.
    running: BTreeMap<Ticket, Option<u32>>,
}

impl Jobs {
    fn new(args: &ServeArgs, group: Option<Group>) -> Self {
        let state = State {
            arguments: args.command.clone(),
            group,
            raw: args.raw,
            most: usize::from(args.jobs),
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
        };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, service: &mut Service, request: Request) -> ServiceResult {
        self.state().waiting.push_back(request);
        self.start_waiting(service)
    }

    /// Starts commands as long as there is room for them.
    fn start_waiting(&self, service: &mut Service) -> ServiceResult {
        loop {
            let mut state = self.state();
            if state.running.len() >= state.most {
                return Ok(());
            }
            let Some(request) = state.waiting.pop_front() else { return Ok(()) };
            state.running.insert(request.ticket(), None);
            drop(state);
            self.start(service, &request)?;
        }
    }

    /// Starts the command for a request; a thread waits for it, and has the service answer.
    fn start(&self, service: &mut Service, request: &Request) -> ServiceResult {
        let (arguments, raw, group) = {
            let state = self.state();
            (state.arguments.clone(), state.raw, state.group)
        };
        let Ok(mut command) = job::command(&arguments, (service.info(), group), request.message()) else {
            return self.answer(service, &request.ticket(), Err("there is no command".into()));
        };
        command.stdout(Stdio::piped());
        service.bind(&mut command);
        let (jobs, remote, ticket) = (self.clone(), service.remote(), request.ticket());
        let input = job::input(request.as_json(), raw);
        let work = move || {
            let said = jobs.work(&mut command, &ticket, input, raw);
            // A service that has ended answers nobody.
            let _ = remote.call(move |service| jobs.answer(service, &ticket, said));
        };
        let started = std::thread::Builder::new().name("job".into()).spawn(work);
        match started {
            Ok(_) => Ok(()),
            Err(error) => self.answer(service, &request.ticket(), Err(format!("no thread can be started: {error}"))),
        }
    }

    /// Runs the command to its end: what it says, or why it says nothing.
    fn work(
        &self,
        command: &mut std::process::Command,
        ticket: &Ticket,
        input: Vec<u8>,
        raw: bool,
    ) -> Result<Option<Content>, String> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| format!("the command {program} cannot be run: {error}"))?;
        self.state().running.insert(ticket.clone(), Some(child.id()));
        let waited = job::wait(child, input);
        // Reaped, so the number may be another's.
        self.state().running.insert(ticket.clone(), None);
        let (status, output) = waited.map_err(|error| format!("the command {program} failed: {error}"))?;
        if !status.success() {
            return Err(job::how(status));
        }
        let output = output.ok_or_else(|| "the output of the command is longer than a message can be".to_owned())?;
        content(output, raw)
    }

    /// Answers, and starts what waited.
    fn answer(&self, service: &mut Service, ticket: &Ticket, said: Result<Option<Content>, String>) -> ServiceResult {
        self.state().running.remove(ticket);
        match said {
            Ok(content) => service.respond(ticket, &content)?,
            Err(words) => service.respond_error(ticket, &words)?,
        }
        self.start_waiting(service)
    }

    /// Nobody wants this answer any more.
    fn cancel(&self, ticket: &Ticket) {
        let mut state = self.state();
        state.waiting.retain(|request| request.ticket() != *ticket);
        if let Some(Some(pid)) = state.running.get(ticket) {
            ask_to_end(*pid);
        }
    }

    /// The service ends: nobody can be answered any more.
    fn end(&self) {
        let mut state = self.state();
        state.waiting.clear();
        state.running.values().flatten().for_each(|pid| ask_to_end(*pid));
    }
}

fn ask_to_end(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // Noted under the lock as long as it is not reaped, so the number is still its own.
        let _ = kill_process(pid, ProcessSignal::TERM);
    }
}

/// What a command said: null for nothing, JSON if it is, else a string without its last newline.
fn content(output: Vec<u8>, raw: bool) -> Result<Option<Content>, String> {
    let text = String::from_utf8(output).map_err(|_| "the output of the command is not UTF-8".to_owned())?;
    if !raw {
        match Content::from_json(&text) {
            _ if text.trim().is_empty() => return Ok(None),
            Ok(content) => return Ok(Some(content)),
            // The one JSON value that no content can be.
            Err(_) if text.trim() == "null" => return Ok(None),
            Err(_) => {}
        }
    }
    let text = if raw { text.as_str() } else { text.strip_suffix('\n').unwrap_or(&text) };
    Content::new(text).map(Some).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_says() {
        for (output, raw, json) in [
            ("{\"a\": 1}\n", false, r#"{"a":1}"#),
            ("\"ABC\"\n", false, r#""ABC""#),
            ("plain text\n", false, r#""plain text""#),
            ("two\nlines\n\n", false, r#""two\nlines\n""#),
            ("17\n", true, r#""17\n""#),
            ("", false, "null"),
            (" null\n", false, "null"),
            ("", true, r#""""#),
        ] {
            let said = content(output.into(), raw).unwrap();
            assert_eq!(said.as_ref().map_or("null", Content::as_json), json, "{output:?}");
        }
        assert!(content(vec![0xff], false).is_err());
    }
}
