//! A run's session with vCenter, and what the run changes on the VM: it knows what has to be undone, whatever happened.
//!
//! A change that has begun is never given up half-way: the request goes on in a task of its own, so that a vm_snapshot
//! taken for a run that was stopped meanwhile is still found and removed.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use api::vma::StartRun;
use model::id::{VM_SNAPSHOT_PREFIX, vm_snapshot_name};
use tokio::task::JoinHandle;
use vsphere::{MoRef, VimSession, VmSnapshotSpec, VsphereError};

use crate::error::VmaError;
use crate::hotadd::{HotAdd, Room};
use crate::vcenter;

/// How often the removal of a vm_snapshot is tried before it is left to the next run.
const REMOVAL_ATTEMPTS: u32 = 5;
/// The pause between two tries.
const REMOVAL_PAUSE: Duration = Duration::from_secs(2);

type Change = JoinHandle<Result<Option<MoRef>, VsphereError>>;

/// The source of a run while it is open.
pub(super) struct RunSession {
    vim: VimSession,
    vm: MoRef,
    job_id: String,
    hotadd: Arc<HotAdd>,
    /// From before the vm_snapshot until no disk is added any more.
    room: Option<Room>,
    /// What this run calls its vm_snapshots: what is named so on this VM is its own.
    names: [String; 2],
    vm_snapshot: Option<MoRef>,
    under_way: Option<Change>,
    /// A change did not end well: there may be a vm_snapshot that is not noted.
    may_have_left_one: bool,
}

impl RunSession {
    /// Logs in for a run.
    pub(super) async fn open(request: &StartRun, hotadd: &Arc<HotAdd>) -> Result<Self, VmaError> {
        let vim = vcenter::connect(&request.vcenter).await?;
        let names = [vm_snapshot_name(&request.job_id), format!("{VM_SNAPSHOT_PREFIX}cbt-{}", request.job_id)];
        let vm = MoRef::vm(&request.moref);
        let (job_id, hotadd) = (request.job_id.clone(), Arc::clone(hotadd));
        let (room, vm_snapshot, under_way) = (None, None, None);
        Ok(Self { vim, vm, job_id, hotadd, room, names, vm_snapshot, under_way, may_have_left_one: false })
    }

    pub(super) fn vim(&self) -> &VimSession {
        &self.vim
    }

    pub(super) fn vm(&self) -> &MoRef {
        &self.vm
    }

    /// Switches change tracking on and makes it effective with a vm_snapshot that is removed at once.
    pub(super) async fn activate_change_tracking(&mut self) -> Result<(), VmaError> {
        let (vim, vm, name) = (self.vim.clone(), self.vm.clone(), self.names[1].clone());
        let activating = async move { vim.activate_change_tracking(&vm, &name).await.map(|()| None) };
        self.change("switching on change tracking", activating).await.map(drop)
    }

    /// Takes the vm_snapshot; where the guest cannot be quiesced it is crash-consistent. Answers with its reference and
    /// whether it was quiesced.
    pub(super) async fn take_vm_snapshot(&mut self, quiesce: bool) -> Result<(MoRef, bool), VmaError> {
        const DOING: &str = "taking the vm_snapshot";
        let taken = match self.create_vm_snapshot(quiesce).await {
            Err(VmaError::Vsphere { source, .. }) if quiesce && is_quiesce_fault(&source) => {
                let error = source.to_string();
                tracing::warn!(error, "the guest could not be quiesced: the point in time is crash-consistent");
                self.create_vm_snapshot(false).await
            }
            taken => taken,
        };
        let nameless = || VmaError::Invalid { what: "vCenter's answer", reason: "names no vm_snapshot".to_owned() };
        let vm_snapshot = taken?.ok_or_else(nameless)?;
        self.vm_snapshot = Some(vm_snapshot.clone());
        // VMware ignores the wish silently where no tools run; the vm_snapshot itself tells.
        let listing = self.vim.vm_snapshots(&self.vm).await.map_err(VmaError::vsphere(DOING))?;
        let is_quiesced = listing.iter().any(|listed| listed.moref == vm_snapshot && listed.is_quiesced);
        Ok((vm_snapshot, is_quiesced))
    }

