//! The hub's certificate authority: made at the first start, it signs the hub's own server certificate and the agents'.

use std::path::Path;

use model::Secret;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};

use super::{CLOCK_SKEW, random_bytes, random_serial};
use crate::certificate::{fingerprint, parse};
use crate::error::TunnelError;
use crate::pem;
use crate::state_file::{self, MODE_PRIVATE, MODE_PUBLIC};

/// How long the CA lives: agents must be paired anew when it ends.
const CA_VALIDITY: Duration = Duration::days(20 * 365);
const KEY_FILE: &str = "hub-ca.key";
const CERTIFICATE_FILE: &str = "hub-ca.crt";

/// The hub's CA with its private key (ECDSA P-256).
pub struct HubCa {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    expires_at: OffsetDateTime,
}

impl std::fmt::Debug for HubCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubCa").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

impl HubCa {
    /// Loads the CA from the state folder, or makes it when there is none. Several processes may call it at once.
    ///
    /// # Errors
    /// When files cannot be read or written, or do not belong together. A certificate without its key is an error and
    /// is never replaced: every paired agent would be lost without a word.
    pub fn load_or_create(folder: &Path, now: OffsetDateTime) -> Result<Self, TunnelError> {
        let _lock = state_file::lock_folder(folder)?;
        let (key_path, certificate_path) = (folder.join(KEY_FILE), folder.join(CERTIFICATE_FILE));
        let key_text = state_file::read_private(&key_path)?;
        let certificate_text = state_file::read_public(&certificate_path)?;
        match (key_text, certificate_text) {
            (Some(key), Some(certificate)) => Self::from_files(&key_path, &key, &certificate_path, &certificate),
            (None, Some(_)) => Err(TunnelError::DamagedState {
                path: key_path,
                reason: format!("it is missing although {CERTIFICATE_FILE} is there"),
            }),
            // A first start that died between the two files: no agent can have trusted a certificate nobody saw.
            (Some(key), None) => {
                let key = pem::key_pair(key.expose()).map_err(|reason| damaged(&key_path, reason))?;
                Self::create(key, &certificate_path, now)
            }
            (None, None) => {
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| crypto("making the CA key", e))?;
                state_file::replace(&key_path, Secret::new(key.serialize_pem()).expose(), MODE_PRIVATE)?;
                Self::create(key, &certificate_path, now)
            }
        }
    }

    fn create(key: KeyPair, certificate_path: &Path, now: OffsetDateTime) -> Result<Self, TunnelError> {
        let mut params = CertificateParams::default();
        let tail: [u8; 4] = random_bytes()?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("MigrateKit hub CA {}", hex::encode(tail)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = now - CLOCK_SKEW;
        params.not_after = now + CA_VALIDITY;
        params.serial_number = Some(random_serial()?);
        let certificate = params.self_signed(&key).map_err(|e| crypto("making the CA certificate", e))?;
        state_file::replace(certificate_path, &pem::certificate_text(certificate.der()), MODE_PUBLIC)?;
        let ca = Self::assemble(key, certificate.der().clone()).map_err(|reason| damaged(certificate_path, reason))?;
        tracing::info!(fingerprint = %ca.fingerprint(), "made the hub's certificate authority");
        Ok(ca)
    }

    fn from_files(
        key_path: &Path,
        key: &Secret,
        certificate_path: &Path,
        certificate: &str,
    ) -> Result<Self, TunnelError> {
        let key = pem::key_pair(key.expose()).map_err(|reason| damaged(key_path, reason))?;
        let mut found = pem::certificates(certificate).map_err(|reason| damaged(certificate_path, reason))?;
        let (Some(certificate), true) = (found.pop(), found.is_empty()) else {
            return Err(damaged(certificate_path, "it does not hold exactly one certificate".to_owned()));
        };
        Self::assemble(key, certificate).map_err(|reason| damaged(certificate_path, reason))
    }

    fn assemble(key: KeyPair, certificate: CertificateDer<'static>) -> Result<Self, String> {
        let parsed = parse(&certificate)?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err("it does not belong to the key beside it".to_owned());
        }
        if !parsed.is_ca() {
            return Err("it is not a CA".to_owned());
        }
        let expires_at = parsed.validity().not_after.to_datetime();
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| error.to_string())?;
        Ok(Self { certificate, issuer, expires_at })
    }

    /// The CA's certificate (DER).
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The CA's certificate as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        pem::certificate_text(&self.certificate)
    }

    /// SHA-256 of the certificate's DER, lower hex. Pairing codes carry its first 80 bits.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.certificate)
    }

    /// End of the CA's validity.
    #[must_use]
    pub fn expires_at(&self) -> OffsetDateTime {
        self.expires_at
    }

    /// Signs a certificate for `public_key`; only this crate decides what a certificate says.
    pub(crate) fn sign(
        &self,
        params: &CertificateParams,
        public_key: &impl PublicKeyData,
    ) -> Result<CertificateDer<'static>, TunnelError> {
        let certificate = params.signed_by(public_key, &self.issuer).map_err(|e| crypto("signing a certificate", e))?;
        Ok(certificate.into())
    }
}

fn damaged(path: &Path, reason: String) -> TunnelError {
    TunnelError::DamagedState { path: path.to_owned(), reason }
}

fn crypto(doing: &'static str, source: rcgen::Error) -> TunnelError {
    TunnelError::Crypto { doing, source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn now() -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    #[test]
    fn the_ca_is_made_once_and_its_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let first = HubCa::load_or_create(folder.path(), now()).unwrap();
        let second = HubCa::load_or_create(folder.path(), now()).unwrap();
        assert_eq!(first.fingerprint(), second.fingerprint());
        assert_eq!(fs::metadata(folder.path().join(KEY_FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        let other = HubCa::load_or_create(tempfile::tempdir().unwrap().path(), now()).unwrap();
        assert_ne!(first.fingerprint(), other.fingerprint());
    }

    #[test]
    fn concurrent_first_starts_agree_on_one_ca() {
        let folder = tempfile::tempdir().unwrap();
        let prints: Vec<String> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| HubCa::load_or_create(folder.path(), now()).unwrap().fingerprint()))
                .collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(prints.iter().all(|print| *print == prints[0]));
    }

    #[test]
    fn a_lost_key_is_reported_and_a_lost_certificate_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        HubCa::load_or_create(folder.path(), now()).unwrap();
        fs::remove_file(folder.path().join(CERTIFICATE_FILE)).unwrap();
        HubCa::load_or_create(folder.path(), now()).unwrap();
        fs::remove_file(folder.path().join(KEY_FILE)).unwrap();
        let error = HubCa::load_or_create(folder.path(), now()).unwrap_err();
        assert!(matches!(error, TunnelError::DamagedState { .. }), "{error}");
        assert!(!folder.path().join(KEY_FILE).exists());
    }

    #[test]
    fn files_of_two_hubs_do_not_mix() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        HubCa::load_or_create(one.path(), now()).unwrap();
        HubCa::load_or_create(two.path(), now()).unwrap();
        fs::copy(one.path().join(CERTIFICATE_FILE), two.path().join(CERTIFICATE_FILE)).unwrap();
        let error = HubCa::load_or_create(two.path(), now()).unwrap_err();
        assert!(error.to_string().contains("does not belong to the key"), "{error}");
    }
}
