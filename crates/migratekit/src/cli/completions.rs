//! `migratekit completions`: for bash, zsh, fish, elvish and PowerShell.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::failure::Failure;

/// Which shell.
#[derive(Args)]
pub struct CompletionArgs {
    /// The shell to print completions for.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints them to standard output.
///
/// # Errors
/// None at present.
pub fn run(args: &CompletionArgs) -> Result<ExitCode, Failure> {
    clap_complete::generate(args.shell, &mut Cli::command(), "migratekit", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
