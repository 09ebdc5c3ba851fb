//! The integrity promises of the schema, on both databases.

use model::FailureKind;
use model::status::{ContextStatus, ExportStatus, LinuxState, VolumeState};
use store::vm_replication_contexts::Forget;
use store::{
    StoreError, device_mappings, nbd_exports, ossea_configs, ossea_volumes, replication_jobs, vm_disks,
    vm_replication_contexts as contexts,
};

use crate::backend::{Backend, Database};
use crate::fixture;

#[tokio::test]
async fn integrity_on_sqlite() {
    integrity(&Backend::sqlite()).await;
}

#[tokio::test]
async fn integrity_on_mariadb() {
    integrity(&Backend::mariadb()).await;
}

async fn integrity(backend: &Backend) {
    a_deleted_context_leaves_nothing_but_the_audits(&backend.database("contexts").await).await;
    a_context_with_something_to_lose_is_kept(&backend.database("kept").await).await;
    a_deleted_job_leaves_disks_and_change_ids(&backend.database("jobs").await).await;
    devices_and_export_names_are_claimed_once(&backend.database("claims").await).await;
    an_export_needs_its_disk_and_its_mapping(&backend.database("exports").await).await;
    a_deleted_volume_takes_the_change_id_along(&backend.database("volumes").await).await;
    nonsense_is_refused(&backend.database("nonsense").await).await;
    statuses_move_along_legal_transitions(&backend.database("statuses").await).await;
}

/// Rows of tables whose features come later, written past the store.
const LATER_ROWS: &[&str] = &[
    "INSERT INTO backup_repositories VALUES ('r', 'repo', 'local', 1, '{}', NULL, 0, NULL, 0, 0, 0, 0, NULL, NOW, NOW)",
    "INSERT INTO backup_jobs VALUES ('b', 'CONTEXT', 'web', 'r', NULL, NULL, 'full', 'completed', 'p', NULL, 0, 0, 0, 0, \
     NULL, NULL, 'none', NULL, NULL, NULL, NOW, NOW)",
    "INSERT INTO backup_disks VALUES ('bd', 'b', 'DISK', 'disk-2000', 'u', 1, NULL, NULL, 0, 'completed', 0, NULL, NOW, NOW)",
    "INSERT INTO backup_chains VALUES ('bc', 'CONTEXT', 'disk-2000', 'r', 'b', 'b', 1, 0, NOW, NOW)",
    "INSERT INTO network_mappings VALUES ('n', 'CONTEXT', 'vm', 'VM Network', '00:50:56:00:00:01', 'net', 'net', 'both', 0, \
     'dhcp', NULL, 'pending', NULL, NULL, NOW, NOW)",
    "INSERT INTO failover_jobs VALUES ('f', 'failover-1', 'CONTEXT', 'vm', 'job-1', 'test', 'pending', 'web', '{}', NULL, \
     NULL, '[]', '[]', NULL, 0, 0, 0, NULL, NULL, 0, '', NULL, NULL, NULL, NULL, NOW, NOW)",
    "INSERT INTO vm_machine_groups VALUES ('g', 'group', '', NULL, 1, 0, 'admin', NOW, NOW)",
    "INSERT INTO vm_group_memberships VALUES ('m', 'g', 'CONTEXT', 1, 0, 0, 0, NULL, 'admin', NOW)",
    "INSERT INTO job_tracking VALUES ('t', NULL, 't', 'replication', 'x', 'completed', NULL, NULL, 'CONTEXT', NULL, NULL, 1, \
     '{}', 'null', NULL, NULL, 100, NULL, NULL, NULL, NOW, NOW)",
];

