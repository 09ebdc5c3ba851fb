//! Certificates of equality: at this change id, the replica of this disk was equal to it, and this is the root over all
//! its leaves. A document of canonical JSON, signed as the bytes it is. Pure.
//!
//! There is one way to write a certificate, so a file in which any byte was changed is refused.

use block::digest::{LeafDigest, leaf_count};
use model::status::ReplicationType;
use model::{ChangeId, LEAF_SIZE_BYTES};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::ProofError;
use crate::key::{CertificateKey, is_lower_hex, is_signed};

/// The only version of the document there is.
pub const VERSION: u32 = 1;
/// Largest certificate read, in bytes: one is below 2 KiB.
pub const MAX_CERTIFICATE_BYTES: u64 = 64 * 1024;
/// Bytes of a root and of the digest of a document.
const DIGEST_BYTES: usize = 32;

/// The VM a certificate is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedVm {
    /// The hub's id of the VM.
    pub context_id: String,
    /// Its name in vCenter.
    pub name: String,
    /// vCenter's instance uuid.
    pub instance_uuid: String,
}

/// The disk a certificate is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedDisk {
    /// `disk-<device key>`.
    pub disk_id: String,
    /// The VMDK's uuid.
    pub disk_uuid: String,
}

/// The certificate of the same disk before this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Previous {
    /// Its id.
    pub id: String,
    /// BLAKE3 of its document, 64 lower-case hexadecimal digits.
    pub document_blake3: String,
}

/// What is signed. Its canonical form is compact JSON with the fields in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// [`VERSION`].
    pub version: u32,
    /// The certificate's id.
    pub id: String,
    /// The VM.
    pub vm: CertifiedVm,
    /// The disk.
    pub disk: CertifiedDisk,
    /// Its size in bytes.
    pub capacity_bytes: u64,
    /// Size of a leaf in bytes; the last one may be shorter.
    pub leaf_size_bytes: u64,
    /// Leaves of the disk.
    pub leaves_total: u64,
    /// Leaves that were re-read from the replica and compared in this replication; the others were in an earlier one.
    pub leaves_verified: u64,
    /// How the replication found what to copy.
    pub sync_mode: ReplicationType,
    /// The point of the source the replica is equal to.
    pub change_id: ChangeId,
    /// The root over all leaves, 64 lower-case hexadecimal digits.
    pub root: String,
    /// The certificate before this one; none for the first of a disk.
    pub previous: Option<Previous>,
    /// When it was issued.
    #[serde(with = "time::serde::rfc3339")]
    pub issued_at: OffsetDateTime,
    /// The public key that signs it, 64 lower-case hexadecimal digits.
    pub signed_by: String,
}

impl Document {
    /// The canonical form.
    ///
    /// # Errors
    /// The time cannot be written.
    pub fn to_text(&self) -> Result<String, ProofError> {
        serde_json::to_string(self)
            .map_err(|error| ProofError::Malformed { name: self.id.clone(), reason: error.to_string() })
    }

    /// What contradicts itself, if anything does.
    fn contradiction(&self) -> Option<String> {
        let leaves_total = leaf_count(self.capacity_bytes);
        if self.version != VERSION {
            return Some(format!("version {} is not known here", self.version));
        }
        if self.leaf_size_bytes != LEAF_SIZE_BYTES || self.leaves_total != leaves_total {
            let told = (self.leaves_total, self.leaf_size_bytes);
            return Some(format!("{} leaves of {} bytes do not make {} bytes", told.0, told.1, self.capacity_bytes));
        }
        if self.leaves_verified > self.leaves_total {
            return Some(format!("{} of {leaves_total} leaves cannot be verified", self.leaves_verified));
        }
        if self.sync_mode != ReplicationType::Incremental && self.leaves_verified != self.leaves_total {
            let told = (self.sync_mode, self.leaves_verified);
            return Some(format!(
                "a sync of the kind {} verifies every leaf, not {} of {leaves_total}",
                told.0, told.1
            ));
        }
        if self.sync_mode == ReplicationType::Incremental && self.previous.is_none() {
            return Some("an increment has a certificate before it".to_owned());
        }
        if !is_lower_hex(&self.root, DIGEST_BYTES) {
            return Some("its root is not 64 hexadecimal digits".to_owned());
        }
        let previous = self.previous.as_ref().map(|previous| previous.document_blake3.as_str());
        if previous.is_some_and(|digest| !is_lower_hex(digest, DIGEST_BYTES)) {
            return Some("the digest of the certificate before it is not 64 hexadecimal digits".to_owned());
        }
        None
    }
}

