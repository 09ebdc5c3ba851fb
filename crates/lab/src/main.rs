//! `lab`: serves the simulators, or runs the demonstration.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lab::{demo, serve};

#[derive(Parser)]
#[command(name = "lab", about = "The laboratory of MigrateKit: simulated vCenter and CloudStack, and a demonstration")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve both simulators until interrupted.
    Serve {
        /// What to simulate (JSON): see `lab::serve::ServeConfig`.
        #[arg(long)]
        config: PathBuf,
        /// Where the addresses are written once both are up (JSON).
        #[arg(long)]
        ready: PathBuf,
    },
    /// Replicate a VM twice through the whole product and prove the result.
    Demo {
        /// Leave everything running at the end and say what to try next.
        #[arg(long)]
        keep: bool,
        /// Folder for everything; a temporary one otherwise.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let outcome = runtime.block_on(async {
        match Cli::parse().command {
            Command::Serve { config, ready } => serve::run(&config, &ready).await.map(|()| true),
            Command::Demo { keep, dir } => demo::run(keep, dir).await,
        }
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}

#[allow(clippy::print_stderr, reason = "a command-line tool speaks to its user")]
fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(source) = cause {
        eprintln!("  because: {source}");
        cause = source.source();
    }
    ExitCode::FAILURE
}
