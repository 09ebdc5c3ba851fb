//! What tests may know about the simulated server beyond its API.
//!
//! Plain values taken under the lock; they do not follow later changes.

use std::path::PathBuf;

use serde::Serialize;

use super::entities::{VmState, VolumeState, VolumeType};
use super::world::World;

/// Numbers of the things that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All volumes, roots included.
    pub volumes: usize,
    /// All VMs, the worker and destroyed ones included.
    pub vms: usize,
    /// Snapshots of volumes.
    pub volume_snapshots: usize,
    /// Snapshots of VMs.
    pub vm_snapshots: usize,
    /// Data volumes attached to any VM.
    pub attached: usize,
    /// Data volumes attached to the worker VM.
    pub attached_to_oma: usize,
    /// Jobs not over yet.
    pub pending_jobs: usize,
}

/// One volume with its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeView {
    /// The API's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Name of its account.
    pub account: String,
    /// `ROOT` or `DATADISK`.
    #[serde(rename = "type", serialize_with = "as_type")]
    pub volume_type: VolumeType,
    /// Its state.
    #[serde(serialize_with = "as_state")]
    pub state: VolumeState,
    /// The size the API tells, bytes.
    pub size_bytes: u64,
    /// The VM it is attached to.
    pub vm_id: Option<String>,
    /// Its device id there.
    pub device_id: Option<u32>,
    /// Its file, once it has one.
    pub file: Option<PathBuf>,
    /// The by-id link, while the worker VM shows the device.
    pub link: Option<PathBuf>,
    /// Bytes its file takes from the file system.
    pub allocated_bytes: u64,
}

/// One VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VmView {
    /// The API's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Name of its account.
    pub account: String,
    /// Its state.
    #[serde(serialize_with = "as_vm_state")]
    pub state: VmState,
    /// MAC addresses in the order of its interfaces.
    pub macs: Vec<String>,
    /// Details as the API shows them.
    pub details: std::collections::BTreeMap<String, String>,
}

fn as_type<S: serde::Serializer>(value: &VolumeType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.as_str())
}

fn as_state<S: serde::Serializer>(value: &VolumeState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.as_str())
}

fn as_vm_state<S: serde::Serializer>(value: &VmState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.as_str())
}

fn account_name(world: &World, id: &str) -> String {
    world.account(id).map(|account| account.name.clone()).unwrap_or_default()
}

/// Counts everything.
pub(crate) fn counts(world: &World) -> Counts {
    let inventory = &world.inventory;
    let data = || inventory.volumes.iter().filter(|volume| volume.volume_type == VolumeType::Datadisk);
    let on_worker = |vm_id: &str| vm_id == world.oma_vm_id;
    Counts {
        volumes: inventory.volumes.len(),
        vms: inventory.vms.len(),
        volume_snapshots: inventory.volume_snapshots.len(),
        vm_snapshots: inventory.vm_snapshots.len(),
        attached: data().filter(|volume| volume.attachment.is_some()).count(),
        attached_to_oma: data()
            .filter(|volume| volume.attachment.as_ref().is_some_and(|attachment| on_worker(&attachment.vm_id)))
            .count(),
        pending_jobs: world.jobs.iter().filter(|job| job.completed.is_none()).count(),
    }
}

/// All volumes in the order of their making.
pub(crate) fn volumes(world: &World) -> Vec<VolumeView> {
    use std::os::unix::fs::MetadataExt as _;
    let view = |volume: &super::entities::Volume| {
        let link = world.storage.link_of(&volume.id);
        let file = world.storage.file_of(volume).filter(|file| file.exists());
        let blocks = file.as_ref().and_then(|file| std::fs::metadata(file).ok()).map_or(0, |data| data.blocks());
        VolumeView {
            id: volume.id.clone(),
            name: volume.name.clone(),
            account: account_name(world, &volume.account_id),
            volume_type: volume.volume_type,
            state: volume.state,
            size_bytes: volume.size_bytes,
            vm_id: volume.attachment.as_ref().map(|attachment| attachment.vm_id.clone()),
            device_id: volume.attachment.as_ref().map(|attachment| attachment.device_id),
            file,
            link: link.is_symlink().then_some(link),
            allocated_bytes: blocks * 512,
        }
    };
    world.inventory.volumes.iter().map(view).collect()
}

/// All VMs in the order of their making.
pub(crate) fn vms(world: &World) -> Vec<VmView> {
    let view = |vm: &super::entities::Vm| VmView {
        id: vm.id.clone(),
        name: vm.name.clone(),
        account: account_name(world, &vm.account_id),
        state: vm.state,
        macs: vm.nics.iter().map(|nic| nic.mac.clone()).collect(),
        details: vm.details.clone(),
    };
    world.inventory.vms.iter().map(view).collect()
}
