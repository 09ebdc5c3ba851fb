//! The hub's public API as the agent uses it: for enrolment before it has a certificate, and for renewal.

use std::sync::Arc;

use api::oma::agents::{
    EnrollChallenge, EnrollRequest, EnrollVerify, EnrollmentState, RenewCertificate, RenewedCertificate,
};
use data_encoding::BASE64;
use tunnel::{AgentKey, HubAddress, HubTrust, dial_http};

use crate::error::VmaError;

/// Characters per line of PEM (RFC 7468 §2).
const PEM_LINE_CHARS: usize = 64;

/// A hub whose CA is known; every request has its own connection, because there are few and links break.
pub(crate) struct Hub {
    address: HubAddress,
    trust: HubTrust,
}

impl Hub {
    pub(crate) fn new(address: HubAddress, trust: HubTrust) -> Self {
        Self { address, trust }
    }

    pub(crate) async fn enroll(&self, request: &EnrollRequest) -> Result<EnrollChallenge, VmaError> {
        Ok(self.client().await?.post("/api/v1/enroll", request).await?)
    }

    pub(crate) async fn verify(&self, answer: &EnrollVerify) -> Result<EnrollmentState, VmaError> {
        Ok(self.client().await?.post("/api/v1/enroll/verify", answer).await?)
    }

    pub(crate) async fn enrollment(&self, enrollment_id: &str) -> Result<EnrollmentState, VmaError> {
        Ok(self.client().await?.get(&format!("/api/v1/enroll/{enrollment_id}")).await?)
    }

    pub(crate) async fn renew(&self, enrollment_id: &str, csr_pem: String) -> Result<RenewedCertificate, VmaError> {
        let path = format!("/api/v1/enroll/{enrollment_id}/renew");
        Ok(self.client().await?.post(&path, &RenewCertificate { csr_pem }).await?)
    }

    async fn client(&self) -> Result<api::Client, VmaError> {
        Ok(api::Client::new(Arc::new(dial_http(&self.address, self.trust.clone()).await?)))
    }
}

/// A signing request for `key` as PEM (RFC 7468 §7).
pub(crate) fn csr_pem(key: &AgentKey, name: &str) -> Result<String, VmaError> {
    let encoded = BASE64.encode(&key.csr(name)?);
    let mut text = String::from("-----BEGIN CERTIFICATE REQUEST-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(PEM_LINE_CHARS));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text.push_str("-----END CERTIFICATE REQUEST-----\n");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signing_request_is_pem_that_proves_its_key() {
        let key = AgentKey::generate().unwrap();
        let text = csr_pem(&key, "vma-1").unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            (lines[0], lines[lines.len() - 1]),
            ("-----BEGIN CERTIFICATE REQUEST-----", "-----END CERTIFICATE REQUEST-----")
        );
        assert!(lines.iter().skip(1).all(|line| line.len() <= PEM_LINE_CHARS));
        let der = BASE64.decode(lines[1..lines.len() - 1].concat().as_bytes()).unwrap();
        assert_eq!(tunnel::csr::verified_key(&der).unwrap(), key.public_key());
    }
}
