//! Writing what discovery saw of a VM: its context and its disks, in one transaction.
//!
//! A disk is known by key, uuid and capacity. Where uuid or capacity changed it is another disk (or a grown one): its
//! change id says nothing about it any more and is cleared; its volume link stays for the caller to judge.

use std::collections::HashSet;

use model::status::{ContextStatus, DiskSyncStatus, Firmware};
use model::{id, size};
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect};
use serde_json::Value;

use crate::connect::Store;
use crate::error::{StoreError, while_doing};
use crate::value::{Count, Stored, Timestamp};
use crate::vm_disks::{self, VmDisk};
use crate::vm_replication_contexts::{self as contexts, Assignment, VmContext};

/// A VM as vCenter describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct DiscoveredVm {
    /// Name.
    pub vm_name: String,
    /// Instance uuid: with the vCenter's host the stable key.
    pub vmware_vm_id: String,
    /// Managed object id.
    pub vmware_moref: String,
    /// Inventory path.
    pub vm_path: String,
    /// Host of the vCenter.
    pub vcenter_host: String,
    /// Datacenter.
    pub datacenter: String,
    /// Virtual CPUs.
    pub cpu_count: u32,
    /// Memory in MiB.
    pub memory_mb: u64,
    /// Guest OS in words.
    pub os_type: String,
    /// VMware's guest id.
    pub guest_id: String,
    /// Firmware.
    pub firmware: Firmware,
    /// Whether secure boot is on.
    pub secure_boot: bool,
    /// Power state.
    pub power_state: String,
    /// Version of the tools; empty when there are none.
    pub vm_tools_version: String,
    /// The network cards: a list of objects with label, network_name, mac_address, adapter_type, connected.
    pub networks: Value,
    /// The disks.
    pub disks: Vec<DiscoveredDisk>,
}

/// A disk of a [`DiscoveredVm`].
#[derive(Debug, Clone, PartialEq)]
pub struct DiscoveredDisk {
    /// `disk-<device key>`.
    pub disk_id: String,
    /// The VMDK's uuid.
    pub disk_uuid: String,
    /// `[datastore] dir/file.vmdk`.
    pub vmdk_path: String,
    /// Datastore.
    pub datastore: String,
    /// `Hard disk 1`.
    pub label: String,
    /// Size in bytes.
    pub capacity_bytes: u64,
    /// `pvscsi`, `nvme`, …
    pub controller_type: String,
    /// Bus of the controller.
    pub controller_bus: i32,
    /// Unit on the controller.
    pub unit_number: i32,
    /// `thin`, `thick`, …
    pub provisioning_type: String,
    /// VMware's disk mode.
    pub disk_mode: String,
    /// VMware's sharing mode.
    pub sharing: String,
    /// Whether the VM boots from it, where that can be told.
    pub is_boot_disk: Option<bool>,
}

/// What [`upsert`] did.
#[derive(Debug, Clone, PartialEq)]
pub struct Upserted {
    /// The context.
    pub context_id: String,
    /// Whether it is new.
    pub created: bool,
    /// Disks the VM has no more; their volumes, if any, remain.
    pub removed_disks: Vec<VmDisk>,
}

/// Adds a VM, or refreshes it (found by instance uuid and vCenter).
///
/// # Errors
/// What `assignment` names does not exist; another VM has that name and path; a replication of the VM runs and its
/// disks changed (nothing is written then); the database fails.
pub async fn upsert(store: &Store, vm: &DiscoveredVm, assignment: &Assignment) -> Result<Upserted, StoreError> {
    let writing = while_doing("write a discovered VM");
    let transaction = store.begin_write().await?;
    let existing = contexts::Entity::find()
        .filter(contexts::Column::VmwareVmId.eq(vm.vmware_vm_id.as_str()))
        .filter(contexts::Column::VcenterHost.eq(vm.vcenter_host.as_str()))
        .lock_exclusive()
        .one(&transaction)
        .await
        .map_err(&writing)?;
    let running = existing.as_ref().is_some_and(|row| row.current_job_id.is_some());
    let created = existing.is_none();
    let row = refreshed(existing, vm, assignment);
    let context_id = row.context_id.clone();
    if created {
        let insert = contexts::Entity::insert(row.into_active_model());
        insert.exec_without_returning(&transaction).await.map_err(&writing)?;
    } else {
        let update = row.into_active_model().reset_all();
        contexts::Entity::update_many()
            .set(update)
            .filter(contexts::Column::ContextId.eq(context_id.as_str()))
            .exec(&transaction)
            .await
            .map_err(&writing)?;
    }
    let removed_disks = write_disks(&transaction, &context_id, &vm.disks, running).await?;
    transaction.commit().await.map_err(&writing)?;
    Ok(Upserted { context_id, created, removed_disks })
}

/// The row as discovery leaves it: what vCenter says is replaced, what we know beside that stays.
fn refreshed(existing: Option<VmContext>, vm: &DiscoveredVm, assignment: &Assignment) -> VmContext {
    let now = Timestamp::now();
    let kept = existing.unwrap_or_else(|| blank(vm, now));
    VmContext {
        vm_name: vm.vm_name.clone(),
        vmware_moref: vm.vmware_moref.clone(),
        vm_path: vm.vm_path.clone(),
        datacenter: vm.datacenter.clone(),
        cpu_count: vm.cpu_count.into(),
        memory_mb: vm.memory_mb.into(),
        os_type: vm.os_type.clone(),
        guest_id: vm.guest_id.clone(),
        firmware: vm.firmware.into(),
        secure_boot: vm.secure_boot,
        power_state: vm.power_state.clone(),
        vm_tools_version: vm.vm_tools_version.clone(),
        networks: vm.networks.clone(),
        credential_id: assignment.credential_id.clone().or(kept.credential_id),
        ossea_config_id: assignment.ossea_config_id.clone().or(kept.ossea_config_id),
        enrollment_id: assignment.enrollment_id.clone().or(kept.enrollment_id),
        updated_at: now,
        ..kept
    }
}

