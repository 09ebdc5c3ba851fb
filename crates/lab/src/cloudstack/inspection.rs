//! What tests may know about the simulated server beyond its API.
//!
//! Plain values taken under the lock; they do not follow later changes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::entities::{VmState, VolumeState, VolumeType};
use super::hypervisor::{BootReport, Hypervisor};
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
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// An interface of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NicView {
    /// The API's id of its network.
    pub network_id: String,
    /// Its MAC address.
    pub mac: String,
    /// Its address; L2 networks give none.
    pub ip_address: Option<String>,
}

/// One snapshot of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotView {
    /// The API's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Name of its account.
    pub account: String,
    /// The volume it is of.
    pub volume_id: String,
    /// `Allocated`, `Creating`, `BackedUp` or `Error`.
    pub state: &'static str,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// One snapshot of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VmSnapshotView {
    /// The API's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The VM it is of.
    pub vm_id: String,
    /// `Allocated`, `Creating`, `Ready`, `Reverting` or `Error`.
    pub state: &'static str,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
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
    /// Its interfaces in order.
    pub nics: Vec<NicView>,
    /// Details as the API shows them.
    pub details: BTreeMap<String, String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// What became of its latest start; none before the first, and where VMs are not booted.
    pub boot: Option<BootReport>,
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
            tags: volume.tags.clone(),
        }
    };
    world.inventory.volumes.iter().map(view).collect()
}

/// All VMs in the order of their making.
pub(crate) fn vms(world: &World, hypervisor: Option<&Hypervisor>) -> Vec<VmView> {
    let nic = |nic: &super::entities::Nic| NicView {
        network_id: nic.network_id.clone(),
        mac: nic.mac.clone(),
        ip_address: nic.ip_address.clone(),
    };
    let view = |vm: &super::entities::Vm| VmView {
        id: vm.id.clone(),
        name: vm.name.clone(),
        account: account_name(world, &vm.account_id),
        state: vm.state,
        macs: vm.nics.iter().map(|nic| nic.mac.clone()).collect(),
        nics: vm.nics.iter().map(nic).collect(),
        details: vm.details.clone(),
        tags: vm.tags.clone(),
        boot: hypervisor.and_then(|hypervisor| hypervisor.report(&vm.id)),
    };
    world.inventory.vms.iter().map(view).collect()
}

/// All snapshots of volumes in the order of their making.
pub(crate) fn snapshots(world: &World) -> Vec<SnapshotView> {
    let view = |snapshot: &super::entities::VolumeSnapshot| SnapshotView {
        id: snapshot.id.clone(),
        name: snapshot.name.clone(),
        account: account_name(world, &snapshot.account_id),
        volume_id: snapshot.volume_id.clone(),
        state: snapshot.state.as_str(),
        tags: snapshot.tags.clone(),
    };
    world.inventory.volume_snapshots.iter().map(view).collect()
}

/// All snapshots of VMs in the order of their making.
pub(crate) fn vm_snapshots(world: &World) -> Vec<VmSnapshotView> {
    let view = |snapshot: &super::entities::VmSnapshot| VmSnapshotView {
        id: snapshot.id.clone(),
        name: snapshot.display_name.clone(),
        vm_id: snapshot.vm_id.clone(),
        state: snapshot.state.as_str(),
        tags: snapshot.tags.clone(),
    };
    world.inventory.vm_snapshots.iter().map(view).collect()
}

/// Something that carries tags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaggedView {
    /// `vm`, `volume`, `snapshot` or `vm_snapshot`.
    pub kind: &'static str,
    /// The API's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: &'static str,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// Everything that carries a tag, with that value if one is given.
pub(crate) fn tagged(world: &World, key: &str, value: Option<&str>) -> Vec<TaggedView> {
    let view = |kind, id: &str, name: &str, state, tags: &BTreeMap<String, String>| TaggedView {
        kind,
        id: id.to_owned(),
        name: name.to_owned(),
        state,
        tags: tags.clone(),
    };
    let inventory = &world.inventory;
    let vms = inventory.vms.iter().map(|vm| view("vm", &vm.id, &vm.name, vm.state.as_str(), &vm.tags));
    let volumes = inventory.volumes.iter().map(|v| view("volume", &v.id, &v.name, v.state.as_str(), &v.tags));
    let snapshots =
        inventory.volume_snapshots.iter().map(|s| view("snapshot", &s.id, &s.name, s.state.as_str(), &s.tags));
    let of_vms =
        inventory.vm_snapshots.iter().map(|s| view("vm_snapshot", &s.id, &s.display_name, s.state.as_str(), &s.tags));
    let has =
        |tagged: &TaggedView| tagged.tags.get(key).is_some_and(|found| value.is_none_or(|wanted| wanted == found));
    vms.chain(volumes).chain(snapshots).chain(of_vms).filter(has).collect()
}
