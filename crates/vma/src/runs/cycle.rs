//! The cycle of one run: old vm_snapshots away, change tracking on, one new vm_snapshot, copy every disk, flush. A run that
//! was cut off goes on in the vm_snapshot it has.
//!
//! The order is the one VMware asks for: the change ids of a vm_snapshot are read from it, and the one before it is
//! gone before it is taken; two of ours never exist at once. Nothing is written before every disk of the run is proven
//! to be the one that is meant, on both sides.

use api::vma::{ReaderSpec, RunDisk, RunPhase, Stretch, SyncMode};
use futures::future::try_join_all;
use model::Extent;
use model::extent::total_bytes;
use model::id::VM_SNAPSHOT_PREFIX;
use mover::MoverError;
use mover::change_source::{Decision, Known, Query, after_refusal, decide};
use mover::plan::plan;
use mover::reader::Source;
use vsphere::{ChangesSince, MoRef, VimSession, VirtualDisk, VirtualMachine};

use super::delivery::Delivery;
use super::record::{DecidedDisk, RunRecord};
use super::resume::resumable;
use super::run::Run;
use super::session::RunSession;
use super::source::open_source;
use crate::error::VmaError;
use crate::vcenter;

/// Copies every disk of the run; when this returns `Ok` all of them are durable on the hub.
pub(super) async fn copy(run: &Run, slot: &mut Option<RunSession>) -> Result<(), VmaError> {
    let hotadd = &run.surroundings().hotadd;
    let session = slot.insert(RunSession::open(run.request(), hotadd).await?);
    is_the_vm(session, run).await?;
    hotadd.sweep(session.vim(), session.vm()).await?;
    let is_added = |disk: &&RunDisk| disk.reader == ReaderSpec::Hotadd;
    session.make_room(run.request().disks.iter().filter(is_added).count()).await;
    run.forget_other_runs().await?;
    let mut record = match resumable(session, run).await? {
        Some(record) => record,
        None => begin(session, run).await?,
    };
    let vm_snapshot = MoRef::vm_snapshot(record.vm_snapshot.as_str());
    let vim = session.vim();
    let vm = vim.virtual_machine(session.vm()).await.map_err(VmaError::vsphere("reading the VM"))?;
    let disks = vim.vm_snapshot_disks(&vm_snapshot).await.map_err(VmaError::vsphere("reading the vm_snapshot"))?;
    let meant = all_matching(&disks, &run.request().disks)?;
    let frozen = FrozenVm { session: vim, vm: &vm, vm_snapshot: &vm_snapshot };
    let earlier = record.modes(&run.request().disks);
    let wanted = run.request().disks.iter().zip(run.disks()).zip(earlier);
    let decided = wanted.zip(&meant).map(async |(((wanted, state), earlier), disk)| {
        let (decision, extents) = match earlier {
            // What a comparison has written already, change tracking may know nothing of.
            Some(SyncMode::Compare) => (compared_before(), None),
            _ => changed(&frozen, disk, wanted).await,
        };
        tracing::info!(job_id = run.job_id(), disk_id = wanted.disk_id, reason = decision.reason, "copying");
        let why = wanted.reader_reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let reason = format!("{}; read by {}{why}", decision.reason, wanted.reader.kind());
        let named = extents.as_ref().map_or(1, Vec::len);
        state.chose(decision.mode, reason.clone(), disk.change_id.clone(), named);
        (DecidedDisk { change_id: disk.change_id.clone(), mode: decision.mode, reason }, extents)
    });
    let (decided, extents): (Vec<_>, Vec<_>) = futures::future::join_all(decided).await.into_iter().unzip();
    let modes: Vec<SyncMode> = decided.iter().map(|decided| decided.mode).collect();
    record.decided(&run.request().disks, decided);
    // From here on it can be gone on with: not a byte was written before.
    run.write_down(&record).await?;
    run.enter(RunPhase::Copying);
    let disks = run.request().disks.iter().zip(run.disks()).zip(meant).zip(modes).zip(extents);
    let opening = disks.map(|((((wanted, state), disk), mode), extents)| {
        let (run, record, frozen) = (run, &record, &frozen);
        async move {
            let (source, extents) = readable(run, frozen, (disk, wanted), mode, extents).await?;
            let mut plan = plan(mode, wanted.capacity_bytes, extents);
            if let (SyncMode::Incremental, Some(Stretch { offset, length })) = (mode, wanted.scrub) {
                plan = plan.with_scrub(Extent::new(offset, length), wanted.capacity_bytes);
                state.scrubs(total_bytes(&plan.scrubbed));
            }
            let mut delivery = Delivery::new((run, wanted, &**state), &record.generation, source, (mode, plan));
            delivery.open().await.map(|()| delivery)
        }
    });
    let deliveries = try_join_all(opening).await?;
    deliver(run, session, &vm_snapshot, deliveries).await?;
    // What stays is removed before the vm_snapshot is.
    if let Err(error) = session.remove_disks().await {
        tracing::warn!(error = &error as &dyn std::error::Error, "disks stay on the agent's VM for now");
    }
    Ok(())
}

