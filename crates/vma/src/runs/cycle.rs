//! The cycle of one run: old vm_snapshots away, change tracking on, one new vm_snapshot, copy every disk, flush.
//!
//! The order is the one VMware asks for: the change ids of a vm_snapshot are read from it, and the one before it is
//! gone before it is taken; two of ours never exist at once. Nothing is written before every disk of the run is proven
//! to be the one that is meant, on both sides.

use std::sync::Arc;

use api::vma::{RunDisk, RunPhase, SyncMode};
use futures::future::try_join_all;
use model::Extent;
use model::id::VM_SNAPSHOT_PREFIX;
use mover::change_source::{Decision, Known, Query, after_refusal, decide};
use mover::digest_file::DigestFile;
use mover::plan::plan;
use mover::reader::Source;
use mover::target::Target;
use mover::{DiskCopy, MoverError};
use nbd::Lane;
use nbd::client::Wishes;
use vsphere::{ChangesSince, MoRef, VimSession, VirtualDisk, VirtualMachine};

use super::disk::DiskState;
use super::run::Run;
use super::session::RunSession;
use super::source::open_source;
use crate::error::VmaError;
use crate::vcenter;

/// Only the agent's user may look into a run's files.
const FOLDER_MODE: u32 = 0o700;

/// Copies every disk of the run; when this returns `Ok` all of them are durable on the hub.
pub(super) async fn copy(run: &Run, slot: &mut Option<RunSession>) -> Result<(), VmaError> {
    let request = run.request();
    let session = slot.insert(RunSession::open(request).await?);
    prepare(session, run).await?;
    run.enter(RunPhase::Snapshotting);
    let (vm_snapshot, quiesced) = session.take_vm_snapshot(request.quiesce).await?;
    run.took_vm_snapshot(vm_snapshot.id(), quiesced);
    let vim = session.vim();
    let vm = vim.virtual_machine(session.vm()).await.map_err(VmaError::vsphere("reading the VM"))?;
    let disks = vim.vm_snapshot_disks(&vm_snapshot).await.map_err(VmaError::vsphere("reading the vm_snapshot"))?;
    let meant = all_matching(&disks, &request.disks)?;
    let folder = run.folder();
    let made = tokio::fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&folder).await;
    made.map_err(|source| VmaError::StateFile { path: folder, source })?;
    run.enter(RunPhase::Copying);
    let frozen = FrozenVm { session: vim, vm: &vm, vm_snapshot: &vm_snapshot };
    let wanted = request.disks.iter().zip(run.disks());
    let opened = wanted.zip(meant).map(|((wanted, state), disk)| open_copy(run, &frozen, disk, wanted, state));
    let copies = try_join_all(opened).await?;
    let cancel = run.cancellation();
    let failed = |disk_id: &str| {
        let disk_id = disk_id.to_owned();
        move |source| VmaError::Copy { disk_id, source }
    };
    let transfers = copies.iter().zip(&request.disks);
    let transfers = transfers.map(async |(copy, disk)| {
        let _turn = run.surroundings().wan.turn(&request.moref, request.connections_per_disk).await;
        copy.transfer(cancel).await.map_err(failed(&disk.disk_id))
    });
    try_join_all(transfers).await?;
    still_frozen(session, &vm_snapshot).await?;
    run.enter(RunPhase::Flushing);
    for ((copy, disk), state) in copies.iter().zip(&request.disks).zip(run.disks()) {
        copy.make_durable().await.map_err(failed(&disk.disk_id))?;
        state.is_durable();
    }
    Ok(())
}

/// Proves that this is the VM that is meant, removes what earlier runs left on it, and makes change tracking effective.
async fn prepare(session: &mut RunSession, run: &Run) -> Result<(), VmaError> {
    let vm = session.vim().virtual_machine(session.vm()).await.map_err(VmaError::vsphere("reading the VM"))?;
    if vm.instance_uuid != run.request().instance_uuid {
        return Err(VmaError::OtherVm { moref: vm.moref.id().to_owned() });
    }
    all_matching(&vm.disks, &run.request().disks)?;
    vcenter::sweep(session.vim(), session.vm(), |name| name.starts_with(VM_SNAPSHOT_PREFIX)).await?;
    if vm.change_tracking_supported && !vm.change_tracking_enabled {
        tracing::info!(vm = vm.name, "switching on change tracking");
        session.activate_change_tracking().await?;
    }
    Ok(())
}

/// Proves that the disks were frozen until the last byte was read: without its vm_snapshot the VM writes into the very
/// files that are read, and nobody is told.
async fn still_frozen(session: &RunSession, vm_snapshot: &MoRef) -> Result<(), VmaError> {
    let listing = session.vim().vm_snapshots(session.vm()).await;
    let listing = listing.map_err(VmaError::vsphere("looking for the vm_snapshot that was read"))?;
    if listing.iter().any(|listed| listed.moref == *vm_snapshot) {
        return Ok(());
    }
    Err(VmaError::VmSnapshotGone { vm_snapshot: vm_snapshot.id().to_owned() })
}

/// A VM with the vm_snapshot its disks are read from.
pub(super) struct FrozenVm<'a> {
    pub(super) session: &'a VimSession,
    pub(super) vm: &'a VirtualMachine,
    pub(super) vm_snapshot: &'a MoRef,
}

