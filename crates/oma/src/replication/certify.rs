//! What a commit certifies: the root over all leaves of each disk, put together from what was known before and what this
//! replication has proven, and the signed document that says so.

use api::vma::RunDiskView;
use joblog::StepError;
use model::{FailureKind, LEAF_SIZE_BYTES};
use proof::certificate::{CertifiedDisk, CertifiedVm, Document, Previous, VERSION, document_digest, root_text};
use proof::{Certificate, Coverage, DigestFolder, DiskName, ProofError};
use serde::{Deserialize, Serialize};
use store::equality_certificates::{EqualityCertificate, NewCertificate};
use store::vm_replication_contexts::VmContext;
use time::OffsetDateTime;

use super::finish::sync_type;
use super::provision::ProvisionedDisk;
use crate::digests::blocking;
use crate::error::OmaError;
use crate::failure::{defect, failed};
use crate::state::OmaState;

/// What was proven of one disk: enough to write the same certificate however often the commit is repeated.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Certified {
    /// `disk-<device key>`.
    pub(super) disk_id: String,
    certificate_id: String,
    root: String,
    leaves_total: u64,
    leaves_verified: u64,
    previous: Option<Previous>,
    #[serde(with = "time::serde::rfc3339")]
    issued_at: OffsetDateTime,
}

/// What the digest file calls a disk.
pub(super) fn disk_name(disk: &ProvisionedDisk) -> DiskName {
    DiskName {
        vm_disk_id: disk.vm_disk_id.clone(),
        disk_uuid: disk.disk_uuid.clone(),
        capacity_bytes: disk.capacity_bytes,
    }
}

/// Puts the root of a disk together after its replica was verified and its digests were staged. Changes nothing.
///
/// # Errors
/// The digests this replication builds on are not those of the last commit; a file cannot be read; the database fails.
pub(super) async fn certified(
    state: &OmaState,
    job_id: &str,
    disk: &ProvisionedDisk,
    coverage: Coverage,
    leaves_verified: u64,
) -> Result<Certified, StepError> {
    let newest = store::equality_certificates::newest(state.store(), &disk.vm_disk_id).await.map_err(failed)?;
    let root = blocking({
        let (folder, disk, job_id) = (state.digests().clone(), disk_name(disk), job_id.to_owned());
        let certified = newest.as_ref().map(|newest| newest.root_digest.clone());
        move || root(&folder, &disk, &job_id, coverage, certified.as_deref())
    });
    let root = match root.await {
        Ok(root) => root,
        Err(error) => return Err(unusable(state, disk, error).await),
    };
    let now = OffsetDateTime::now_utc();
    Ok(Certified {
        disk_id: disk.disk_id.clone(),
        certificate_id: model::id::new_id(),
        root,
        leaves_total: disk.capacity_bytes.div_ceil(LEAF_SIZE_BYTES),
        leaves_verified,
        previous: newest.as_ref().map(previous),
        issued_at: now.replace_nanosecond(0).unwrap_or(now),
    })
}

fn previous(newest: &EqualityCertificate) -> Previous {
    Previous { id: newest.id.clone(), document_blake3: document_digest(&newest.document) }
}

/// The root over all leaves. An increment builds on the committed file, which must be the one that was certified.
fn root(
    folder: &DigestFolder,
    disk: &DiskName,
    job_id: &str,
    coverage: Coverage,
    certified: Option<&str>,
) -> Result<String, ProofError> {
    let gone = |what: &str| ProofError::Digests { reason: format!("{what} of {} are gone", disk.vm_disk_id) };
    let staged = folder.staged(disk, job_id)?.ok_or_else(|| gone("the staged digests"))?;
    if coverage == Coverage::Full {
        return Ok(root_text(&staged.root()?));
    }
    let committed = folder.committed(disk)?;
    let lost = |reason: &str| ProofError::Damaged { path: staged.path().to_owned(), reason: reason.to_owned() };
    let committed = committed.ok_or_else(|| lost("the committed digests it belongs to are gone"))?;
    let roots = committed.roots_with(&staged)?;
    if certified != Some(root_text(&roots.before).as_str()) {
        let (path, reason) = (committed.path().to_owned(), "its root is not the one that was certified".to_owned());
        return Err(ProofError::Damaged { path, reason });
    }
    Ok(root_text(&roots.after))
}

/// Lost digests are put aside, so that the next replication makes them anew.
async fn unusable(state: &OmaState, disk: &ProvisionedDisk, error: OmaError) -> StepError {
    if matches!(&error, OmaError::Proof(error) if error.is_lost()) {
        let (folder, vm_disk_id) = (state.digests().clone(), disk.vm_disk_id.clone());
        if let Err(error) = blocking(move || folder.set_aside(&vm_disk_id)).await {
            tracing::warn!(disk = disk.disk_id, "the damaged digests stay where they are: {error}");
        }
    }
    failed(error)
}

