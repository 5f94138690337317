// SPDX-License-Identifier: MIT OR Apache-2.0
//! A service that does what a request tells it to: real processes where the protocol allows, else threads.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use ipc_manager::{
    ConnectionString, Exec, Launched, PeerChange, Reply, Request, Service, ServiceBuilder, ServiceResult, Signal,
    Suspend, Ticket,
};
use serde_json::{Value, json};

use crate::{Subject, engine};

/// What the role of an actor begins with; its protocol follows.
const ROLE: &str = "service:";

/// How to start an actor in a process of its own. `options` may say `intercept`, `details`, `panics`, `interval`
/// (milliseconds), and `watch` (what to take note of).
pub(crate) fn exec(subject: &Subject, name: &str, options: &Value, bus: Option<&ConnectionString>) -> Exec {
    let mut builder = Service::builder(name).intercept_errors(truth(options, "intercept"));
    builder = builder.expose_error_details(truth(options, "details")).catch_panics(!truth(options, "panics"));
    if let Some(interval) = options["interval"].as_u64() {
        builder = builder.interval(Duration::from_millis(interval));
    }
    if let Some(pids) = options["watch_pids"].as_array() {
        builder = builder.watch_pids(pids.iter().filter_map(|pid| pid.as_u64()?.try_into().ok()));
    }
    if let Some(bus) = bus {
        builder = builder.bus(bus);
    }
    let mut exec = builder.registry(subject.registry()).exec();
    for (variable, value) in engine::roles(&format!("{ROLE}{}", subject.protocol())) {
        exec = exec.env(variable, value);
    }
    exec.settings(options).expect("options are JSON")
}

/// An actor that is to run in a thread.
pub(crate) fn in_thread(subject: &Subject, name: &str, options: &Value) -> ServiceBuilder {
    let mut builder = Service::builder(name).registry(subject.registry()).intercept_errors(truth(options, "intercept"));
    builder = builder.expose_error_details(truth(options, "details")).catch_panics(!truth(options, "panics"));
    if let Some(interval) = options["interval"].as_u64() {
        builder = builder.interval(Duration::from_millis(interval));
    }
    acting(builder, subject, options)
}

/// Plays the actor, if that is the role.
pub(crate) fn play(subjects: &[Subject], role: &str) -> Option<ExitCode> {
    let protocol = role.strip_prefix(ROLE)?;
    let subject = subjects.iter().find(|subject| subject.protocol() == protocol).expect("a subject of that protocol");
    let launched = Launched::from_environment().expect("sound parameters").expect("an actor is started as a service");
    let options: Value = launched.settings().expect("options are JSON");
    Some(acting(launched.builder().registry(subject.registry()), subject, &options).main())
}

fn truth(options: &Value, key: &str) -> bool {
    options[key] == true
}

fn acting(mut builder: ServiceBuilder, subject: &Subject, options: &Value) -> ServiceBuilder {
    let subject = subject.clone();
    let mut notes = Notes::default();
    let watched: Vec<String> = serde_json::from_value(options["watch"].clone()).unwrap_or_default();
    for what in &watched {
        builder = notes.watch(builder, what, truth(options, "raises"));
    }
    builder
        .version("7")
        .about("does what it is told")
        .on_request(move |service, request| act(service, request, &subject, &notes))
}

/// What the callbacks saw, for who asks.
#[derive(Debug, Clone, Default)]
struct Notes(std::sync::Arc<std::sync::Mutex<Vec<Value>>>);

impl Notes {
    fn note(&self, what: Value) {
        self.0.lock().unwrap().push(what);
    }

    fn all(&self) -> Vec<Value> {
        self.0.lock().unwrap().clone()
    }