    /// Takes over the vm_snapshot an earlier process took for this run.
    pub(super) fn adopt(&mut self, vm_snapshot: &str) {
        self.vm_snapshot = Some(MoRef::vm_snapshot(vm_snapshot));
        self.may_have_left_one = true;
    }

    /// Makes [`close`](Self::close) look for vm_snapshots of this run that are not noted.
    pub(super) fn doubt(&mut self) {
        self.may_have_left_one = true;
    }

    async fn create_vm_snapshot(&mut self, quiesce: bool) -> Result<Option<MoRef>, VmaError> {
        let spec = VmSnapshotSpec {
            name: self.names[0].clone(),
            description: "taken to replicate this VM; removed when that is done".to_owned(),
            quiesce,
        };
        let (vim, vm) = (self.vim.clone(), self.vm.clone());
        let taking = async move { vim.create_vm_snapshot(&vm, &spec).await.map(Some) };
        self.change("taking the vm_snapshot", taking).await
    }

    async fn change<F>(&mut self, doing: &'static str, work: F) -> Result<Option<MoRef>, VmaError>
    where
        F: Future<Output = Result<Option<MoRef>, VsphereError>> + Send + 'static,
    {
        let had_left_one = std::mem::replace(&mut self.may_have_left_one, true);
        let ended = self.under_way.insert(tokio::spawn(work)).await;
        self.under_way = None;
        let made = ended.map_err(|source| VmaError::Interrupted { doing, source })?;
        let made = made.map_err(VmaError::vsphere(doing))?;
        self.may_have_left_one = had_left_one;
        Ok(made)
    }

    /// Waits until `disks` may be added to the agent's VM: before the vm_snapshot, which grows while it waits.
    pub(super) async fn make_room(&mut self, disks: usize) {
        if disks > 0 {
            self.room = self.hotadd.room(disks).await;
        }
    }

    /// Removes the disks this run added to the agent's VM.
    pub(super) async fn remove_disks(&mut self) -> Result<(), VmaError> {
        self.hotadd.remove_of_run(&self.vim, &self.job_id).await?;
        self.room = None;
        Ok(())
    }

    /// Removes the vm_snapshot, if there is one, after the disks that were added from it.
    pub(super) async fn remove_vm_snapshot(&mut self) -> Result<(), VmaError> {
        self.remove_disks().await?;
        if let Some(vm_snapshot) = &self.vm_snapshot {
            let removal = self.vim.remove_vm_snapshot(vm_snapshot).await;
            removal.map_err(VmaError::vsphere("removing the vm_snapshot"))?;
            self.vm_snapshot = None;
        }
        if self.may_have_left_one {
            let names = &self.names;
            vcenter::sweep(&self.vim, &self.vm, |name| names.iter().any(|own| own == name)).await?;
            self.may_have_left_one = false;
        }
        Ok(())
    }

    /// Logs out and leaves the vm_snapshot for whoever goes on.
    pub(super) async fn leave(self) {
        vcenter::disconnect(&self.vim).await;
    }

    /// Waits for a change under way, removes the vm_snapshot with patience, and logs out.
    pub(super) async fn close(mut self) {
        if let Some(change) = self.under_way.take()
            && let Ok(Ok(Some(vm_snapshot))) = change.await
        {
            self.vm_snapshot = Some(vm_snapshot);
        }
        for attempt in 1..=REMOVAL_ATTEMPTS {
            let Err(error) = self.remove_vm_snapshot().await else { break };
            if attempt == REMOVAL_ATTEMPTS {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, vm = self.vm.id(), "the vm_snapshot stays; the next run of this VM removes it");
                break;
            }
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                attempt,
                "the vm_snapshot could not be removed yet"
            );
            tokio::time::sleep(REMOVAL_PAUSE).await;
        }
        self.hotadd.leave(&self.job_id);
        vcenter::disconnect(&self.vim).await;
    }
}

/// Faults of a vm_snapshot whose guest could not be quiesced; hosts also say so with the general `SnapshotFault`.
fn is_quiesce_fault(error: &VsphereError) -> bool {
    error.fault().is_some_and(|fault| fault.is_quiesce_failure() || fault.is("SnapshotFault"))
}
