//! `quorate completion`: scripts that make shells complete our commands and flags.

use crate::{args, output};
use clap::Args;
use clap_complete::{Shell, generate};

/// The arguments of `quorate completion`.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  quorate completion bash > /etc/bash_completion.d/quorate\n  source <(quorate completion zsh)"
)]
pub(crate) struct Options {
    /// The shell
    shell: Shell,
    /// Taken for etcdctl's sake: a script has what its shell shows
    #[arg(long)]
    no_descriptions: bool,
}

/// Prints the script for a shell.
///
/// # Errors
///
/// If it cannot be written.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut script = Vec::new();
    generate(options.shell, &mut args::definition(), "quorate", &mut script);
    output::print_bytes(&script)
}
