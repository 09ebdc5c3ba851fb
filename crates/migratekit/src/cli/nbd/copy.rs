//! `migratekit nbd copy`: workers take chunks in turn; what is zero is not sent, and nothing is done before the flush.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use block::zero::is_zero;
use clap::Args;
use futures::future::try_join_all;
use indicatif::{ProgressBar, ProgressStyle};
use model::size::human_bytes;
use model::{Extent, FailureKind};
use serde::Serialize;

use super::endpoint::Endpoint;
use crate::cli::failure::{Failure, INTERRUPTED};
use crate::cli::hub::Context;
use crate::cli::output::{OutputFormat, message, show};

/// Bytes a worker moves at a time.
const CHUNK_BYTES: u64 = 1024 * 1024;
/// The unit of the zero test, in bytes.
const ZERO_UNIT_BYTES: usize = 64 * 1024;
/// Longest stretch asked about at once, in bytes.
const MAP_BYTES: u64 = 1 << 30;

/// What to copy.
#[derive(Args)]
pub struct CopyArgs {
    /// A raw file or block device, `nbd://HOST[:PORT]/EXPORT` or `nbd+unix:///EXPORT?socket=/PATH`.
    source: String,
    /// As the source, and at least as large; what lies beyond the source's end is left alone. A file that does not
    /// exist is made.
    destination: String,
    /// Connections to each export that allows several; as many chunks are under way.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    connections: u16,
}

/// What was done.
#[derive(Debug, Serialize)]
struct CopyReport {
    source: String,
    destination: String,
    connections: usize,
    size_bytes: u64,
    data_bytes: u64,
    zero_bytes: u64,
    seconds: f64,
    bytes_per_second: u64,
}

struct Copy {
    source: Endpoint,
    destination: Endpoint,
    size_bytes: u64,
    next: AtomicU64,
    data: AtomicU64,
    zero: AtomicU64,
    bar: ProgressBar,
}

