//! A VM as the agent describes it, as the rows keep it.

use api::vma::{SourceDisk, SourceVm};
use serde_json::json;
use store::discovery::{DiscoveredDisk, DiscoveredVm};

pub(super) fn discovered_vm(vm: &SourceVm, vcenter_host: &str) -> DiscoveredVm {
    let nics = vm.networks.iter().map(|nic| {
        json!({
            "label": nic.label,
            "network_name": nic.network_name,
            "mac_address": nic.mac_address,
            "adapter_type": nic.adapter_type,
            "connected": nic.connected,
        })
    });
    DiscoveredVm {
        vm_name: vm.name.clone(),
        vmware_vm_id: vm.instance_uuid.clone(),
        vmware_moref: vm.moref.clone(),
        vm_path: vm.path.clone(),
        vcenter_host: vcenter_host.to_owned(),
        datacenter: vm.datacenter.clone(),
        cpu_count: vm.cpu_count,
        memory_mb: vm.memory_mb,
        os_type: vm.os_type.clone(),
        guest_id: vm.guest_id.clone(),
        firmware: vm.firmware,
        secure_boot: vm.secure_boot,
        power_state: vm.power_state.clone(),
        vm_tools_version: vm.vm_tools_version.clone(),
        networks: nics.collect(),
        disks: vm.disks.iter().map(discovered_disk).collect(),
    }
}

fn discovered_disk(disk: &SourceDisk) -> DiscoveredDisk {
    DiscoveredDisk {
        disk_id: disk.disk_id.clone(),
        disk_uuid: disk.disk_uuid.clone(),
        vmdk_path: disk.vmdk_path.clone(),
        datastore: disk.datastore.clone(),
        label: disk.label.clone(),
        capacity_bytes: disk.capacity_bytes,
        controller_type: disk.controller_type.clone(),
        controller_bus: disk.controller_bus,
        unit_number: disk.unit_number,
        provisioning_type: disk.provisioning_type.clone(),
        disk_mode: disk.disk_mode.clone(),
        sharing: disk.sharing.clone(),
        is_boot_disk: Some(disk.is_boot_disk),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use api::vma::SourceNic;
    use model::status::Firmware;

    use super::*;

    /// A VM with one network card and no disk.
    pub(in crate::inventory) fn source_vm() -> SourceVm {
        SourceVm {
            moref: "vm-1".into(),
            instance_uuid: "5000".into(),
            name: "web".into(),
            path: "/DC0/vm/web".into(),
            datacenter: "DC0".into(),
            cpu_count: 2,
            memory_mb: 2048,
            os_type: "Debian 12".into(),
            guest_id: "debian12_64Guest".into(),
            firmware: Firmware::Efi,
            secure_boot: true,
            power_state: "poweredOn".into(),
            vm_tools_version: "12352".into(),
            cbt_enabled: false,
            cbt_supported: true,
            vm_snapshots: vec![],
            networks: vec![SourceNic {
                label: "Network adapter 1".into(),
                network_name: "prod".into(),
                mac_address: "00:50:56:00:00:01".into(),
                adapter_type: "vmxnet3".into(),
                connected: true,
            }],
            disks: vec![],
            findings: vec![],
            readers: None,
        }
    }

    #[test]
    fn network_cards_keep_their_names_and_macs() {
        let row = discovered_vm(&source_vm(), "vc.example");
        assert_eq!(row.networks[0]["network_name"], "prod");
        assert_eq!(row.networks[0]["mac_address"], "00:50:56:00:00:01");
        assert_eq!((row.vcenter_host.as_str(), row.secure_boot), ("vc.example", true));
    }
}
