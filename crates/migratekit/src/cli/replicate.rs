//! `migratekit replicate`: starts a replication and, if asked, watches it to the end.

use std::num::NonZeroU32;
use std::process::ExitCode;

use api::Client;
use api::oma::replications::{
    Accepted, DiskVerification, ReplicationPlan, ReplicationProgress, RequestedType, ScrubRequest, StartReplication,
};
use api::vma::{ReaderSpec, RunPhase, RunView};
use clap::{Args, ValueEnum};
use model::size::human_bytes;
use model::status::{JobStatus, ReplicationStatus};
use model::{CompressionMode, FailureKind};

use super::clock::took;
use super::failure::{CHECK_FAILED, Failure, INTERRUPTED, explain};
use super::hub::{Context, vm_context};
use super::output::{OutputFormat, hint, or_dash, show, table};
use super::vm::short_change_id;
use super::watch::{self, Screen, shares_text};

/// What to replicate.
#[derive(Args)]
pub struct ReplicateArgs {
    /// Name or context id.
    vm: String,
    /// What to copy.
    #[arg(long = "type", value_enum, default_value_t = TypeArg::Auto)]
    replication_type: TypeArg,
    /// Quiesce the guest's file systems (needs running VMware Tools).
    #[arg(long)]
    quiesce: bool,
    /// How the agent reads the disks: `auto` (chosen for each), `hotadd` (added to the agent's own VM), `folder`
    /// (datastore files over HTTPS), `command:NAME` (an NBD command of the agent's configuration), an NBD URI, or
    /// `file:PATH`. URI and path may hold {disk_id}, {moref}, {vmdk_path} and {vm_snapshot}.
    #[arg(long, value_parser = reader, default_value = "auto")]
    reader: ReaderArg,
    /// How much is read again although change tracking calls it unchanged, to catch it lying: so much that the whole disk
    /// is seen within 15 days, all of it (before a cutover), or nothing.
    #[arg(long, value_enum, default_value_t = ScrubArg::Auto)]
    scrub: ScrubArg,
    /// Keep this many committed increments beside the volumes from now on: each is a recovery point.
    #[arg(long, value_name = "N")]
    keep_points: Option<u32>,
    /// Write into the volumes at once instead of a journal beside them (needs no room on the hub).
    #[arg(long)]
    in_place: bool,
    /// Whether the agent compresses what it sends: auto (where it pays), on or off; as its configuration says otherwise.
    #[arg(long, value_parser = compression)]
    compression: Option<CompressionMode>,
    /// Most MiB per second this replication may send, beside what its agent may in all.
    #[arg(long, value_name = "N")]
    limit_mib_per_s: Option<NonZeroU32>,
    /// Stay and show progress; Ctrl-C stops watching, not the replication.
    #[arg(long)]
    watch: bool,
    /// Only say what would be done.
    #[arg(long, conflicts_with = "watch")]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TypeArg {
    /// Incremental where possible, otherwise a first copy.
    Auto,
    /// Everything that is allocated.
    Initial,
    /// What changed since the last committed change ids.
    Incremental,
    /// Read everything, write what differs.
    Compare,
}

impl From<TypeArg> for RequestedType {
    fn from(arg: TypeArg) -> Self {
        match arg {
            TypeArg::Auto => Self::Auto,
            TypeArg::Initial => Self::Initial,
            TypeArg::Incremental => Self::Incremental,
            TypeArg::Compare => Self::Compare,
        }
    }
}

/// How much is scrubbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ScrubArg {
    /// The whole disk within 15 days.
    Auto,
    /// All of it now.
    Full,
    /// Nothing.
    Off,
}

impl From<ScrubArg> for ScrubRequest {
    fn from(arg: ScrubArg) -> Self {
        match arg {
            ScrubArg::Auto => Self::Auto,
            ScrubArg::Full => Self::Full,
            ScrubArg::Off => Self::Off,
        }
    }
}

/// What `--reader` says: a reader for all disks, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ReaderArg(Option<ReaderSpec>);

/// Reads what `--compression` says.
fn compression(text: &str) -> Result<CompressionMode, String> {
    text.parse().map_err(|_| "expected auto, on or off".to_owned())
}

/// Reads what `--reader` says.
fn reader(text: &str) -> Result<ReaderArg, String> {
    if text == "auto" {
        return Ok(ReaderArg(None));
    }
    let reader = match text.split_once(':') {
        None if text == "hotadd" => Ok(ReaderSpec::Hotadd),
        None if text == "folder" => Ok(ReaderSpec::Folder),
        Some(("command", name)) if !name.is_empty() => Ok(ReaderSpec::NbdCommand { name: name.to_owned() }),
        Some(("file", path)) if path.starts_with('/') => Ok(ReaderSpec::File { path: path.to_owned() }),
        Some(("nbd" | "nbd+unix", _)) => Ok(ReaderSpec::Nbd { uri: text.to_owned() }),
        _ => Err("expected auto, hotadd, folder, command:NAME, nbd://…, nbd+unix://… or file:/PATH".to_owned()),
    };
    reader.map(|reader| ReaderArg(Some(reader)))
}