/// Opens both sides of a disk and decides what is copied.
async fn open_copy(
    run: &Run,
    frozen: &FrozenVm<'_>,
    disk: &VirtualDisk,
    wanted: &RunDisk,
    state: &DiskState,
) -> Result<Arc<DiskCopy>, VmaError> {
    let failed = |source| VmaError::Copy { disk_id: wanted.disk_id.clone(), source };
    let target = open_target(run, wanted, state).await?;
    let source = open_source(run, frozen, disk, wanted).await?;
    if source.capacity_bytes() < wanted.capacity_bytes {
        let found_bytes = source.capacity_bytes();
        return Err(failed(MoverError::SourceSize { capacity_bytes: wanted.capacity_bytes, found_bytes }));
    }
    let (decision, extents) = changed(frozen, disk, wanted).await;
    tracing::info!(job_id = run.job_id(), disk_id = wanted.disk_id, reason = decision.reason, "copying");
    let reason = format!("{}; read by {}", decision.reason, wanted.reader.kind());
    let named = extents.as_ref().map_or(1, Vec::len);
    state.chose(decision.mode, reason, disk.change_id.clone(), named);
    let path = run.digest_path(&wanted.disk_id);
    let digests = DigestFile::create(&path).map_err(failed)?;
    let (mode, progress) = (decision.mode, state.progress());
    let extents = match extents {
        None if mode == SyncMode::Full => allocated(&source, wanted).await?,
        known => known,
    };
    let plan = plan(mode, wanted.capacity_bytes, extents);
    // Disks that wait for their turn are work to be done, too.
    progress.begin(plan.bytes_total);
    Ok(Arc::new(DiskCopy { source, target, plan, mode, digests: Some(digests), progress }))
}

/// Holes of a local source need not be read.
async fn allocated(source: &Source, wanted: &RunDisk) -> Result<Option<Vec<Extent>>, VmaError> {
    let failed = |source| VmaError::Copy { disk_id: wanted.disk_id.clone(), source };
    let (source, capacity_bytes) = (source.clone(), wanted.capacity_bytes);
    let asked = tokio::task::spawn_blocking(move || source.allocated(capacity_bytes)).await;
    asked.map_err(|source| failed(MoverError::Worker { source }))?.map_err(failed)
}

/// The disks the hub wants, in its order: found by key and proven by uuid and size, never by a place in a list.
fn all_matching<'a>(disks: &'a [VirtualDisk], wanted: &[RunDisk]) -> Result<Vec<&'a VirtualDisk>, VmaError> {
    wanted.iter().map(|wanted| matching(disks, wanted)).collect()
}

fn matching<'a>(disks: &'a [VirtualDisk], wanted: &RunDisk) -> Result<&'a VirtualDisk, VmaError> {
    let other = |reason: String| VmaError::OtherDisk { disk_id: wanted.disk_id.clone(), reason };
    let disk = disks.iter().find(|disk| disk.disk_id() == wanted.disk_id);
    let disk = disk.ok_or_else(|| other("the VM has no such disk that vm_snapshots include".to_owned()))?;
    if disk.disk_uuid != wanted.disk_uuid {
        return Err(other(format!("its uuid is {}, expected {}", disk.disk_uuid, wanted.disk_uuid)));
    }
    if disk.capacity_bytes != wanted.capacity_bytes {
        return Err(other(format!("it has {} bytes, expected {}", disk.capacity_bytes, wanted.capacity_bytes)));
    }
    Ok(disk)
}

/// Decides how the disk is copied and asks for the areas; a refused question leads to reading more, never less.
async fn changed(frozen: &FrozenVm<'_>, disk: &VirtualDisk, wanted: &RunDisk) -> (Decision, Option<Vec<Extent>>) {
    let is_ours = |name: &str| name.starts_with(VM_SNAPSHOT_PREFIX);
    let known = Known {
        requested: wanted.change_source,
        committed: wanted.previous_change_id.as_ref(),
        current: disk.change_id.as_ref(),
        is_allocation_known: frozen.vm.vm_snapshots.iter().all(|vm_snapshot| is_ours(&vm_snapshot.name)),
    };
    let decision = decide(known);
    let since = match &decision.query {
        Query::Everything => return (decision, None),
        Query::Allocated => ChangesSince::Beginning,
        Query::Since(id) => ChangesSince::Change(id.clone()),
    };
    let (vm, vm_snapshot) = (&frozen.vm.moref, frozen.vm_snapshot);
    let asked = frozen.session.changed_areas(vm, vm_snapshot, disk.device_key, disk.capacity_bytes, &since).await;
    match asked {
        Ok(extents) => (decision, Some(extents)),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, disk_id = wanted.disk_id, "the changed areas could not be had");
            (after_refusal(&decision), None)
        }
    }
}

/// Opens the connections to the export and proves that it was made for this disk.
async fn open_target(run: &Run, wanted: &RunDisk, state: &DiskState) -> Result<Target, VmaError> {
    let failed = |source| VmaError::Copy { disk_id: wanted.disk_id.clone(), source };
    let open = async || {
        let channel = Box::new(run.surroundings().dialer.dial_data(state.link()).await?);
        let lane = Lane::open(channel, &wanted.export_name, Wishes::default()).await;
        lane.map_err(|source| failed(MoverError::OpenTarget { export: wanted.export_name.clone(), source }))
    };
    let first = open().await?;
    let made_for = api::gateway::export_description(&wanted.disk_uuid);
    if first.export().description.as_deref() != Some(made_for.as_str()) {
        return Err(VmaError::OtherExport { export: wanted.export_name.clone(), disk_id: wanted.disk_id.clone() });
    }
    let connections = if first.can_multi_conn() { run.request().connections_per_disk } else { 1 };
    let mut lanes = vec![first];
    for _ in 1..connections {
        lanes.push(open().await?);
    }
    Target::new(lanes, &wanted.export_name, wanted.capacity_bytes).map_err(failed)
}
