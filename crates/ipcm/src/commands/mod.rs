// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands, one file each; beside them what several of them share.

mod audit;
mod bench;
mod body;
mod broadcast;
mod completions;
mod coproc;
mod demo;
mod demo_count;
mod demo_worker;
mod info;
mod make;
mod man;
mod peers;
mod protocols;
mod recv;
mod run;
mod seat;
mod send;
mod spawn;
mod stats;
mod stop;
mod suspend;

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
        Command::Stats(args) => stats::run(context, &args),
        Command::Audit(args) => audit::run(context, &args),
        Command::Suspend(args) => suspend::run(context, &args),
        Command::Stop(args) => stop::run(context, &args),
        Command::Bench(args) => bench::run(context, &args),
        Command::Coproc => coproc::run(context),
        Command::Completions(args) => completions::run(context, &args),
        Command::Man(args) => man::run(context, &args),
        Command::DemoWorker => demo_worker::run(context),
        Command::BenchWorker => bench::work(context),
    }
}
