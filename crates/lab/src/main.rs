//! `lab`: serves the simulators, runs the demonstration, or the crash matrix.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lab::world::WorldError;
use lab::{crash_matrix, demo, serve};

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
    /// Let every kind of trouble strike every step of every saga, and look whether all is well afterwards.
    CrashMatrix {
        /// Only every place once, as the tests do.
        #[arg(long)]
        bounded: bool,
        /// Only cases whose text holds this (`test/attach`, `kill_before`).
        #[arg(long)]
        only: Option<String>,
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
            Command::CrashMatrix { bounded, only } => crash_matrix(bounded, only.as_deref()).await,
        }
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}

/// Runs the matrix; true when every case passed.
#[allow(clippy::print_stderr, clippy::print_stdout, reason = "a command-line tool speaks to its user")]
async fn crash_matrix(bounded: bool, only: Option<&str>) -> Result<bool, WorldError> {
    let mut cases = if bounded { crash_matrix::bounded() } else { crash_matrix::all() };
    cases.retain(|case| only.is_none_or(|part| case.to_string().contains(part)));
    let mut told = 0;
    let verdicts = crash_matrix::run(&cases, |verdict| {
        told += 1;
        let sign = if verdict.passed { "ok    " } else { "FAILED" };
        eprintln!("{told:>4}/{} {sign} {:5.1} s  {}: {}", cases.len(), verdict.seconds, verdict.case, verdict.message);
    });
    let verdicts = verdicts.await?;
    println!("{}", crash_matrix::table(&verdicts));
    Ok(verdicts.iter().all(|verdict| verdict.passed))
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
