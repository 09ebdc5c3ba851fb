//! `migratekit certificate`: what was proven at each commit, as the hub has it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use api::Client;
use api::oma::certificates::{CertificateFile, CertificateView};
use api::page::Page;
use clap::Subcommand;
use model::size::human_bytes;
use proof::Certificate;

use super::clock::stamp;
use super::failure::Failure;
use super::hub::{Context, escape, unknown};
use super::output::{OutputFormat, data, hint, message, or_dash, show, table};

/// Digits of a root that a table shows; the whole one is in the certificate.
const SHOWN_DIGITS: usize = 16;

/// What can be done with certificates.
#[derive(Subcommand)]
pub enum CertificateCommand {
    /// List the certificates of a VM, newest first: one for each disk and commit.
    List {
        /// Name or context id; every VM's when it is left out.
        vm: Option<String>,
        /// Most certificates shown.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Fetch a certificate, to be kept elsewhere and verified with `migratekit verify cert`.
    Get {
        /// As the list shows it.
        id: String,
        /// Write it to this file instead of standard output; a file that is there already is left alone.
        #[arg(long, value_name = "FILE")]
        output_file: Option<PathBuf>,
    },
}

/// Does it.
///
/// # Errors
/// The hub's problem, or what the file system says.
pub async fn run(context: &Context, command: CertificateCommand) -> Result<ExitCode, Failure> {
    let client = context.client()?;
    match command {
        CertificateCommand::List { vm, limit } => list(context, &client, vm.as_deref(), limit).await?,
        CertificateCommand::Get { id, output_file } => get(context, &client, &id, output_file.as_deref()).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(context: &Context, client: &Client, vm: Option<&str>, limit: u32) -> Result<(), Failure> {
    let vm = vm.map(|vm| format!("&vm={}", escape(vm))).unwrap_or_default();
    let page = client.get(&format!("/api/v1/certificates?limit={limit}{vm}")).await;
    let page: Page<CertificateView> = page.map_err(|error| unknown(error, "see `migratekit vm list`"))?;
    show(context.output, &page, |page| certificates_table(&page.items))?;
    let newest = page.items.first();
    if let Some(newest) = newest.filter(|_| context.output == OutputFormat::Table) {
        message(&format!("\nsigned by {}", newest.public_key));
        hint(context.output, &format!("next: migratekit certificate get {} --output-file FILE", newest.id));
    }
    Ok(())
}

/// Certificates as rows.
pub(super) fn certificates_table(certificates: &[CertificateView]) -> String {
    let rows = certificates.iter().map(|certificate| {
        [
            certificate.id.clone(),
            certificate.disk_id.clone(),
            human_bytes(certificate.capacity_bytes),
            certificate.sync_type.to_string(),
            format!("{} of {}", certificate.leaves_verified, certificate.leaves_total),
            certificate.root.chars().take(SHOWN_DIGITS).collect(),
            or_dash(certificate.job_id.as_deref()),
            stamp(Some(certificate.created_at)),
        ]
    });
    table(["ID", "DISK", "SIZE", "TYPE", "LEAVES VERIFIED", "ROOT", "JOB", "COMMITTED"], rows)
}

async fn get(context: &Context, client: &Client, id: &str, output_file: Option<&Path>) -> Result<(), Failure> {
    let found = client.get(&format!("/api/v1/certificates/{}", escape(id))).await;
    let found: CertificateFile = found.map_err(|error| unknown(error, "see `migratekit certificate list`"))?;
    let CertificateFile { document, signature, public_key } = found;
    let certificate = Certificate { document, signature, public_key };
    let failed = |error: proof::ProofError| Failure::of(error.kind(), &error, error.remedy());
    // What is handed on is at least what it says of itself.
    certificate.verify(id).map_err(failed)?;
    let text = certificate.to_file_text().map_err(failed)?;
    let Some(path) = output_file else { return data(text.trim_end()).map(|_reader| ()) };
    write_new(path, &text)?;
    hint(context.output, &format!("wrote {}; next: migratekit verify cert {0}", path.display()));
    Ok(())
}

/// Writes a file that was not there.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    use std::io::{ErrorKind, Write};
    let written = std::fs::File::create_new(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| {
        let kind = match error.kind() {
            ErrorKind::AlreadyExists => model::FailureKind::Conflict,
            ErrorKind::NotFound => model::FailureKind::NotFound,
            ErrorKind::StorageFull => model::FailureKind::Exhausted,
            _ => model::FailureKind::Internal,
        };
        Failure::new(kind, format!("cannot write {}: {error}", path.display())).remedy("name a new file")
    })
}
