//! Our own vSphere client against the simulated vCenter: one replication cycle by hand, over TLS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests too")]

use std::time::Duration;

use lab::guest::Scatter;
use lab::vcenter::{DiskSpec, NetworkKind, NetworkSpec, NicSpec, VcenterConfig, VcenterSim, VmSpec};
use model::{Lineage, Secret};
use vsphere::{
    ChangesSince, ConnectionSpec, FolderAccess, FolderDisk, MoRef, PowerState, Severity, Trust, VimSession,
    VmSnapshotSpec, VsphereError, preflight,
};

const DISK_BYTES: u64 = 64 << 20;

async fn start(folder: &std::path::Path, missing_sets: bool) -> VcenterSim {
    let defaults = VcenterConfig::default();
    let networks =
        [defaults.networks.clone(), vec![NetworkSpec { name: "spare/net".to_owned(), kind: NetworkKind::Standard }]];
    let nic = |network: &str| NicSpec { network: network.to_owned(), ..NicSpec::default() };
    let web = VmSpec { folder: "web servers".to_owned(), ..VmSpec::named("web") }
        .with_disk(DiskSpec::empty(DISK_BYTES))
        .with_disk(DiskSpec { mode: "independent_persistent".to_owned(), ..DiskSpec::empty(1 << 20) })
        .with_nic(nic("VM Network"))
        .with_nic(nic("dv-production"))
        .with_nic(nic("nsx-backend"));
    let others = (0..7).map(|number| VmSpec::named(format!("vm{number}")).with_disk(DiskSpec::empty(1 << 20)));
    VcenterSim::start(VcenterConfig {
        state_dir: folder.join("state"),
        networks: networks.concat(),
        datacenter_folder: Some("EU".to_owned()),
        vms: std::iter::once(web).chain(others).collect(),
        page_objects: 3,
        unauthenticated_reads_are_missing_sets: missing_sets,
        ..defaults
    })
    .await
    .unwrap()
}

fn spec(sim: &VcenterSim, trust: Trust) -> ConnectionSpec {
    ConnectionSpec {
        url: sim.url(),
        username: "administrator@vsphere.local".to_owned(),
        password: Secret::new("VMware1!"),
        trust,
    }
}