/// Sends and makes durable, as often as it is interrupted.
async fn deliver(
    run: &Run,
    session: &RunSession,
    vm_snapshot: &MoRef,
    mut deliveries: Vec<Delivery<'_>>,
) -> Result<(), VmaError> {
    loop {
        try_join_all(deliveries.iter_mut().map(Delivery::transfer)).await?;
        still_frozen(session, vm_snapshot).await?;
        run.enter(RunPhase::Flushing);
        let mut all_durable = true;
        for delivery in &mut deliveries {
            all_durable &= delivery.make_durable().await?;
        }
        if all_durable {
            return Ok(());
        }
        run.enter(RunPhase::Copying);
    }
}

/// Takes the run's own vm_snapshot of a VM that nothing of ours is left on.
async fn begin(session: &mut RunSession, run: &Run) -> Result<RunRecord, VmaError> {
    let request = run.request();
    run.clear_folder().await?;
    vcenter::sweep(session.vim(), session.vm(), |name| name.starts_with(VM_SNAPSHOT_PREFIX)).await?;
    let vm = session.vim().virtual_machine(session.vm()).await.map_err(VmaError::vsphere("reading the VM"))?;
    if vm.change_tracking_supported && !vm.change_tracking_enabled {
        tracing::info!(vm = vm.name, "switching on change tracking");
        session.activate_change_tracking().await?;
    }
    run.enter(RunPhase::Snapshotting);
    let (vm_snapshot, quiesced) = session.take_vm_snapshot(request.quiesce).await?;
    run.has_vm_snapshot(vm_snapshot.id(), quiesced);
    Ok(RunRecord::begin(request, vm_snapshot.id(), quiesced, run.started_at()))
}

/// Proves that this is the VM that is meant, with the disks that are meant.
async fn is_the_vm(session: &RunSession, run: &Run) -> Result<(), VmaError> {
    let vm = session.vim().virtual_machine(session.vm()).await.map_err(VmaError::vsphere("reading the VM"))?;
    if vm.instance_uuid != run.request().instance_uuid {
        return Err(VmaError::OtherVm { moref: vm.moref.id().to_owned() });
    }
    all_matching(&vm.disks, &run.request().disks).map(drop)
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

/// How a disk goes on that was compared before the run was cut off.
fn compared_before() -> Decision {
    let reason = "it was compared when the run was cut off: the rest of it is";
    Decision { mode: SyncMode::Compare, query: Query::Everything, reason }
}

/// Opens the frozen disk; where its reader knows what is allocated and nobody said it, that is what is copied.
async fn readable(
    run: &Run,
    frozen: &FrozenVm<'_>,
    (disk, wanted): (&VirtualDisk, &RunDisk),
    mode: SyncMode,
    extents: Option<Vec<Extent>>,
) -> Result<(Source, Option<Vec<Extent>>), VmaError> {
    let source = open_source(run, frozen, disk, wanted).await?;
    if source.capacity_bytes() < wanted.capacity_bytes {
        let (capacity_bytes, found_bytes) = (wanted.capacity_bytes, source.capacity_bytes());
        let source = MoverError::SourceSize { capacity_bytes, found_bytes };
        return Err(VmaError::Copy { disk_id: wanted.disk_id.clone(), source });
    }
    let extents = match extents {
        None if mode == SyncMode::Full => allocated(&source, wanted).await?,
        known => known,
    };
    Ok((source, extents))
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
