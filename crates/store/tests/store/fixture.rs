//! A VM with two disks, its target, volumes, devices and exports: what most cases begin with.

use model::id;
use model::status::{ExportKind, Firmware, OperationMode, ReplicationStatus, ReplicationType, VolumeState, VolumeType};
use serde_json::json;
use store::commit::{Commit, CommittedDisk, commit_replication};
use store::device_mappings::{NewMapping, SeenDevice};
use store::discovery::{DiscoveredDisk, DiscoveredVm};
use store::equality_certificates::NewCertificate;
use store::nbd_exports::NewExport;
use store::ossea_configs::OsseaConfigFields;
use store::ossea_volumes::NewVolume;
use store::vm_disks::VolumeLink;
use store::vm_replication_contexts::Assignment;
use store::{Store, device_mappings, discovery, nbd_exports, ossea_configs, ossea_volumes, replication_jobs, vm_disks};

pub(crate) const GIB: u64 = 1 << 30;

/// A VM as discovery sees it, with disks `disk-2000` and `disk-2001`.
pub(crate) fn discovered(name: &str) -> DiscoveredVm {
    DiscoveredVm {
        vm_name: name.to_owned(),
        vmware_vm_id: format!("uuid-{name}"),
        vmware_moref: "vm-42".to_owned(),
        vm_path: format!("/DC/vm/{name}"),
        vcenter_host: "vcenter.example".to_owned(),
        datacenter: "DC".to_owned(),
        cpu_count: 2,
        memory_mb: 4096,
        os_type: "Debian GNU/Linux 12 (64-bit)".to_owned(),
        guest_id: "debian12_64Guest".to_owned(),
        firmware: Firmware::Efi,
        secure_boot: true,
        power_state: "poweredOn".to_owned(),
        vm_tools_version: String::new(),
        networks: json!([{ "label": "Network adapter 1", "network_name": "VM Network" }]),
        disks: vec![disk("disk-2000"), disk("disk-2001")],
    }
}

pub(crate) fn disk(disk_id: &str) -> DiscoveredDisk {
    DiscoveredDisk {
        disk_id: disk_id.to_owned(),
        disk_uuid: format!("6000C29-{disk_id}"),
        vmdk_path: format!("[store] vm/{disk_id}.vmdk"),
        datastore: "store".to_owned(),
        label: "Hard disk 1".to_owned(),
        capacity_bytes: GIB,
        controller_type: "pvscsi".to_owned(),
        controller_bus: 0,
        unit_number: -1,
        provisioning_type: "thin".to_owned(),
        disk_mode: "persistent".to_owned(),
        sharing: "sharingNone".to_owned(),
        is_boot_disk: Some(disk_id.ends_with('0')),
    }
}

/// Adds the VM `name` and answers with its context id.
pub(crate) async fn vm(store: &Store, name: &str) -> String {
    discovery::upsert(store, &discovered(name), &Assignment::default()).await.unwrap().context_id
}

pub(crate) async fn target(store: &Store) -> String {
    let fields = OsseaConfigFields {
        name: "cloud".to_owned(),
        api_url: "https://cloud.example/client/api".to_owned(),
        zone: "zone".to_owned(),
        is_active: true,
        ..Default::default()
    };
    match ossea_configs::find(store, "cloud").await {
        Ok(row) => row.id,
        Err(_) => ossea_configs::create(store, &id::new_id(), &fields).await.unwrap().id,
    }
}

/// Gives every disk of a VM a volume on a present device and an active export; answers with the volume uuids.
pub(crate) async fn volumes(store: &Store, context_id: &str) -> Vec<String> {
    let config_id = target(store).await;
    let mut made = Vec::new();
    for disk in vm_disks::of_context(store, context_id).await.unwrap() {
        let volume_uuid = id::new_id();
        let volume = NewVolume {
            volume_id: volume_uuid.clone(),
            vm_context_id: context_id.to_owned(),
            volume_name: format!("migration-{}", disk.disk_id),
            size_bytes: GIB,
            disk_offering_id: "offering".to_owned(),
            zone_id: "zone".to_owned(),
            volume_type: VolumeType::Datadisk,
            state: VolumeState::Available,
            ossea_config_id: config_id.clone(),
        };
        let row = ossea_volumes::record(store, &volume).await.unwrap();
        device_mappings::record(store, &mapping(context_id, &volume_uuid)).await.unwrap();
        device_mappings::set_present(store, &volume_uuid, &device(&volume_uuid)).await.unwrap();
        let link = VolumeLink { volume_uuid: volume_uuid.clone(), ossea_volume_id: row.id };
        vm_disks::set_volume(store, &disk.id, &link).await.unwrap();
        nbd_exports::open(store, &export(context_id, &disk.id, &volume_uuid)).await.unwrap();
        made.push(volume_uuid);
    }
    made
}

