//! `bench`: measures the data path beside the programs it is compared with, on this machine, in one run.
//!
//! Read in this order: `contestants` (who copies, and how one copy is measured), `contest` (the rounds), `image` (what
//! is copied), `usage` (what the kernel says was used), `primitives` (what one core gives), `stats` (the ratios),
//! `results` and `report` (what is told).

mod contest;
mod contestants;
mod disks;
mod error;
mod image;
mod machine;
mod ours;
mod peers;
mod primitives;
mod process;
mod ram;
mod relay;
mod report;
mod results;
mod scale;
mod stats;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use contestants::Contestant;
use error::{BenchError, with_causes};
use model::LEAF_SIZE_BYTES;
use model::size::GIB_BYTES;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// How long work on disks that cannot be interrupted is waited for at the end.
const LAST_WORK: Duration = Duration::from_secs(10);
/// Rounds of an ordinary run: on a shared machine a median of five still moves.
const ROUNDS: u32 = 7;
/// Rounds from which on a run may stand in the documents.
const MIN_ROUNDS: u32 = 5;
/// Size from which on it may, in GiB.
const MIN_SIZE_GIB: f64 = 2.0;
/// Where results stand when the run is a whole one.
const RESULTS: &str = "bench/results.json";
/// The document with the table.
const DOCUMENT: &str = "docs/performance.md";

#[derive(Parser)]
#[command(name = "bench", about = "Measures MigrateKit's data path beside the programs it is compared with")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure.
    Run(RunArgs),
    /// The gateway, in a process of its own.
    #[command(hide = true)]
    Gateway(ours::hub::GatewayArgs),
    /// The copy engine, in a process of its own.
    #[command(hide = true)]
    Mover(ours::agent::MoverArgs),
    /// A way for stock NBD clients to the TLS port.
    #[command(hide = true)]
    Bridge(ours::bridge::BridgeArgs),
}

#[derive(Args)]
struct RunArgs {
    /// Size of the disk, in GiB; fractions are fine.
    #[arg(long, default_value_t = MIN_SIZE_GIB)]
    size_gib: f64,
    /// Rounds that count; one more comes before.
    #[arg(long, default_value_t = ROUNDS)]
    rounds: u32,
    /// Only these; everybody otherwise.
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Contestant>,
    /// Connections of our mover.
    #[arg(long, default_value_t = 2)]
    connections: u32,
    /// Folder in RAM for the disks.
    #[arg(long, default_value = ram::DEFAULT_BASE)]
    dir: PathBuf,
    /// Where the results are written; without it, and only after a whole run, bench/results.json and the table of
    /// docs/performance.md.
    #[arg(long)]
    out: Option<PathBuf>,
    /// How the results are shown.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// Instead: the memory of our processes with nearly empty disks of 100 GiB and 8 TiB.
    #[arg(long)]
    scale: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn main() -> ExitCode {
    let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let outcome = match Cli::parse().command {
        Command::Run(args) => measure(&args),
        Command::Gateway(args) => in_runtime(ours::hub::run(args)),
        Command::Mover(args) => in_runtime(ours::agent::run(args)),
        Command::Bridge(args) => in_runtime(ours::bridge::run(args)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn in_runtime(role: impl Future<Output = Result<(), BenchError>>) -> Result<(), BenchError> {
    Runtime::new().map_err(BenchError::io("starting"))?.block_on(role)
}

/// Everything that is started or written is gone when this returns, but for the results.
fn measure(args: &RunArgs) -> Result<(), BenchError> {
    let size_bytes = size_bytes(args.size_gib)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(BenchError::io("starting"))?;
    // Outlives the runtime: work on disks may still be under way after an interruption.
    let ram = ram::RamFolder::make(&args.dir, contest::needed_bytes(size_bytes))?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            measured = measured(args, size_bytes, &ram) => measured,
            interrupted = interrupted() => interrupted.and(Err(BenchError::Interrupted)),
        }
    });
    runtime.shutdown_timeout(LAST_WORK);
    drop(ram);
    outcome
}

async fn interrupted() -> Result<(), BenchError> {
    let doing = "waiting for signals";
    let mut ends = signal(SignalKind::terminate()).map_err(BenchError::io(doing))?;
    let mut hangs_up = signal(SignalKind::hangup()).map_err(BenchError::io(doing))?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed.map_err(BenchError::io(doing)),
        _ = ends.recv() => Ok(()),
        _ = hangs_up.recv() => Ok(()),
    }
}

async fn measured(args: &RunArgs, size_bytes: u64, ram: &ram::RamFolder) -> Result<(), BenchError> {
    if args.scale {
        let plan = scale::Plan { data_bytes: size_bytes, connections: args.connections };
        let results = scale::run(plan, ram).await?;
        return match args.output {
            Output::Table => print(&scale::terminal(&results)),
            Output::Json => {
                print(&serde_json::to_string_pretty(&results).map_err(BenchError::product("writing the results"))?)
            }
        };
    }
    let everybody = args.only.is_empty();
    let takes_part = |contestant: &Contestant| everybody || args.only.contains(contestant);
    let plan = contest::Plan {
        size_bytes,
        rounds: args.rounds.max(1),
        contestants: Contestant::ALL.into_iter().filter(takes_part).collect(),
        connections: args.connections,
    };
    let results = contest::run(&plan, ram).await?;
    match args.output {
        Output::Table => print(&report::terminal(&results))?,
        Output::Json => print(results.json()?.trim_end())?,
    }
    let is_whole = everybody && args.rounds >= MIN_ROUNDS && args.size_gib >= MIN_SIZE_GIB && ram.is_in_ram();
    match &args.out {
        Some(path) => results.write(path),
        None if is_whole => {
            results.write(RESULTS.as_ref())?;
            report::rewrite(DOCUMENT.as_ref(), &results)
        }
        None => {
            tell("nothing was written: this run is smaller than one that may stand in the documents");
            Ok(())
        }
    }
}

/// Whole leaves, so that nobody has to do with a short end.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
fn size_bytes(size_gib: f64) -> Result<u64, BenchError> {
    const SIZES_GIB: std::ops::RangeInclusive<f64> = 0.01..=1024.0;
    if !SIZES_GIB.contains(&size_gib) {
        return Err(BenchError::Asked { reason: format!("the size must be in {SIZES_GIB:?} GiB") });
    }
    Ok((size_gib * GIB_BYTES as f64) as u64 / LEAF_SIZE_BYTES * LEAF_SIZE_BYTES)
}

fn print(text: &str) -> Result<(), BenchError> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{text}").map_err(BenchError::io("printing the results"))
}

#[allow(clippy::print_stderr, reason = "a command-line tool speaks to its user")]
fn tell(text: &str) {
    eprintln!("{text}");
}

fn failed(error: &BenchError) -> ExitCode {
    tell(&format!("error: {}", with_causes(error)));
    if let Some(remedy) = error.remedy() {
        tell(&format!("  {remedy}"));
    }
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_leaves() {
        assert_eq!(size_bytes(2.0).unwrap(), 2 << 30);
        assert_eq!(size_bytes(0.25).unwrap(), 256 << 20);
        assert_eq!(size_bytes(0.1).unwrap() % LEAF_SIZE_BYTES, 0);
        assert!(size_bytes(0.0).is_err() && size_bytes(f64::NAN).is_err());
    }
}