async fn a_deleted_context_leaves_nothing_but_the_audits(database: &Database<'_>) {
    let store = &database.store;
    let (context_id, _) = fixture::committed_vm(store, "web").await;
    fixture::running_job(store, &context_id, "job-2").await;
    replication_jobs::end(store, "job-2", &ending()).await.unwrap();
    let (other, _) = {
        let id = fixture::vm(store, "other").await;
        let volumes = fixture::volumes(store, &id).await;
        (id, volumes)
    };
    let disk = vm_disks::get(store, &context_id, "disk-2000").await.unwrap().id;
    for row in LATER_ROWS {
        let row = row.replace("CONTEXT", &context_id).replace("DISK", &disk);
        database.sql(&row.replace("NOW", "'2026-01-01 00:00:00.0'")).await.unwrap();
    }
    let owned = [
        "replication_jobs",
        "vm_disks",
        "cbt_history",
        "equality_certificates",
        "network_mappings",
        "failover_jobs",
        "ossea_volumes",
        "device_mappings",
        "nbd_exports",
        "vm_group_memberships",
        "backup_jobs",
        "backup_chains",
    ];
    for table in owned {
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE vm_context_id = '{context_id}'");
        assert!(database.number(&sql).await > 0, "the case has no row in {table}");
    }
    contexts::delete(store, &context_id, Forget { backups: true, volumes: true }).await.unwrap();
    for table in owned {
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE vm_context_id = '{context_id}'");
        assert_eq!(database.number(&sql).await, 0, "{table}");
    }
    assert_eq!(database.number("SELECT COUNT(*) FROM backup_disks").await, 0);
    assert_eq!(database.number("SELECT COUNT(*) FROM job_tracking WHERE vm_context_id IS NULL").await, 1);
    assert_eq!(vm_disks::of_context(store, &other).await.unwrap().len(), 2, "another VM lost its disks");
    // The same by hand, with a replication running: the circle of references must not stand in the way.
    fixture::running_job(store, &other, "job-3").await;
    database.sql(&format!("DELETE FROM vm_replication_contexts WHERE context_id = '{other}'")).await.unwrap();
    assert_eq!(database.number("SELECT COUNT(*) FROM replication_jobs").await, 0);
}

fn ending() -> replication_jobs::Ending {
    let error = joblog::StepError::new(FailureKind::Unavailable, "the agent went away");
    replication_jobs::Ending { cancelled: false, error }
}

async fn a_context_with_something_to_lose_is_kept(database: &Database<'_>) {
    let store = &database.store;
    let (context_id, volumes) = fixture::committed_vm(store, "web").await;
    let refused = |result: Result<(), StoreError>| result.unwrap_err().to_string();
    let told = refused(contexts::delete(store, &context_id, Forget::default()).await);
    assert!(told.contains("2 replica volumes exist"), "{told}");
    for volume in &volumes {
        ossea_volumes::delete(store, volume).await.unwrap();
    }
    fixture::running_job(store, &context_id, "job-2").await;
    let told = refused(contexts::delete(store, &context_id, Forget::default()).await);
    assert!(told.contains("job-2 replicates it"), "{told}");
    replication_jobs::end(store, "job-2", &ending()).await.unwrap();
    contexts::delete(store, &context_id, Forget::default()).await.unwrap();
    assert_eq!(contexts::by_id(store, &context_id).await.unwrap_err().kind(), FailureKind::NotFound);
}

async fn a_deleted_job_leaves_disks_and_change_ids(database: &Database<'_>) {
    let store = &database.store;
    let (context_id, _) = fixture::committed_vm(store, "web").await;
    replication_jobs::delete(store, "job-1").await.unwrap();
    let disks = vm_disks::of_context(store, &context_id).await.unwrap();
    assert_eq!(disks.len(), 2);
    for disk in disks {
        assert_eq!((disk.job_id, disk.disk_change_id.unwrap().as_str()), (None, "52 aa/1"));
    }
    let context = contexts::by_id(store, &context_id).await.unwrap();
    assert_eq!(context.last_successful_job_id, None);
    assert_eq!(database.number("SELECT COUNT(*) FROM cbt_history WHERE job_id IS NULL").await, 2);
    assert_eq!(database.number("SELECT COUNT(*) FROM equality_certificates WHERE job_id IS NULL").await, 2);
}

async fn devices_and_export_names_are_claimed_once(database: &Database<'_>) {
    let store = &database.store;
    let context_id = fixture::vm(store, "web").await;
    let volumes = fixture::volumes(store, &context_id).await;
    let taken = fixture::device(&volumes[0]);
    let error = device_mappings::set_present(store, &volumes[1], &taken).await.unwrap_err();
    assert!(matches!(error, StoreError::Duplicate { .. }), "{error:?}");
    let disks = vm_disks::of_context(store, &context_id).await.unwrap();
    let mut export = fixture::export(&context_id, &disks[1].id, &volumes[1]);
    export.export_name = model::id::volume_export_name(&volumes[0]);
    assert!(matches!(nbd_exports::open(store, &export).await.unwrap_err(), StoreError::Conflict { .. }));
    let by_hand = format!("UPDATE nbd_exports SET export_name = '{}'", export.export_name);
    assert!(database.sql(&by_hand).await.is_err());
    // Mappings without a device do not clash.
    for volume in &volumes {
        device_mappings::set_gone(store, volume, LinuxState::Absent).await.unwrap();
    }
}