pub(crate) fn mapping(context_id: &str, volume_uuid: &str) -> NewMapping {
    NewMapping {
        volume_uuid: volume_uuid.to_owned(),
        vm_context_id: Some(context_id.to_owned()),
        vm_id: "hub-vm".to_owned(),
        operation_mode: OperationMode::Oma,
        cloudstack_device_id: Some(3),
        serial: id::volume_serial(volume_uuid),
        cloudstack_state: "Ready".to_owned(),
        size_bytes: GIB,
    }
}

pub(crate) fn device(volume_uuid: &str) -> SeenDevice {
    SeenDevice {
        device_path: format!("/dev/{volume_uuid}"),
        symlink_path: Some(format!("/dev/disk/by-id/virtio-{volume_uuid}")),
        persistent_device_name: None,
        size_bytes: GIB,
    }
}

pub(crate) fn export(context_id: &str, vm_disk_id: &str, volume_uuid: &str) -> NewExport {
    NewExport {
        export_name: id::volume_export_name(volume_uuid),
        vm_context_id: context_id.to_owned(),
        job_id: None,
        vm_disk_id: Some(vm_disk_id.to_owned()),
        device_mapping_uuid: Some(volume_uuid.to_owned()),
        kind: ExportKind::Volume,
        read_only: false,
        size_bytes: GIB,
        enrollment_id: Some("agent-1".to_owned()),
        metadata: json!({ "disk_uuid": "6000C29" }),
    }
}

/// A commit of both disks at sequence `sequence`.
pub(crate) fn commit(job_id: &str, sequence: u32) -> Commit {
    let disk = |disk_id: &str| CommittedDisk {
        disk_id: disk_id.to_owned(),
        disk_uuid: format!("6000C29-{disk_id}"),
        capacity_bytes: GIB,
        change_id: Some(format!("52 aa/{sequence}").parse().unwrap()),
        previous_change_id: None,
        sync_type: ReplicationType::Initial,
        blocks_changed: 16,
        bytes_transferred: 1 << 20,
        sync_duration_seconds: 7,
        certificate: certificate(job_id, disk_id),
        journal: None,
    };
    Commit {
        job_id: job_id.to_owned(),
        disks: vec![disk("disk-2000"), disk("disk-2001")],
        summary: json!({ "operation": "replication" }),
    }
}

/// What is stored of a certificate; whether it is true is not the database's question.
fn certificate(job_id: &str, disk_id: &str) -> NewCertificate {
    NewCertificate {
        id: format!("certificate-{job_id}-{disk_id}"),
        root_digest: "ab".repeat(32),
        leaf_size_bytes: 65_536,
        leaves_total: GIB / 65_536,
        leaves_verified: 16,
        previous_certificate_id: None,
        document: format!("{{\"disk\": \"{disk_id}\"}}"),
        signature: "cd".repeat(64),
        public_key: "ef".repeat(32),
    }
}

/// Begins a replication and takes it to the point where it may be committed.
pub(crate) async fn running_job(store: &Store, context_id: &str, job_id: &str) {
    replication_jobs::start(store, job_id, context_id, ReplicationType::Initial, None).await.unwrap();
    vm_disks::begin_sync(store, context_id, job_id).await.unwrap();
    for status in [ReplicationStatus::Initializing, ReplicationStatus::Replicating, ReplicationStatus::Finalizing] {
        replication_jobs::set_status(store, job_id, status, "working").await.unwrap();
    }
}

/// A VM with volumes and one committed replication `job-1`; answers with context id and volume uuids.
pub(crate) async fn committed_vm(store: &Store, name: &str) -> (String, Vec<String>) {
    let context_id = vm(store, name).await;
    let volume_uuids = volumes(store, &context_id).await;
    running_job(store, &context_id, "job-1").await;
    commit_replication(store, &commit("job-1", 1), None).await.unwrap();
    (context_id, volume_uuids)
}
