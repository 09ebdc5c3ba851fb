//! `migratekit vm`: looking at the source, adding VMs, and how they stand.

use std::process::ExitCode;

use api::Client;
use api::oma::contexts::{ContextDetail, ContextList};
use api::oma::discovery::{AddRequest, AddResult, ScanRequest, ScanResult};
use api::vma::{FindingSeverity, SourceVm};
use clap::{Args, Subcommand};
use model::size::human_bytes;

use super::failure::{CHECK_FAILED, Failure, explain};
use super::hub::{Context, vm_context};
use super::output::{or_dash, show, table, time};

/// What can be done with VMs.
#[derive(Subcommand)]
pub enum VmCommand {
    /// Look at a vCenter through an agent.
    Discover(DiscoverArgs),
    /// Add VMs that were discovered.
    Add(AddArgs),
    /// List VMs that were added.
    List,
    /// Show one VM with its disks, jobs and change ids.
    Show {
        /// Name or context id.
        vm: String,
    },
}

/// Where to look.
#[derive(Args)]
pub struct DiscoverArgs {
    /// Part of a name or inventory path.
    filter: Option<String>,
    /// Credential id of the vCenter; the default one otherwise.
    #[arg(long)]
    vcenter: Option<String>,
    /// Agent to look through; the only connected one otherwise.
    #[arg(long)]
    agent: Option<String>,
}

/// What to add.
#[derive(Args)]
pub struct AddArgs {
    /// Names, inventory paths or managed object ids.
    #[arg(required = true)]
    vms: Vec<String>,
    /// Credential id of the vCenter; the default one otherwise.
    #[arg(long)]
    vcenter: Option<String>,
    /// Agent; the only connected one otherwise.
    #[arg(long)]
    agent: Option<String>,
    /// Target id; the active one otherwise.
    #[arg(long)]
    target: Option<String>,
}

/// Does it.
///
/// # Errors
/// The hub's problem.
pub async fn run(context: &Context, command: VmCommand) -> Result<ExitCode, Failure> {
    let client = context.client()?;
    match command {
        VmCommand::Discover(args) => discover(context, &client, args).await,
        VmCommand::Add(args) => add(context, &client, args).await,
        VmCommand::List => list(context, &client).await,
        VmCommand::Show { vm } => {
            show(context.output, &vm_context(&client, &vm).await?, detail)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn discover(context: &Context, client: &Client, args: DiscoverArgs) -> Result<ExitCode, Failure> {
    let request = ScanRequest { credential_id: args.vcenter, enrollment_id: args.agent, filter: args.filter };
    let result: ScanResult = client.post("/api/v1/discovery/scan", &request).await?;
    show(context.output, &result, |result| {
        let head = ["NAME", "PATH", "POWER", "CPU", "MEMORY", "DISKS", "CBT", "ADDED", "FINDINGS"];
        table(
            head,
            result.vms.iter().map(|scanned| {
                let vm = &scanned.vm;
                [
                    vm.name.clone(),
                    vm.path.clone(),
                    vm.power_state.clone(),
                    vm.cpu_count.to_string(),
                    human_bytes(vm.memory_mb << 20),
                    disks(vm),
                    if vm.cbt_enabled { "on" } else { "off" }.to_owned(),
                    if scanned.context_id.is_some() { "yes" } else { "no" }.to_owned(),
                    findings(vm),
                ]
            }),
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn disks(vm: &SourceVm) -> String {
    let total = vm.disks.iter().map(|disk| disk.capacity_bytes).sum();
    format!("{} ({})", vm.disks.len(), human_bytes(total))
}

fn findings(vm: &SourceVm) -> String {
    let lines: Vec<String> = vm
        .findings
        .iter()
        .filter(|finding| finding.severity != FindingSeverity::Info)
        .map(|finding| format!("{}: {}", finding.message, finding.remedy))
        .collect();
    if lines.is_empty() { "-".to_owned() } else { lines.join("\n") }
}

async fn add(context: &Context, client: &Client, args: AddArgs) -> Result<ExitCode, Failure> {
    let request = AddRequest {
        credential_id: args.vcenter,
        enrollment_id: args.agent,
        vms: args.vms,
        ossea_config_id: args.target,
    };
    let result: AddResult = client.post("/api/v1/discovery/add", &request).await?;
    show(context.output, &result, |result| {
        let added = result
            .added
            .iter()
            .map(|vm| format!("{} {} ({})", if vm.created { "added" } else { "refreshed" }, vm.vm_name, vm.context_id));
        let refused = result.refused.iter().map(|vm| format!("{}: {}", vm.vm, explain(&vm.problem)));
        added.chain(refused).collect::<Vec<_>>().join("\n")
    })?;
    Ok(if result.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(CHECK_FAILED) })
}

async fn list(context: &Context, client: &Client) -> Result<ExitCode, Failure> {
    let list: ContextList = client.get("/api/v1/vm-contexts").await?;
    show(context.output, &list, |list| {
        table(
            ["NAME", "STATUS", "JOBS", "FAILED", "LAST JOB", "PATH", "ID"],
            list.vm_contexts.iter().map(|vm| {
                [
                    vm.vm_name.clone(),
                    vm.current_status.to_string(),
                    vm.total_jobs_run.to_string(),
                    vm.failed_jobs.to_string(),
                    time(vm.last_job_at),
                    vm.vm_path.clone(),
                    vm.context_id.clone(),
                ]
            }),
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn detail(detail: &ContextDetail) -> String {
    let vm = &detail.context;
    let disks = table(
        ["DISK", "SIZE", "STATUS", "VOLUME", "CHANGE ID", "FILE"],
        detail.disks.iter().map(|disk| {
            [
                disk.disk_id.clone(),
                human_bytes(disk.capacity_bytes),
                disk.sync_status.to_string(),
                or_dash(disk.volume_uuid.as_deref()),
                disk.disk_change_id.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
                disk.vmdk_path.clone(),
            ]
        }),
    );
    let jobs = table(
        ["JOB", "TYPE", "STATUS", "SENT", "BEGUN", "ENDED", "ERROR"],
        detail.job_history.iter().map(|job| {
            [
                job.id.clone(),
                job.replication_type.to_string(),
                job.status.to_string(),
                human_bytes(job.bytes_transferred),
                time(job.started_at),
                time(job.completed_at),
                or_dash(job.error_message.as_deref()),
            ]
        }),
    );
    format!(
        "{} · {} · {}\n{} · {} CPU · {} · {}\n\nDisks\n{disks}\n\nJobs\n{jobs}",
        vm.vm_name,
        vm.current_status,
        vm.context_id,
        vm.vm_path,
        vm.cpu_count,
        human_bytes(vm.memory_mb << 20),
        vm.os_type,
    )
}