async fn an_export_needs_its_disk_and_its_mapping(database: &Database<'_>) {
    let store = &database.store;
    let context_id = fixture::vm(store, "web").await;
    let volumes = fixture::volumes(store, &context_id).await;
    let disks = vm_disks::of_context(store, &context_id).await.unwrap();
    let mut export = fixture::export(&context_id, &disks[0].id, "no-such-volume");
    assert!(matches!(nbd_exports::open(store, &export).await.unwrap_err(), StoreError::ForeignKey { .. }));
    export = fixture::export(&context_id, "no-such-disk", &volumes[0]);
    export.export_name = "another".to_owned();
    assert!(matches!(nbd_exports::open(store, &export).await.unwrap_err(), StoreError::ForeignKey { .. }));
    export = fixture::export(&context_id, &disks[0].id, &volumes[0]);
    export.export_name = "another".to_owned();
    export.device_mapping_uuid = None;
    assert!(matches!(nbd_exports::open(store, &export).await.unwrap_err(), StoreError::Refused { .. }));

    let name = model::id::volume_export_name(&volumes[0]);
    let target = nbd_exports::target(store, &name).await.unwrap().unwrap();
    assert!(target.is_open());
    assert_eq!(target.device_path.as_deref(), Some(format!("/dev/{}", volumes[0]).as_str()));
    assert_eq!((target.enrollment_id.as_deref(), *target.size_bytes), (Some("agent-1"), fixture::GIB));
    assert_eq!(nbd_exports::active(store, Some("agent-1"), 10).await.unwrap().len(), 2);
    assert_eq!(nbd_exports::active(store, Some("agent-2"), 10).await.unwrap().len(), 0);
    device_mappings::set_gone(store, &volumes[0], LinuxState::Vanished).await.unwrap();
    assert!(!nbd_exports::target(store, &name).await.unwrap().unwrap().is_open());

    database.sql(&format!("DELETE FROM device_mappings WHERE volume_uuid = '{}'", volumes[0])).await.unwrap();
    assert_eq!(nbd_exports::target(store, &name).await.unwrap(), None);
    database.sql(&format!("DELETE FROM vm_disks WHERE id = '{}'", disks[1].id)).await.unwrap();
    assert_eq!(nbd_exports::list(store, 10).await.unwrap(), []);
}

async fn a_deleted_volume_takes_the_change_id_along(database: &Database<'_>) {
    let store = &database.store;
    let (context_id, volumes) = fixture::committed_vm(store, "web").await;
    let disks = vm_disks::of_context(store, &context_id).await.unwrap();
    let change_id = async |disk_id: &str| vm_disks::change_id_of(store, "/DC/vm/web", disk_id).await.unwrap();
    assert!(change_id("disk-2000").await.is_some());

    // Before CloudStack is asked: an attached volume is refused and nothing is lost.
    ossea_volumes::set_state(store, &volumes[0], VolumeState::Attached, None).await.unwrap();
    let error = ossea_volumes::begin_delete(store, &volumes[0]).await.unwrap_err();
    assert!(matches!(error, StoreError::Transition { .. }), "{error:?}");
    assert!(change_id("disk-2000").await.is_some());
    ossea_volumes::set_state(store, &volumes[0], VolumeState::Detached, None).await.unwrap();
    ossea_volumes::begin_delete(store, &volumes[0]).await.unwrap();
    assert_eq!(change_id("disk-2000").await, None);
    assert!(change_id("disk-2001").await.is_some(), "the other disk lost its change id, too");

    // A volume that vanished in CloudStack, whose mapping is gone already.
    database.sql(&format!("DELETE FROM device_mappings WHERE volume_uuid = '{}'", volumes[1])).await.unwrap();
    ossea_volumes::delete(store, &volumes[1]).await.unwrap();
    assert_eq!(change_id("disk-2001").await, None);
    ossea_volumes::delete(store, &volumes[1]).await.unwrap();

    // Another volume than before: what the disk's change id said was about the old one.
    ossea_volumes::delete(store, &volumes[0]).await.unwrap();
    let fresh = fixture::volumes(store, &context_id).await;
    assert_eq!(fresh.len(), 2);
    database.sql("UPDATE vm_disks SET disk_change_id = '52 aa/9', sync_status = 'completed'").await.unwrap();
    let row = ossea_volumes::by_volume_id(store, &fresh[1]).await.unwrap();
    let link = vm_disks::VolumeLink { volume_uuid: fresh[1].clone(), ossea_volume_id: row.id };
    vm_disks::set_volume(store, &disks[1].id, &link).await.unwrap();
    assert!(change_id("disk-2001").await.is_some(), "the same volume again");
    vm_disks::set_volume(store, &disks[0].id, &link).await.unwrap();
    assert_eq!(change_id("disk-2000").await, None, "another volume");
    let config = fixture::target(store).await;
    assert!(matches!(ossea_configs::delete(store, &config).await.unwrap_err(), StoreError::ForeignKey { .. }));
}

