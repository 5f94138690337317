// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands, one file each; beside them what several of them share.

mod asking;
mod audit;
mod bench;
mod body;
mod broadcast;
mod completions;
mod coproc;
mod dead;
mod demo;
mod demo_count;
mod demo_worker;
mod describe;
mod doctor;
mod exec;
mod gc;
mod info;
mod job;
mod make;
mod man;
mod peers;
mod ping;
mod protocols;
mod ready;
mod recv;
mod request;
mod run;
mod seat;
mod send;
mod serve;
mod spawn;
mod stats;
mod stop;
mod suspend;
mod wait;
mod watching;

use crate::args::Command;
use crate::context::Context;
use crate::failure::Outcome;

/// Runs a command.
pub(crate) fn run(context: &mut Context, command: Command) -> Outcome {
    match command {
        Command::Demo(args) => demo::run(context, &args),
        Command::Run(args) => run::run(context, &args),
        Command::Spawn(args) => spawn::run(context, &args),
        Command::Info(args) => info::run(context, &args),
        Command::Protocols => protocols::run(context),
        Command::Peers(args) => peers::run(context, &args),
        Command::Send(args) => send::run(context, &args),
        Command::Broadcast(args) => broadcast::run(context, &args),
        Command::Recv(args) => recv::run(context, &args),
        Command::Dead(command) => dead::run(context, &command),
        Command::Request(args) => request::run(context, &args),
        Command::Serve(args) => serve::run(context, &args),
        Command::Ping(args) => ping::run(context, &args),
        Command::Ready(args) => ready::run(context, &args),
        Command::Describe(args) => describe::run(context, &args),
        Command::Exec(args) => exec::run(context, &args),
        Command::Wait(args) => wait::run(context, &args),
        Command::Stats(args) => stats::run(context, &args),
        Command::Audit(args) => audit::run(context, &args),
        Command::Suspend(args) => suspend::run(context, &args),
        Command::Stop(args) => stop::run(context, &args),
        Command::Bench(args) => bench::run(context, &args),
        Command::Gc(args) => gc::run(context, &args),
        Command::Doctor => doctor::run(context),
        Command::Coproc => coproc::run(context),
        Command::Completions(args) => completions::run(context, &args),
        Command::Man(args) => man::run(context, &args),
        Command::DemoWorker => demo_worker::run(context),
        Command::BenchWorker => bench::work(context),
    }
}
