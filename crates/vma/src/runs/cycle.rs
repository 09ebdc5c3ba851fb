//! The cycle of one run: old vm_snapshots away, change tracking on, one new vm_snapshot, copy every disk, flush.
//!
//! The order is the one VMware asks for: the change ids of a vm_snapshot are read from it, and the one before it is
//! gone before it is taken; two of ours never exist at once.

use std::sync::Arc;
use std::time::Duration;

use api::vma::{RunDisk, RunPhase};
use futures::future::try_join_all;
use model::id::{VM_SNAPSHOT_PREFIX, vm_snapshot_name};
use model::Extent;
use mover::change_source::{Decision, Known, Query, after_refusal, decide};
use mover::digest_file::DigestFile;
use mover::plan::plan;
use mover::target::Target;
use mover::{DiskCopy, MoverError};
use nbd::client::{Client, ClientOptions};
use vsphere::{ChangesSince, MoRef, VimSession, VirtualDisk, VirtualMachine, VmSnapshotSpec, VsphereError};

use super::disk::DiskState;
use super::run::Run;
use super::source::open_reader;
use crate::error::VmaError;
use crate::vcenter;

/// How often the removal of a vm_snapshot is tried before it is left to the next run.
const REMOVAL_ATTEMPTS: u32 = 5;
/// The pause between two tries.
const REMOVAL_PAUSE: Duration = Duration::from_secs(2);
/// Faults of a vm_snapshot whose guest could not be quiesced (vSphere API, `CreateSnapshot_Task`).
const QUIESCE_FAULTS: [&str; 4] =
    ["ApplicationQuiesceFault", "FilesystemQuiesceFault", "ToolsUnavailable", "SnapshotFault"];

/// The source of a run while it is open.
pub(super) struct Source {
    session: VimSession,
    vm_snapshot: Option<MoRef>,
}

impl Source {
    /// Removes the vm_snapshot, if there is one.
    pub(super) async fn remove_vm_snapshot(&mut self) -> Result<(), VmaError> {
        if let Some(vm_snapshot) = &self.vm_snapshot {
            let removal = self.session.remove_vm_snapshot(vm_snapshot).await;
            removal.map_err(VmaError::vsphere("removing the vm_snapshot"))?;
            self.vm_snapshot = None;
        }
        Ok(())
    }

    /// Removes the vm_snapshot with patience and logs out.
    pub(super) async fn close(mut self) {
        for attempt in 1..=REMOVAL_ATTEMPTS {
            match self.remove_vm_snapshot().await {
                Ok(()) => break,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, attempt, "the vm_snapshot could not be removed; the next run tries again");
                }
            }
            tokio::time::sleep(REMOVAL_PAUSE).await;
        }
        vcenter::disconnect(&self.session).await;
    }
}

/// Copies every disk of the run; when this returns `Ok` all of them are durable on the hub.
pub(super) async fn copy(run: &Run, slot: &mut Option<Source>) -> Result<(), VmaError> {
    let request = run.request();
    let session = vcenter::connect(&request.vcenter).await?;
    let source = slot.insert(Source { session: session.clone(), vm_snapshot: None });
    let moref = MoRef::vm(&request.moref);
    prepare(&session, &moref, run).await?;
    run.enter(RunPhase::Snapshotting);
    let (vm_snapshot, quiesced) = take_vm_snapshot(&session, &moref, run).await?;
    source.vm_snapshot = Some(vm_snapshot.clone());
    run.took_vm_snapshot(vm_snapshot.id(), quiesced);
    let vm = session.virtual_machine(&moref).await.map_err(VmaError::vsphere("reading the VM"))?;
    let frozen = session.vm_snapshot_disks(&vm_snapshot).await.map_err(VmaError::vsphere("reading the vm_snapshot"))?;
    let folder = run.folder();
    let made = tokio::fs::create_dir_all(&folder).await;
    made.map_err(|source| VmaError::StateFile { path: folder, source })?;
    run.enter(RunPhase::Copying);
    let frozen_vm = FrozenVm { session: &session, vm: &vm, vm_snapshot: &vm_snapshot, disks: &frozen };
    let copies = request.disks.iter().zip(run.disks()).map(|(disk, state)| copy_disk(run, &frozen_vm, disk, state));
    try_join_all(copies).await?;
    run.enter(RunPhase::Flushing);
    Ok(())
}

/// Removes what earlier runs left, proves that this is the VM that is meant, and makes change tracking effective.
async fn prepare(session: &VimSession, moref: &MoRef, run: &Run) -> Result<(), VmaError> {
    vcenter::sweep(session, moref).await?;
    let vm = session.virtual_machine(moref).await.map_err(VmaError::vsphere("reading the VM"))?;
    if vm.instance_uuid != run.request().instance_uuid {
        return Err(VmaError::OtherVm { moref: moref.id().to_owned() });
    }
    if vm.change_tracking_supported && !vm.change_tracking_enabled {
        tracing::info!(vm = vm.name, "switching on change tracking");
        let name = format!("{VM_SNAPSHOT_PREFIX}cbt-{}", run.job_id());
        let activated = session.activate_change_tracking(moref, &name).await;
        activated.map_err(VmaError::vsphere("switching on change tracking"))?;
    }
    Ok(())
}