async fn nonsense_is_refused(database: &Database<'_>) {
    let store = &database.store;
    let (_, _) = fixture::committed_vm(store, "web").await;
    for sql in [
        "UPDATE vm_replication_contexts SET current_status = 'bogus'",
        "UPDATE vm_replication_contexts SET firmware = ''",
        "UPDATE vm_replication_contexts SET networks = '[{'",
        "UPDATE vm_replication_contexts SET secure_boot = 2",
        "UPDATE vm_replication_contexts SET total_jobs_run = -1",
        "UPDATE vm_replication_contexts SET vm_name = NULL",
        "UPDATE replication_jobs SET status = 'Completed'",
        "UPDATE replication_jobs SET error_detail = 'not json'",
        "UPDATE replication_jobs SET replication_type = 'full'",
        "UPDATE vm_disks SET sync_status = 'bogus'",
        "UPDATE vm_disks SET volume_uuid = 'no-such-volume'",
        "UPDATE ossea_volumes SET volume_type = 'datadisk'",
        "UPDATE ossea_volumes SET state = 'bogus'",
        "UPDATE device_mappings SET linux_state = 'bogus'",
        "UPDATE device_mappings SET size_bytes = 'many'",
        "UPDATE equality_certificates SET vm_disk_id = 'no-such-disk'",
        "UPDATE equality_certificates SET vm_disk_id = (SELECT MIN(id) FROM vm_disks)",
        "UPDATE equality_certificates SET previous_certificate_id = 'nothing'",
        "UPDATE equality_certificates SET leaves_verified = -1",
        "UPDATE equality_certificates SET sync_type = 'full'",
        "UPDATE equality_certificates SET document = NULL",
        "UPDATE nbd_exports SET kind = 'bogus'",
        "UPDATE nbd_exports SET status = 'open'",
        "UPDATE nbd_exports SET metadata = ''",
        "UPDATE nbd_exports SET vm_disk_id = NULL",
    ] {
        assert!(database.sql(sql).await.is_err(), "accepted: {sql}");
    }
    let long = format!("UPDATE vm_replication_contexts SET vm_name = '{}'", "x".repeat(256));
    assert!(database.sql(&long).await.is_err());
    let mut vm = fixture::discovered("long");
    vm.guest_id = "g".repeat(256);
    let error = store::discovery::upsert(store, &vm, &Default::default()).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Invalid, "{error:?}");
}

async fn statuses_move_along_legal_transitions(database: &Database<'_>) {
    let store = &database.store;
    let context_id = fixture::vm(store, "web").await;
    let error = contexts::set_status(store, &context_id, ContextStatus::FailedOverLive).await.unwrap_err();
    let told = format!("VM {context_id:?} is discovered and cannot become failed_over_live");
    assert_eq!((error.to_string(), error.kind()), (told, FailureKind::Conflict));
    contexts::set_status(store, &context_id, ContextStatus::Failed).await.unwrap();
    contexts::set_status(store, &context_id, ContextStatus::Failed).await.unwrap();
    let error = contexts::set_status(store, "nobody", ContextStatus::Failed).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::NotFound);
    let volumes = fixture::volumes(store, &context_id).await;
    let name = model::id::volume_export_name(&volumes[0]);
    let error = nbd_exports::set_status(store, &name, ExportStatus::Pending).await.unwrap_err();
    assert!(matches!(error, StoreError::Transition { .. }));
    nbd_exports::set_status(store, &name, ExportStatus::Closed).await.unwrap();
    assert!(!nbd_exports::target(store, &name).await.unwrap().unwrap().is_open());
    let error = ossea_volumes::set_state(store, &volumes[0], VolumeState::Creating, None).await.unwrap_err();
    assert!(matches!(error, StoreError::Transition { .. }));
}
