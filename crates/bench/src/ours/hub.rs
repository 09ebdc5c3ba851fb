//! `bench gateway`: the product's gateway in a process of its own, with one export of one agent in a database of its own.
//!
//! What the control plane and the volume daemon would have written is written here first; then the gateway runs as it
//! does in the product.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use gateway::GatewayConfig;
use model::id;
use model::status::{EnrollmentStatus, ExportKind, Firmware, OperationMode, ReplicationType, VolumeState, VolumeType};
use serde_json::json;
use store::device_mappings::{NewMapping, SeenDevice};
use store::discovery::{DiscoveredDisk, DiscoveredVm};
use store::nbd_exports::NewExport;
use store::ossea_configs::OsseaConfigFields;
use store::ossea_volumes::NewVolume;
use store::vm_disks::VolumeLink;
use store::vm_replication_contexts::Assignment;
use store::vma_enrollments::{Decision, NewEnrollment};
use store::{
    DatabaseConfig, Store, StoreError, device_mappings, discovery, nbd_exports, ossea_configs, ossea_volumes,
    replication_jobs, vm_disks, vma_enrollments, vma_pairing_codes,
};
use time::{Duration, OffsetDateTime};
use tokio_util::sync::CancellationToken;
use tunnel::identity::AGENT_VALIDITY;
use tunnel::{AgentIdentity, AgentKey, HubIdentity, PairingRecord, TunnelError, issue_agent_certificate};

use crate::error::BenchError;

/// CloudStack's uuid of the only volume.
const VOLUME_UUID: &str = "5f2c0b5e-0b8e-4c2f-9d55-0000000000be";
/// uuid of the only disk.
const DISK_UUID: &str = "6000C29be-bench";
/// The only replication.
pub const JOB_ID: &str = "bench";
/// Name of the only agent.
const AGENT_NAME: &str = "bench-agent";

/// Where the gateway is to be.
#[derive(Debug, Clone, Args)]
pub struct GatewayArgs {
    /// Folder for the database, the identities and the control socket.
    #[arg(long)]
    dir: PathBuf,
    /// Address of the TLS port.
    #[arg(long)]
    listen: SocketAddr,
    /// Address of the local plain port.
    #[arg(long)]
    plain: SocketAddr,
    /// The file that stands for the volume's device.
    #[arg(long)]
    target: PathBuf,
    /// Size of the disk, in bytes.
    #[arg(long)]
    size_bytes: u64,
}

/// Name of the export.
#[must_use]
pub fn export_name() -> String {
    id::volume_export_name(VOLUME_UUID)
}

/// The agent's state folder inside the gateway's.
#[must_use]
pub fn agent_folder(dir: &Path) -> PathBuf {
    dir.join("agent")
}

/// The gateway's control socket.
#[must_use]
pub fn control_socket(dir: &Path) -> PathBuf {
    config(dir).control_socket()
}

fn config(dir: &Path) -> GatewayConfig {
    GatewayConfig { state_dir: dir.join("hub"), run_dir: dir.to_owned(), ..GatewayConfig::default() }
}

/// Runs the gateway until its standard input is closed.
///
/// # Errors
/// When the rows or the identities cannot be made, or the gateway fails.
pub async fn run(args: GatewayArgs) -> Result<(), BenchError> {
    let database = DatabaseConfig::Sqlite { path: args.dir.join("hub.sqlite") };
    let store = Store::connect(&database).await.map_err(BenchError::product("opening the database"))?;
    store.migrate().await.map_err(BenchError::product("making the tables"))?;
    let config = GatewayConfig {
        listen: args.listen,
        local_nbd_listen: args.plain,
        local_writes: true,
        server_names: vec![args.listen.ip().to_string()],
        ..config(&args.dir)
    };
    let enrollment_id = enrol(&store, &config, &agent_folder(&args.dir)).await?;
    let exported = export(&store, &enrollment_id, &args).await;
    exported.map_err(BenchError::product("writing the rows of the export"))?;
    let shutdown = CancellationToken::new();
    let end = shutdown.clone();
    tokio::spawn(async move {
        super::until_input_ends().await;
        end.cancel();
    });
    gateway::run(config, store, shutdown).await.map_err(BenchError::product("running the gateway"))
}

/// Pairs, approves and certifies the agent; answers with its enrolment.
async fn enrol(store: &Store, config: &GatewayConfig, agent: &Path) -> Result<String, BenchError> {
    for folder in [&config.state_dir, &agent.to_owned()] {
        std::fs::create_dir_all(folder).map_err(BenchError::io(format!("making {}", folder.display())))?;
    }
    let now = OffsetDateTime::now_utc();
    let key = AgentKey::load_or_create_pending(agent).map_err(BenchError::product("making the agent's key"))?;
    let approved = approve(store, &key, now).await;
    let enrollment_id = approved.map_err(BenchError::product("approving the agent"))?;
    let certified = certify(config, agent, key, &enrollment_id, now);
    certified.map_err(BenchError::product("certifying the agent"))?;
    Ok(enrollment_id)
}

