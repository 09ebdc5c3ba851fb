//! Disks of other VMs on the VM this agent runs in: added as a vm_snapshot froze them, read as block devices, removed.
//!
//! Only disks that are written down here are ever removed, and never a file with them. What is written to an added disk
//! would be thrown away; nothing here writes. One change at a time: a VM has one task.

mod device;
mod error;
mod identity;
mod record;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mover::reader::Source;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use vsphere::reconfigure::{NONPERSISTENT, free_disk_slot};
use vsphere::{AttachDisk, DiskSlot, MoRef, VimSession, VirtualDisk, VirtualMachine, VsphereError};

pub use error::HotAddError;
pub use record::Added;

use crate::config::HotAddConfig;
use device::Device;
use record::Records;

/// How often a change is asked for while another task holds the agent's own VM.
const BUSY_ATTEMPTS: u32 = 12;
/// The pause between two of them.
const BUSY_PAUSE: Duration = Duration::from_secs(5);

/// The disks added to this machine.
pub struct HotAdd {
    config: HotAddConfig,
    records: Records,
    /// Held by whoever changes the own VM.
    turn: Mutex<()>,
    room: Arc<Semaphore>,
}

/// The right of a run to have its disks added.
pub(crate) struct Room(#[expect(dead_code, reason = "it is given back when dropped")] OwnedSemaphorePermit);

impl HotAdd {
    /// Knows what an earlier process left added.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn open(config: HotAddConfig, state_dir: &Path) -> Result<Self, HotAddError> {
        let records = Records::open(&state_dir.join("hotadd.json"))?;
        let places = usize::try_from(config.max_disks.max(1)).unwrap_or(1).min(Semaphore::MAX_PERMITS);
        Ok(Self { config, records, turn: Mutex::default(), room: Arc::new(Semaphore::new(places)) })
    }

    /// Waits until `disks` more may be added. A run asks once for all of its disks: two that wait for each other's end
    /// would wait for ever.
    pub(crate) async fn room(&self, disks: usize) -> Option<Room> {
        let wanted = u32::try_from(disks).unwrap_or(u32::MAX).min(self.config.max_disks.max(1));
        // Nobody closes the semaphore.
        Arc::clone(&self.room).acquire_many_owned(wanted).await.ok().map(Room)
    }

    /// The VM this agent runs in, as this vCenter knows it.
    ///
    /// # Errors
    /// Its uuid is not known, or vCenter knows no VM, or several, with it.
    pub(crate) async fn own_vm(&self, vim: &VimSession) -> Result<VirtualMachine, HotAddError> {
        if !self.config.enabled {
            return Err(HotAddError::Disabled);
        }
        let uuids = identity::uuids(self.config.vm_uuid.as_deref())?;
        let mut found: Vec<VirtualMachine> = Vec::new();
        for uuid in &uuids {
            match vim.virtual_machine_by_bios_uuid(uuid).await {
                Ok(vm) if found.iter().all(|other| other.moref != vm.moref) => found.push(vm),
                Ok(_) | Err(VsphereError::VmNotFound { .. }) => {}
                Err(source) => return Err(HotAddError::Vsphere { doing: "looking for the agent's own VM", source }),
            }
        }
        match (found.pop(), found.is_empty()) {
            (Some(vm), true) => Ok(vm),
            (Some(_), false) => Err(HotAddError::OwnVm { reason: "several VMs have its uuid".to_owned() }),
            (None, _) => Err(HotAddError::OwnVm { reason: format!("no VM has the uuid {}", uuids.join(" or ")) }),
        }
    }

    /// Whether disks of `source` can be added to `own` at all.
    ///
    /// # Errors
    /// It is the same VM, or in another datacenter.
    pub(crate) fn suits(own: &VirtualMachine, source: &VirtualMachine) -> Result<(), HotAddError> {
        of(source).suits(own)
    }

    /// Adds a frozen disk of `source` for a run and opens it.
    ///
    /// # Errors
    /// vCenter refuses, there is no place, or no device appears that is this disk. What was added then is still written
    /// down for [`Self::remove_of_run`].
    pub(crate) async fn add(
        self: &Arc<Self>,
        vim: &VimSession,
        job_id: &str,
        source: &VirtualMachine,
        disk: &VirtualDisk,
    ) -> Result<Source, HotAddError> {
        let device = Device::of(&self.config.device_dir, &disk.disk_uuid)?;
        device.is_free().await?;
        let added = Added {
            job_id: job_id.to_owned(),
            vcenter: server_name(vim),
            source: source.moref.id().to_owned(),
            vmdk_path: disk.vmdk_path.clone(),
            disk_uuid: disk.disk_uuid.clone(),
        };
        // Before anything else: who stops the run from here on finds it, and waits for its turn.
        self.records.add(added.clone())?;
        // Goes on when the run is stopped meanwhile, so that it is known whether the disk was added.
        let (own, vim, place, disk) = (Arc::clone(self), vim.clone(), of(source), disk.clone());
        let attaching = tokio::spawn(async move { own.attach(&vim, &place, &disk, &added).await });
        let capacity_bytes = attaching.await.map_err(|source| HotAddError::Interrupted { source })??;
        device.open(capacity_bytes).await
    }

    async fn attach(
        &self,
        vim: &VimSession,
        source: &Place,
        disk: &VirtualDisk,
        added: &Added,
    ) -> Result<u64, HotAddError> {
        let _turn = self.turn.lock().await;
        if !self.records.has(added) {
            return Err(HotAddError::Withdrawn);
        }
        let (own, slot) = match self.place(vim, source).await {
            Ok(place) => place,
            Err(error) => {
                self.records.forget(added)?;
                return Err(error);
            }
        };
        let wanted = AttachDisk { vmdk_path: disk.vmdk_path.clone(), capacity_bytes: disk.capacity_bytes, slot };
        let attached = Change::Attach(&wanted).make(vim, &own).await;
        attached.map_err(|source| HotAddError::Attach { vmdk_path: disk.vmdk_path.clone(), source })?;
        tracing::info!(vmdk_path = disk.vmdk_path, ?slot, "added a frozen disk to this VM");
        Ok(disk.capacity_bytes)
    }

    /// The own VM, and where on it one more disk of `source` goes.
    async fn place(&self, vim: &VimSession, source: &Place) -> Result<(MoRef, DiskSlot), HotAddError> {
        let own = self.own_vm(vim).await?;
        source.suits(&own)?;
        let slot = free_disk_slot(&own, self.config.controller.map(i32::from)).ok_or(HotAddError::NoSlot)?;
        Ok((own.moref, slot))
    }

    /// Removes the disks a run has added; without any, nobody is asked.
    ///
    /// # Errors
    /// vCenter refuses: they stay written down.
    pub(crate) async fn remove_of_run(&self, vim: &VimSession, job_id: &str) -> Result<(), HotAddError> {
        self.remove(vim, self.records.of_run(job_id), Of::Run).await
    }

    /// Nobody removes the run's disks any more: from now on they count as left.
    pub(crate) fn leave(&self, job_id: &str) {
        self.records.leave(job_id);
    }

    /// Removes what ended runs and earlier processes left added, as far as this vCenter has it.
    ///
    /// # Errors
    /// A disk of the VM `source` stays: the vm_snapshot it was added from must not be removed. Others only are told of.
    pub(crate) async fn sweep(&self, vim: &VimSession, source: &MoRef) -> Result<(), HotAddError> {
        let left = self.records.left(&server_name(vim)).into_iter();
        let (ours, others) = left.partition(|left| left.source == source.id());
        if let Err(error) = self.remove(vim, others, Of::Left).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "disks that were left on this VM stay for now");
        }
        match self.remove(vim, ours, Of::Left).await {
            // The agent moved elsewhere: vCenter itself refuses to remove a vm_snapshot that is still read.
            Err(error @ (HotAddError::Disabled | HotAddError::OwnVm { .. })) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "disks may be left on a VM this agent ran in");
                Ok(())
            }
            removed => removed,
        }
    }

    async fn remove(&self, vim: &VimSession, records: Vec<Added>, of: Of) -> Result<(), HotAddError> {
        if records.is_empty() {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        let own = self.own_vm(vim).await?;
        // Whoever had the turn before may have removed some, and added them again for a run of its own.
        let still_left = self.records.left(&server_name(vim));
        for added in records.into_iter().filter(|added| of == Of::Run || still_left.contains(added)) {
            for disk in own.disks.iter().filter(|disk| is_it(disk, &added)) {
                let detached = Change::Detach { device_key: disk.device_key }.make(vim, &own.moref).await;
                let failed = |source| HotAddError::Detach { vmdk_path: added.vmdk_path.clone(), source };
                detached.map_err(failed)?;
                tracing::info!(vmdk_path = added.vmdk_path, job_id = added.job_id, "removed a disk from this VM");
            }
            self.records.forget(&added)?;
        }
        Ok(())
    }
}

