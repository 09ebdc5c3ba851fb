//! `migratekit replicate`: starts a replication and, if asked, watches it to the end.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use api::Client;
use api::oma::replications::{Accepted, ReplicationPlan, ReplicationProgress, RequestedType, StartReplication};
use api::vma::{RunDiskView, RunPhase, RunView};
use clap::{Args, ValueEnum};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use model::FailureKind;
use model::size::human_bytes;
use model::status::{ReplicationStatus, Transitions};

use super::failure::{CHECK_FAILED, Failure, explain};
use super::hub::{Context, vm_context};
use super::output::{OutputFormat, message, or_dash, show, table};

/// How often progress is asked for while watching.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// How long the hub may be away while watching (a restart, a lost link) before it is given up.
const AWAY_LIMIT: u32 = 600;

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
    };
    if args.dry_run {
        return dry_run(context, &client, &request).await;
    }
    let accepted: Accepted = client.post("/api/v1/replications", &request).await?;
    if !args.watch {
        show(context.output, &accepted, |accepted| {
            format!("started {}\nnext: migratekit job show {}", accepted.job_id, accepted.job_id)
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let progress = watch(context, &client, &accepted.job_id).await?;
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
            ["DISK", "SIZE", "VOLUME", "SINCE", "WHY"],
            plan.disks.iter().map(|disk| {
                [
                    disk.disk_id.clone(),
                    human_bytes(disk.capacity_bytes),
                    disk.volume_uuid.clone().unwrap_or_else(|| "a new one".to_owned()),
                    disk.previous_change_id.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
                    disk.reason.clone(),
                ]
            }),
        );
        let blockers: String = plan.blockers.iter().map(|problem| format!("\n{}", explain(problem))).collect();
        format!("{} replication\n{disks}{blockers}", plan.replication_type)
    })?;
    Ok(if plan.blockers.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(CHECK_FAILED) })
}

async fn watch(context: &Context, client: &Client, job_id: &str) -> Result<ReplicationProgress, Failure> {
    let path = format!("/api/v1/replications/{job_id}/progress");
    let mut bars = Bars::new(context.output == OutputFormat::Table);
    let mut away = 0;
    loop {
        match client.get::<ReplicationProgress>(&path).await {
            Ok(progress) => {
                away = 0;
                bars.update(&progress);
                if progress.replication.status.is_final() {
                    bars.finish();
                    return Ok(progress);
                }
            }
            Err(error) if error.kind() == FailureKind::Unavailable && away < AWAY_LIMIT => {
                if away == 0 {
                    bars.say("the hub does not answer; the replication goes on when it is back");
                }
                away += 1;
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

/// One bar for the job's step, one for each disk.
struct Bars {
    all: Option<MultiProgress>,
    step: ProgressBar,
    disks: HashMap<String, ProgressBar>,
}

impl Bars {
    fn new(visible: bool) -> Self {
        let all = visible.then(MultiProgress::new);
        let step = ProgressBar::new_spinner();
        let step = all.as_ref().map_or_else(ProgressBar::hidden, |all| all.add(step));
        step.set_style(style("{spinner} {msg}"));
        Self { all, step, disks: HashMap::new() }
    }

    fn update(&mut self, progress: &ReplicationProgress) {
        let replication = &progress.replication;
        self.step.set_message(format!("{} · {}", replication.status, replication.current_operation));
        self.step.tick();
        for disk in progress.run.iter().flat_map(|run| &run.disks) {
            let all = self.all.as_ref();
            let bar = self.disks.entry(disk.disk_id.clone()).or_insert_with(|| disk_bar(all, &disk.disk_id));
            bar.set_length(disk.bytes_total);
            bar.set_position(disk.bytes_done);
            bar.set_message(disk_message(disk));
        }
    }

    fn say(&self, text: &str) {
        match &self.all {
            Some(all) => drop(all.println(text)),
            None => message(text),
        }
    }

    fn finish(&self) {
        self.step.finish_and_clear();
        for bar in self.disks.values() {
            bar.abandon();
        }
    }
}

fn disk_bar(all: Option<&MultiProgress>, disk_id: &str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    let bar = all.map_or_else(ProgressBar::hidden, |all| all.add(bar));
    bar.set_style(style("  {prefix:12} {wide_bar:.green} {bytes:>10}/{total_bytes:10} {msg}").progress_chars("━╸─"));
    bar.set_prefix(disk_id.to_owned());
    bar
}

/// A style from a template of ours; the default one should a template ever be wrong.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn disk_message(disk: &RunDiskView) -> String {
    if disk.durable {
        return "durable".to_owned();
    }
    let eta = disk.eta_seconds.map(|seconds| format!(", {} left", duration(seconds))).unwrap_or_default();
    format!("{}/s{eta}", human_bytes(disk.speed_bps))
}

fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

fn summary(progress: &ReplicationProgress) -> String {
    let replication = &progress.replication;
    let mut text = format!("{} · {} · {}", replication.id, replication.replication_type, replication.status);
    if let Some(run) = &progress.run {
        text.push_str(&format!("\n{}", disks_table(run, progress)));
        if run.phase == RunPhase::Released && !run.quiesced {
            text.push_str("\nthe point in time is crash-consistent (the guest was not quiesced)");
        }
    }
    text
}

fn disks_table(run: &RunView, progress: &ReplicationProgress) -> String {
    table(
        ["DISK", "READ", "SENT", "ZERO", "CHANGE ID", "VERIFIED", "HOW"],
        run.disks.iter().map(|disk| {
            let verified = progress.verification.iter().find(|found| found.disk_id == disk.disk_id);
            [
                disk.disk_id.clone(),
                human_bytes(disk.bytes_read),
                human_bytes(disk.bytes_sent),
                human_bytes(disk.bytes_zero),
                disk.change_id.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
                verified.map_or_else(|| "-".to_owned(), |found| {
                    format!("{} leaves, {} differ", found.report.leaves_verified, found.report.mismatch_count)
                }),
                or_dash(disk.reason.as_deref()),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (seconds, text) in [(5, "5 s"), (65, "1 min 5 s"), (7325, "2 h 2 min")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
