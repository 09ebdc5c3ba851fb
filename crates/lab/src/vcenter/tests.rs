//! Every property of every object uses only names the real types have.

use time::OffsetDateTime;

use super::inventory_build::build;
use super::schema::Schema;
use super::spec::{ControllerKind, DatastoreSpec, DiskSpec, Firmware, NicKind, NicSpec, Tools, VcenterConfig, VmSpec};
use super::value::{MoRef, unknown_fields};

fn crowded(state_dir: &std::path::Path) -> VcenterConfig {
    let controllers = [
        ControllerKind::ParaVirtual,
        ControllerKind::LsiLogic,
        ControllerKind::LsiLogicSas,
        ControllerKind::Sata,
        ControllerKind::Nvme,
        ControllerKind::Ide,
    ];
    let mut full = VmSpec {
        firmware: Firmware::Efi,
        secure_boot: true,
        encrypted: true,
        change_tracking_enabled: true,
        folder: "a/b".to_owned(),
        existing_vm_snapshots: vec!["first".to_owned(), "second".to_owned()],
        ..VmSpec::named("full")
    };
    for (bus, controller) in (0..).zip(controllers) {
        full = full.with_disk(DiskSpec { controller, bus, ..DiskSpec::empty(1 << 20) });
    }
    let raw = DiskSpec { raw_device_mode: Some("virtualMode".to_owned()), ..DiskSpec::empty(1 << 20) };
    full = full.with_disk(raw);
    for (kind, network) in [NicKind::Vmxnet3, NicKind::E1000, NicKind::E1000e].into_iter().zip([
        "VM Network",
        "dv-production",
        "nsx-backend",
    ]) {
        full = full.with_nic(NicSpec { kind, ip_addresses: vec!["192.0.2.1".to_owned()], ..NicSpec::on(network) });
    }
    let bare = VmSpec { powered_on: false, template: true, tools: Tools::Absent, ..VmSpec::named("bare") };
    VcenterConfig {
        state_dir: state_dir.to_owned(),
        vms: vec![full, bare],
        datacenter_folder: Some("Region/1".to_owned()),
        ..VcenterConfig::default()
    }
}

#[test]
fn every_property_uses_names_of_the_real_types() {
    let directory = tempfile::tempdir().unwrap();
    for cluster in [None, Some("Cluster0".to_owned())] {
        let config = VcenterConfig { cluster, ..crowded(directory.path()) };
        let inventory = build(&config, "AA:BB", OffsetDateTime::UNIX_EPOCH).unwrap();
        let vms = inventory.vms.values();
        let snapshots = vms.clone().flat_map(|vm| vm.state.lock().vm_snapshots.clone()).map(|snapshot| snapshot.moref);
        let objects: Vec<MoRef> =
            inventory.entities.keys().cloned().chain(vms.map(|vm| vm.moref.clone())).chain(snapshots).collect();
        assert!(objects.len() > 15);
        for object in objects {
            let fields = Schema::get().fields(&object.kind).unwrap();
            let set: Vec<_> = fields.iter().filter_map(|field| inventory.property(&object, &field.name)).collect();
            assert!(!set.is_empty(), "{object:?} has no property");
            let unknown: Vec<String> = set.iter().flat_map(unknown_fields).collect();
            assert_eq!(unknown, Vec::<String>::new(), "{object:?}");
        }
    }
}

#[test]
fn users_are_listed_where_clients_look_for_them() {
    let directory = tempfile::tempdir().unwrap();
    let inventory = build(&crowded(directory.path()), "AA:BB", OffsetDateTime::UNIX_EPOCH).unwrap();
    let full = inventory.vm_named("full").unwrap();
    let owners = ["network", "datastore"]
        .into_iter()
        .flat_map(|property| inventory.property(&full.moref, property).unwrap().references())
        .chain([full.host.clone(), full.resource_pool.clone()]);
    for owner in owners {
        let users = inventory.property(&owner, "vm").unwrap().references();
        assert!(users.contains(&full.moref), "{owner:?}");
    }
    assert_eq!(inventory.by_path("Region%2f1/DC0/vm/a/b/full"), Some(full.moref.clone()));
    assert_eq!(inventory.by_path("Region%2f1/DC0/host/Cluster0/esx-01.lab.example"), Some(full.host.clone()));
}

#[test]
fn contradictions_in_the_configuration_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let build_with = |change: &dyn Fn(&mut VcenterConfig)| {
        let mut config = crowded(directory.path());
        change(&mut config);
        build(&config, "", OffsetDateTime::UNIX_EPOCH).unwrap_err().to_string()
    };
    assert!(build_with(&|config| config.vms[1].name = "full".to_owned()).contains("two VMs are called full"));
    assert!(build_with(&|config| config.vms[0].nics[0].network = "none".to_owned()).contains("unknown network none"));
    assert!(build_with(&|config| config.vms[0].disks[0].datastore = Some("x".to_owned())).contains("no datastore x"));
    assert!(build_with(&|config| config.hosts.clear()).contains("no host"));
    assert!(build_with(&|config| config.datastores = Vec::<DatastoreSpec>::new()).contains("no datastore"));
}
