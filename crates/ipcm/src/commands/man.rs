// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm man`: the manual, from the definition of the command line.

use clap::CommandFactory;
use clap_mangen::Man;

use crate::args::Cli;
use crate::context::Context;
use crate::exit_code;
use crate::failure::{Failure, Outcome};
use crate::upkeep_args::ManArgs;

pub(crate) fn run(context: &mut Context, args: &ManArgs) -> Outcome {
    let mut whole = Cli::command();
    whole.build();
    let command = match args.command.as_deref() {
        None => whole,
        Some(name) => {
            let found = whole.get_subcommands().find(|command| command.get_name() == name && !command.is_hide_set());
            found.ok_or_else(|| Failure::usage(format!("there is no command {name:?}")))?.clone()
        }
    };
    let mut page = Vec::new();
    Man::new(command).render(&mut page).map_err(|error| Failure::io("the page cannot be made", &error))?;
    context.out.bytes(&page)?;
    Ok(exit_code::DONE)
}