fn named(name: &str) -> VmSnapshotSpec {
    VmSnapshotSpec { name: name.to_owned(), description: "test".to_owned(), quiesce: true }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replication_cycle_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let sim = start(folder.path(), false).await;
    let session = VimSession::connect(spec(&sim, Trust::Thumbprint(sim.sha1_thumbprint().to_owned()))).await.unwrap();
    for trust in [Trust::Thumbprint(sim.sha256_thumbprint().to_owned()), Trust::CaPem(sim.ca_pem().as_bytes().to_vec())]
    {
        VimSession::connect(spec(&sim, trust)).await.unwrap().log_out().await.unwrap();
    }
    let refused = VimSession::connect(spec(&sim, Trust::Thumbprint("ab".repeat(20)))).await.unwrap_err();
    assert!(matches!(refused, VsphereError::ThumbprintMismatch { .. }), "{refused}");

    let all = session.virtual_machines().await.unwrap();
    assert_eq!(all.len(), 8);
    let vm = session.virtual_machine_by_path(&sim.inventory_path("web").unwrap()).await.unwrap();
    assert_eq!(all.iter().find(|other| other.name == "web"), Some(&vm));
    assert_eq!(vm.inventory_path, "/EU/DC0/vm/web servers/web");
    assert_eq!(vm.datacenter_path, "EU/DC0");
    let networks: Vec<_> = vm.nics.iter().map(|nic| nic.network_name.as_str()).collect();
    assert_eq!(networks, ["VM Network", "dv-production", "nsx-backend"]);
    assert_eq!(session.virtual_machine_by_instance_uuid(&vm.instance_uuid).await.unwrap(), vm);
    println!("{vm:#?}\n{:#?}", preflight::findings(&vm));
    assert!(preflight::findings(&vm).iter().any(|f| f.code == "disk_independent" && f.severity == Severity::Blocker));

    session.activate_change_tracking(&vm.moref, "migratekit-cbt").await.unwrap();
    assert!(session.virtual_machine(&vm.moref).await.unwrap().change_tracking_enabled);
    let guest = sim.guest("web").unwrap();
    guest.write(2000, 5 << 20, &[7; 100_000]).unwrap();

    let first = session.create_vm_snapshot(&vm.moref, &named("migratekit-1")).await.unwrap();
    let disk = session.vm_snapshot_disks(&first).await.unwrap().remove(0);
    assert_eq!((disk.device_key, disk.capacity_bytes, &disk.disk_uuid), (2000, DISK_BYTES, &vm.disks[0].disk_uuid));
    let base = disk.change_id.clone().expect("tracked");
    let allocated = session.changed_areas(&vm.moref, &first, 2000, DISK_BYTES, &ChangesSince::Beginning).await.unwrap();
    assert!(allocated.iter().any(|area| area.offset <= 5 << 20 && area.end() >= (5 << 20) + 100_000), "{allocated:?}");
    let open = |path: String, access| {
        let (session, datacenter_path) = (session.clone(), vm.datacenter_path.clone());
        async move {
            session
                .open_folder_disk(&FolderDisk { datacenter_path, vmdk_path: path, capacity_bytes: DISK_BYTES, access })
                .await
        }
    };
    let file = open(disk.vmdk_path.clone(), FolderAccess::ViaServer).await.unwrap();
    let mut bytes = vec![0; 200_000];
    file.read_at((5 << 20) - 50_000, &mut bytes).await.unwrap();
    assert!(bytes[..50_000].iter().all(|&b| b == 0) && bytes[50_000..150_000].iter().all(|&b| b == 7));
    let scatter = Scatter { count: 20, seed: 1, range_start_bytes: 0, range_length_bytes: DISK_BYTES };
    let writer = guest.clone();
    let written = tokio::task::spawn_blocking(move || writer.scatter(2000, scatter).unwrap()).await.unwrap();

    assert!(sim.expire_sessions() >= 1);
    file.read_at(0, &mut bytes).await.unwrap();
    let listed = session.vm_snapshots_named(&vm.moref, "migratekit-").await.unwrap();
    assert_eq!(listed.iter().map(|s| s.moref.clone()).collect::<Vec<_>>(), [first.clone()]);
    sim.set_task_delay(Duration::from_millis(700));
    session.remove_vm_snapshot(&first).await.unwrap();
    session.remove_vm_snapshot(&first).await.unwrap();
    assert_eq!(session.vm_snapshots(&vm.moref).await.unwrap(), []);

    sim.expire_sessions();
    let expired = session.create_vm_snapshot(&vm.moref, &named("migratekit-2")).await.unwrap_err();
    assert!(matches!(expired, VsphereError::SessionExpired { .. }), "{expired}");
    let second = session.create_vm_snapshot(&vm.moref, &named("migratekit-2")).await.unwrap();
    let disk = session.vm_snapshot_disks(&second).await.unwrap().remove(0);
    assert_eq!(base.lineage(disk.change_id.as_ref().unwrap()), Lineage::Continues);
    let changed =
        session.changed_areas(&vm.moref, &second, 2000, DISK_BYTES, &ChangesSince::Change(base)).await.unwrap();
    for offset in &written {
        assert!(
            changed.iter().any(|area| area.offset <= *offset && area.end() >= offset + 65_536),
            "{offset} is missing"
        );
    }
    assert!(model::extent::total_bytes(&changed) <= 2 * 20 * 65_536, "{changed:?}");

    // The link the VM writes now is locked.
    let live = session.virtual_machine(&vm.moref).await.unwrap().disks.remove(0).vmdk_path;
    println!("{live} {}", disk.vmdk_path);
    if let Err(error) = open(live, FolderAccess::ViaServer).await {
        println!("{error} {:?}", error.remedy())
    }
    session.remove_vm_snapshot(&second).await.unwrap();
    let locked = open(disk.vmdk_path.clone(), FolderAccess::ViaServer).await;
    let error = match locked {
        Ok(file) => file.read_at(0, &mut bytes).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(error, VsphereError::FileLocked { .. }), "{error}");

    session.shut_down_guest(&vm.moref).await.unwrap();
    session.wait_for_power_state(&vm.moref, PowerState::PoweredOff, Duration::from_secs(20)).await.unwrap();
    let task = session.start_power_on(&vm.moref).await.unwrap();
    session.wait_for_task(&task, |_| {}).await.unwrap();
    let task = session.start_power_on(&vm.moref).await;
    println!("{task:?}");
    assert!(matches!(session.virtual_machine(&MoRef::vm("vm-404")).await, Err(VsphereError::VmNotFound { .. })));
    session.keep_alive().await.unwrap();
    session.log_out().await.unwrap();
    sim.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_without_a_session_that_look_like_success() {
    let folder = tempfile::tempdir().unwrap();
    let sim = start(folder.path(), true).await;
    let session = VimSession::connect(spec(&sim, Trust::Thumbprint(sim.sha256_thumbprint().to_owned()))).await.unwrap();
    sim.expire_sessions();
    assert_eq!(session.virtual_machines().await.unwrap().len(), 8);
    sim.expire_sessions();
    let moref = MoRef::vm(sim.moref("web").unwrap());
    assert_eq!(session.power_state(&moref).await.unwrap(), PowerState::PoweredOn);
    sim.shutdown().await;
}
