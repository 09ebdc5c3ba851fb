//! A VM as vSphere has it, as the hub is told of it.

use api::vma::{FindingSeverity, PreflightFinding, SourceDisk, SourceNic, SourceVm};
use model::id::VM_SNAPSHOT_PREFIX;
use vsphere::{Finding, Nic, Severity, VirtualDisk, VirtualMachine, preflight};

/// Describes a VM with what preflight finds. All its vm_snapshots are told; our own do not count in preflight, because a
/// run removes them first.
#[must_use]
pub fn source_vm(mut vm: VirtualMachine) -> SourceVm {
    let vm_snapshots = vm.vm_snapshots.iter().map(|vm_snapshot| vm_snapshot.name.clone()).collect();
    vm.vm_snapshots.retain(|vm_snapshot| !vm_snapshot.name.starts_with(VM_SNAPSHOT_PREFIX));
    let findings = preflight::findings(&vm).into_iter().map(finding).collect();
    SourceVm {
        moref: vm.moref.id().to_owned(),
        instance_uuid: vm.instance_uuid,
        name: vm.name,
        path: vm.inventory_path,
        datacenter: vm.datacenter,
        cpu_count: vm.cpu_count,
        memory_mb: vm.memory_mb,
        os_type: vm.os_type,
        guest_id: vm.guest_id,
        firmware: vm.firmware,
        secure_boot: vm.secure_boot,
        power_state: vm.power_state.as_str().to_owned(),
        vm_tools_version: vm.tools.version,
        cbt_enabled: vm.change_tracking_enabled,
        cbt_supported: vm.change_tracking_supported,
        vm_snapshots,
        networks: vm.nics.into_iter().map(nic).collect(),
        disks: vm.disks.into_iter().map(disk).collect(),
        findings,
        readers: None,
    }
}

fn finding(finding: Finding) -> PreflightFinding {
    PreflightFinding {
        severity: match finding.severity {
            Severity::Blocker => FindingSeverity::Blocker,
            Severity::Warning => FindingSeverity::Warning,
            Severity::Info => FindingSeverity::Info,
        },
        code: finding.code,
        disk_id: finding.disk,
        message: finding.message,
        remedy: finding.remedy,
    }
}

fn nic(nic: Nic) -> SourceNic {
    SourceNic {
        label: nic.label,
        network_name: nic.network_name,
        mac_address: nic.mac_address,
        adapter_type: nic.adapter_type,
        connected: nic.connected,
    }
}

fn disk(disk: VirtualDisk) -> SourceDisk {
    SourceDisk {
        disk_id: disk.disk_id(),
        device_key: disk.device_key,
        disk_uuid: disk.disk_uuid,
        vmdk_path: disk.vmdk_path,
        datastore: disk.datastore,
        label: disk.label,
        capacity_bytes: disk.capacity_bytes,
        controller_type: disk.controller_type,
        controller_bus: disk.controller_bus,
        unit_number: disk.unit_number,
        provisioning_type: disk.provisioning_type.as_str().to_owned(),
        disk_mode: disk.disk_mode,
        sharing: disk.sharing,
        is_boot_disk: disk.is_boot_disk,
        backing: disk.backing,
    }
}
