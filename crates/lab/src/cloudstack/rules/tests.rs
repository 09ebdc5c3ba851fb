//! Tables for the pure rules.

use std::collections::BTreeMap;

use super::*;
use crate::cloudstack::entities::{Attachment, VmSnapshot, VmSnapshotState};

fn volume(id: &str, volume_type: VolumeType, state: VolumeState, attached: Option<(&str, u32)>) -> Volume {
    Volume {
        id: id.to_owned(),
        name: id.to_owned(),
        account_id: "a".to_owned(),
        volume_type,
        state,
        size_bytes: GIB_BYTES,
        disk_offering_id: None,
        service_offering_id: None,
        template_id: None,
        volume_snapshot_id: None,
        path: None,
        placed_in: None,
        device_size_bytes: None,
        attachment: attached.map(|(vm_id, device_id)| Attachment { vm_id: vm_id.to_owned(), device_id, since: 0 }),
        created: 0,
        displayed: true,
        tags: BTreeMap::new(),
    }
}

fn vm(id: &str, state: VmState) -> Vm {
    Vm {
        id: id.to_owned(),
        name: id.to_owned(),
        display_name: id.to_owned(),
        instance_name: id.to_owned(),
        account_id: "a".to_owned(),
        state,
        service_offering_id: String::new(),
        template_id: String::new(),
        os_type_id: String::new(),
        ha_enabled: false,
        details: BTreeMap::new(),
        cpu_number: 1,
        cpu_speed_mhz: 1,
        memory_mib: 1,
        nics: Vec::new(),
        created: 0,
        last_updated: 0,
        was_started: false,
        tags: BTreeMap::new(),
    }
}

fn vm_snapshot(vm_id: &str) -> VmSnapshot {
    VmSnapshot {
        id: "s".to_owned(),
        name: "s".to_owned(),
        display_name: "s".to_owned(),
        description: None,
        account_id: "a".to_owned(),
        vm_id: vm_id.to_owned(),
        parent_id: None,
        is_current: true,
        with_memory: false,
        state: VmSnapshotState::Ready,
        created: 0,
        tags: BTreeMap::new(),
    }
}

#[test]
fn device_ids_skip_the_cdrom_and_end_at_33() {
    let all: Vec<u32> = (0..=33).filter(|id| *id != 3).collect();
    let cases = [
        (None, vec![], Ok(1)),
        (None, vec![0, 1], Ok(2)),
        (None, vec![0, 1, 2], Ok(4)),
        (None, vec![0, 2, 4], Ok(1)),
        (Some(0), vec![1], Ok(0)),
        (Some(33), vec![], Ok(33)),
        (Some(3), vec![], Err("deviceId should be 0,1,2,4-33")),
        (Some(34), vec![], Err("deviceId should be 0,1,2,4-33")),
        (Some(2), vec![2], Err("deviceId 2 is used by vol on vm web")),
        (None, all, Err("All device Ids are used by vm web")),
    ];
    for (wanted, taken, expected) in cases {
        let found = choose_device_id(wanted, &taken, "web").map_err(|refusal| refusal.text);
        assert_eq!(found, expected.map_err(str::to_owned), "{wanted:?} with {taken:?}");
    }
}

#[test]
fn attach_rules() {
    use VolumeState::{Allocated, Creating, Destroy, Ready};
    use VolumeType::{Datadisk, Root};
    let inventory = Inventory {
        volumes: vec![volume("root", Root, Ready, Some(("stopped", 0)))],
        vms: vec![],
        vm_snapshots: vec![vm_snapshot("frozen")],
        ..Inventory::default()
    };
    let free = |state| volume("v", Datadisk, state, None);
    let cases = [
        ("fresh", free(Allocated), vm("running", VmState::Running), None, None),
        ("used before", free(Ready), vm("stopped", VmState::Stopped), Some(4), None),
        ("busy", free(Creating), vm("running", VmState::Running), None, Some("Volume state must be in")),
        ("destroyed", free(Destroy), vm("running", VmState::Running), None, Some("not destroyed")),
        ("dead VM", free(Ready), vm("gone", VmState::Destroyed), None, Some("either running or stopped")),
        ("half-made VM", free(Ready), vm("failed", VmState::Error), None, Some("either running or stopped")),
        ("VM on its way", free(Ready), vm("starting", VmState::Starting), None, Some("either running or stopped")),
        ("root taken", free(Ready), vm("stopped", VmState::Stopped), Some(0), Some("already has root volume")),
        ("root free", free(Ready), vm("empty", VmState::Stopped), Some(0), None),
        ("root hot", free(Ready), vm("hot", VmState::Running), Some(0), Some("Root volume detach can happen only")),
        ("frozen", free(Ready), vm("frozen", VmState::Running), None, Some("does not have VM snapshots")),
        (
            "twice",
            volume("v", Datadisk, Ready, Some(("other", 1))),
            vm("running", VmState::Running),
            None,
            Some("not attached to any VM"),
        ),
    ];
    for (name, volume, vm, device_id, refused_with) in cases {
        let found = may_attach(&inventory, &volume, &vm, device_id);
        match (found, refused_with) {
            (Ok(()), None) => {}
            (Err(refusal), Some(text)) => assert!(refusal.text.contains(text), "{name}: {}", refusal.text),
            (found, _) => panic!("{name}: {found:?}"),
        }
    }
}