/// Takes the vm_snapshot; where the guest cannot be quiesced it is crash-consistent, and says so.
async fn take_vm_snapshot(session: &VimSession, vm: &MoRef, run: &Run) -> Result<(MoRef, bool), VmaError> {
    let spec = |quiesce| VmSnapshotSpec {
        name: vm_snapshot_name(run.job_id()),
        description: "taken to replicate this VM; removed when that is done".to_owned(),
        quiesce,
    };
    let quiesce = run.request().quiesce;
    let taken = match session.create_vm_snapshot(vm, &spec(quiesce)).await {
        Err(error) if quiesce && is_quiesce_fault(&error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the guest could not be quiesced: the point in time is crash-consistent");
            session.create_vm_snapshot(vm, &spec(false)).await.map(|vm_snapshot| (vm_snapshot, false))
        }
        taken => taken.map(|vm_snapshot| (vm_snapshot, quiesce)),
    };
    let (vm_snapshot, asked) = taken.map_err(VmaError::vsphere("taking the vm_snapshot"))?;
    // VMware ignores the wish silently where no tools run; the vm_snapshot itself tells.
    let listing = session.vm_snapshots(vm).await.map_err(VmaError::vsphere("reading the vm_snapshot"))?;
    let quiesced = listing.iter().any(|listed| listed.moref == vm_snapshot && listed.is_quiesced);
    Ok((vm_snapshot, asked && quiesced))
}

fn is_quiesce_fault(error: &VsphereError) -> bool {
    QUIESCE_FAULTS.iter().any(|fault| error.is_fault(fault))
}

/// A VM with the vm_snapshot its disks are read from.
pub(super) struct FrozenVm<'a> {
    pub(super) session: &'a VimSession,
    pub(super) vm: &'a VirtualMachine,
    pub(super) vm_snapshot: &'a MoRef,
    pub(super) disks: &'a [VirtualDisk],
}

async fn copy_disk(
    run: &Run,
    frozen: &FrozenVm<'_>,
    wanted: &RunDisk,
    state: &Arc<DiskState>,
) -> Result<(), VmaError> {
    let failed = |source| VmaError::Copy { disk_id: wanted.disk_id.clone(), source };
    let disk = matching(frozen.disks, wanted)?;
    let reader = open_reader(run, frozen, disk, wanted).await?;
    if reader.capacity_bytes() < wanted.capacity_bytes {
        let found_bytes = reader.capacity_bytes();
        return Err(failed(MoverError::SourceSize { capacity_bytes: wanted.capacity_bytes, found_bytes }));
    }
    let (decision, extents) = changed(frozen, disk, wanted).await;
    tracing::info!(disk_id = wanted.disk_id, reason = decision.reason, "copying");
    let reason = format!("{}; read by {}", decision.reason, wanted.reader.kind());
    let named = extents.as_ref().map_or(1, Vec::len);
    state.chose(decision.mode, reason, disk.change_id.clone(), named);
    let target = open_target(run, wanted).await?;
    let path = run.folder().join(format!("{}.digests", wanted.disk_id));
    let copy = DiskCopy {
        reader,
        target,
        plan: plan(decision.mode, wanted.capacity_bytes, extents),
        mode: decision.mode,
        digests: DigestFile::create(&path).map_err(failed)?,
        progress: state.progress(),
    };
    copy.run(run.cancellation()).await.map_err(failed)?;
    state.is_durable();
    Ok(())
}

/// The disk of the vm_snapshot that is the wanted one by key, uuid and size; never by its place in a list.
fn matching<'a>(disks: &'a [VirtualDisk], wanted: &RunDisk) -> Result<&'a VirtualDisk, VmaError> {
    let other = |reason: String| VmaError::OtherDisk { disk_id: wanted.disk_id.clone(), reason };
    let disk = disks.iter().find(|disk| disk.disk_id() == wanted.disk_id);
    let disk = disk.ok_or_else(|| other("the vm_snapshot has no such disk".to_owned()))?;
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
    let known = Known {
        requested: wanted.change_source,
        committed: wanted.previous_change_id.as_ref(),
        current: disk.change_id.as_ref(),
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
async fn open_target(run: &Run, wanted: &RunDisk) -> Result<Target, VmaError> {
    let failed = |source| VmaError::Copy { disk_id: wanted.disk_id.clone(), source };
    let open = || async {
        let stream = run.surroundings().dialer.dial_nbd().await?;
        let client = Client::over(stream, &wanted.export_name, &ClientOptions::default()).await;
        client.map_err(|source| failed(MoverError::OpenTarget { export: wanted.export_name.clone(), source }))
    };
    let first = open().await?;
    let made_for = api::gateway::export_description(&wanted.disk_uuid);
    if first.export().description.as_deref() != Some(made_for.as_str()) {
        return Err(VmaError::OtherExport { export: wanted.export_name.clone(), disk_id: wanted.disk_id.clone() });
    }
    let connections = if first.can_multi_conn() { run.request().connections_per_disk } else { 1 };
    let mut clients = vec![first];
    while (clients.len() as u64) < u64::from(connections) {
        clients.push(open().await?);
    }
    Target::new(clients, &wanted.export_name, wanted.capacity_bytes).map_err(failed)
}
