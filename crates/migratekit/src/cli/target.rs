//! `migratekit target`: CloudStack targets, whether they are fit for replication, and what they offer.

mod listings;

use std::path::PathBuf;
use std::process::ExitCode;

use api::Client;
use api::oma::targets::{CheckOutcome, TargetReport, TargetRequest, TargetView};
use api::page::Page;
use clap::{Args, Subcommand};
use model::FailureKind;

use listings::ListingArgs;

use super::failure::{CHECK_FAILED, Failure};
use super::hub::{Context, read_secret};
use super::output::{Checked, checks, or_dash, show, table, yes_no};

/// What can be done with targets.
#[derive(Subcommand)]
pub enum TargetCommand {
    /// Add a CloudStack target.
    Add(Box<AddArgs>),
    /// Check every prerequisite of a target; exits with 9 when one fails.
    Validate {
        /// Name or id.
        target: String,
    },
    /// List targets.
    List,
    /// List the networks a target's account sees.
    Networks(ListingArgs),
    /// List its zones.
    Zones(ListingArgs),
    /// List the compute and disk offerings of its zone.
    Offerings(ListingArgs),
    /// List the templates of its zone.
    Templates(ListingArgs),
}

/// A target to add.
#[derive(Args)]
pub struct AddArgs {
    /// Name to call it by.
    name: String,
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
    zone: String,
    /// Disk offering of the replica volumes; the first custom-size one otherwise.
    #[arg(long)]
    disk_offering: Option<String>,
    /// Service offering of the VMs to be made.
    #[arg(long)]
    service_offering: Option<String>,
    /// Template of the VMs to be made.
    #[arg(long)]
    template: Option<String>,
    /// Network of the VMs to be made.
    #[arg(long)]
    network: Option<String>,
    /// CloudStack id of the VM this hub runs in; found by its network cards otherwise.
    #[arg(long)]
    hub_vm: Option<String>,
    /// Domain path.
    #[arg(long)]
    domain: Option<String>,
    /// SHA-256 of the server's certificate, when no public CA vouches for it.
    #[arg(long)]
    thumbprint: Option<String>,
}

/// Does it.
///
/// # Errors
/// The hub's problem.
pub async fn run(context: &Context, command: TargetCommand) -> Result<ExitCode, Failure> {
    let client = context.client()?;
    match command {
        TargetCommand::Add(args) => add(context, &client, *args).await,
        TargetCommand::Validate { target } => validate(context, &client, &target).await,
        TargetCommand::List => list(context, &client).await,
        TargetCommand::Networks(args) => listings::networks(context, &client, &args).await.map(|()| ExitCode::SUCCESS),
        TargetCommand::Zones(args) => listings::zones(context, &client, &args).await.map(|()| ExitCode::SUCCESS),
        TargetCommand::Offerings(args) => {
            listings::offerings(context, &client, &args).await.map(|()| ExitCode::SUCCESS)
        }
        TargetCommand::Templates(args) => {
            listings::templates(context, &client, &args).await.map(|()| ExitCode::SUCCESS)
        }
    }
}

async fn add(context: &Context, client: &Client, args: AddArgs) -> Result<ExitCode, Failure> {
    let request = TargetRequest {
        name: args.name,
        api_url: args.url,
        api_key: read_secret(&args.api_key_file, "the API key")?,
        secret_key: read_secret(&args.secret_key_file, "the secret key")?,
        domain: args.domain,
        zone: args.zone,
        template_id: args.template,
        network_id: args.network,
        service_offering_id: args.service_offering,
        disk_offering_id: args.disk_offering,
        oma_vm_id: args.hub_vm,
        tls_fingerprint: args.thumbprint,
        is_active: true,
    };
    let view: TargetView = client.post("/api/v1/ossea-configs", &request).await?;
    show(context.output, &view, |view| {
        format!("added {} ({})\nnext: migratekit target validate {}", view.name, view.api_url, view.name)
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn validate(context: &Context, client: &Client, target: &str) -> Result<ExitCode, Failure> {
    let page: Page<TargetView> = client.get("/api/v1/ossea-configs").await?;
    let known = page.items.iter().find(|known| known.name == target || known.id == target).ok_or_else(|| {
        Failure::new(FailureKind::NotFound, format!("there is no target {target:?}"))
            .remedy("see `migratekit target list`")
    })?;
    let report: TargetReport = client.post(&format!("/api/v1/ossea-configs/{}/validate", known.id), &()).await?;
    show(context.output, &report, report_text)?;
    Ok(if report.usable { ExitCode::SUCCESS } else { ExitCode::from(CHECK_FAILED) })
}

fn report_text(report: &TargetReport) -> String {
    let checked = report.checks.iter().map(|check| Checked {
        outcome: match check.outcome {
            CheckOutcome::Passed => "passed",
            CheckOutcome::Warning => "warning",
            CheckOutcome::Failed => "FAILED",
        },
        title: &check.title,
        evidence: &check.evidence,
        remedy: &check.remedy,
    });
    let verdict = if report.usable { "usable" } else { "not usable: mend what failed" };
    format!("{}\n\n{verdict}", checks(checked))
}

async fn list(context: &Context, client: &Client) -> Result<ExitCode, Failure> {
    let page: Page<TargetView> = client.get("/api/v1/ossea-configs").await?;
    show(context.output, &page, |page| {
        table(
            ["NAME", "ENDPOINT", "ZONE", "HUB VM", "ACTIVE"],
            page.items.iter().map(|target| {
                [
                    target.name.clone(),
                    target.api_url.clone(),
                    target.zone.clone(),
                    or_dash(target.oma_vm_id.as_deref()),
                    yes_no(target.is_active),
                ]
            }),
        )
    })?;
    Ok(ExitCode::SUCCESS)
}
