//! The hub's digest file of each disk, kept in step with the commits: what a replication has proven waits beside the
//! file, is taken over once its certificate is committed, and is dropped if it never will be.
//!
//! The commit in the database decides; whatever moment a process dies at, the next look at the same rows finishes it.

pub(crate) mod staging;

use model::FailureKind;
use model::status::Transitions;
use proof::folder::StagedName;
use proof::{DigestFolder, DiskName, LeafFile, ProofError};
use store::vm_disks::VmDisk;
use store::{equality_certificates, replication_jobs, vm_disks};

use crate::error::OmaError;
use crate::state::OmaState;

/// How closely the digests of a disk are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Whether there is a file of this disk.
    Glance,
    /// Whether its root is the one that was certified, too: reads the whole file, 0.05 % of the disk.
    Whole,
}

/// What the digest file calls a disk.
pub(crate) fn disk_name(row: &VmDisk) -> DiskName {
    DiskName { vm_disk_id: row.id.clone(), disk_uuid: row.disk_uuid.clone(), capacity_bytes: *row.capacity_bytes }
}

/// Runs work on digest files where it may block.
///
/// # Errors
/// What the work says.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ProofError> + Send + 'static,
) -> Result<T, OmaError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(ProofError::Crypto { doing: "the work on the digest files" }.into()),
    }
}

/// Why the committed digests of a disk cannot be built upon; `None` when they can. Without a committed change id nothing
/// builds on them.
///
/// # Errors
/// The database or the file system fails.
pub(crate) async fn unproven(state: &OmaState, row: &VmDisk, look: Look) -> Result<Option<String>, OmaError> {
    let Some(committed) = &row.disk_change_id else { return Ok(None) };
    let Some(newest) = equality_certificates::newest(state.store(), &row.id).await? else {
        return Ok(Some("it has no certificate yet".to_owned()));
    };
    if newest.change_id != committed.as_str() {
        return Ok(Some("its last certificate is of another change id".to_owned()));
    }
    let (folder, disk) = (state.digests().clone(), disk_name(row));
    let root = blocking(move || root_of(&folder, &disk, look)).await;
    match root {
        Ok(None) => Ok(Some("the file of its digests is gone".to_owned())),
        Ok(Some(Some(root))) if root != newest.root_digest => {
            Ok(Some("the file of its digests is not what was certified".to_owned()))
        }
        Ok(Some(_)) => Ok(None),
        Err(OmaError::Proof(error)) if error.is_lost() => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}

/// The root of the committed file if there is one; only a whole look computes it.
fn root_of(folder: &DigestFolder, disk: &DiskName, look: Look) -> Result<Option<Option<String>>, ProofError> {
    let Some(file) = folder.committed(disk)? else { return Ok(None) };
    let root = |file: &LeafFile| file.root().map(|root| proof::certificate::root_text(&root));
    match look {
        Look::Glance => Ok(Some(None)),
        Look::Whole => root(&file).map(Some).map(Some),
    }
}

/// Finishes what earlier replications of a disk left: before another one begins.
///
/// # Errors
/// The database or the file system fails.
pub(crate) async fn settle_disk(state: &OmaState, vm_disk_id: &str) -> Result<(), OmaError> {
    let staged = blocking({
        let folder = state.digests().clone();
        move || folder.list()
    });
    for name in staged.await?.staged.into_iter().filter(|name| name.vm_disk_id == vm_disk_id) {
        settle(state, &name).await?;
    }
    Ok(())
}

/// Takes over or drops what a replication that has ended, or was committed, has staged.
///
/// # Errors
/// The database or the file system fails; what is left is settled before the next replication of the disk.
pub(crate) async fn settle_job(state: &OmaState, job_id: &str) -> Result<(), OmaError> {
    let folder = state.digests().clone();
    let listing = blocking(move || folder.list()).await?;
    for name in listing.staged.into_iter().filter(|name| name.job_id == job_id) {
        settle(state, &name).await?;
    }
    Ok(())
}

/// Settles everything a dead process left, but for replications that will go on; forgets disks that are gone.
///
/// # Errors
/// The database or the file system fails.
pub(crate) async fn settle_all(state: &OmaState) -> Result<(), OmaError> {
    let folder = state.digests().clone();
    let listing = blocking(move || folder.list()).await?;
    for name in listing.staged {
        if !goes_on(state, &name.job_id).await? {
            settle(state, &name).await?;
        }
    }
    forget_gone(state).await
}

/// Forgets the digests of disks that are gone.
///
/// # Errors
/// The database or the file system fails; it is done again at the next start.
pub(crate) async fn forget_gone(state: &OmaState) -> Result<(), OmaError> {
    let folder = state.digests().clone();
    for vm_disk_id in blocking(move || folder.list()).await?.committed {
        if vm_disks::by_row_id(state.store(), &vm_disk_id).await?.is_none() {
            tracing::info!(disk = vm_disk_id, "forgetting the digests of a disk that is gone");
            let folder = state.digests().clone();
            blocking(move || folder.forget(&vm_disk_id)).await?;
        }
    }
    Ok(())
}

async fn goes_on(state: &OmaState, job_id: &str) -> Result<bool, OmaError> {
    match replication_jobs::by_id(state.store(), job_id).await {
        Ok(row) => Ok(!row.status.is_final()),
        Err(error) if error.kind() == FailureKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What a replication has staged is taken over if its certificate is committed, and dropped otherwise.
async fn settle(state: &OmaState, name: &StagedName) -> Result<(), OmaError> {
    let certificates = equality_certificates::of_job(state.store(), &name.job_id).await?;
    let certified = certificates.iter().any(|certificate| certificate.vm_disk_id == name.vm_disk_id);
    let row = vm_disks::by_row_id(state.store(), &name.vm_disk_id).await?;
    let (folder, name) = (state.digests().clone(), name.clone());
    let Some(row) = row.filter(|_| certified) else {
        return blocking(move || folder.drop_staged(&name.vm_disk_id, &name.job_id)).await;
    };
    let disk = disk_name(&row);
    let lost = blocking(move || match folder.apply(&disk, &name.job_id) {
        // Nothing can be built on half of it: the next replication makes everything anew.
        Err(error) if error.is_lost() => {
            folder.set_aside(&name.vm_disk_id)?;
            folder.drop_staged(&name.vm_disk_id, &name.job_id)?;
            Ok(Some(error))
        }
        applied => applied.map(|()| None),
    });
    if let Some(error) = lost.await? {
        tracing::warn!(disk = row.disk_id, "{error}: the next replication compares everything");
    }
    Ok(())
}