#[test]
fn a_root_leaves_only_a_stopped_vm() {
    let mut inventory = Inventory {
        volumes: vec![],
        vms: vec![vm("on", VmState::Running), vm("off", VmState::Stopped), vm("frozen", VmState::Stopped)],
        vm_snapshots: vec![vm_snapshot("frozen")],
        ..Inventory::default()
    };
    let cases = [
        (volume("v", VolumeType::Root, VolumeState::Ready, Some(("off", 0))), None),
        (
            volume("v", VolumeType::Root, VolumeState::Ready, Some(("on", 0))),
            Some("Root volume detach can happen only"),
        ),
        (volume("v", VolumeType::Datadisk, VolumeState::Ready, Some(("on", 1))), None),
        (volume("v", VolumeType::Datadisk, VolumeState::Ready, Some(("frozen", 1))), Some("VM snapshots")),
        (volume("v", VolumeType::Datadisk, VolumeState::Ready, None), Some("not attached to a VM")),
    ];
    for (volume, refused_with) in cases {
        inventory.volumes = vec![volume.clone()];
        let found = may_detach(&inventory, &volume);
        assert_eq!(found.is_err(), refused_with.is_some(), "{volume:?}");
        if let (Err(refusal), Some(text)) = (found, refused_with) {
            assert!(refusal.text.contains(text), "{}", refusal.text);
        }
    }
}

#[test]
fn sizes_are_whole_gib_within_limits() {
    let limits = Limits::default();
    let cases = [
        (true, 0, Some(1), Ok(GIB_BYTES)),
        (true, 0, Some(1024), Ok(1024 * GIB_BYTES)),
        (true, 0, Some(1025), Err("Volume size: 1025 GB is out of allowed range. Min: 1. Max: 1024")),
        (true, 0, Some(0), Err("Disk size must be larger than 0")),
        (true, 0, Some(-3), Err("Disk size must be larger than 0")),
        (true, 0, None, Err("This disk offering requires a custom size specified")),
        (false, 5, None, Ok(5 * GIB_BYTES)),
        (false, 5, Some(6), Err("This disk offering does not allow custom size")),
        (false, 2001, None, Err("Please specify a volume size less than 2000 GB.")),
    ];
    for (custom, offering, wanted, expected) in cases {
        let found = volume_size(custom, offering, wanted, &limits).map_err(|refusal| refusal.text);
        assert_eq!(found, expected.map_err(str::to_owned), "{custom} {offering} {wanted:?}");
    }
}

#[test]
fn names_macs_serials_and_boot_modes() {
    for (name, good) in
        [("web-1", true), ("1web", false), ("-web", false), ("web_1", false), ("web-", false), ("", false)]
    {
        assert_eq!(check_host_name(name).is_ok(), good, "{name}");
    }
    assert!(check_host_name(&"a".repeat(63)).is_ok());
    assert!(check_host_name(&"a".repeat(64)).is_err());
    for (mac, good) in [("02:00:5e:10:00:01", true), ("02-00-5e-10-00-01", false), ("02:00:5e:10:00", false)] {
        assert_eq!(is_mac(mac), good, "{mac}");
    }
    assert_eq!(disk_serial("1d8d87d4-1425-459c-8d81-c6f57dca2bd2"), "1d8d87d41425459c8d81");
    assert_eq!(boot_detail(Some("UEFI"), Some("SECURE")), Ok(Some("SECURE".to_owned())));
    assert_eq!(boot_detail(Some("BIOS"), Some("LEGACY")), Ok(None));
    assert_eq!(boot_detail(None, None), Ok(None));
    assert_eq!(boot_detail(Some("UEFI"), None).map_err(|refusal| refusal.status), Err(431));
    assert_eq!(boot_detail(Some("BIOS"), None).map_err(|refusal| refusal.status), Err(530));
}