/// Whose disks are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// A run's own.
    Run,
    /// What ended runs and earlier processes left.
    Left,
}

/// What has to be known of the VM whose disk is added.
struct Place {
    moref: MoRef,
    datacenter_path: String,
}

fn of(vm: &VirtualMachine) -> Place {
    Place { moref: vm.moref.clone(), datacenter_path: vm.datacenter_path.clone() }
}

impl Place {
    fn suits(&self, own: &VirtualMachine) -> Result<(), HotAddError> {
        if own.moref == self.moref {
            return Err(HotAddError::Itself);
        }
        if own.datacenter_path != self.datacenter_path {
            let (own, other) = (own.datacenter_path.clone(), self.datacenter_path.clone());
            return Err(HotAddError::OtherDatacenter { own, other });
        }
        Ok(())
    }
}

/// Whether a disk of the own VM is the one written down. Its redo log may lie beside the file that was named.
fn is_it(disk: &VirtualDisk, added: &Added) -> bool {
    let folder = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
    disk.disk_mode == NONPERSISTENT
        && disk.disk_uuid.eq_ignore_ascii_case(&added.disk_uuid)
        && folder(&disk.vmdk_path) == folder(&added.vmdk_path)
}

/// A vCenter's own id; a host has none and is known by its address.
fn server_name(vim: &VimSession) -> String {
    vim.about().instance_uuid.clone().unwrap_or_else(|| vim.host().to_owned())
}

/// A change of the own VM.
enum Change<'a> {
    Attach(&'a AttachDisk),
    Detach { device_key: i32 },
}

impl Change<'_> {
    /// Makes it, again and again while another task holds the VM.
    async fn make(&self, vim: &VimSession, own: &MoRef) -> Result<(), VsphereError> {
        let mut attempt = 1;
        loop {
            let outcome = self.once(vim, own).await;
            let is_busy = |error: &VsphereError| {
                error.fault().is_some_and(|fault| fault.is("TaskInProgress") || fault.is("ConcurrentAccess"))
            };
            if attempt == BUSY_ATTEMPTS || !outcome.as_ref().is_err_and(is_busy) {
                return outcome;
            }
            attempt += 1;
            tokio::time::sleep(BUSY_PAUSE).await;
        }
    }

    async fn once(&self, vim: &VimSession, own: &MoRef) -> Result<(), VsphereError> {
        let task = match self {
            Self::Attach(disk) => vim.start_attaching_disk(own, disk).await?,
            Self::Detach { device_key } => vim.start_detaching_disk(own, *device_key).await?,
        };
        vim.wait_for_task(&task, |_| {}).await.map(drop)
    }
}
