//! `migratekit completions`: for bash, zsh, fish, elvish and PowerShell.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::failure::Failure;
use super::output::data;

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
/// Standard output cannot be written.
pub fn run(args: &CompletionArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "migratekit", &mut script);
    data(String::from_utf8_lossy(&script).trim_end()).map(|_reader| ExitCode::SUCCESS)
}
