//! A VM that can be failed over, for tests of what is decided.

use api::oma::failovers::StartFailover;
use api::vma::SourceNic;
use cloudstack::{Capabilities, Network, ServiceOffering, Template};
use model::status::{ContextStatus, DiskSyncStatus, FailoverType, Firmware};
use serde_json::{from_value, json};

use super::facts::{DiskFacts, Facts, TargetFacts, VmFacts, VolumeFacts};
use super::params::plain_request;
use super::spec::Identity;
use crate::networks::map::{NicMapping, TargetNetworks};

/// MAC addresses of the two cards, in the VM's order.
pub(super) const MACS: [&str; 2] = ["00:50:56:00:00:02", "00:50:56:00:00:01"];

/// Two disks, two cards, everything mapped, nothing in the way.
pub(super) fn facts() -> Facts {
    Facts {
        vm: VmFacts {
            context_id: "context-1".to_owned(),
            name: "web1".to_owned(),
            status: ContextStatus::ReadyForFailover,
            os_type: "Debian GNU/Linux 12 (64-bit)".to_owned(),
            guest_id: "debian12_64Guest".to_owned(),
            firmware: Firmware::Bios,
            secure_boot: false,
            cpu_count: 2,
            memory_mib: 2048,
            power_state: "poweredOn".to_owned(),
            nics: MACS.iter().zip(1..).map(|(mac, number)| nic(mac, number)).collect(),
            agent_connected: true,
        },
        running_job: None,
        held_by: None,
        points: vec!["job-2".to_owned(), "job-1".to_owned()],
        disks: vec![disk(2000, false), disk(2001, true), disk(2016, false)],
        mappings: MACS.iter().flat_map(|mac| [mapping(mac, false), mapping(mac, true)]).collect(),
        target: Ok(target()),
        has_conversion_tool: false,
        has_windows_drivers: true,
    }
}

fn nic(mac: &str, number: u32) -> SourceNic {
    SourceNic {
        label: format!("Network adapter {number}"),
        network_name: format!("net-{number}"),
        mac_address: mac.to_owned(),
        adapter_type: "vmxnet3".to_owned(),
        connected: true,
    }
}

fn mapping(mac: &str, is_test_network: bool) -> NicMapping {
    let network_id = format!("{}-{}", if is_test_network { "test" } else { "live" }, &mac[15..]);
    NicMapping {
        source_mac: mac.to_owned(),
        network_name: network_id.clone(),
        network_id,
        is_test_network,
        strategy: None,
        ip_address: None,
    }
}

pub(super) fn disk(key: u32, is_boot_disk: bool) -> DiskFacts {
    DiskFacts {
        disk_id: format!("disk-{key}"),
        is_boot_disk,
        capacity_bytes: 1 << 30,
        sync_status: DiskSyncStatus::Completed,
        committed: "52 aa/7".parse().ok(),
        volume: Some(VolumeFacts {
            volume_uuid: format!("volume-{key}"),
            size_bytes: 1 << 30,
            device_path: Some(format!("/dev/vd{key}").into()),
            held_by_vm: None,
        }),
    }
}

fn target() -> TargetFacts {
    TargetFacts {
        name: "cloud".to_owned(),
        is_root_admin: true,
        capabilities: capabilities(),
        wanted_offering_id: None,
        wanted_template_id: None,
        offerings: vec![offering("large", 4, 8192), offering("exact", 2, 2048), custom("custom")],
        templates: vec![template("big", 10 << 30), template("small", 1 << 30)],
        networks: TargetNetworks {
            zone_id: "zone-1".to_owned(),
            zone_name: "Zone 1".to_owned(),
            networks: ["live-01", "live-02", "test-01", "test-02"].map(network).into(),
        },
        taken_names: vec!["web10".to_owned()],
    }
}

pub(super) fn capabilities() -> Capabilities {
    from_value(json!({ "kvmsnapshotenabled": true, "customdiskofferingmaxsize": 1024 })).unwrap()
}

pub(super) fn offering(id: &str, cpus: u64, memory_mib: u64) -> ServiceOffering {
    from_value(json!({ "id": id, "name": id, "cpunumber": cpus, "memory": memory_mib, "cpuspeed": 1000 })).unwrap()
}

pub(super) fn custom(id: &str) -> ServiceOffering {
    let bounds = json!({ "mincpunumber": "1", "maxcpunumber": "8", "minmemory": "512", "maxmemory": "16384" });
    from_value(json!({ "id": id, "name": id, "iscustomized": true, "serviceofferingdetails": bounds })).unwrap()
}

pub(super) fn template(id: &str, size_bytes: u64) -> Template {
    let row =
        json!({ "id": id, "name": id, "zoneid": "zone-1", "isready": true, "hypervisor": "KVM", "size": size_bytes });
    from_value(row).unwrap()
}

fn network(id: &str) -> Network {
    let row = json!({ "id": id, "name": id, "type": "Isolated", "zoneid": "zone-1", "canusefordeploy": true,
        "state": "Implemented", "cidr": "10.1.1.0/24" });
    from_value(row).unwrap()
}

/// A plain request.
pub(super) fn request(failover_type: FailoverType) -> StartFailover {
    plain_request(failover_type, "context-1")
}

pub(super) fn identity() -> Identity {
    Identity {
        job_id: "failover-20260304-050607-a1b2c3".to_owned(),
        custom_id: "11111111-2222-4333-8444-555555555555".to_owned(),
    }
}