/// A document with its signature: what is stored, handed out and verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The canonical form of a [`Document`]: exactly these bytes are signed.
    pub document: String,
    /// Ed25519 signature (RFC 8032), 128 lower-case hexadecimal digits.
    pub signature: String,
    /// The public key it was signed with, 64 lower-case hexadecimal digits.
    pub public_key: String,
}

impl Certificate {
    /// Signs a document; the same document and key give the same certificate.
    ///
    /// # Errors
    /// The document contradicts itself or names another key.
    pub fn issue(document: &Document, key: &CertificateKey) -> Result<Self, ProofError> {
        let malformed = |reason| ProofError::Malformed { name: document.id.clone(), reason };
        if document.signed_by != key.public_key() {
            return Err(malformed("it names another key".to_owned()));
        }
        document.contradiction().map_or(Ok(()), |reason| Err(malformed(reason)))?;
        let text = document.to_text()?;
        let signature = key.sign(text.as_bytes())?;
        Ok(Self { document: text, signature, public_key: key.public_key() })
    }

    /// The text of a certificate's file: one line of JSON.
    ///
    /// # Errors
    /// Never in practice: it is made of texts.
    pub fn to_file_text(&self) -> Result<String, ProofError> {
        let text = serde_json::to_string(self);
        text.map(|text| text + "\n").map_err(|error| malformed("it", error.to_string()))
    }

    /// Reads the text of a certificate's file, called `name` in errors. Nothing is verified yet.
    ///
    /// # Errors
    /// It is not written as [`Certificate::to_file_text`] writes it.
    pub fn from_file_text(name: &str, content: &[u8]) -> Result<Self, ProofError> {
        let certificate: Self =
            serde_json::from_slice(content).map_err(|error| malformed(name, format!("it cannot be read: {error}")))?;
        if certificate.to_file_text()?.as_bytes() != content {
            return Err(malformed(name, "it is not written the way certificates are".to_owned()));
        }
        Ok(certificate)
    }

    /// Verifies it by itself: form, signature, and that the document does not contradict itself. Whether the key is one
    /// to be trusted is another question. Called `name` in errors.
    ///
    /// # Errors
    /// [`ProofError::Signature`], or [`ProofError::Malformed`] saying what is wrong.
    pub fn verify(&self, name: &str) -> Result<Document, ProofError> {
        if !is_signed(self.document.as_bytes(), &self.signature, &self.public_key) {
            return Err(ProofError::Signature { name: name.to_owned() });
        }
        let document: Document = serde_json::from_str(&self.document)
            .map_err(|error| malformed(name, format!("its document cannot be read: {error}")))?;
        if document.to_text()? != self.document {
            return Err(malformed(name, "its document is not in the canonical form".to_owned()));
        }
        if document.signed_by != self.public_key {
            return Err(malformed(name, "its document names another key".to_owned()));
        }
        document.contradiction().map_or(Ok(document), |reason| Err(malformed(name, reason)))
    }

    /// What the next certificate of the disk says of this one.
    #[must_use]
    pub fn as_previous(&self, id: &str) -> Previous {
        Previous { id: id.to_owned(), document_blake3: document_digest(&self.document) }
    }
}

/// BLAKE3 of a document, 64 lower-case hexadecimal digits.
#[must_use]
pub fn document_digest(document: &str) -> String {
    blake3::hash(document.as_bytes()).to_hex().to_string()
}

/// A root as it is written.
#[must_use]
pub fn root_text(root: &LeafDigest) -> String {
    hex::encode(root)
}

fn malformed(name: &str, reason: String) -> ProofError {
    ProofError::Malformed { name: name.to_owned(), reason }
}

#[cfg(test)]
pub(crate) mod tests;
