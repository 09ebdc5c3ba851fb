//! An agent's key (Ed25519), and key, certificate and hub CA together once it is enrolled.

use std::path::Path;

use model::Secret;
use rcgen::{KeyPair, PKCS_ED25519, SigningKey};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

use crate::certificate::{PeerIdentity, fingerprint, is_issued_by, parse};
use crate::error::TunnelError;
use crate::identity::random_bytes;
use crate::pairing::CaPrefix;
use crate::pem;
use crate::state_file::{self, MODE_PRIVATE};

/// How long an agent's certificate lives.
pub const AGENT_VALIDITY: Duration = Duration::days(30);
/// An agent asks for a new certificate when less than this is left.
const RENEW_BEFORE: Duration = Duration::days(10);
const PENDING_KEY_FILE: &str = "enrolment.key";
const IDENTITY_FILE: &str = "agent.pem";
/// DER of an Ed25519 SubjectPublicKeyInfo up to the key's 32 bytes (RFC 8410 §4).
const ED25519_SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// DER of an Ed25519 PKCS#8 key, version 1, up to the seed (RFC 8410 §7). Version 2, which the library would write,
/// cannot be read by the OpenSSL of present distributions.
const ED25519_PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// Bytes of an Ed25519 public key, and of a private one's seed.
const ED25519_KEY_BYTES: usize = 32;

/// An agent's public key. Its text form, for `vma_enrollments.vma_public_key`, is 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentPublicKey([u8; ED25519_KEY_BYTES]);

impl AgentPublicKey {
    /// From the raw key (RFC 8032 §5.1.5).
    #[must_use]
    pub fn from_bytes(raw: [u8; ED25519_KEY_BYTES]) -> Self {
        Self(raw)
    }

    /// From the text form.
    ///
    /// # Errors
    /// [`TunnelError::InvalidRecord`] when it is not 64 hexadecimal digits.
    pub fn from_text(text: &str) -> Result<Self, TunnelError> {
        let mut raw = [0; ED25519_KEY_BYTES];
        hex::decode_to_slice(text, &mut raw).map_err(|_| TunnelError::InvalidRecord {
            reason: "its public key is not 64 hexadecimal digits".to_owned(),
        })?;
        Ok(Self(raw))
    }

    /// The text form.
    #[must_use]
    pub fn text(&self) -> String {
        hex::encode(self.0)
    }

    /// The raw key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; ED25519_KEY_BYTES] {
        &self.0
    }

    /// SubjectPublicKeyInfo DER.
    #[must_use]
    pub fn spki_der(&self) -> Vec<u8> {
        [ED25519_SPKI_PREFIX.as_slice(), &self.0].concat()
    }

    /// SHA-256 of the SubjectPublicKeyInfo DER, lower hex: what an operator compares before approving
    /// (`vma_enrollments.vma_fingerprint`).
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.spki_der())
    }
}

/// An agent's private key.
pub struct AgentKey {
    pair: KeyPair,
    public: AgentPublicKey,
}

impl std::fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentKey").field("fingerprint", &self.public.fingerprint()).finish_non_exhaustive()
    }
}

impl AgentKey {
    /// A fresh key, not stored anywhere.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, TunnelError> {
        const DOING: &str = "making the agent's key";
        let seed: [u8; ED25519_KEY_BYTES] = random_bytes()?;
        let der = PrivatePkcs8KeyDer::from([ED25519_PKCS8_PREFIX.as_slice(), &seed].concat());
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519)
            .map_err(|source| TunnelError::Crypto { doing: DOING, source: source.into() })?;
        Self::from_pair(pair).map_err(|reason| TunnelError::Crypto { doing: DOING, source: reason.into() })
    }

    /// The key of the enrolment that is going on in this state folder; a fresh one when none is. It survives a restart
    /// between the request and the approval, and ends with [`AgentIdentity::install`] or [`AgentKey::discard_pending`].
    ///
    /// # Errors
    /// When the file cannot be read, written or understood.
    pub fn load_or_create_pending(folder: &Path) -> Result<Self, TunnelError> {
        let _lock = state_file::lock_folder(folder)?;
        let path = folder.join(PENDING_KEY_FILE);
        if let Some(text) = state_file::read_private(&path)? {
            return Self::from_pem(text.expose()).map_err(|reason| TunnelError::DamagedState { path, reason });
        }
        let key = Self::generate()?;
        state_file::replace(&path, key.pem().expose(), MODE_PRIVATE)?;
        Ok(key)
    }

    /// Forgets the key of an enrolment that was refused or given up.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn discard_pending(folder: &Path) -> Result<(), TunnelError> {
        state_file::remove(&folder.join(PENDING_KEY_FILE))
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> AgentPublicKey {
        self.public
    }

    pub(crate) fn pair(&self) -> &KeyPair {
        &self.pair
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TunnelError> {
        self.pair
            .sign(message)
            .map_err(|source| TunnelError::Crypto { doing: "signing the challenge", source: source.into() })
    }

    fn pem(&self) -> Secret {
        Secret::new(self.pair.serialize_pem())
    }

    fn from_pem(text: &str) -> Result<Self, String> {
        Self::from_pair(pem::key_pair(text)?)
    }

    fn from_pair(pair: KeyPair) -> Result<Self, String> {
        if pair.algorithm() != &PKCS_ED25519 {
            return Err("its private key is not Ed25519".to_owned());
        }
        let raw = <[u8; ED25519_KEY_BYTES]>::try_from(pair.public_key_raw())
            .map_err(|_| "its public key does not have 32 bytes".to_owned())?;
        Ok(Self { pair, public: AgentPublicKey(raw) })
    }
}