/// Copies.
///
/// # Errors
/// When an end cannot be opened, read or written; the destination is then incomplete.
pub async fn run(context: &Context, args: &CopyArgs) -> Result<ExitCode, Failure> {
    let begun = Instant::now();
    let connections = usize::from(args.connections);
    refuse_self(&args.source, &args.destination)?;
    let source = Endpoint::source(&args.source, connections).await?;
    let size_bytes = source.size_bytes();
    let destination = Endpoint::destination(&args.destination, connections, size_bytes).await?;
    if destination.size_bytes() < size_bytes {
        let detail = format!("{} is smaller than {}", args.destination, args.source);
        return Err(Failure::new(FailureKind::Invalid, detail)
            .evidence(format!("{} bytes, {size_bytes} are needed", destination.size_bytes()))
            .remedy("copy to something at least as large; nothing was written"));
    }
    let workers = connections.min(source.connections()).min(destination.connections()).max(1);
    let bar = bar(context.output, size_bytes);
    let zero = AtomicU64::new(0);
    let copy = Copy { source, destination, size_bytes, next: AtomicU64::new(0), data: AtomicU64::new(0), zero, bar };
    let outcome = tokio::select! {
        outcome = copy.all(workers) => outcome,
        _ = tokio::signal::ctrl_c() => {
            copy.bar.abandon();
            message(&format!("interrupted: {} is incomplete", args.destination));
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    copy.bar.finish_and_clear();
    outcome.map_err(|failure| failure.unfinished(&args.destination))?;
    let seconds = begun.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a speed")]
    let bytes_per_second = (size_bytes as f64 / seconds.max(1e-9)) as u64;
    let report = CopyReport {
        source: args.source.clone(),
        destination: args.destination.clone(),
        connections: workers,
        size_bytes,
        data_bytes: copy.data.load(Relaxed),
        zero_bytes: copy.zero.load(Relaxed),
        seconds,
        bytes_per_second,
    };
    show(context.output, &report, |report| {
        format!(
            "copied {} in {:.2} s ({}/s): {} data, {} zero",
            human_bytes(report.size_bytes),
            report.seconds,
            human_bytes(report.bytes_per_second),
            human_bytes(report.data_bytes),
            human_bytes(report.zero_bytes)
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Copying a file onto itself would read what it has just written.
fn refuse_self(source: &str, destination: &str) -> Result<(), Failure> {
    let real = |path: &str| std::fs::canonicalize(path).ok();
    if source == destination || real(source).is_some_and(|path| Some(path) == real(destination)) {
        return Err(Failure::new(FailureKind::Invalid, format!("{source} and {destination} are the same"))
            .remedy("name two different ends"));
    }
    Ok(())
}

fn bar(output: OutputFormat, size_bytes: u64) -> ProgressBar {
    if output == OutputFormat::Json {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(size_bytes);
    let template = "{wide_bar:.green} {bytes:>10}/{total_bytes:10} {bytes_per_sec:>12} {eta}";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

impl Copy {
    async fn all(&self, workers: usize) -> Result<(), Failure> {
        try_join_all((0..workers).map(|worker| self.work(worker))).await?;
        self.destination.flush().await
    }

    /// Takes stretches in turn, maps each once and moves its chunks.
    async fn work(&self, worker: usize) -> Result<(), Failure> {
        let stretch_bytes = self.stretch_bytes();
        loop {
            let offset = self.next.fetch_add(stretch_bytes, Relaxed);
            let Some(stretch) = Extent::new(offset, stretch_bytes).clamp_to(self.size_bytes) else { return Ok(()) };
            for region in self.source.map(worker, stretch).await? {
                if region.state.reads_as_zero() {
                    self.zero(worker, region.extent).await?;
                } else {
                    self.move_region(worker, region.extent).await?;
                }
            }
        }
    }

    /// Long enough that mapping costs little, short enough that every worker gets a share.
    fn stretch_bytes(&self) -> u64 {
        (self.size_bytes / 256).clamp(16 * CHUNK_BYTES, MAP_BYTES).next_multiple_of(CHUNK_BYTES)
    }

    async fn move_region(&self, worker: usize, region: Extent) -> Result<(), Failure> {
        let mut buffer = Vec::new();
        let mut offset = region.offset;
        while let Some(chunk) = Extent::new(offset, CHUNK_BYTES).clamp_to(region.end()) {
            buffer.resize(usize::try_from(chunk.length).unwrap_or(usize::MAX), 0);
            buffer = self.source.read(worker, chunk.offset, buffer).await?;
            buffer = self.put(worker, chunk, buffer).await?;
            offset = chunk.end();
        }
        Ok(())
    }

    /// Writes a chunk whole, unless parts of it are zero.
    async fn put(&self, worker: usize, chunk: Extent, buffer: Vec<u8>) -> Result<Vec<u8>, Failure> {
        if !buffer.chunks(ZERO_UNIT_BYTES).any(is_zero) {
            let buffer = self.destination.write(worker, chunk.offset, buffer).await?;
            self.count(&self.data, chunk.length);
            return Ok(buffer);
        }
        let mut offset = chunk.offset;
        for run in buffer.chunks(ZERO_UNIT_BYTES) {
            let extent = Extent::new(offset, run.len() as u64);
            offset = extent.end();
            if is_zero(run) {
                self.zero(worker, extent).await?;
            } else {
                self.destination.write(worker, extent.offset, run.to_vec()).await?;
                self.count(&self.data, extent.length);
            }
        }
        Ok(buffer)
    }

    async fn zero(&self, worker: usize, extent: Extent) -> Result<(), Failure> {
        self.destination.zero(worker, extent).await?;
        self.count(&self.zero, extent.length);
        Ok(())
    }

    fn count(&self, counter: &AtomicU64, bytes: u64) {
        counter.fetch_add(bytes, Relaxed);
        self.bar.inc(bytes);
    }
}
