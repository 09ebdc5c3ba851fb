//! `migratekit probe`: what an agent or the hub would see, without any hub.

use std::path::PathBuf;
use std::process::ExitCode;

use api::vma::{Inventory, VcenterConnection};
use clap::{Args, Subcommand};
use cloudstack::{
    CheckOutcome, Client, ConnectionSettings, Limit, ProbeOptions, ProbeReport, Trust, UsageLimit, probe,
};
use model::FailureKind;
use model::size::human_bytes;
use vma::VmaError;
use vsphere::VsphereError;

use super::failure::{CHECK_FAILED, Failure};
use super::findings::findings_text;
use super::hub::{Context, read_ca, read_secret};
use super::output::{Checked, checks, fields, or_dash, show, table};
use super::vm::change_tracking;

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
    /// `HOST`, `HOST:PORT` or `https://HOST:PORT`.
    #[arg(long)]
    url: String,
    /// User name.
    #[arg(long)]
    username: String,
    /// File with the password.
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
    /// SHA-1 or SHA-256 of the server's certificate.
    #[arg(long, conflicts_with = "ca")]
    thumbprint: Option<String>,
    /// CA certificates to trust (PEM).
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Part of a name or inventory path.
    #[arg(long)]
    filter: Option<String>,
}

/// How to reach a CloudStack.
#[derive(Args)]
pub struct CloudstackArgs {
    /// API endpoint, such as `https://cloud.example:8443/client/api`.
    #[arg(long)]
    url: String,
    /// File with the API key.
    #[arg(long, value_name = "FILE")]
    api_key_file: PathBuf,
    /// File with the secret key.
    #[arg(long, value_name = "FILE")]
    secret_key_file: PathBuf,
    /// Zone: name or id.
    #[arg(long)]
    zone: Option<String>,
    /// SHA-256 of the server's certificate.
    #[arg(long, conflicts_with = "ca")]
    thumbprint: Option<String>,
    /// CA certificates to trust (PEM).
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// MAC address of the machine that will be the hub; may be given several times. Without one, nothing can be said
    /// about the hub's own VM.
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
        ca_pem: args.ca.as_deref().map(read_ca).transpose()?,
    };
    let inventory =
        vma::vcenter::inventory(&connection, args.filter.as_deref()).await.map_err(|error| refused(&error))?;
    show(context.output, &inventory, inventory_text)?;
    Ok(ExitCode::SUCCESS)
}

/// A certificate that is not the one named on this command line makes the command wrong, not the login.
fn refused(error: &VmaError) -> Failure {
    match error {
        VmaError::Vsphere {
            source: source @ (VsphereError::ThumbprintMismatch { .. } | VsphereError::UntrustedCertificate { .. }),
            ..
        } => Failure::of(FailureKind::Invalid, source, source.remedy()),
        other => Failure::from(other.to_problem()),
    }
}

fn inventory_text(inventory: &Inventory) -> String {
    let vms = table(
        ["VM", "POWER", "CPU", "MEMORY", "CBT", "DISKS", "NETWORK CARDS"],
        inventory.vms.iter().map(|vm| {
            let disks = vm
                .disks
                .iter()
                .map(|disk| format!("{} {} {}", disk.disk_id, human_bytes(disk.capacity_bytes), disk.controller_type));
            let nics = vm.networks.iter().map(|nic| format!("{} {}", nic.mac_address, nic.network_name));
            [
                vm.path.clone(),
                vm.power_state.clone(),
                vm.cpu_count.to_string(),
                human_bytes(vm.memory_mb << 20),
                change_tracking(vm).to_owned(),
                disks.collect::<Vec<_>>().join("\n"),
                nics.collect::<Vec<_>>().join("\n"),
            ]
        }),
    );
    let findings = findings_text(inventory.vms.iter(), true);
    let findings = if findings.is_empty() { "nothing stands in the way".to_owned() } else { findings };
    format!("{} (API {})\n\n{vms}\n\nPreflight\n{findings}", inventory.vcenter_name, inventory.api_version)
}

async fn cloudstack(context: &Context, args: &CloudstackArgs) -> Result<ExitCode, Failure> {
    let trust = match (&args.thumbprint, &args.ca) {
        (Some(thumbprint), _) => Trust::Thumbprint(thumbprint.clone()),
        (None, Some(file)) => Trust::CaPem(read_ca(file)?),
        (None, None) => Trust::System,
    };
    let settings = ConnectionSettings {
        api_url: args.url.clone(),
        api_key: read_secret(&args.api_key_file, "the API key")?,
        secret_key: read_secret(&args.secret_key_file, "the secret key")?,
        trust,
    };
    let client = Client::new(&settings).map_err(|error| Failure::of(error.kind(), &error, error.remedy()))?;
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
    let limits = &report.limits;
    let about = fields([
        ("endpoint", report.api_url.clone()),
        ("version", or_dash(report.version.as_deref())),
        ("account", or_dash(report.account.as_ref().map(|account| account.name.as_str()))),
        ("zones", names(report.zones.iter().map(|zone| &zone.name))),
        ("service offerings", names(report.service_offerings.iter().map(|offering| &offering.name))),
        ("disk offerings", names(report.disk_offerings.iter().map(|offering| &offering.name))),
        ("networks", names(report.networks.iter().map(|network| &network.name))),
        ("templates", names(report.templates.iter().map(|template| &template.name))),
        ("volumes", usage(&limits.volumes, "")),
        ("primary storage", usage(&limits.primary_storage_gib, " GiB")),
        ("VMs", usage(&limits.virtual_machines, "")),
        ("hub's own VM", or_dash(report.own_vm.as_ref().map(|vm| vm.name.as_str()))),
    ]);
    let checked = report.prerequisites.checks.iter().map(|check| Checked {
        outcome: match check.outcome {
            CheckOutcome::Passed => "passed",
            CheckOutcome::Warning => "warning",
            CheckOutcome::Failed => "FAILED",
        },
        title: &check.title,
        evidence: &check.evidence,
        remedy: &check.remedy,
    });
    format!("{about}\n\n{}", checks(checked))
}

fn usage(limit: &UsageLimit, unit: &str) -> String {
    let used = limit.used.map_or_else(|| "-".to_owned(), |used| used.to_string());
    match &limit.max {
        Some(Limit::Unlimited) => format!("{used}{unit} used, no limit"),
        Some(Limit::Max(max)) => format!("{used} of {max}{unit} used"),
        None => format!("{used}{unit} used"),
    }
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}
