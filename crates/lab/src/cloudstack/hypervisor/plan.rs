//! From the rows of a VM to the machine that is to run.

use super::buses::{Firmware, data_bus, nic_model, root_bus};
use super::machine::{Card, Drive, MachinePlan};
use crate::cloudstack::entities::VolumeType;
use crate::cloudstack::rules::disk_serial;
use crate::cloudstack::world::World;

/// Least memory a machine starts with, MiB.
const MEMORY_MIN_MIB: u32 = 128;

/// The machine of a VM: root first, data disks by device id, interfaces by theirs. None = there is no such VM.
pub(crate) fn plan(world: &World, vm_id: &str) -> Option<MachinePlan> {
    let vm = world.inventory.vm(vm_id)?;
    let limits = &world.config.hypervisor;
    let os_name = world.catalogue.os_type_name(&vm.os_type_id).unwrap_or_default();
    let drives = world.inventory.volumes_of(vm_id).into_iter().filter_map(|volume| {
        let is_root = volume.volume_type == VolumeType::Root;
        let bus = if is_root { root_bus(&vm.details, os_name) } else { data_bus(&vm.details, os_name) };
        Some(Drive { file: world.storage.file_of(volume)?, serial: disk_serial(&volume.id), bus, is_root })
    });
    let mut nics: Vec<_> = vm.nics.iter().collect();
    nics.sort_by_key(|nic| nic.device_id);
    let model = nic_model(&vm.details, os_name);
    Some(MachinePlan {
        vm_id: vm.id.clone(),
        name: vm.name.clone(),
        cpus: vm.cpu_number.clamp(1, limits.max_cpus.max(1)),
        memory_mib: vm.memory_mib.min(limits.max_memory_mib).max(MEMORY_MIN_MIB),
        firmware: Firmware::of(&vm.details),
        drives: drives.collect(),
        cards: nics.into_iter().map(|nic| Card { mac: nic.mac.clone(), model }).collect(),
    })
}
