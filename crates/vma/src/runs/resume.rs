//! Whether a run that was cut off can go on in its vm_snapshot: what was written down is held against what is there.

use model::id::VM_SNAPSHOT_PREFIX;
use vsphere::MoRef;

use super::record::RunRecord;
use super::run::Run;
use super::session::RunSession;
use crate::error::VmaError;
use crate::vcenter;

/// What was written down of the run, when its vm_snapshot is still there and froze what was written down. Every other
/// vm_snapshot of ours on the VM is removed then.
///
/// The content keeps its name towards the hub, so nothing may be written under that name that another vm_snapshot froze:
/// in doubt the run begins anew.
pub(super) async fn resumable(session: &mut RunSession, run: &Run) -> Result<Option<RunRecord>, VmaError> {
    let Some(mut record) = run.written_down().await? else { return Ok(None) };
    if let Some(reason) = obstacle(session, run, &record).await? {
        tracing::warn!(job_id = run.job_id(), reason, "the run was cut off and begins anew");
        return Ok(None);
    }
    let own = record.vm_snapshot_name();
    let is_other = |name: &str| name.starts_with(VM_SNAPSHOT_PREFIX) && name != own;
    vcenter::sweep(session.vim(), session.vm(), is_other).await?;
    record.resumed = record.resumed.saturating_add(1);
    session.adopt(&record.vm_snapshot);
    run.has_vm_snapshot(&record.vm_snapshot, record.quiesced);
    run.was_cut_off(record.started_at, record.resumed);
    tracing::info!(job_id = run.job_id(), vm_snapshot = record.vm_snapshot, "the run was cut off and goes on");
    Ok(Some(record))
}

/// Why the run cannot go on.
async fn obstacle(session: &RunSession, run: &Run, record: &RunRecord) -> Result<Option<&'static str>, VmaError> {
    if !record.is_for(run.request()) {
        return Ok(Some("another thing was asked for then"));
    }
    let vm_snapshot = MoRef::vm_snapshot(record.vm_snapshot.as_str());
    let listing = session.vim().vm_snapshots(session.vm()).await;
    let listing = listing.map_err(VmaError::vsphere("looking for the vm_snapshot of the run"))?;
    let own = record.vm_snapshot_name();
    if !listing.iter().any(|listed| listed.moref == vm_snapshot && listed.name == own) {
        return Ok(Some("its vm_snapshot is gone"));
    }
    let disks = session.vim().vm_snapshot_disks(&vm_snapshot).await;
    let disks = disks.map_err(VmaError::vsphere("reading the vm_snapshot of the run"))?;
    let is_frozen = |known: &super::record::DiskRecord| disks.iter().any(|disk| known.is_frozen_as(disk));
    Ok((!record.disks.iter().all(is_frozen)).then_some("its vm_snapshot holds other disks than were written down"))
}
