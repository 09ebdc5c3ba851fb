//! Certificates of one disk in order: each names the one before it. Pure.

use crate::certificate::{Certificate, Document, document_digest};
use crate::error::ProofError;

/// A certificate and what it is called in errors: its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// What it is called.
    pub name: String,
    /// The certificate.
    pub certificate: Certificate,
}

/// Verifies each certificate, that all are signed by one key (`pin`, or that of the first), and that each follows the
/// one before it. Answers with the documents.
///
/// # Errors
/// The first thing that is wrong, with the name of the certificate it is wrong with.
pub fn verify(certificates: &[Named], pin: Option<&str>) -> Result<Vec<Document>, ProofError> {
    let mut documents: Vec<Document> = Vec::with_capacity(certificates.len());
    let mut before: Option<&Named> = None;
    for named in certificates {
        let document = named.certificate.verify(&named.name)?;
        let expected = pin.or(documents.first().map(|first| first.signed_by.as_str()));
        if let Some(expected) = expected.filter(|expected| *expected != document.signed_by) {
            let (name, found, expected) = (named.name.clone(), document.signed_by.clone(), expected.to_owned());
            return Err(ProofError::OtherKey { name, found, expected });
        }
        if let (Some(earlier), Some(last)) = (before, documents.last())
            && let Some(reason) = gap(last, &earlier.certificate, &document)
        {
            let (name, before) = (named.name.clone(), earlier.name.clone());
            return Err(ProofError::Chain { name, before, reason });
        }
        documents.push(document);
        before = Some(named);
    }
    Ok(documents)
}

/// Why `next` does not follow `last`, if it does not.
fn gap(last: &Document, last_certificate: &Certificate, next: &Document) -> Option<String> {
    if (&last.vm.context_id, &last.disk) != (&next.vm.context_id, &next.disk) {
        return Some("they are of different disks".to_owned());
    }
    let Some(previous) = &next.previous else {
        return Some("it says that there is none before it".to_owned());
    };
    if previous.id != last.id {
        return Some(format!("the one before it is {}, not {}", previous.id, last.id));
    }
    if previous.document_blake3 != document_digest(&last_certificate.document) {
        return Some(format!("it is not this {} that was before it", last.id));
    }
    (next.issued_at < last.issued_at).then(|| "it was issued earlier".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::tests::{document, key};

    fn named(name: &str, certificate: Certificate) -> Named {
        Named { name: name.to_owned(), certificate }
    }

    /// Three certificates of one disk.
    fn three() -> Vec<Named> {
        let key = key();
        let mut all: Vec<Named> = Vec::new();
        for id in ["c-1", "c-2", "c-3"] {
            let mut next = document(&key);
            next.id = id.to_owned();
            next.previous = all.last().map(|last: &Named| last.certificate.as_previous(&last.name));
            all.push(named(id, Certificate::issue(&next, &key).unwrap()));
        }
        all
    }

    #[test]
    fn certificates_in_order_are_a_chain() {
        let chain = three();
        let documents = verify(&chain, None).unwrap();
        assert_eq!(documents.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["c-1", "c-2", "c-3"]);
        assert!(verify(&chain, Some(&documents[0].signed_by)).is_ok());
        assert!(verify(&chain[1..], None).is_ok(), "a chain may begin anywhere");
        assert!(verify(&[], None).unwrap().is_empty());
    }

    #[test]
    fn whatever_breaks_a_chain_is_named() {
        let chain = three();
        let (first, second, third) = (&chain[0], &chain[1], &chain[2]);
        let told = |chain: &[&Named], pin: Option<&str>| {
            let chain: Vec<Named> = chain.iter().map(|named| (*named).clone()).collect();
            verify(&chain, pin).unwrap_err().to_string()
        };
        assert_eq!(told(&[first, third], None), "c-3 does not follow c-1: the one before it is c-2, not c-1");
        assert!(told(&[second, first], None).contains("says that there is none before it"));
        let other = "0".repeat(64);
        assert!(told(&[first], Some(&other)).contains("c-1 is signed by "));

        let key = key();
        let mut forged = document(&key);
        forged.id = "c-1".to_owned();
        forged.root = "1".repeat(64);
        let forged = named("forged", Certificate::issue(&forged, &key).unwrap());
        assert!(told(&[&forged, second], None).contains("signed by"), "another key");

        let mut disk = document(&key);
        disk.disk.disk_id = "disk-9".to_owned();
        let disk = named("other", Certificate::issue(&disk, &key).unwrap());
        let own = named("own", Certificate::issue(&document(&key), &key).unwrap());
        assert!(told(&[&own, &disk], None).contains("of different disks"));
    }

    #[test]
    fn another_document_under_the_same_id_or_an_earlier_time_breaks_it_too() {
        let key = key();
        let first = document(&key);
        let mut changed = first.clone();
        changed.root = "2".repeat(64);
        let mut second = document(&key);
        second.id = "c-2".to_owned();
        let issue = |document: &Document| Certificate::issue(document, &key).unwrap();
        second.previous = Some(issue(&changed).as_previous(&first.id));
        let chain = [named("first", issue(&first)), named("second", issue(&second))];
        assert!(verify(&chain, None).unwrap_err().to_string().contains("it is not this c-1 that was before it"));
        second.previous = Some(issue(&first).as_previous(&first.id));
        second.issued_at -= time::Duration::SECOND;
        let chain = [named("first", issue(&first)), named("second", issue(&second))];
        assert!(verify(&chain, None).unwrap_err().to_string().contains("it was issued earlier"));
    }
}
