//! `migratekit probe`: what an agent or the hub would see, without any hub.

use std::path::PathBuf;
use std::process::ExitCode;

use api::vma::{FindingSeverity, Inventory, VcenterConnection};
use clap::{Args, Subcommand};
use cloudstack::{CheckOutcome, Client, ConnectionSettings, ProbeOptions, ProbeReport, Trust, probe};
use model::size::human_bytes;

use super::failure::{CHECK_FAILED, Failure};
use super::hub::{Context, read_secret};
use super::output::{or_dash, show, table};

/// What to look at.
#[derive(Subcommand)]
pub enum ProbeCommand {
    /// A vCenter or an ESXi host: VMs, disks, network cards, change tracking, preflight findings.
    Vcenter(VcenterArgs),
    /// A CloudStack: zones, offerings, networks, limits, prerequisites; exits with 9 when one fails.
    Cloudstack(CloudstackArgs),
}

/// How to reach a vCenter.
#[derive(Args)]
pub struct VcenterArgs {
    /// host[:port] or https://host[:port].
    #[arg(long)]
    url: String,
    /// User name.
    #[arg(long)]
    username: String,
    /// File with the password.
    #[arg(long)]
    password_file: PathBuf,
    /// SHA-1 or SHA-256 of the server's certificate.
    #[arg(long, conflicts_with = "ca")]
    thumbprint: Option<String>,
    /// CA certificates to trust (PEM).
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Part of a name or inventory path.
    #[arg(long)]
    filter: Option<String>,
}

/// How to reach a CloudStack.
#[derive(Args)]
pub struct CloudstackArgs {
    /// API endpoint.
    #[arg(long)]
    url: String,
    /// File with the API key.
    #[arg(long)]
    api_key_file: PathBuf,
    /// File with the secret key.
    #[arg(long)]
    secret_key_file: PathBuf,
    /// Zone: name or id.
    #[arg(long)]
    zone: Option<String>,
    /// SHA-256 of the server's certificate.
    #[arg(long, conflicts_with = "ca")]
    thumbprint: Option<String>,
    /// CA certificates to trust (PEM).
    #[arg(long)]
    ca: Option<PathBuf>,
    /// MAC address of the machine that will be the hub; may be given several times.
    #[arg(long = "mac")]
    macs: Vec<String>,
}

/// Looks.
///
/// # Errors
/// When the other side cannot be reached or refuses the log-in.
pub async fn run(context: &Context, command: ProbeCommand) -> Result<ExitCode, Failure> {
    match command {
        ProbeCommand::Vcenter(args) => vcenter(context, &args).await,
        ProbeCommand::Cloudstack(args) => cloudstack(context, &args).await,
    }
}

async fn vcenter(context: &Context, args: &VcenterArgs) -> Result<ExitCode, Failure> {
    let connection = VcenterConnection {
        url: args.url.clone(),
        username: args.username.clone(),
        password: read_secret(&args.password_file, "the vCenter password")?,
        thumbprint: args.thumbprint.clone(),
        ca_pem: args.ca.as_ref().map(std::fs::read_to_string).transpose()?,
    };
    let inventory = vma::vcenter::inventory(&connection, args.filter.as_deref())
        .await
        .map_err(|error| Failure::from(error.to_problem()))?;
    show(context.output, &inventory, inventory_text)?;
    Ok(ExitCode::SUCCESS)
}

