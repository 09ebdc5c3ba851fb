//! The hub's server certificate: issued by the hub's CA for the configured names and renewed before it ends.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use model::Secret;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::GeneralName;

use super::{CLOCK_SKEW, HubCa, random_serial};
use crate::certificate::{alternative_names, is_issued_by, parse};
use crate::error::TunnelError;
use crate::pem;
use crate::state_file::{self, MODE_PRIVATE};

/// How long a server certificate lives.
pub const SERVER_VALIDITY: Duration = Duration::days(90);
/// A server certificate with less left than this is replaced.
const RENEW_BEFORE: Duration = Duration::days(30);
/// Key and certificate of the server, in one file so that they always belong together.
const LEAF_FILE: &str = "server.pem";
/// Names used when the configuration gives none.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The hub's server key (ECDSA P-256, for browsers) and certificate.
pub struct ServerLeaf {
    key: PrivatePkcs8KeyDer<'static>,
    certificate: CertificateDer<'static>,
    expires_at: OffsetDateTime,
}

impl std::fmt::Debug for ServerLeaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerLeaf").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl ServerLeaf {
    /// The server's certificate (DER), without its CA.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// End of its validity.
    #[must_use]
    pub fn expires_at(&self) -> OffsetDateTime {
        self.expires_at
    }

    fn assemble(key: &KeyPair, certificate: CertificateDer<'static>) -> Result<Self, String> {
        let parsed = parse(&certificate)?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err("its certificate does not belong to its key".to_owned());
        }
        let expires_at = parsed.validity().not_after.to_datetime();
        Ok(Self { key: PrivatePkcs8KeyDer::from(key.serialize_der()), certificate, expires_at })
    }

    /// The private key (PKCS#8 DER).
    pub(crate) fn key(&self) -> PrivatePkcs8KeyDer<'static> {
        self.key.clone_key()
    }
}

/// Everything the hub proves itself with: its CA and, through it, the server certificate.
#[derive(Debug)]
pub struct HubIdentity {
    folder: PathBuf,
    server_names: BTreeSet<String>,
    ca: HubCa,
}

impl HubIdentity {
    /// Opens the identity in a state folder, making the CA at the first start. `server_names` are the DNS names and
    /// IP addresses people and agents reach the hub by; none means the loopback names.
    ///
    /// # Errors
    /// See [`HubCa::load_or_create`].
    pub fn open(folder: &Path, server_names: &[String], now: OffsetDateTime) -> Result<Self, TunnelError> {
        let ca = HubCa::load_or_create(folder, now)?;
        let mut names: BTreeSet<String> = server_names.iter().map(|name| canonical(name)).collect();
        if names.is_empty() {
            names.extend(LOOPBACK_NAMES.map(str::to_owned));
        }
        Ok(Self { folder: folder.to_owned(), server_names: names, ca })
    }

    /// The hub's CA.
    #[must_use]
    pub fn ca(&self) -> &HubCa {
        &self.ca
    }

    /// The server certificate: the stored one while it is of this CA, for exactly the configured names and not close
    /// to its end; otherwise a new one, which is stored.
    ///
    /// # Errors
    /// When the file cannot be read or written, or a configured name cannot stand in a certificate.
    pub fn server_leaf(&self, now: OffsetDateTime) -> Result<ServerLeaf, TunnelError> {
        let _lock = state_file::lock_folder(&self.folder)?;
        let path = self.folder.join(LEAF_FILE);
        if let Some(text) = state_file::read_private(&path)? {
            match self.usable(&text, now) {
                Ok(leaf) => return Ok(leaf),
                Err(reason) => tracing::info!(%reason, "replacing the hub's server certificate"),
            }
        }
        self.issue(&path, now)
    }

