//! Certificates that are issued, changed and refused.

use time::macros::datetime;

use super::*;

pub(crate) fn key() -> CertificateKey {
    let folder = tempfile::tempdir().unwrap();
    CertificateKey::load_or_create(&folder.path().join("certificate.key")).unwrap()
}

pub(crate) fn document(key: &CertificateKey) -> Document {
    Document {
        version: VERSION,
        id: "c-1".to_owned(),
        vm: CertifiedVm {
            context_id: "ctx-web".to_owned(),
            name: "web \"1\" ü".to_owned(),
            instance_uuid: "5003".to_owned(),
        },
        disk: CertifiedDisk { disk_id: "disk-2000".to_owned(), disk_uuid: "6000C29".to_owned() },
        capacity_bytes: 3 * LEAF_SIZE_BYTES + 512,
        leaf_size_bytes: LEAF_SIZE_BYTES,
        leaves_total: 4,
        leaves_verified: 4,
        sync_mode: ReplicationType::Initial,
        change_id: "52 aa/7".parse().unwrap(),
        root: root_text(&[0xab; 32]),
        previous: None,
        issued_at: datetime!(2026-11-29 00:30 UTC),
        signed_by: key.public_key(),
    }
}

#[test]
fn a_certificate_survives_its_file_and_says_what_was_signed() {
    let key = key();
    let document = document(&key);
    let certificate = Certificate::issue(&document, &key).unwrap();
    assert_eq!(certificate, Certificate::issue(&document, &key).unwrap(), "the same each time");
    let text = certificate.to_file_text().unwrap();
    let read = Certificate::from_file_text("file", text.as_bytes()).unwrap();
    assert_eq!(read.verify("file").unwrap(), document);
    assert!(certificate.document.starts_with(r#"{"version":1,"id":"c-1","vm":{"context_id":"ctx-web","#));
    assert!(certificate.document.contains(r#""issued_at":"2026-11-29T00:30:00Z""#), "{}", certificate.document);
}

#[test]
fn every_changed_byte_of_a_file_is_refused() {
    let key = key();
    let text = Certificate::issue(&document(&key), &key).unwrap().to_file_text().unwrap().into_bytes();
    for at in 0..text.len() {
        for change in [1, 0x20, 0x80] {
            let mut changed = text.clone();
            changed[at] ^= change;
            let read = Certificate::from_file_text("file", &changed).and_then(|read| read.verify("file"));
            let error = read.unwrap_err();
            assert!(
                matches!(error, ProofError::Malformed { .. } | ProofError::Signature { .. }),
                "byte {at} ^ {change}: {error:?}"
            );
            assert!(error.remedy().is_some());
        }
    }
    for wrong in [&b""[..], b"{}", &text[..text.len() - 1], &[&text[..], b"\n"].concat()] {
        assert!(Certificate::from_file_text("file", wrong).is_err());
    }
}

/// Signs whatever it is given.
fn forced(document: &Document, key: &CertificateKey) -> Certificate {
    let text = document.to_text().unwrap();
    let signature = key.sign(text.as_bytes()).unwrap();
    Certificate { document: text, signature, public_key: key.public_key() }
}

type Change = fn(&mut Document);

#[test]
fn what_contradicts_itself_is_neither_issued_nor_believed() {
    let key = key();
    let cases: [(&str, Change); 9] = [
        ("version 2", |document| document.version = 2),
        ("do not make", |document| document.leaf_size_bytes = 4096),
        ("do not make", |document| document.leaves_total = 5),
        ("cannot be verified", |document| document.leaves_verified = 5),
        ("verifies every leaf", |document| document.leaves_verified = 3),
        ("before it", |document| document.sync_mode = ReplicationType::Incremental),
        ("its root", |document| document.root = "AB".repeat(32)),
        ("its root", |document| document.root.truncate(62)),
        ("the digest of the certificate before it", |document| {
            document.previous = Some(Previous { id: "c-0".to_owned(), document_blake3: String::new() });
        }),
    ];
    for (reason, change) in cases {
        let mut wrong = document(&key);
        change(&mut wrong);
        let refused = Certificate::issue(&wrong, &key).unwrap_err().to_string();
        assert!(refused.contains(reason), "{refused}");
        let told = forced(&wrong, &key).verify("file").unwrap_err().to_string();
        assert!(told.contains(reason), "{told}");
    }
    let other = super::tests::key();
    assert!(Certificate::issue(&document(&other), &key).is_err(), "it names another key");
    let told = forced(&document(&other), &key).verify("file").unwrap_err().to_string();
    assert!(told.contains("names another key"), "{told}");
}

#[test]
fn a_document_in_another_form_is_refused_though_it_is_signed() {
    let key = key();
    let text = document(&key).to_text().unwrap().replacen("\"version\":1", "\"version\": 1", 1);
    let signature = key.sign(text.as_bytes()).unwrap();
    let certificate = Certificate { document: text, signature, public_key: key.public_key() };
    assert!(certificate.verify("file").unwrap_err().to_string().contains("canonical form"));
}
