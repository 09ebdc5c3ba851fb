//! Reaching the hub: its address, the operator's token, and names that stand for ids.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::oma::contexts::ContextDetail;
use api::{Client, HttpTransport};
use clap::Args;
use model::{FailureKind, Secret};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tunnel::HubTrust;

use super::failure::Failure;
use super::output::OutputFormat;

/// Where the token lies unless said otherwise: the hub writes it there at its first start.
const DEFAULT_TOKEN_FILE: &str = "/var/lib/migratekit/operator.token";

/// How to reach the hub.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Hub")]
pub struct HubArgs {
    /// Address of the hub: http://127.0.0.1:8082 on its own machine, https://HOST from elsewhere.
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:8082")]
    #[arg(env = "MIGRATEKIT_HUB", hide_env_values = true)]
    hub: String,
    /// File with the operator's token.
    #[arg(long, global = true, value_name = "FILE", default_value = DEFAULT_TOKEN_FILE)]
    #[arg(env = "MIGRATEKIT_TOKEN_FILE", hide_env_values = true)]
    token_file: PathBuf,
    /// CA certificate of the hub (PEM); needed with https.
    #[arg(long, global = true, value_name = "FILE", env = "MIGRATEKIT_CA_FILE", hide_env_values = true)]
    ca_file: Option<PathBuf>,
}

/// What every command gets.
pub struct Context {
    /// How to reach the hub.
    pub hub: HubArgs,
    /// How to print.
    pub output: OutputFormat,
}

impl Context {
    /// A client with the operator's token.
    ///
    /// # Errors
    /// When the token or the CA certificate cannot be read.
    pub fn client(&self) -> Result<Client, Failure> {
        let token = read_secret(&self.hub.token_file, "the operator's token")
            .map_err(|failure| failure.advise("run this on the hub as root, or name a copy with --token-file"))?;
        let tls = match (&self.hub.ca_file, self.hub.hub.starts_with("https://")) {
            (Some(file), _) => Some(trust(file)?),
            (None, true) => {
                return Err(Failure::new(FailureKind::Invalid, "https needs the hub's CA certificate")
                    .remedy("copy hub-ca.crt from the hub's state folder and name it with --ca-file"));
            }
            (None, false) => None,
        };
        let transport = HttpTransport::tcp(&self.hub.hub, Some(token), tls).map_err(|error| {
            Failure::of(FailureKind::Invalid, &error, Some("write --hub http://HOST:PORT or https://HOST"))
        })?;
        Ok(Client::new(Arc::new(transport)))
    }
}

/// TLS that trusts the hub's own CA and nobody else.
fn trust(file: &Path) -> Result<rustls::ClientConfig, Failure> {
    let unusable = |detail: String| {
        Failure::new(FailureKind::Invalid, detail)
            .remedy("name the hub's CA certificate (hub-ca.crt in its state folder) with --ca-file")
    };
    let certificate = CertificateDer::from_pem_file(file)
        .map_err(|error| unusable(format!("{} holds no certificate: {error}", file.display())))?;
    tunnel::tls::client::http_config(HubTrust::Ca(certificate)).map_err(|error| unusable(error.to_string()))
}

/// Reads a secret and says which one when it cannot.
///
/// # Errors
/// When the file cannot be read or is empty.
pub fn read_secret(path: &Path, what: &str) -> Result<Secret, Failure> {
    let secret = Secret::from_file(path).map_err(|error| {
        Failure::new(FailureKind::Invalid, format!("cannot read {what} from {}", path.display()))
            .cause(error.to_string())
    })?;
    if secret.expose().is_empty() {
        return Err(Failure::new(FailureKind::Invalid, format!("{} is empty; it must hold {what}", path.display())));
    }
    Ok(secret)
}

/// Reads CA certificates.
///
/// # Errors
/// When the file cannot be read.
pub fn read_ca(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        Failure::new(FailureKind::Invalid, format!("cannot read the CA certificates from {}", path.display()))
            .cause(error.to_string())
            .remedy("name a PEM file that this user may read")
    })
}

/// The context of a VM named by name or id.
///
/// # Errors
/// The hub's problem.
pub async fn vm_context(client: &Client, vm: &str) -> Result<ContextDetail, Failure> {
    let found = client.get(&format!("/api/v1/vm-contexts/{}", escape(vm))).await;
    found.map_err(|error| {
        unknown(error, "`migratekit vm list` shows the VMs that were added, `migratekit vm add` adds one")
    })
}

/// What the hub does not know gets the command that lists what it does know.
pub fn unknown(error: api::ClientError, remedy: &str) -> Failure {
    let failure = Failure::from(error);
    if failure.kind() == FailureKind::NotFound { failure.advise(remedy) } else { failure }
}

/// Percent-encodes one segment of a path (RFC 3986 §2.3: only unreserved characters stay).
pub fn escape(segment: &str) -> String {
    segment
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_odd_characters_stay_one_segment() {
        assert_eq!(escape("web 1/é"), "web%201%2F%C3%A9");
    }
}