fn inventory_text(inventory: &Inventory) -> String {
    let vms = table(
        ["VM", "POWER", "CPU", "MEMORY", "CBT", "DISKS", "NETWORK CARDS"],
        inventory.vms.iter().map(|vm| {
            let disks = vm.disks.iter().map(|disk| {
                format!("{} {} {}", disk.disk_id, human_bytes(disk.capacity_bytes), disk.controller_type)
            });
            let nics = vm.networks.iter().map(|nic| format!("{} {}", nic.mac_address, nic.network_name));
            [
                vm.path.clone(),
                vm.power_state.clone(),
                vm.cpu_count.to_string(),
                human_bytes(vm.memory_mb << 20),
                if vm.cbt_enabled { "on" } else { "off" }.to_owned(),
                disks.collect::<Vec<_>>().join("\n"),
                nics.collect::<Vec<_>>().join("\n"),
            ]
        }),
    );
    let findings = inventory.vms.iter().flat_map(|vm| vm.findings.iter().map(move |finding| (vm, finding)));
    let findings = table(
        ["VM", "", "FOUND", "REMEDY"],
        findings.map(|(vm, finding)| {
            let severity = match finding.severity {
                FindingSeverity::Blocker => "blocker",
                FindingSeverity::Warning => "warning",
                FindingSeverity::Info => "info",
            };
            [vm.name.clone(), severity.to_owned(), finding.message.clone(), finding.remedy.clone()]
        }),
    );
    format!("{} (API {})\n{vms}\n\nPreflight\n{findings}", inventory.vcenter_name, inventory.api_version)
}

async fn cloudstack(context: &Context, args: &CloudstackArgs) -> Result<ExitCode, Failure> {
    let trust = match (&args.thumbprint, &args.ca) {
        (Some(thumbprint), _) => Trust::Thumbprint(thumbprint.clone()),
        (None, Some(file)) => Trust::CaPem(std::fs::read_to_string(file)?),
        (None, None) => Trust::System,
    };
    let settings = ConnectionSettings {
        api_url: args.url.clone(),
        api_key: read_secret(&args.api_key_file, "the API key")?,
        secret_key: read_secret(&args.secret_key_file, "the secret key")?,
        trust,
    };
    let client = Client::new(&settings).map_err(|error| {
        let mut problem = api::Problem::from_error(error.kind(), &error);
        problem.remedy = error.remedy().map(str::to_owned);
        Failure::from(problem)
    })?;
    let options = ProbeOptions { zone: args.zone.clone(), local_macs: args.macs.clone(), ..ProbeOptions::default() };
    let report = probe(&client, &options).await;
    if let Some(failure) = &report.failure {
        let problem = Failure::new(failure.kind, failure.message.clone());
        return Err(match &failure.remedy {
            Some(remedy) => problem.remedy(remedy.clone()),
            None => problem,
        });
    }
    let usable = report.prerequisites.is_usable();
    show(context.output, &report, report_text)?;
    Ok(if usable { ExitCode::SUCCESS } else { ExitCode::from(CHECK_FAILED) })
}

fn report_text(report: &ProbeReport) -> String {
    let counts = table(
        ["", ""],
        [
            ["version".to_owned(), or_dash(report.version.as_deref())],
            ["account".to_owned(), report.account.as_ref().map_or_else(|| "-".to_owned(), |a| a.name.clone())],
            ["zones".to_owned(), names(report.zones.iter().map(|zone| &zone.name))],
            ["service offerings".to_owned(), names(report.service_offerings.iter().map(|offering| &offering.name))],
            ["disk offerings".to_owned(), names(report.disk_offerings.iter().map(|offering| &offering.name))],
            ["networks".to_owned(), names(report.networks.iter().map(|network| &network.name))],
            ["templates".to_owned(), report.templates.len().to_string()],
            ["this machine".to_owned(), or_dash(report.own_vm.as_ref().map(|vm| vm.name.as_str()))],
        ],
    );
    let checks = table(
        ["CHECK", "OUTCOME", "SEEN", "REMEDY"],
        report.prerequisites.checks.iter().map(|check| {
            let outcome = match check.outcome {
                CheckOutcome::Passed => "passed",
                CheckOutcome::Warning => "warning",
                CheckOutcome::Failed => "FAILED",
            };
            [check.title.clone(), outcome.to_owned(), check.evidence.clone(), check.remedy.clone()]
        }),
    );
    format!("{}\n{counts}\n\n{checks}", report.api_url)
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}
