// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ipcm completions`: for a shell, from the definition of the command line, with live names of peers where one is meant.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::args::Cli;
use crate::context::Context;
use crate::exit_code;
use crate::failure::Outcome;
use crate::upkeep_args::CompletionsArgs;

/// Asked for on completing the first argument of `send` and of what asks services: whoever is on the bus of IPCM_BUS now.
const BASH: &str = r#"
_ipcm_with_peers() {
    if [[ ${COMP_CWORD} -eq 2 && ${COMP_WORDS[2]} != -* &&
        " send request ping ready describe " == *" ${COMP_WORDS[1]} "* ]]; then
        local IFS=$'\n'
        COMPREPLY=( $(compgen -W "$(ipcm peers --names 2>/dev/null)" -- "${COMP_WORDS[2]}") )
        return 0
    fi
    _ipcm "$@"
}
complete -F _ipcm_with_peers -o nosort -o bashdefault -o default ipcm
"#;

const FISH: &str = r#"
complete -c ipcm -n "__fish_seen_subcommand_from send request ping ready describe" -f -a "(ipcm peers --names 2>/dev/null)"
"#;

/// What the generated script says of the first argument of these commands, and what completes it with names instead.
const ZSH: [(&str, &str); 3] = [
    ("to -- The peer to send to:_default'", "to -- The peer to send to:_ipcm_peers'"),
    ("service -- The service to ask:_default'", "service -- The service to ask:_ipcm_peers'"),
    ("peer -- The name to wait for:_default'", "peer -- The name to wait for:_ipcm_peers'"),
];

const ZSH_FUNCTION: &str = r#"
_ipcm_peers() {
    local -a peers
    peers=("${(@f)$(ipcm peers --names 2>/dev/null)}")
    compadd -a peers
}
"#;

pub(crate) fn run(context: &mut Context, args: &CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "ipcm", &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    match args.shell {
        Shell::Bash => script.push_str(BASH),
        Shell::Fish => script.push_str(FISH),
        // The script ends by calling itself, so what it needs comes behind its first line.
        Shell::Zsh => {
            for (said, instead) in ZSH {
                script = script.replace(said, instead);
            }
            let head = script.find('\n').map_or(0, |end| end + 1);
            script.insert_str(head, ZSH_FUNCTION);
        }
        _ => {}
    }
    context.out.bytes(script.as_bytes())?;
    Ok(exit_code::DONE)
}