/// The certificate of a disk, signed; the same each time it is asked for.
///
/// # Errors
/// The disk was not certified, or what was proven contradicts itself.
pub(super) fn certificate(
    state: &OmaState,
    vm: &VmContext,
    disk: &ProvisionedDisk,
    copied: &RunDiskView,
    certified: &[Certified],
) -> Result<NewCertificate, StepError> {
    let certified = certified.iter().find(|certified| certified.disk_id == disk.disk_id);
    let certified = certified.ok_or_else(|| defect(format!("{} has no root", disk.disk_id)))?;
    let change_id = copied.change_id.clone().ok_or_else(|| {
        StepError::new(FailureKind::Invalid, format!("{} reached no change id", disk.disk_id))
            .remedy("look at the VM's change tracking; nothing was committed")
    })?;
    let document = Document {
        version: VERSION,
        id: certified.certificate_id.clone(),
        vm: CertifiedVm {
            context_id: vm.context_id.clone(),
            name: vm.vm_name.clone(),
            instance_uuid: vm.vmware_vm_id.clone(),
        },
        disk: CertifiedDisk { disk_id: disk.disk_id.clone(), disk_uuid: disk.disk_uuid.clone() },
        capacity_bytes: disk.capacity_bytes,
        leaf_size_bytes: LEAF_SIZE_BYTES,
        leaves_total: certified.leaves_total,
        leaves_verified: certified.leaves_verified,
        sync_mode: sync_type(copied)?,
        change_id,
        root: certified.root.clone(),
        previous: certified.previous.clone(),
        issued_at: certified.issued_at,
        signed_by: state.certificate_key().public_key(),
    };
    let signed = Certificate::issue(&document, state.certificate_key()).map_err(failed)?;
    Ok(NewCertificate {
        id: document.id,
        root_digest: document.root,
        leaf_size_bytes: document.leaf_size_bytes,
        leaves_total: document.leaves_total,
        leaves_verified: document.leaves_verified,
        previous_certificate_id: document.previous.map(|previous| previous.id),
        document: signed.document,
        signature: signed.signature,
        public_key: signed.public_key,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAF: u64 = LEAF_SIZE_BYTES;

    fn staged(folder: &DigestFolder, disk: &DiskName, job_id: &str, coverage: Coverage, leaf: u64, digest: u8) {
        let mut writer = folder.stage(disk, job_id, coverage).unwrap();
        writer.add(leaf, 1, &[digest; 32]).unwrap();
        writer.finish().unwrap();
    }

    #[test]
    fn an_increment_builds_only_on_what_was_certified() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DigestFolder::open(dir.path()).unwrap();
        let disk = DiskName { vm_disk_id: "d".to_owned(), disk_uuid: "u".to_owned(), capacity_bytes: 9 * LEAF };
        let told = |certified: Option<&str>| {
            let error = root(&folder, &disk, "job-2", Coverage::Named, certified).unwrap_err();
            assert!(error.is_lost() && error.remedy().is_some(), "{error:?}");
            error.to_string()
        };
        assert!(root(&folder, &disk, "job-1", Coverage::Full, None).is_err(), "nothing is staged");
        staged(&folder, &disk, "job-1", Coverage::Full, 3, 1);
        let first = root(&folder, &disk, "job-1", Coverage::Full, Some("whatever was before")).unwrap();
        staged(&folder, &disk, "job-2", Coverage::Named, 4, 2);
        assert!(told(Some(&first)).contains("are gone"), "the first was not taken over");
        folder.apply(&disk, "job-1").unwrap();
        assert!(told(None).contains("not the one that was certified"));
        assert!(told(Some(&"0".repeat(64))).contains("not the one that was certified"));
        let second = root(&folder, &disk, "job-2", Coverage::Named, Some(&first)).unwrap();
        assert_ne!(first, second);
        assert_eq!(second, root(&folder, &disk, "job-2", Coverage::Named, Some(&first)).unwrap());
    }

    #[test]
    fn a_flipped_bit_of_the_digest_file_is_never_built_upon() {
        use std::os::unix::fs::FileExt;

        let dir = tempfile::tempdir().unwrap();
        let folder = DigestFolder::open(dir.path()).unwrap();
        let disk = DiskName { vm_disk_id: "d".to_owned(), disk_uuid: "u".to_owned(), capacity_bytes: 9 * LEAF };
        staged(&folder, &disk, "job-1", Coverage::Full, 3, 1);
        let first = root(&folder, &disk, "job-1", Coverage::Full, None).unwrap();
        folder.apply(&disk, "job-1").unwrap();
        staged(&folder, &disk, "job-2", Coverage::Named, 4, 2);
        let file = std::fs::OpenOptions::new().write(true).open(dir.path().join("digests/d.leaves")).unwrap();
        file.write_all_at(&[3], 4096 + 32 * 3 + 5).unwrap();
        let error = root(&folder, &disk, "job-2", Coverage::Named, Some(&first)).unwrap_err();
        assert!(error.to_string().contains("not the one that was certified"), "{error}");
    }
}