/// An enrolled agent: its key, its certificate and the CA of its hub.
#[derive(Debug)]
pub struct AgentIdentity {
    key: AgentKey,
    certificate: CertificateDer<'static>,
    hub_ca: CertificateDer<'static>,
    facts: PeerIdentity,
}

impl AgentIdentity {
    /// The identity stored in the state folder; `None` when the agent is not enrolled.
    ///
    /// # Errors
    /// When the file cannot be read or its parts do not belong together.
    pub fn load(folder: &Path) -> Result<Option<Self>, TunnelError> {
        let path = folder.join(IDENTITY_FILE);
        let Some(text) = state_file::read_private(&path)? else { return Ok(None) };
        let damaged = |reason| TunnelError::DamagedState { path: path.clone(), reason };
        let key = AgentKey::from_pem(text.expose()).map_err(damaged)?;
        let certificates = pem::certificates(text.expose()).map_err(damaged)?;
        let [certificate, hub_ca] = certificates.as_slice() else {
            return Err(damaged("it does not hold exactly two certificates".to_owned()));
        };
        Self::assemble(key, certificate.clone(), hub_ca.clone()).map(Some).map_err(damaged)
    }

    /// Takes the certificate the hub issued, after checking that it is for this key and of the CA, and stores all three
    /// at once; the enrolment's pending key is removed. `pin`, from the pairing code, must match the CA; a renewal
    /// gives the CA already stored instead, so it passes `None`.
    ///
    /// # Errors
    /// [`TunnelError::IdentityRejected`] naming what does not belong together, or when the file cannot be written.
    pub fn install(
        folder: &Path,
        key: AgentKey,
        certificate_pem: &str,
        hub_ca_pem: &str,
        pin: Option<&CaPrefix>,
    ) -> Result<Self, TunnelError> {
        let rejected = |reason| TunnelError::IdentityRejected { reason };
        let certificate = only(certificate_pem).map_err(rejected)?;
        let hub_ca = only(hub_ca_pem).map_err(rejected)?;
        if pin.is_some_and(|pin| !pin.matches(&hub_ca)) {
            return Err(rejected("the hub's CA is not the one of the pairing code".to_owned()));
        }
        let identity = Self::assemble(key, certificate, hub_ca).map_err(rejected)?;
        let _lock = state_file::lock_folder(folder)?;
        state_file::replace(&folder.join(IDENTITY_FILE), identity.pem().expose(), MODE_PRIVATE)?;
        AgentKey::discard_pending(folder)?;
        Ok(identity)
    }

    fn assemble(
        key: AgentKey,
        certificate: CertificateDer<'static>,
        hub_ca: CertificateDer<'static>,
    ) -> Result<Self, String> {
        let facts = PeerIdentity::from_certificate(&certificate)?;
        let parsed = parse(&certificate)?;
        if parsed.public_key().raw != key.public.spki_der() {
            return Err("the certificate is not for this agent's key".to_owned());
        }
        if !is_issued_by(&parsed, &parse(&hub_ca)?) {
            return Err("the certificate was not issued by the hub's CA".to_owned());
        }
        drop(parsed);
        Ok(Self { key, certificate, hub_ca, facts })
    }

    fn pem(&self) -> Secret {
        let certificates = [&self.certificate, &self.hub_ca].map(pem::certificate_text).concat();
        Secret::new(format!("{}{certificates}", self.key.pem().expose()))
    }

    /// The key; renewals ask for a certificate for the same key, so that the fingerprint stays.
    #[must_use]
    pub fn key(&self) -> &AgentKey {
        &self.key
    }

    /// A second handle on the key, for [`AgentIdentity::install`] with a renewed certificate.
    ///
    /// # Errors
    /// Never in practice: the key was read once already.
    pub fn clone_key(&self) -> Result<AgentKey, TunnelError> {
        AgentKey::from_pem(self.key.pem().expose())
            .map_err(|reason| TunnelError::Crypto { doing: "copying the agent's key", source: reason.into() })
    }

    /// The agent's certificate (DER).
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The hub's CA (DER).
    #[must_use]
    pub fn hub_ca(&self) -> &CertificateDer<'static> {
        &self.hub_ca
    }

    /// The hub's CA as PEM.
    #[must_use]
    pub fn hub_ca_pem(&self) -> String {
        pem::certificate_text(&self.hub_ca)
    }

    /// Enrolment, fingerprint and validity, as the certificate says.
    #[must_use]
    pub fn facts(&self) -> &PeerIdentity {
        &self.facts
    }

    /// Whether it is time to ask the hub for a new certificate.
    #[must_use]
    pub fn needs_renewal(&self, now: OffsetDateTime) -> bool {
        self.facts.expires_at - now < RENEW_BEFORE
    }

    pub(crate) fn key_der(&self) -> PrivatePkcs8KeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.pair.serialize_der())
    }
}

fn only(text: &str) -> Result<CertificateDer<'static>, String> {
    let mut found = pem::certificates(text)?;
    match (found.pop(), found.is_empty()) {
        (Some(certificate), true) => Ok(certificate),
        _ => Err("a PEM text does not hold exactly one certificate".to_owned()),
    }
}
