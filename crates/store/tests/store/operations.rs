//! Volume operations, device mappings, targets, leases and settings, on both databases.

use model::FailureKind;
use model::status::{LinuxState, OperationMode, OperationStatus, OperationType, VolumeSnapshotStatus, VolumeState};
use serde_json::json;
use store::device_mappings::NewMapping;
use store::ossea_volumes::HeldBy;
use store::volume_operations::{Learnt, NewOperation, OperationEnd};
use store::{
    StoreError, device_mappings, leases, ossea_configs, ossea_volumes, settings, vm_disks,
    volume_operation_history as history, volume_operations as operations, volume_snapshots,
};
use time::Duration;
use time::macros::datetime;

use crate::backend::{Backend, Database};
use crate::fixture;

#[tokio::test]
async fn operations_on_sqlite() {
    operations(&Backend::sqlite()).await;
}

#[tokio::test]
async fn operations_on_mariadb() {
    operations(&Backend::mariadb()).await;
}

async fn operations(backend: &Backend) {
    an_operation_survives_its_executor(&backend.database("executors").await).await;
    the_same_key_is_the_same_operation(&backend.database("keys_of_operations").await).await;
    a_device_is_found_again_after_the_volume_moved(&backend.database("devices").await).await;
    leases_change_hands_with_a_higher_fence(&backend.database("hands").await).await;
    targets_and_settings_are_kept(&backend.database("targets").await).await;
    a_volume_snapshot_is_in_both_rows(&backend.database("snapshots").await).await;
}

fn create(key: &str) -> NewOperation {
    NewOperation {
        operation_type: OperationType::Create,
        volume_id: None,
        vm_id: None,
        request: json!({ "size_bytes": 1 }),
        correlation_id: "job".to_owned(),
        idempotency_key: key.to_owned(),
    }
}

async fn an_operation_survives_its_executor(database: &Database<'_>) {
    let store = &database.store;
    let operation = operations::submit(store, &create("key")).await.unwrap().operation;
    let first = operations::begin(store, &operation.id).await.unwrap();
    let learnt = Learnt { volume_id: Some("v".to_owned()), cloudstack_job_id: Some("cs".to_owned()), vm_id: None };
    operations::record(store, &first, &learnt).await.unwrap();

    // The daemon was killed: what it had learnt is there, what it would still write is refused.
    let open = operations::unfinished(store).await.unwrap();
    assert_eq!((open[0].volume_id.as_deref(), open[0].cloudstack_job_id.as_deref()), (Some("v"), Some("cs")));
    let second = operations::begin(store, &operation.id).await.unwrap();
    assert_eq!((first.fence, second.fence), (1, 2));
    let stale = |error: StoreError| assert!(matches!(error, StoreError::Stale { .. }), "{error:?}");
    stale(operations::record(store, &first, &learnt).await.unwrap_err());
    stale(operations::finish(store, &first, &OperationEnd::Failed("{}".to_owned())).await.unwrap_err());
    operations::finish(store, &second, &OperationEnd::Completed(json!({ "volume_id": "v" }))).await.unwrap();
    stale(operations::finish(store, &second, &OperationEnd::Cancelled).await.unwrap_err());
    let error = operations::begin(store, &operation.id).await.unwrap_err();
    assert!(matches!(error, StoreError::Transition { .. }), "{error:?}");

    let row = operations::by_id(store, &operation.id).await.unwrap();
    assert!(operations::has_ended(&row) && row.completed_at.is_some());
    assert_eq!((*row.attempts, row.response.unwrap()), (2, json!({ "volume_id": "v" })));
    let moves = history::of_operation(store, &operation.id).await.unwrap();
    let moves: Vec<_> = moves.iter().map(|step| (*step.previous_status, *step.new_status)).collect();
    use OperationStatus::{Completed, Executing, Pending};
    assert_eq!(moves, [(Pending, Executing), (Executing, Executing), (Executing, Completed)]);
    assert_eq!(operations::list(store, Some(Completed), 10).await.unwrap().len(), 1);
    assert_eq!(operations::unfinished(store).await.unwrap(), []);
}

async fn the_same_key_is_the_same_operation(database: &Database<'_>) {
    let store = &database.store;
    let asked = (0..10).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { operations::submit(&store, &create("key")).await.unwrap() })
    });
    let asked: Vec<_> = futures::future::join_all(asked).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(asked.iter().filter(|submitted| submitted.created).count(), 1);
    assert!(asked.iter().all(|submitted| submitted.operation.id == asked[0].operation.id));
    let other = NewOperation { request: json!({ "size_bytes": 2 }), ..create("key") };
    assert_eq!(operations::submit(store, &other).await.unwrap_err().kind(), FailureKind::Conflict);
    assert!(operations::submit(store, &create("KEY")).await.unwrap().created, "keys compare byte by byte");
}

