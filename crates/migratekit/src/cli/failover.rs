//! `migratekit failover`: tests, live failovers, and the ways back.

mod plan;
mod watch;

pub(super) use watch::until_ended;

use std::process::ExitCode;

use api::Client;
use api::oma::failovers::{
    ConversionPolicy, FailoverPlan, FailoverView, GroupVerdict, PowerOff, StartFailover, StartRollback,
};
use api::oma::probes::ProbeSpec;
use api::oma::replications::{Accepted, ScrubRequest};
use api::page::Page;
use clap::{Args, Subcommand, ValueEnum};
use model::FailureKind;
use model::status::{FailoverStatus, FailoverType};

use super::clock::{ago, seconds_of, stamp, took};
use super::failure::{CHECK_FAILED, Failure, INTERRUPTED, explain};
use super::hub::{Context, escape, unknown, vm_context};
use super::output::{fields, hint, or_dash, show, table};
use super::replicate::ScrubArg;

/// What to say of a failover nobody knows.
const WHICH_FAILOVERS: &str = "see `migratekit failover list`";

/// What can be done.
#[derive(Subcommand)]
pub enum FailoverCommand {
    /// Boot the replica in isolation; the source is left alone.
    ///
    /// Examples:
    ///   migratekit failover test web1 --dry-run
    ///   migratekit failover test web1 --duration 2h --probe tcp:22 --probe http:80/health --watch
    ///   migratekit failover test --group shop --watch
    #[command(verbatim_doc_comment)]
    Test(Box<TestArgs>),
    /// Move the VM: the replica becomes the VM.
    ///
    /// Examples:
    ///   migratekit failover live web1 --dry-run
    ///   migratekit failover live web1 --power-off-source --watch
    #[command(verbatim_doc_comment)]
    Live(Box<LiveArgs>),
    /// List failovers, newest first.
    List {
        /// Only of this VM (name or context id).
        #[arg(long)]
        vm: Option<String>,
        /// Only those under way, or whose VM runs in the target.
        #[arg(long)]
        standing: bool,
        /// Most failovers shown.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show a failover: the VM made, its snapshots, its probes.
    Show {
        /// `failover-…`.
        job: String,
    },
    /// Put a test back: the replica is what it was before, the VM is destroyed.
    Cleanup {
        /// `failover-…`, or `failover-group-…` for all its members.
        job: String,
        /// Stay until it is done.
        #[arg(long)]
        watch: bool,
    },
    /// Take a live failover back: the volumes return to the hub and are compared by the next replication.
    ///
    /// What the guest wrote in the target cloud is lost.
    Rollback {
        /// `failover-…`.
        job: String,
        /// Switch the source VM on again.
        #[arg(long)]
        power_on_source: bool,
        /// Cut the power of the VM in the target when its guest does not shut down.
        #[arg(long)]
        force: bool,
        /// Stay until it is done.
        #[arg(long)]
        watch: bool,
    },
    /// Make a live failover final: there is no way back afterwards.
    Commit {
        /// `failover-…`.
        job: String,
        /// Stay until it is done.
        #[arg(long)]
        watch: bool,
    },
    /// Stop a failover that is under way; what it did is undone.
    Cancel {
        /// `failover-…`.
        job: String,
    },
}

/// What both kinds take.
#[derive(Args)]
pub struct CommonArgs {
    /// Name or context id.
    #[arg(required_unless_present = "group")]
    vm: Option<String>,
    /// A group: its members by boot order, one verdict for all.
    #[arg(long, conflicts_with_all = ["vm", "name"])]
    group: Option<String>,
    /// Begin later boot orders although a member failed.
    #[arg(long, requires = "group")]
    go_on: bool,
    /// Name of the VM to be made: a label of letters, digits and hyphens.
    #[arg(long)]
    name: Option<String>,
    /// Whether the guest's drivers are adapted before it boots.
    #[arg(long, value_enum, default_value_t = ConversionArg::Auto)]
    conversion: ConversionArg,
    /// The recovery point to begin at, as `migratekit point list` shows it; the newest when it is left out.
    #[arg(long, value_name = "JOB", conflicts_with = "group")]
    point: Option<String>,
    /// What is tried once it runs: `tcp:22`, `http:80/health`, `https:443/`, `icmp`; with a host in front where it is
    /// not the VM's own address (`tcp:10.0.0.5:22`). May be given more than once.
    #[arg(long = "probe", value_name = "PROBE")]
    probes: Vec<ProbeSpec>,
    /// How long the probes are repeated (`90s`, `5m`).
    #[arg(long, value_name = "TIME", value_parser = seconds_of)]
    probe_time: Option<u64>,
    /// Stay and show progress; Ctrl-C stops watching, not the failover.
    #[arg(long)]
    watch: bool,
    /// Only say what would be done: the exact VM, every call, the expected time, what would block.
    #[arg(long, conflicts_with = "watch")]
    dry_run: bool,
}

/// A test.
#[derive(Args)]
pub struct TestArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// End it by itself after this time (`30m`, `2h`).
    #[arg(long, value_name = "TIME", value_parser = seconds_of)]
    duration: Option<u64>,
}