    fn watch(&mut self, builder: ServiceBuilder, what: &str, raises: bool) -> ServiceBuilder {
        let (notes, own) = (self.clone(), what.to_owned());
        let note = move |value: Value| -> ServiceResult {
            notes.note(json!([own, value]));
            if raises { Err(format!("{own} failed on purpose").into()) } else { Ok(()) }
        };
        match what {
            "start" => builder.on_start(move |_| note(Value::Null)),
            "activity" => builder.on_activity(move |_, activity| {
                note(activity.messages.iter().map(|message| message.content().clone()).collect())
            }),
            "interval" => builder.on_interval(move |_| note(Value::Null)),
            "peers" => builder.on_peers(move |_, change: &PeerChange| {
                let names = |names: &[ipc_manager::PeerName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
                note(json!({"came": names(&change.came), "left": names(&change.left)}))
            }),
            "message" => builder.on_message(move |_, message| note(message.content().clone())),
            "child" => builder.on_child(move |_, pid, status| note(json!([pid, status.code()]))),
            "signal" => builder.on_signal(Signal::USR1, move |_, signal| note(signal.to_string().into())),
            "cancelled" => builder.on_cancelled(move |_, ticket| note(ticket.id().to_string().into())),
            "cleanup" => {
                let file = std::env::var_os("TMPDIR").unwrap_or_default();
                builder.on_cleanup(move |service| {
                    let mark = std::path::Path::new(&file).join(format!("cleaned-{}", service.name()));
                    std::fs::write(mark, "")?;
                    note(Value::Null)
                })
            }
            other => panic!("nothing called {other:?} can be watched"),
        }
    }
}

fn act(service: &mut Service, request: &Request, subject: &Subject, notes: &Notes) -> ServiceResult<Reply> {
    let order = request.value();
    let value = &order["value"];
    match order["do"].as_str().unwrap_or("echo") {
        "echo" => Ok(Reply::new(value)?),
        "fail" => Err("on purpose \u{263a}\n".into()),
        "panic" => panic!("on purpose"),
        "never" => Ok(Reply::Later),
        "notes" => Ok(Reply::new(&notes.all())?),
        "pid" => Ok(Reply::new(&service.pid())?),
        "die" => {
            die(service, request, value.as_str().unwrap_or_default())?;
            Ok(Reply::Later)
        }
        "answer and end" => {
            service.terminate(0);
            Ok(Reply::new(value)?)
        }
        "end" => {
            service.terminate(value.as_i64().and_then(|value| value.try_into().ok()).unwrap_or(0));
            Ok(Reply::null())
        }
        "double" => {
            for _ in 0..2 {
                service.send_response(request.from().as_str(), request.id(), value, None)?;
            }
            Ok(Reply::Later)
        }
        "extra" => {
            service.send(request.from().as_str(), value)?;
            Ok(Reply::new("answer")?)
        }
        "later" => {
            answer_later(service, request.ticket(), value.clone());
            Ok(Reply::Later)
        }
        "stream" => {
            for part in 0..value.as_u64().unwrap_or(0) {
                service.respond_part(&request.ticket(), &part)?;
            }
            Ok(Reply::new("done")?)
        }
        "big" => Ok(Reply::new(&"x".repeat(value.as_u64().and_then(|size| size.try_into().ok()).unwrap_or(0)))?),
        "until cancelled" => until_cancelled(service, request, value),
        "forward" => forward(service, request, value),
        "nest" => nest(service, subject, value),
        "child" => child_of_none(value),
        "worker" => {
            let seconds = value.as_str().unwrap_or("0").to_owned();
            let mut command = Command::new("sleep");
            command.arg(seconds);
            Ok(Reply::new(&service.worker("sleeper", command)?)?)
        }
        "workers" => Ok(Reply::new(&service.workers().into_keys().collect::<Vec<_>>())?),
        other => Err(format!("no actor can do {other:?}").into()),
    }
}

/// Answers from another callback, some turns later.
fn answer_later(service: &mut Service, ticket: Ticket, value: Value) {
    let mut turns = 0;
    let callback = ipc_manager::Callback::should_end(move |service| {
        turns += 1;
        if turns == 3 {
            service.respond(&ticket, &value)?;
        }
        Ok(false)
    });
    service.append(callback);
}

/// Works in the handler until who asked takes the request back, then tells a third.
fn until_cancelled(service: &mut Service, request: &Request, whom: &Value) -> ServiceResult<Reply> {
    let deadline = std::time::Instant::now() + crate::PATIENCE;
    while !service.is_cancelled(&request.ticket())? {
        if std::time::Instant::now() > deadline {
            return Err("nobody took it back".into());
        }
        std::thread::yield_now();
    }
    service.send(whom.as_str().unwrap_or_default(), "cancelled")?;
    Ok(Reply::new("too late")?)
}

/// Passes a request on to another service, and its answer back.
fn forward(service: &mut Service, request: &Request, value: &Value) -> ServiceResult<Reply> {
    let ticket = request.ticket();
    let inner = value["to"].as_str().unwrap_or_default();
    if value["wait"] == true {
        return Ok(Reply::new(&service.peer(inner)?.request(&value["request"])?)?);
    }
    service.peer(inner)?.send_request_with(&value["request"], move |service, response| {
        match response.and_then(ipc_manager::Response::into_value) {
            Ok(value) => service.respond(&ticket, &value)?,
            Err(error) => service.respond_error(&ticket, error.code())?,
        }
        Ok(())
    })?;
    Ok(Reply::Later)
}

/// Starts another actor on the same bus.
fn nest(service: &mut Service, subject: &Subject, value: &Value) -> ServiceResult<Reply> {
    let name = value.as_str().unwrap_or_default();
    let peer = if subject.capabilities().crosses_processes {
        service.start_exec(exec(subject, name, &json!({}), None))?
    } else {
        service.start_thread(in_thread(subject, name, &json!({})))?
    };
    let pid = peer.child_pid();
    Ok(Reply::new(&pid)?)
}

/// Starts a child that is no worker, and exits as told.
fn child_of_none(value: &Value) -> ServiceResult<Reply> {
    let child = Command::new("sh").arg("-c").arg(format!("exit {value}")).spawn()?;
    Ok(Reply::new(&child.id())?)
}

/// How long a peer that suspends is waited for.
const SUSPENDED: Duration = Duration::from_millis(50);

/// Ends without an answer. Who asked is told when, on the clock that all processes share.
fn die(service: &mut Service, request: &Request, how: &str) -> ServiceResult {
    let kill = |signal| {
        let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
    };
    let lingers = if how == "by suspending" { SUSPENDED } else { Duration::ZERO };
    let end = crate::clock() + lingers;
    service.send(request.from().as_str(), &json!({"dies_at": u64::try_from(end.as_nanos())?}))?;
    match how {
        "cleanly" => service.terminate(0),
        "by leaving" => {
            // The process goes on, the peer does not.
            let _ = service.client().disconnect();
            park();
        }
        "by exit" => std::process::exit(3),
        "by panic" => panic!("on purpose"),
        "by kill" => kill(rustix::process::Signal::KILL),
        "by abort" => std::process::abort(),
        "stopped" => kill(rustix::process::Signal::STOP),
        "by exec" => return Err(Command::new("sleep").arg("600").exec().into()),
        "by suspending" => {
            service.client().suspend(Suspend::within(SUSPENDED))?;
            park();
        }
        other => return Err(format!("nobody dies {other:?}").into()),
    }
    Ok(())
}

/// Does nothing until the process is killed.
fn park() -> ! {
    loop {
        std::thread::park();
    }
}