/// Starts it.
///
/// # Errors
/// The hub's problem, or the replication's own error when it was watched.
pub async fn run(context: &Context, args: &ReplicateArgs) -> Result<ExitCode, Failure> {
    let client = context.client()?;
    let vm = vm_context(&client, &args.vm).await?.context;
    let request = StartReplication {
        vm_context_id: vm.context_id,
        replication_type: args.replication_type.into(),
        quiesce: args.quiesce,
        reader: args.reader.0.clone(),
        scrub: args.scrub.into(),
        keep_points: args.keep_points,
        in_place: args.in_place,
        compression: args.compression,
        limit_mib_per_s: args.limit_mib_per_s,
    };
    if args.dry_run {
        return dry_run(context, &client, &request).await;
    }
    let accepted: Accepted = client.post("/api/v1/replications", &request).await?;
    if !args.watch {
        show(context.output, &accepted, |accepted| format!("started {}", accepted.job_id))?;
        hint(context.output, &format!("next: migratekit job log {} --follow", accepted.job_id));
        return Ok(ExitCode::SUCCESS);
    }
    let progress = tokio::select! {
        progress = watched(context, &client, &accepted.job_id) => progress?,
        _ = tokio::signal::ctrl_c() => {
            hint(context.output, &format!("\nthe replication goes on: migratekit job show {}", accepted.job_id));
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    show(context.output, &progress, summary)?;
    match (progress.replication.status, progress.replication.error) {
        (ReplicationStatus::Completed, _) => Ok(ExitCode::SUCCESS),
        (_, Some(problem)) => Err(Failure::from(problem)),
        (status, None) => Err(Failure::new(FailureKind::Conflict, format!("the replication ended as {status}"))),
    }
}

async fn dry_run(context: &Context, client: &Client, request: &StartReplication) -> Result<ExitCode, Failure> {
    let plan: ReplicationPlan = client.post("/api/v1/replications?dry_run=true", request).await?;
    show(context.output, &plan, |plan| {
        let disks = table(
            ["DISK", "SIZE", "VOLUME", "SINCE", "WHY", "READER", "BECAUSE"],
            plan.disks.iter().map(|disk| {
                [
                    disk.disk_id.clone(),
                    human_bytes(disk.capacity_bytes),
                    disk.volume_uuid.clone().unwrap_or_else(|| "a new one".to_owned()),
                    short_change_id(disk.previous_change_id.as_ref()),
                    disk.reason.clone(),
                    disk.reader.as_ref().map_or_else(|| "not known yet".to_owned(), |reader| reader.kind().to_string()),
                    disk.reader_reason.clone().unwrap_or_default(),
                ]
            }),
        );
        let blockers: String = plan.blockers.iter().map(|problem| format!("\n\n{}", explain(problem))).collect();
        format!("{} replication\n{disks}{blockers}", plan.replication_type)
    })?;
    Ok(if plan.blockers.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(CHECK_FAILED) })
}

/// Shows the replication until its job has ended: a committed one still has its vm_snapshot to remove.
async fn watched(context: &Context, client: &Client, job_id: &str) -> Result<ReplicationProgress, Failure> {
    let mut screen = match context.output {
        OutputFormat::Table => Screen::for_people(),
        // A program gets one document, when it is known.
        OutputFormat::Json => Screen::Nothing,
    };
    if let Some(job) = watch::follow(client, job_id, &mut screen).await?
        && let (JobStatus::NeedsOperator, Some(problem)) = (job.status, job.error)
    {
        return Err(Failure::from(problem));
    }
    Ok(client.get(&format!("/api/v1/replications/{job_id}/progress")).await?)
}

fn summary(progress: &ReplicationProgress) -> String {
    let replication = &progress.replication;
    let mut text = format!(
        "{}: {} replication {} after {} ({})",
        replication.source_vm_name,
        replication.replication_type,
        replication.status,
        took(replication.started_at, replication.completed_at),
        replication.id
    );
    if let Some(run) = &progress.run {
        text.push_str(&format!("\n\n{}", disks_table(run, progress)));
        if !progress.certificates.is_empty() {
            text.push_str(&format!("\n\n{}", certified(progress)));
        }
        if let Some(shares) = progress.work.as_ref().and_then(|work| work.shares) {
            text.push_str(&format!("\n\ntime of copying: {}", shares_text(shares)));
        }
        if run.phase == RunPhase::Released && !run.quiesced {
            text.push_str("\n\nthe point in time is crash-consistent (the guest was not quiesced)");
        }
    }
    text
}

fn disks_table(run: &RunView, progress: &ReplicationProgress) -> String {
    table(
        ["DISK", "READ", "SENT", "ON WIRE", "ZERO", "CHANGE ID", "VERIFIED", "HOW"],
        run.disks.iter().map(|disk| {
            let verified = progress.verification.iter().find(|found| found.disk_id == disk.disk_id);
            [
                disk.disk_id.clone(),
                human_bytes(disk.bytes_read),
                human_bytes(disk.bytes_sent),
                human_bytes(disk.bytes_on_wire),
                human_bytes(disk.bytes_zero),
                short_change_id(disk.change_id.as_ref()),
                verified.map_or_else(|| "-".to_owned(), verdict),
                or_dash(disk.reason.as_deref()),
            ]
        }),
    )
}

/// What each disk's equality is certified with, a line each.
fn certified(progress: &ReplicationProgress) -> String {
    let lines = progress.certificates.iter().map(|certificate| {
        format!("{}: certificate {}, root {}", certificate.disk_id, certificate.id, certificate.root)
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn verdict(found: &DiskVerification) -> String {
    match found.report.mismatch_count {
        0 => format!("equal ({} leaves)", found.report.leaves_verified),
        differing => format!("{differing} LEAVES DIFFER"),
    }
}
