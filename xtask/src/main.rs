//! The gate of this repository: `cargo xtask check` is what CI runs and what a change must pass.

mod check;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Checks of the MigrateKit repository")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything: formatting, clippy, tidy, cargo-deny, tests.
    Check {
        /// Leave the tests out.
        #[arg(long)]
        no_tests: bool,
    },
    /// Only the house rules: layers, dead files, headers, lengths, names.
    Tidy,
    /// Every kind of trouble at every step of every saga; takes hours. The ordinary tests try each place once.
    CrashMatrix {
        /// Only cases whose text holds this (`test/attach`, `kill_before`).
        #[arg(long)]
        only: Option<String>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<bool> {
    let root = repository_root();
    match task {
        Task::Check { no_tests } => check::run(&root, no_tests),
        Task::CrashMatrix { only } => check::crash_matrix(&root, only.as_deref()),
        Task::Tidy => {
            let findings = tidy::findings(&root)?;
            for finding in &findings {
                report(finding);
            }
            report(&format!("tidy: {} findings", findings.len()));
            Ok(findings.is_empty())
        }
    }
}

/// Writes one line for the person who runs the task.
#[allow(clippy::print_stderr, reason = "a command-line tool speaks to its user")]
fn report(line: &str) {
    eprintln!("{line}");
}

fn repository_root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map(PathBuf::from).unwrap_or(manifest)
}