/// A context of which nothing but its key is known.
fn blank(vm: &DiscoveredVm, now: Timestamp) -> VmContext {
    VmContext {
        context_id: id::new_id(),
        vm_name: String::new(),
        vmware_vm_id: vm.vmware_vm_id.clone(),
        vmware_moref: String::new(),
        vm_path: String::new(),
        vcenter_host: vm.vcenter_host.clone(),
        datacenter: String::new(),
        current_status: ContextStatus::Discovered.into(),
        current_job_id: None,
        last_successful_job_id: None,
        total_jobs_run: Count(0),
        successful_jobs: Count(0),
        failed_jobs: Count(0),
        cpu_count: Count(0),
        memory_mb: Count(0),
        os_type: String::new(),
        guest_id: String::new(),
        firmware: Stored(vm.firmware),
        secure_boot: false,
        power_state: String::new(),
        vm_tools_version: String::new(),
        networks: Value::Array(Vec::new()),
        credential_id: None,
        ossea_config_id: None,
        enrollment_id: None,
        scheduler_enabled: false,
        next_scheduled_at: None,
        last_scheduled_job_id: None,
        auto_added: false,
        last_operation_summary: None,
        first_job_at: None,
        last_job_at: None,
        last_status_change: now,
        created_at: now,
        updated_at: now,
        keep_points: Count(0),
    }
}

/// Writes the disks of a context and returns those that are gone.
async fn write_disks(
    connection: &impl ConnectionTrait,
    context_id: &str,
    disks: &[DiscoveredDisk],
    running: bool,
) -> Result<Vec<VmDisk>, StoreError> {
    let known = vm_disks::of(connection, context_id).await?;
    let seen: HashSet<&str> = disks.iter().map(|disk| disk.disk_id.as_str()).collect();
    if seen.len() != disks.len() {
        let reason = "two disks have the same key".to_owned();
        return Err(StoreError::Invalid { what: "discovered VM", reason });
    }
    for disk in disks {
        let row = known.iter().find(|row| row.disk_id == disk.disk_id);
        refuse_while_running(running, context_id, row.is_none_or(|row| !is_same(row, disk)))?;
        write_disk(connection, context_id, row, disk).await?;
    }
    let removed: Vec<VmDisk> = known.into_iter().filter(|row| !seen.contains(row.disk_id.as_str())).collect();
    refuse_while_running(running, context_id, !removed.is_empty())?;
    for row in &removed {
        let delete = vm_disks::Entity::delete_by_id(row.id.as_str()).exec(connection);
        delete.await.map_err(while_doing("delete a disk the VM has no more"))?;
    }
    Ok(removed)
}

/// A running replication holds the disks as they were when it began.
fn refuse_while_running(running: bool, context_id: &str, differs: bool) -> Result<(), StoreError> {
    if running && differs {
        let reason = "its disks changed while a replication runs";
        return Err(StoreError::conflict(contexts::WHAT, context_id, reason));
    }
    Ok(())
}

/// Whether a row's replica and change id are about this disk.
fn is_same(row: &VmDisk, disk: &DiscoveredDisk) -> bool {
    row.disk_uuid == disk.disk_uuid && *row.capacity_bytes == disk.capacity_bytes
}

async fn write_disk(
    connection: &impl ConnectionTrait,
    context_id: &str,
    known: Option<&VmDisk>,
    disk: &DiscoveredDisk,
) -> Result<(), StoreError> {
    let writing = while_doing("write a discovered disk");
    let now = Timestamp::now();
    let kept = known.filter(|row| is_same(row, disk));
    let row = VmDisk {
        id: known.map_or_else(id::new_id, |row| row.id.clone()),
        vm_context_id: context_id.to_owned(),
        job_id: known.and_then(|row| row.job_id.clone()),
        disk_id: disk.disk_id.clone(),
        disk_uuid: disk.disk_uuid.clone(),
        vmdk_path: disk.vmdk_path.clone(),
        datastore: disk.datastore.clone(),
        label: disk.label.clone(),
        controller_type: disk.controller_type.clone(),
        controller_bus: disk.controller_bus.into(),
        unit_number: disk.unit_number.into(),
        size_gb: size::gib_rounded_up(disk.capacity_bytes).into(),
        capacity_bytes: disk.capacity_bytes.into(),
        provisioning_type: disk.provisioning_type.clone(),
        disk_mode: disk.disk_mode.clone(),
        sharing: disk.sharing.clone(),
        is_boot_disk: disk.is_boot_disk,
        volume_uuid: known.and_then(|row| row.volume_uuid.clone()),
        ossea_volume_id: known.and_then(|row| row.ossea_volume_id.clone()),
        disk_change_id: kept.and_then(|row| row.disk_change_id.clone()),
        sync_status: kept.map_or(Stored(DiskSyncStatus::Pending), |row| row.sync_status),
        sync_progress_percent: kept.map_or(0.0, |row| row.sync_progress_percent),
        bytes_synced: kept.map_or(Count(0), |row| row.bytes_synced),
        created_at: known.map_or(now, |row| row.created_at),
        updated_at: now,
    };
    if known.is_none() {
        let insert = vm_disks::Entity::insert(row.into_active_model());
        insert.exec_without_returning(connection).await.map_err(&writing)?;
    } else {
        let id = row.id.clone();
        let update = vm_disks::Entity::update_many().set(row.into_active_model().reset_all());
        update.filter(vm_disks::Column::Id.eq(id)).exec(connection).await.map_err(&writing)?;
    }
    Ok(())
}