    fn usable(&self, text: &Secret, now: OffsetDateTime) -> Result<ServerLeaf, String> {
        let key = pem::key_pair(text.expose())?;
        let certificate = pem::certificates(text.expose())?.into_iter().next().ok_or("it holds no certificate")?;
        let leaf = ServerLeaf::assemble(&key, certificate)?;
        let parsed = parse(&leaf.certificate)?;
        if !is_issued_by(&parsed, &parse(self.ca.certificate())?) {
            return Err("it is of another CA".to_owned());
        }
        if names_of(&parsed)? != self.server_names {
            return Err("the configured names changed".to_owned());
        }
        if leaf.expires_at - now < RENEW_BEFORE {
            return Err(format!("it ends at {}", leaf.expires_at));
        }
        Ok(leaf)
    }

    fn issue(&self, path: &Path, now: OffsetDateTime) -> Result<ServerLeaf, TunnelError> {
        let failed = |source: rcgen::Error| TunnelError::Crypto {
            doing: "making the hub's server certificate",
            source: source.into(),
        };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let names: Vec<String> = self.server_names.iter().cloned().collect();
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "MigrateKit hub");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = now - CLOCK_SKEW;
        params.not_after = (now + SERVER_VALIDITY).min(self.ca.expires_at());
        params.serial_number = Some(random_serial()?);
        let certificate = self.ca.sign(&params, &key)?;
        let text = Secret::new(format!("{}{}", key.serialize_pem(), pem::certificate_text(&certificate)));
        state_file::replace(path, text.expose(), MODE_PRIVATE)?;
        let leaf = ServerLeaf::assemble(&key, certificate)
            .map_err(|reason| TunnelError::DamagedState { path: path.to_owned(), reason })?;
        tracing::info!(expires_at = %leaf.expires_at, "issued the hub's server certificate");
        Ok(leaf)
    }
}

/// One spelling for a name: addresses as the standard library writes them, DNS names in lower case.
fn canonical(name: &str) -> String {
    let bare = name.trim().trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().map_or_else(|_| bare.to_ascii_lowercase(), |address| address.to_string())
}

fn names_of(certificate: &x509_parser::certificate::X509Certificate<'_>) -> Result<BTreeSet<String>, String> {
    let names = alternative_names(certificate)?;
    Ok(names
        .into_iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        })
        .collect())
}

fn address(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|b| IpAddr::from(b).to_string()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|b| IpAddr::from(b).to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path, names: &[&str], now: OffsetDateTime) -> HubIdentity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        HubIdentity::open(folder, &names, now).unwrap()
    }

    #[test]
    fn the_leaf_is_kept_until_it_is_due() {
        let folder = tempfile::tempdir().unwrap();
        let start = OffsetDateTime::now_utc();
        let hub = open(folder.path(), &["Hub.Example", "192.0.2.7", "[2001:DB8::1]"], start);
        let first = hub.server_leaf(start).unwrap();
        let same = hub.server_leaf(start + Duration::days(59)).unwrap();
        assert_eq!(first.certificate(), same.certificate());
        let renewed = hub.server_leaf(start + Duration::days(61)).unwrap();
        assert_ne!(first.certificate(), renewed.certificate());
        assert!(renewed.expires_at() > first.expires_at());
        let parsed = parse(renewed.certificate()).unwrap();
        assert!(is_issued_by(&parsed, &parse(hub.ca().certificate()).unwrap()));
        let expected: BTreeSet<String> = ["hub.example", "192.0.2.7", "2001:db8::1"].map(str::to_owned).into();
        assert_eq!(names_of(&parsed).unwrap(), expected);
    }

    #[test]
    fn a_change_of_names_or_a_damaged_file_replaces_the_leaf() {
        let folder = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let first = open(folder.path(), &["a.example"], now).server_leaf(now).unwrap();
        let second = open(folder.path(), &["b.example"], now).server_leaf(now).unwrap();
        assert_ne!(first.certificate(), second.certificate());
        state_file::replace(&folder.path().join(LEAF_FILE), "rubbish", MODE_PRIVATE).unwrap();
        let third = open(folder.path(), &["b.example"], now).server_leaf(now).unwrap();
        assert_ne!(second.certificate(), third.certificate());
        let default = open(folder.path(), &[], now).server_leaf(now).unwrap();
        assert_eq!(names_of(&parse(default.certificate()).unwrap()).unwrap(), LOOPBACK_NAMES.map(str::to_owned).into());
    }
}
