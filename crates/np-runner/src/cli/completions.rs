//! `np completions`: what a shell needs to complete commands and options.

use std::process::ExitCode;

use clap::{Args as ClapArgs, CommandFactory as _};
use clap_complete::{Shell, generate};

use super::{Cli, print};
use crate::error::Result;

/// Print completions for a shell
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  np completions bash > ~/.local/share/bash-completion/completions/np
  np completions zsh > \"${fpath[1]}/_np\"
  np completions fish > ~/.config/fish/completions/np.fish")]
pub(super) struct Args {
    /// Which shell
    shell: Shell,
}

pub(super) fn completions(args: &Args) -> Result<ExitCode> {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "np", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
