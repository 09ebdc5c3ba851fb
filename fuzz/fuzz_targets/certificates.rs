//! Arbitrary certificates: read and verified without a panic. One that is issued verifies, and no change of any of its
//! bytes does.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use proof::certificate::Document;
use proof::{Certificate, CertificateKey};

/// A key of this process.
static KEY: LazyLock<CertificateKey> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("fuzz-certificates-{}.key", std::process::id()));
    let key = CertificateKey::load_or_create(&path).expect("a folder for temporary files");
    std::fs::remove_file(&path).expect("it was just made");
    key
});

fuzz_target!(|data: &[u8]| {
    if let Ok(certificate) = Certificate::from_file_text("fuzzed", data) {
        let _ = certificate.verify("fuzzed");
    }
    // Behind a signature that is right: where the change goes, how, and the document.
    let Some((&[high, low, change], text)) = data.split_first_chunk() else { return };
    let Ok(mut document) = serde_json::from_slice::<Document>(text) else { return };
    document.signed_by = KEY.public_key();
    let Ok(certificate) = Certificate::issue(&document, &KEY) else { return };
    assert_eq!(certificate.verify("issued").expect("it was just issued"), document);
    let mut content = certificate.to_file_text().expect("it is made of texts").into_bytes();
    let place = usize::from(u16::from_be_bytes([high, low])) % content.len();
    content[place] ^= change.max(1);
    let changed = Certificate::from_file_text("changed", &content);
    assert!(changed.and_then(|changed| changed.verify("changed")).is_err(), "a change at {place} was not noticed");
});
