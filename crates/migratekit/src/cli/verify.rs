//! `migratekit verify`: certificates, which needs no hub and believes none; and the replica a hub has of a VM.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use api::oma::replications::Accepted;
use clap::Subcommand;
use model::FailureKind;
use proof::certificate::MAX_CERTIFICATE_BYTES;
use proof::chain::{self, Named};
use proof::key::is_public_key;
use proof::{Certificate, Document};

use super::clock::stamp;
use super::failover;
use super::failure::{Failure, INTERRUPTED};
use super::hub::{Context, escape, unknown};
use super::output::{fields, hint, show};

/// What can be verified.
#[derive(Subcommand)]
pub enum VerifyCommand {
    /// Verify certificates of equality offline: the signature, what they say, and that several follow one another.
    Cert {
        /// Files as `migratekit certificate get` writes them; several of one disk oldest first.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The hub's public key, 64 hexadecimal digits (`migratekit certificate list` shows it): what another key signed
        /// is refused.
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
    },
    /// Read a VM's whole replica again on the hub and compare it with what was certified last.
    Disk {
        /// Name or context id.
        vm: String,
        /// Stay until it is done; without it the job's log says how it went.
        #[arg(long)]
        watch: bool,
    },
}

/// Does it.
///
/// # Errors
/// Why a certificate is not to be relied on.
pub async fn run(context: &Context, command: &VerifyCommand) -> Result<ExitCode, Failure> {
    match command {
        VerifyCommand::Cert { files, key } => certificates(context, files, key.as_deref()),
        VerifyCommand::Disk { vm, watch } => disks(context, vm, *watch).await,
    }
}

async fn disks(context: &Context, vm: &str, stay: bool) -> Result<ExitCode, Failure> {
    let client = context.client()?;
    let begun = client.post(&format!("/api/v1/vm-contexts/{}/replica/verify", escape(vm)), &()).await;
    let accepted: Accepted = begun.map_err(|error| unknown(error, "see `migratekit vm list`"))?;
    if !stay {
        show(context.output, &accepted, |accepted| format!("started {}", accepted.tracking_id))?;
        hint(context.output, &format!("next: migratekit job log {} --follow", accepted.tracking_id));
        return Ok(ExitCode::SUCCESS);
    }
    tokio::select! {
        ended = failover::until_ended(context, &client, &accepted.tracking_id) => ended?,
        _ = tokio::signal::ctrl_c() => {
            hint(context.output, &format!("\nit goes on: migratekit job show {}", accepted.tracking_id));
            return Ok(ExitCode::from(INTERRUPTED));
        }
    }
    show(context.output, &accepted, |_| format!("every leaf of the replica of {vm} is what was certified"))?;
    Ok(ExitCode::SUCCESS)
}

fn certificates(context: &Context, files: &[PathBuf], key: Option<&str>) -> Result<ExitCode, Failure> {
    if key.is_some_and(|key| !is_public_key(key)) {
        return Err(Failure::new(FailureKind::Invalid, "--key is not a public key")
            .remedy("give 64 lower-case hexadecimal digits, as `migratekit certificate list` shows them"));
    }
    let certificates = files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
    let documents =
        chain::verify(&certificates, key).map_err(|error| Failure::of(error.kind(), &error, error.remedy()))?;
    show(context.output, &documents, |documents| text(documents))?;
    if key.is_none() {
        hint(context.output, "the key was not checked: give the one you know to be your hub's with --key");
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<Named, Failure> {
    let name = path.display().to_string();
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_CERTIFICATE_BYTES + 1).read_to_end(&mut content));
    read.map_err(|error| {
        let kind = if error.kind() == ErrorKind::NotFound { FailureKind::NotFound } else { FailureKind::Internal };
        Failure::new(kind, format!("cannot read {name}: {error}")).remedy("name files of `migratekit certificate get`")
    })?;
    if content.len() as u64 > MAX_CERTIFICATE_BYTES {
        let detail = format!("{name} is not a certificate of equality: it has more than {MAX_CERTIFICATE_BYTES} bytes");
        return Err(Failure::new(FailureKind::Invalid, detail).remedy("name files of `migratekit certificate get`"));
    }
    let certificate = Certificate::from_file_text(&name, &content)
        .map_err(|error| Failure::of(error.kind(), &error, error.remedy()))?;
    Ok(Named { name, certificate })
}

fn text(documents: &[Document]) -> String {
    let mut parts: Vec<String> = documents.iter().map(one).collect();
    parts.push(match documents.len() {
        1 => "verified".to_owned(),
        count => format!("verified: {count} certificates, each following the one before it"),
    });
    parts.join("\n\n")
}

fn one(document: &Document) -> String {
    let whole = document.leaves_verified == document.leaves_total;
    let verified = if whole { "all of them in this sync" } else { "the others in earlier ones" };
    fields([
        ("certificate", document.id.clone()),
        ("vm", format!("{} ({})", document.vm.name, document.vm.instance_uuid)),
        ("disk", format!("{} ({})", document.disk.disk_id, document.disk.disk_uuid)),
        ("size", format!("{} bytes", document.capacity_bytes)),
        ("equal at", document.change_id.to_string()),
        ("leaves", format!("{} of {} verified, {verified}", document.leaves_verified, document.leaves_total)),
        ("root", document.root.clone()),
        (
            "follows",
            document.previous.as_ref().map_or_else(|| "none, it is the first".to_owned(), |before| before.id.clone()),
        ),
        ("issued", stamp(Some(document.issued_at))),
        ("signed by", document.signed_by.clone()),
    ])
}