async fn approve(store: &Store, key: &AgentKey, now: OffsetDateTime) -> Result<String, StoreError> {
    let later = now + Duration::hours(1);
    vma_pairing_codes::create(store, "bench", "bench", later).await?;
    let asked = NewEnrollment {
        code_hash: "bench".to_owned(),
        vma_name: AGENT_NAME.to_owned(),
        vma_version: env!("CARGO_PKG_VERSION").to_owned(),
        vma_fingerprint: key.public_key().fingerprint(),
        vma_public_key: key.public_key().text(),
        vma_ip_address: "127.0.0.1".to_owned(),
        challenge_nonce: String::new(),
        expires_at: later,
    };
    let row = vma_enrollments::enroll(store, &asked, now).await?;
    for to in [EnrollmentStatus::AwaitingApproval, EnrollmentStatus::Approved] {
        let decision = Decision { to, by: "bench".to_owned(), source_ip: "127.0.0.1".to_owned() };
        vma_enrollments::decide(store, &row.id, &decision, now).await?;
    }
    Ok(row.id)
}

fn certify(
    config: &GatewayConfig,
    agent: &Path,
    key: AgentKey,
    enrollment_id: &str,
    now: OffsetDateTime,
) -> Result<(), TunnelError> {
    let hub = HubIdentity::open(&config.state_dir, &config.server_names, now)?;
    let record = PairingRecord {
        enrollment_id: enrollment_id.to_owned(),
        vma_name: AGENT_NAME.to_owned(),
        public_key: key.public_key(),
    };
    let issued = issue_agent_certificate(hub.ca(), &record, AGENT_VALIDITY, now)?;
    AgentIdentity::install(agent, key, &issued.certificate_pem, &hub.ca().certificate_pem(), None).map(|_identity| ())
}

/// A VM with one disk whose volume is the target, attached and present, in a replication that is under way.
async fn export(store: &Store, enrollment_id: &str, args: &GatewayArgs) -> Result<(), StoreError> {
    let size_bytes = args.size_bytes;
    let context_id = discovery::upsert(store, &machine(size_bytes), &Assignment::default()).await?.context_id;
    let cloud = OsseaConfigFields { name: "bench".to_owned(), is_active: true, ..OsseaConfigFields::default() };
    let cloud = ossea_configs::create(store, &id::new_id(), &cloud).await?;
    let volume = NewVolume {
        volume_id: VOLUME_UUID.to_owned(),
        vm_context_id: context_id.clone(),
        volume_name: "bench".to_owned(),
        size_bytes,
        disk_offering_id: "offering".to_owned(),
        zone_id: "zone".to_owned(),
        volume_type: VolumeType::Datadisk,
        state: VolumeState::Available,
        ossea_config_id: cloud.id,
    };
    let volume = ossea_volumes::record(store, &volume).await?;
    let mapping = NewMapping {
        volume_uuid: VOLUME_UUID.to_owned(),
        vm_context_id: Some(context_id.clone()),
        vm_id: "hub".to_owned(),
        operation_mode: OperationMode::Oma,
        cloudstack_device_id: Some(1),
        serial: id::volume_serial(VOLUME_UUID),
        cloudstack_state: "Ready".to_owned(),
        size_bytes,
    };
    device_mappings::record(store, &mapping).await?;
    let device = SeenDevice {
        device_path: args.target.display().to_string(),
        symlink_path: None,
        persistent_device_name: None,
        size_bytes,
    };
    device_mappings::set_present(store, VOLUME_UUID, &device).await?;
    let disks = vm_disks::of_context(store, &context_id).await?;
    let disk_id = disks.first().map(|disk| disk.id.clone());
    if let Some(disk_id) = &disk_id {
        let link = VolumeLink { volume_uuid: VOLUME_UUID.to_owned(), ossea_volume_id: volume.id };
        vm_disks::set_volume(store, disk_id, &link).await?;
    }
    replication_jobs::start(store, JOB_ID, &context_id, ReplicationType::Initial, None).await?;
    let export = NewExport {
        export_name: export_name(),
        vm_context_id: context_id,
        job_id: Some(JOB_ID.to_owned()),
        vm_disk_id: disk_id,
        device_mapping_uuid: Some(VOLUME_UUID.to_owned()),
        kind: ExportKind::Volume,
        read_only: false,
        size_bytes,
        enrollment_id: Some(enrollment_id.to_owned()),
        metadata: json!({ "disk_uuid": DISK_UUID }),
    };
    nbd_exports::open(store, &export).await.map(|_row| ())
}

fn machine(capacity_bytes: u64) -> DiscoveredVm {
    let disk = DiscoveredDisk {
        disk_id: "disk-2000".to_owned(),
        disk_uuid: DISK_UUID.to_owned(),
        vmdk_path: "[bench] bench/bench.vmdk".to_owned(),
        datastore: "bench".to_owned(),
        label: "Hard disk 1".to_owned(),
        capacity_bytes,
        controller_type: "pvscsi".to_owned(),
        controller_bus: 0,
        unit_number: 0,
        provisioning_type: "thin".to_owned(),
        disk_mode: "persistent".to_owned(),
        sharing: "sharingNone".to_owned(),
        is_boot_disk: Some(true),
    };
    DiscoveredVm {
        vm_name: "bench".to_owned(),
        vmware_vm_id: "bench".to_owned(),
        vmware_moref: "vm-1".to_owned(),
        vm_path: "/bench".to_owned(),
        vcenter_host: "vcenter.invalid".to_owned(),
        datacenter: "bench".to_owned(),
        cpu_count: 1,
        memory_mb: 1024,
        os_type: String::new(),
        guest_id: String::new(),
        firmware: Firmware::Bios,
        secure_boot: false,
        power_state: "poweredOn".to_owned(),
        vm_tools_version: String::new(),
        networks: json!([]),
        disks: vec![disk],
    }
}
