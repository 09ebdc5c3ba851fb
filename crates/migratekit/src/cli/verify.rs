//! `migratekit verify`: proof that needs no hub and believes none.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use model::FailureKind;
use proof::certificate::MAX_CERTIFICATE_BYTES;
use proof::chain::{self, Named};
use proof::key::is_public_key;
use proof::{Certificate, Document};

use super::clock::stamp;
use super::failure::Failure;
use super::hub::Context;
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
}

/// Does it.
///
/// # Errors
/// Why a certificate is not to be relied on.
pub fn run(context: &Context, command: &VerifyCommand) -> Result<ExitCode, Failure> {
    let VerifyCommand::Cert { files, key } = command;
    if key.as_deref().is_some_and(|key| !is_public_key(key)) {
        return Err(Failure::new(FailureKind::Invalid, "--key is not a public key")
            .remedy("give 64 lower-case hexadecimal digits, as `migratekit certificate list` shows them"));
    }
    let certificates = files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
    let documents = chain::verify(&certificates, key.as_deref())
        .map_err(|error| Failure::of(error.kind(), &error, error.remedy()))?;
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
