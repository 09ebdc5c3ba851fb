//! `migratekit vm`: looking at the source, adding VMs, and how they stand.

use std::process::ExitCode;

use api::Client;
use api::oma::contexts::{ContextDetail, ContextList};
use api::oma::discovery::{AddRequest, AddResult, ScanRequest, ScanResult};
use api::oma::replications::Accepted;
use api::vma::SourceVm;
use clap::{Args, Subcommand};
use model::size::human_bytes;
use model::status::ReplicationStatus;
use model::{ChangeId, FailureKind};

use super::clock::{ago, stamp, took};
use super::failure::{CHECK_FAILED, Failure, explain};
use super::findings::findings_text;
use super::hub::{Context, vm_context};
use super::output::{fields, hint, or_dash, show, table, yes_no};

/// What can be done with VMs.
#[derive(Subcommand)]
pub enum VmCommand {
    /// Look at a vCenter through an agent.
    Discover(DiscoverArgs),
    /// Add VMs that were discovered.
    Add(AddArgs),
    /// List VMs that were added.
    List,
    /// Forget a VM; refused while a job runs or its replica exists.
    Remove {
        /// Name or context id.
        vm: String,
    },
    /// Delete a VM's replica: its volumes in CloudStack, and with them its change ids.
    DropReplica {
        /// Name or context id.
        vm: String,
        /// Confirms that the volumes are to be deleted.
        #[arg(long)]
        yes: bool,
    },
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
        VmCommand::Remove { vm } => remove(context, &client, &vm).await,
        VmCommand::DropReplica { vm, yes } => drop_replica(context, &client, &vm, yes).await,
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
        let head = ["NAME", "POWER", "CPU", "MEMORY", "DISKS", "CBT", "ADDED", "FINDINGS", "PATH"];
        let vms = table(
            head,
            result.vms.iter().map(|scanned| {
                let vm = &scanned.vm;
                [
                    vm.name.clone(),
                    vm.power_state.clone(),
                    vm.cpu_count.to_string(),
                    human_bytes(vm.memory_mb << 20),
                    disks(vm),
                    change_tracking(vm).to_owned(),
                    yes_no(scanned.context_id.is_some()),
                    vm.findings.len().to_string(),
                    vm.path.clone(),
                ]
            }),
        );
        let findings = findings_text(result.vms.iter().map(|scanned| &scanned.vm), false);
        if findings.is_empty() { vms } else { format!("{vms}\n\n{findings}") }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn disks(vm: &SourceVm) -> String {
    let total = vm.disks.iter().map(|disk| disk.capacity_bytes).sum();
    format!("{} ({})", vm.disks.len(), human_bytes(total))
}

/// How changed block tracking stands.
pub fn change_tracking(vm: &SourceVm) -> &'static str {
    match (vm.cbt_enabled, vm.cbt_supported) {
        (true, _) => "on",
        (false, true) => "off",
        (false, false) => "impossible",
    }
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

async fn remove(context: &Context, client: &Client, vm: &str) -> Result<ExitCode, Failure> {
    let id = vm_context(client, vm).await?.context.context_id;
    client.delete::<()>(&format!("/api/v1/vm-contexts/{id}")).await?;
    show(context.output, &serde_json::json!({ "removed": vm }), |_| format!("forgot {vm}"))?;
    Ok(ExitCode::SUCCESS)
}

async fn drop_replica(context: &Context, client: &Client, vm: &str, yes: bool) -> Result<ExitCode, Failure> {
    let detail = vm_context(client, vm).await?;
    let volumes = detail.disks.iter().filter(|disk| disk.volume_uuid.is_some()).count();
    if !yes {
        let text = format!("this deletes the {volumes} replica volumes of {vm} in CloudStack");
        return Err(Failure::new(FailureKind::Conflict, text).remedy("say so: repeat with --yes"));
    }
    let id = detail.context.context_id;
    let accepted: Accepted = client.delete(&format!("/api/v1/vm-contexts/{id}/replica")).await?;
    show(context.output, &accepted, |accepted| format!("started {}", accepted.tracking_id))?;
    hint(context.output, &format!("next: migratekit job log {} --follow", accepted.tracking_id));
    Ok(ExitCode::SUCCESS)
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
                    ago(vm.last_job_at),
                    vm.vm_path.clone(),
                    vm.context_id.clone(),
                ]
            }),
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A change id as people tell two apart: the beginning of its epoch, and its counter.
pub fn short_change_id(id: Option<&ChangeId>) -> String {
    let Some(id) = id else { return "-".to_owned() };
    let epoch: String = id.epoch().chars().filter(|c| !c.is_whitespace()).take(8).collect();
    format!("{epoch}…/{}", id.sequence())
}

fn detail(detail: &ContextDetail) -> String {
    let vm = &detail.context;
    let about = fields([
        ("name", vm.vm_name.clone()),
        ("status", vm.current_status.to_string()),
        ("path", vm.vm_path.clone()),
        ("shape", format!("{} CPU, {}, {}", vm.cpu_count, human_bytes(vm.memory_mb << 20), vm.os_type)),
        ("id", vm.context_id.clone()),
    ]);
    let disks = table(
        ["DISK", "SIZE", "STATUS", "CHANGE ID", "VOLUME", "FILE"],
        detail.disks.iter().map(|disk| {
            [
                disk.disk_id.clone(),
                human_bytes(disk.capacity_bytes),
                disk.sync_status.to_string(),
                short_change_id(disk.disk_change_id.as_ref()),
                or_dash(disk.volume_uuid.as_deref()),
                disk.vmdk_path.clone(),
            ]
        }),
    );
    format!("{about}\n\nDisks\n{disks}\n\nReplications\n{}", history(detail))
}

fn history(detail: &ContextDetail) -> String {
    let jobs = table(
        ["JOB", "TYPE", "STATUS", "SENT", "BEGUN", "TOOK"],
        detail.job_history.iter().map(|job| {
            [
                job.id.clone(),
                job.replication_type.to_string(),
                job.status.to_string(),
                human_bytes(job.bytes_transferred),
                stamp(job.started_at),
                took(job.started_at, job.completed_at),
            ]
        }),
    );
    // What was mended since is history; the last failure is what matters.
    let last = detail.job_history.first().filter(|job| job.status != ReplicationStatus::Completed);
    let error = last.and_then(|job| Some(format!("\n\n{} failed: {}", job.id, job.error_message.as_deref()?)));
    format!("{jobs}{}", error.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_id_is_told_by_its_ends() {
        let id: ChangeId = "52 9c 1d 40 de e2 2a d0-9f 3e 2b 7c 8a 41 55 e1/17".parse().unwrap();
        assert_eq!(short_change_id(Some(&id)), "529c1d40…/17");
        assert_eq!(short_change_id(None), "-");
    }
}
