//! What an issued certificate says, read with a parser that did not write it, and what no record can make it say.

use rcgen::{BasicConstraints, KeyPair, PKCS_ED25519};
use x509_parser::extensions::GeneralName;

use super::*;
use crate::certificate::{alternative_names, parse};
use crate::csr::verified_key;
use crate::identity::AGENT_VALIDITY;

fn ca() -> (tempfile::TempDir, HubCa, OffsetDateTime) {
    let folder = tempfile::tempdir().unwrap();
    let now = OffsetDateTime::now_utc();
    let ca = HubCa::load_or_create(folder.path(), now).unwrap();
    (folder, ca, now)
}

/// A request that asks for everything it must not get.
fn greedy_csr() -> (KeyPair, Vec<u8>) {
    let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let mut params = CertificateParams::new(vec!["hub.example".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let stolen = Ia5String::try_from("migratekit:agent:someone-else").unwrap();
    params.subject_alt_names.push(SanType::URI(stolen));
    params.distinguished_name.push(DnType::CommonName, "someone-else");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::Any];
    let csr = params.serialize_request(&pair).unwrap().der().to_vec();
    (pair, csr)
}

#[test]
fn a_greedy_request_gets_only_what_the_record_says() {
    let (_folder, ca, now) = ca();
    let (pair, csr) = greedy_csr();
    let record = PairingRecord {
        enrollment_id: "0198c0de-0001".to_owned(),
        vma_name: "vma-köln".to_owned(),
        public_key: verified_key(&csr).unwrap(),
    };
    let issued = issue_agent_certificate(&ca, &record, AGENT_VALIDITY, now).unwrap();
    let der = pem::certificates(&issued.certificate_pem).unwrap().remove(0);
    let parsed = parse(&der).unwrap();

    assert_eq!(parsed.subject().to_string(), "OU=vma-köln, CN=0198c0de-0001");
    let names = alternative_names(&parsed).unwrap();
    assert_eq!(names, vec![GeneralName::URI("migratekit:agent:0198c0de-0001")]);
    assert!(!parsed.is_ca());
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any && usage.other.is_empty());
    let key_usage = parsed.key_usage().unwrap().unwrap().value;
    assert!(key_usage.digital_signature() && !key_usage.key_cert_sign());
    assert_eq!(parsed.public_key().subject_public_key.data.as_ref(), pair.public_key_raw());
    assert!(crate::certificate::is_issued_by(&parsed, &parse(ca.certificate()).unwrap()));
    let lifetime = parsed.validity().not_after.timestamp() - now.unix_timestamp();
    assert_eq!(lifetime, AGENT_VALIDITY.whole_seconds());
    assert!(parsed.validity().not_before.to_datetime() < now);

    assert_eq!(issued.facts.enrollment_id, record.enrollment_id);
    assert_eq!(issued.facts.fingerprint, record.public_key.fingerprint());
    assert_eq!(issued.facts.certificate_serial, hex::encode(parsed.serial.to_bytes_be()));
}

#[test]
fn renewals_have_their_own_serials_and_keep_the_fingerprint() {
    let (_folder, ca, now) = ca();
    let public_key = crate::AgentKey::generate().unwrap().public_key();
    let record = PairingRecord { enrollment_id: "e-1".to_owned(), vma_name: "vma".to_owned(), public_key };
    let first = issue_agent_certificate(&ca, &record, AGENT_VALIDITY, now).unwrap().facts;
    let second = issue_agent_certificate(&ca, &record, AGENT_VALIDITY, now).unwrap().facts;
    assert_ne!(first.certificate_serial, second.certificate_serial);
    assert_ne!(first.certificate_fingerprint, second.certificate_fingerprint);
    assert_eq!(first.fingerprint, second.fingerprint);
}

#[test]
fn no_certificate_outlives_its_ca_and_odd_records_get_none() {
    let (_folder, ca, now) = ca();
    let public_key = crate::AgentKey::generate().unwrap().public_key();
    let record =
        |id: &str, name: &str| PairingRecord { enrollment_id: id.to_owned(), vma_name: name.to_owned(), public_key };
    let long = issue_agent_certificate(&ca, &record("e", "vma"), Duration::days(40_000), now).unwrap();
    assert_eq!(long.facts.expires_at, ca.expires_at());
    for (wrong, validity) in [
        (record("", "vma"), AGENT_VALIDITY),
        (record("a/b", "vma"), AGENT_VALIDITY),
        (record("e", ""), AGENT_VALIDITY),
        (record("e", "a\nb"), AGENT_VALIDITY),
        (record("e", &"x".repeat(65)), AGENT_VALIDITY),
        (record("e", "vma"), Duration::ZERO),
    ] {
        let error = issue_agent_certificate(&ca, &wrong, validity, now).unwrap_err();
        assert!(matches!(error, TunnelError::InvalidRecord { .. }), "{error}");
    }
}