/// A live failover.
#[derive(Args)]
pub struct LiveArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Ask the source's guest to shut down first.
    #[arg(long)]
    power_off_source: bool,
    /// Cut the source's power when its guest does not shut down in time.
    #[arg(long)]
    force_power_off: bool,
    /// How long the source's guest may take to shut down (`10m`).
    #[arg(long, value_name = "TIME", value_parser = seconds_of)]
    shutdown_time: Option<u64>,
    /// Do not copy the source once more: the VM begins at the last committed point in time.
    #[arg(long)]
    no_final_sync: bool,
    /// How much the final copy reads again although change tracking calls it unchanged.
    #[arg(long, value_enum, default_value_t = ScrubArg::Auto, conflicts_with = "no_final_sync")]
    scrub: ScrubArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ConversionArg {
    /// Where the guest is known to need it.
    Auto,
    /// In any case.
    Always,
    /// Not at all: emulated hardware, which needs no drivers.
    Never,
}

impl From<ConversionArg> for ConversionPolicy {
    fn from(arg: ConversionArg) -> Self {
        match arg {
            ConversionArg::Auto => Self::Auto,
            ConversionArg::Always => Self::Always,
            ConversionArg::Never => Self::Never,
        }
    }
}

/// Does it.
///
/// # Errors
/// The hub's problem, or the failover's own when it was watched.
pub async fn run(context: &Context, command: FailoverCommand) -> Result<ExitCode, Failure> {
    let client = context.client()?;
    match command {
        FailoverCommand::Test(args) => {
            let request = request(&client, &args.common, FailoverType::Test).await?;
            let request = StartFailover { test_duration_seconds: args.duration, ..request };
            start(context, &client, &args.common, &request).await
        }
        FailoverCommand::Live(args) => {
            let request = request(&client, &args.common, FailoverType::Live).await?;
            start(context, &client, &args.common, &live(&args, request)).await
        }
        FailoverCommand::List { vm, standing, limit } => list(context, &client, vm.as_deref(), standing, limit).await,
        FailoverCommand::Show { job } => {
            show(context.output, &view(&client, &job).await?, view_text)?;
            Ok(ExitCode::SUCCESS)
        }
        FailoverCommand::Cleanup { job, watch } => end(context, &client, &job, "cleanup", &(), watch).await,
        FailoverCommand::Rollback { job, power_on_source, force, watch } => {
            end(context, &client, &job, "rollback", &StartRollback { power_on_source, force }, watch).await
        }
        FailoverCommand::Commit { job, watch } => end(context, &client, &job, "commit", &(), watch).await,
        FailoverCommand::Cancel { job } => {
            let done = client.post(&format!("/api/v1/failovers/{}/cancel", escape(&job)), &()).await;
            let view: api::oma::jobs::JobView = done.map_err(|error| unknown(error, WHICH_FAILOVERS))?;
            show(context.output, &view, |view| format!("{}: {}", view.operation, view.status))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn request(client: &Client, args: &CommonArgs, failover_type: FailoverType) -> Result<StartFailover, Failure> {
    let vm_context_id = match &args.vm {
        Some(vm) => Some(vm_context(client, vm).await?.context.context_id),
        None => None,
    };
    Ok(StartFailover {
        vm_context_id,
        group: args.group.clone(),
        failover_type,
        power_off_source: PowerOff::No,
        shutdown_seconds: None,
        final_sync: false,
        scrub: ScrubRequest::Auto,
        point: args.point.clone(),
        guest_conversion: args.conversion.into(),
        test_duration_seconds: None,
        destination_name: args.name.clone(),
        probes: args.probes.clone(),
        probe_seconds: args.probe_time.map(bounded),
        go_on_after_failure: args.go_on,
    })
}

fn live(args: &LiveArgs, request: StartFailover) -> StartFailover {
    let power_off_source = match (args.power_off_source, args.force_power_off) {
        (_, true) => PowerOff::Forced,
        (true, false) => PowerOff::Graceful,
        (false, false) => PowerOff::No,
    };
    let shutdown_seconds = args.shutdown_time.map(bounded);
    // A final copy would be newer than the point.
    let final_sync = !args.no_final_sync && args.common.point.is_none();
    let scrub = args.scrub.into();
    StartFailover { power_off_source, shutdown_seconds, final_sync, scrub, ..request }
}

/// The hub refuses what is too long.
fn bounded(seconds: u64) -> u32 {
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

async fn start(
    context: &Context,
    client: &Client,
    args: &CommonArgs,
    request: &StartFailover,
) -> Result<ExitCode, Failure> {
    if args.dry_run {
        return dry_run(context, client, request).await;
    }
    let accepted: Accepted = client.post("/api/v1/failovers", request).await?;
    if !args.watch {
        show(context.output, &accepted, |accepted| format!("started {}", accepted.job_id))?;
        hint(context.output, &format!("next: migratekit job log {} --follow", accepted.tracking_id));
        return Ok(ExitCode::SUCCESS);
    }
    if !watched(context, client, &accepted).await? {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    if request.group.is_some() {
        let path = format!("/api/v1/failovers/{}/verdict", escape(&accepted.job_id));
        let verdict: GroupVerdict = client.get(&path).await?;
        show(context.output, &verdict, verdict_text)?;
        return Ok(if verdict.passed { ExitCode::SUCCESS } else { ExitCode::from(CHECK_FAILED) });
    }
    let view = view(client, &accepted.job_id).await?;
    show(context.output, &view, view_text)?;
    let passed = view.probes.iter().flatten().all(|probe| probe.passed);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::from(CHECK_FAILED) })
}

/// Watches a job to its end; false when the operator stopped watching.
async fn watched(context: &Context, client: &Client, accepted: &Accepted) -> Result<bool, Failure> {
    tokio::select! {
        ended = until_ended(context, client, &accepted.tracking_id) => ended.map(|()| true),
        _ = tokio::signal::ctrl_c() => {
            hint(context.output, &format!("\nit goes on: migratekit job show {}", accepted.tracking_id));
            Ok(false)
        }
    }
}

async fn dry_run(context: &Context, client: &Client, request: &StartFailover) -> Result<ExitCode, Failure> {
    let path = "/api/v1/failovers?dry_run=true";
    let open = if request.group.is_some() {
        let plans: Vec<FailoverPlan> = client.post(path, request).await?;
        show(context.output, &plans, |plans| plans.iter().map(plan::text).collect::<Vec<_>>().join("\n\n"))?;
        plans.iter().any(|plan| !plan.blockers.is_empty())
    } else {
        let found: FailoverPlan = client.post(path, request).await?;
        show(context.output, &found, plan::text)?;
        !found.blockers.is_empty()
    };
    Ok(if open { ExitCode::from(CHECK_FAILED) } else { ExitCode::SUCCESS })
}

async fn end<B: serde::Serialize + Sync>(
    context: &Context,
    client: &Client,
    job: &str,
    verb: &str,
    body: &B,
    watch: bool,
) -> Result<ExitCode, Failure> {
    let begun = client.post(&format!("/api/v1/failovers/{}/{verb}", escape(job)), body).await;
    let accepted: Accepted = begun.map_err(|error| unknown(error, WHICH_FAILOVERS))?;
    if !watch {
        show(context.output, &accepted, |accepted| format!("started the {verb} of {}", accepted.job_id))?;
        hint(context.output, &format!("next: migratekit job log {} --follow", accepted.tracking_id));
        return Ok(ExitCode::SUCCESS);
    }
    if !watched(context, client, &accepted).await? {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    // A group has no row of its own.
    match view(client, job).await {
        Ok(view) => show(context.output, &view, view_text)?,
        Err(failure) if failure.kind() == FailureKind::NotFound => {
            show(context.output, &accepted, |accepted| format!("the {verb} of {} is done", accepted.job_id))?;
        }
        Err(failure) => return Err(failure),
    }
    Ok(ExitCode::SUCCESS)
}

async fn view(client: &Client, job: &str) -> Result<FailoverView, Failure> {
    let found = client.get(&format!("/api/v1/failovers/{}", escape(job))).await;
    found.map_err(|error| unknown(error, WHICH_FAILOVERS))
}

async fn list(
    context: &Context,
    client: &Client,
    vm: Option<&str>,
    standing: bool,
    limit: u32,
) -> Result<ExitCode, Failure> {
    let mut path = format!("/api/v1/failovers?limit={limit}&standing={standing}");
    if let Some(vm) = vm {
        let id = vm_context(client, vm).await?.context.context_id;
        path.push_str(&format!("&vm={}", escape(&id)));
    }
    let page: Page<FailoverView> = client.get(&path).await?;
    show(context.output, &page, |page| {
        table(
            ["FAILOVER", "VM", "TYPE", "STATUS", "BEGUN", "TOOK", "VM MADE"],
            page.items.iter().map(|item| {
                [
                    item.job_id.clone(),
                    item.source_vm_name.clone(),
                    item.failover_type.to_string(),
                    item.status.to_string(),
                    ago(item.started_at),
                    took(item.started_at, item.completed_at),
                    or_dash(item.destination_vm_name.as_deref()),
                ]
            }),
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn view_text(view: &FailoverView) -> String {
    let step = if view.current_step.is_empty() { String::new() } else { format!(" · {}", view.current_step) };
    let mut about = vec![
        ("failover", view.job_id.clone()),
        ("of", format!("{} ({})", view.source_vm_name, view.failover_type)),
        ("status", format!("{}{step}", view.status)),
        ("begun", stamp(view.started_at)),
        ("took", took(view.started_at, view.completed_at)),
    ];
    if let Some(name) = &view.destination_vm_name {
        about.push(("VM made", format!("{name} ({})", or_dash(view.destination_vm_id.as_deref()))));
    }
    if let Some(ends) = view.expires_at.filter(|_| view.status == FailoverStatus::Completed) {
        about.push(("ends by itself", stamp(Some(ends))));
    }
    let mut text = fields(about);
    if let Some(vm) = &view.vm {
        text.push_str(&format!("\n\n{}", plan::nics_table(vm)));
        text.push_str(&format!("\n\n{}", plan::disks_table(vm)));
    }
    if let Some(probes) = view.probes.as_ref().filter(|probes| !probes.is_empty()) {
        let rows = probes.iter().map(|probe| {
            let verdict = if probe.passed { "passed" } else { "FAILED" };
            [probe.probe.to_string(), verdict.to_owned(), probe.message.clone()]
        });
        text.push_str(&format!("\n\n{}", table(["PROBE", "VERDICT", "SAID"], rows)));
    }
    if let Some(problem) = &view.error {
        text.push_str(&format!("\n\n{}", explain(problem)));
    }
    text
}

fn verdict_text(verdict: &GroupVerdict) -> String {
    let rows = verdict.members.iter().map(|member| {
        [
            member.boot_order.to_string(),
            member.vm_name.clone(),
            if member.passed { "passed" } else { "FAILED" }.to_owned(),
            or_dash(member.job_id.as_deref()),
            member.message.clone(),
        ]
    });
    let all = if verdict.passed { "the group passed" } else { "the group FAILED" };
    format!("{}\n\n{all}", table(["ORDER", "VM", "VERDICT", "FAILOVER", "SAID"], rows))
}