async fn a_device_is_found_again_after_the_volume_moved(database: &Database<'_>) {
    let store = &database.store;
    let context_id = fixture::vm(store, "web").await;
    let volumes = fixture::volumes(store, &context_id).await;
    let held = HeldBy { vm_id: "hub-vm".to_owned(), device_path: Some("/dev/vdz".to_owned()) };
    ossea_volumes::set_state(store, &volumes[0], VolumeState::Attached, Some(&held)).await.unwrap();
    let again = device_mappings::record(store, &fixture::mapping(&context_id, &volumes[0])).await.unwrap();
    assert_eq!((*again.linux_state, again.device_path.is_some()), (LinuxState::Present, true), "nothing changed");
    let moved = NewMapping {
        vm_id: "another-vm".to_owned(),
        operation_mode: OperationMode::Failover,
        ..fixture::mapping(&context_id, &volumes[0])
    };
    let moved = device_mappings::record(store, &moved).await.unwrap();
    assert_eq!((*moved.linux_state, moved.device_path), (LinuxState::Absent, None));
    let back = device_mappings::record(store, &fixture::mapping(&context_id, &volumes[0])).await.unwrap();
    assert_eq!(*back.linux_state, LinuxState::Appearing);
    device_mappings::set_present(store, &volumes[0], &fixture::device(&volumes[0])).await.unwrap();
    device_mappings::set_cloudstack_state(store, &volumes[0], "Ready").await.unwrap();
    assert_eq!(device_mappings::list(store).await.unwrap().len(), 2);
    let error = device_mappings::set_gone(store, &volumes[0], LinuxState::Present).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Invalid);
    assert_eq!(ossea_volumes::list(store, Some(&context_id), 10).await.unwrap().len(), 2);
    assert_eq!(ossea_volumes::list(store, Some("nobody"), 10).await.unwrap(), []);
}

async fn leases_change_hands_with_a_higher_fence(database: &Database<'_>) {
    let store = &database.store;
    let now = datetime!(2026-05-06 07:08:09 UTC);
    let take = |holder: &'static str, at| leases::acquire(store, "scheduler", holder, at, at + Duration::seconds(30));
    assert_eq!(take("a", now).await.unwrap(), Some(1));
    assert_eq!(take("b", now).await.unwrap(), None);
    assert_eq!(take("a", now + Duration::seconds(20)).await.unwrap(), Some(1), "renewed");
    assert_eq!(take("b", now + Duration::seconds(49)).await.unwrap(), None);
    assert_eq!(take("b", now + Duration::seconds(50)).await.unwrap(), Some(2));
    assert_eq!(take("a", now + Duration::seconds(51)).await.unwrap(), None);
    leases::release(store, "scheduler", "b", now).await.unwrap();
    assert_eq!(take("a", now + Duration::seconds(52)).await.unwrap(), Some(3));
    let fresh = (0..6).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            leases::acquire(&store, "fresh", &format!("h{n}"), now, now + Duration::seconds(9)).await.unwrap()
        })
    });
    let won: Vec<_> = futures::future::join_all(fresh).await.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(won, [1]);
}

async fn targets_and_settings_are_kept(database: &Database<'_>) {
    let store = &database.store;
    assert_eq!(ossea_configs::active(store).await.unwrap_err().kind(), FailureKind::NotFound);
    let id = fixture::target(store).await;
    let row = ossea_configs::active(store).await.unwrap();
    ossea_configs::set_found(store, &id, Some("hub-vm"), None).await.unwrap();
    assert_eq!(ossea_configs::by_id(store, &id).await.unwrap().oma_vm_id.as_deref(), Some("hub-vm"));
    let fields = ossea_configs::OsseaConfigFields { name: "renamed".to_owned(), ..Default::default() };
    let replaced = ossea_configs::replace(store, &id, &fields).await.unwrap();
    assert_eq!((replaced.created_at, replaced.is_active), (row.created_at, false));
    assert_eq!(ossea_configs::list(store).await.unwrap(), [replaced]);
    ossea_configs::delete(store, &id).await.unwrap();
    assert_eq!(ossea_configs::delete(store, &id).await.unwrap_err().kind(), FailureKind::NotFound);

    assert_eq!(settings::get(store, "hub").await.unwrap(), None);
    settings::put(store, "hub", json!({ "name": "one" })).await.unwrap();
    settings::put(store, "hub", json!(["two"])).await.unwrap();
    assert_eq!(settings::get(store, "hub").await.unwrap(), Some(json!(["two"])));
    store.ping().await.unwrap();
}

async fn a_volume_snapshot_is_in_both_rows(database: &Database<'_>) {
    use VolumeSnapshotStatus::{Creating, None as Nothing, Ready, Reverting};
    let store = &database.store;
    let context_id = fixture::vm(store, "web").await;
    let uuid = fixture::volumes(store, &context_id).await.remove(0);
    let refused = volume_snapshots::set_status(store, &uuid, Reverting, None).await.unwrap_err();
    assert!(matches!(refused, StoreError::Transition { .. }), "{refused:?}");
    for (to, taken, kept) in [
        (Creating, None, None),
        (Ready, Some("snap"), Some("snap")),
        (Reverting, None, Some("snap")),
        (Reverting, None, Some("snap")),
        (Ready, None, Some("snap")),
        (Nothing, None, None),
    ] {
        volume_snapshots::set_status(store, &uuid, to, taken).await.unwrap();
        let volume = ossea_volumes::by_volume_id(store, &uuid).await.unwrap();
        let device = device_mappings::by_volume(store, &uuid).await.unwrap();
        assert_eq!((*volume.snapshot_status, volume.snapshot_id.as_deref()), (to, kept));
        assert_eq!((*device.snapshot_status, device.ossea_snapshot_id.as_deref()), (to, kept));
        assert_eq!(
            (volume.snapshot_created_at.is_some(), device.snapshot_created_at.is_some()),
            (kept.is_some(), kept.is_some())
        );
        let named = volume_snapshots::volume_of(store, "snap").await.unwrap();
        assert_eq!(named.is_some(), kept.is_some());
    }
    let missing = volume_snapshots::set_status(store, "none", Creating, None).await.unwrap_err();
    assert_eq!(missing.kind(), FailureKind::NotFound);
    let disks = vm_disks::replicated_by(store, &uuid).await.unwrap();
    assert_eq!((disks.len(), disks[0].volume_uuid.as_deref()), (1, Some(uuid.as_str())));
    assert_eq!(vm_disks::replicated_by(store, "none").await.unwrap(), []);
}
