//! `migratekit vcenter`: how to reach each vCenter. The password comes from a file and is stored encrypted.

use std::path::PathBuf;
use std::process::ExitCode;

use api::oma::credentials::{CreateCredential, CredentialView};
use api::page::Page;
use clap::{Args, Subcommand};

use super::clock::ago;
use super::failure::Failure;
use super::hub::{Context, read_secret};
use super::output::{or_dash, show, table, yes_no};

/// What can be done with vCenters.
#[derive(Subcommand)]
pub enum VcenterCommand {
    /// Add a vCenter or an ESXi host.
    Add(AddArgs),
    /// List them.
    List,
}

/// A vCenter to add.
#[derive(Args)]
pub struct AddArgs {
    /// Name to call it by.
    name: String,
    /// `HOST`, `HOST:PORT` or `https://HOST:PORT`.
    #[arg(long)]
    url: String,
    /// User name.
    #[arg(long)]
    username: String,
    /// File with the password.
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
    /// SHA-1 or SHA-256 of the server's certificate, when no public CA vouches for it.
    #[arg(long)]
    thumbprint: Option<String>,
    /// Look only at this datacenter.
    #[arg(long)]
    datacenter: Option<String>,
    /// Use it when no vCenter is named.
    #[arg(long)]
    default: bool,
}

/// Does it.
///
/// # Errors
/// The hub's problem.
pub async fn run(context: &Context, command: VcenterCommand) -> Result<ExitCode, Failure> {
    let client = context.client()?;
    match command {
        VcenterCommand::Add(args) => {
            let request = CreateCredential {
                credential_name: args.name,
                vcenter_host: args.url,
                username: args.username,
                password: read_secret(&args.password_file, "the vCenter password")?,
                datacenter: args.datacenter,
                tls_thumbprint: args.thumbprint,
                is_default: args.default,
            };
            let view: CredentialView = client.post("/api/v1/vmware-credentials", &request).await?;
            show(context.output, &view, |view| format!("added {} ({})", view.credential_name, view.vcenter_host))?;
        }
        VcenterCommand::List => {
            let page: Page<CredentialView> = client.get("/api/v1/vmware-credentials").await?;
            show(context.output, &page, |page| {
                table(
                    ["NAME", "HOST", "USER", "DATACENTER", "DEFAULT", "LAST USED"],
                    page.items.iter().map(|credential| {
                        [
                            credential.credential_name.clone(),
                            credential.vcenter_host.clone(),
                            credential.username.clone(),
                            or_dash(credential.datacenter.as_deref()),
                            yes_no(credential.is_default),
                            ago(credential.last_used),
                        ]
                    }),
                )
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
