//! Groups of VMs: names, members in their order, bounds, and what goes with a group or a VM.

use model::FailureKind;
use store::discovery::{self, DiscoveredVm};
use store::vm_group_memberships::{self as memberships, MAX_MEMBERS, MemberFields};
use store::vm_machine_groups::{self as groups, GroupFields, MAX_GROUPS};
use store::vm_replication_contexts::{self as contexts, Assignment, Forget};
use store::{Store, StoreError};

use crate::backend::{Backend, Database};
use crate::fixture;

#[tokio::test]
async fn groups_on_sqlite() {
    all(&Backend::sqlite()).await;
}

#[tokio::test]
async fn groups_on_mariadb() {
    all(&Backend::mariadb()).await;
}

async fn all(backend: &Backend) {
    groups_are_found_by_both_names(&backend.database("names").await).await;
    members_come_in_their_order(&backend.database("orders").await).await;
    groups_and_members_have_a_bound(&backend.database("bounds").await).await;
}

fn group(name: &str) -> GroupFields {
    GroupFields { name: name.to_owned(), description: "the shop".to_owned(), max_concurrent_vms: 4, priority: 0 }
}

fn member(boot_order: u32, priority: i32) -> MemberFields {
    MemberFields { enabled: true, priority, boot_order, boot_delay_seconds: 30 }
}

async fn groups_are_found_by_both_names(database: &Database<'_>) {
    let store = &database.store;
    let shop = groups::create(store, &group("shop"), "admin").await.unwrap();
    groups::create(store, &group("bank"), "admin").await.unwrap();
    assert_eq!(groups::find(store, "shop").await.unwrap(), shop);
    assert_eq!(groups::find(store, &shop.id).await.unwrap(), shop);
    assert!(matches!(groups::create(store, &group("shop"), "x").await.unwrap_err(), StoreError::Duplicate { .. }));
    let taken = groups::replace(store, &shop.id, &group("bank")).await.unwrap_err();
    assert!(matches!(taken, StoreError::Duplicate { .. }), "{taken}");
    let renamed = groups::replace(store, &shop.id, &GroupFields { priority: -3, ..group("store") }).await.unwrap();
    assert_eq!((renamed.name.as_str(), renamed.priority, renamed.created_at), ("store", -3, shop.created_at));
    let names: Vec<String> = groups::list(store).await.unwrap().into_iter().map(|group| group.name).collect();
    assert_eq!(names, ["bank", "store"]);
    groups::delete(store, &shop.id).await.unwrap();
    for error in [
        groups::find(store, "store").await.unwrap_err(),
        groups::delete(store, &shop.id).await.unwrap_err(),
        groups::replace(store, &shop.id, &group("shop")).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), FailureKind::NotFound, "{error}");
    }
}

async fn names(store: &Store, group_id: &str) -> Vec<String> {
    memberships::of_group(store, group_id).await.unwrap().into_iter().map(|member| member.vm_name).collect()
}

async fn members_come_in_their_order(database: &Database<'_>) {
    let store = &database.store;
    let shop = groups::create(store, &group("shop"), "admin").await.unwrap().id;
    let bank = groups::create(store, &group("bank"), "admin").await.unwrap().id;
    let mut ids = Vec::new();
    for (name, order, priority) in [("web", 2, 0), ("app-b", 1, 0), ("app-a", 1, 0), ("queue", 1, 5), ("db", 0, 0)] {
        let vm = fixture::vm(store, name).await;
        memberships::put(store, &shop, &vm, member(order, priority), "admin").await.unwrap();
        ids.push(vm);
    }
    memberships::put(store, &bank, &ids[0], member(0, 0), "admin").await.unwrap();
    assert_eq!(names(store, &shop).await, ["db", "queue", "app-a", "app-b", "web"]);
    let first = memberships::of_group(store, &shop).await.unwrap().remove(0);
    assert_eq!((*first.row.boot_delay_seconds, first.row.enabled, first.row.added_by.as_str()), (30, true, "admin"));

    let changed = MemberFields { enabled: false, ..member(0, 9) };
    let again = memberships::put(store, &shop, &ids[0], changed, "somebody").await.unwrap();
    assert_eq!((again.enabled, again.added_by.as_str()), (false, "admin"));
    assert_eq!(names(store, &shop).await, ["web", "db", "queue", "app-a", "app-b"]);
    let counts = memberships::counts(store).await.unwrap();
    assert_eq!((counts[&shop], counts[&bank]), (5, 1));

    memberships::remove(store, &shop, &ids[4]).await.unwrap();
    let gone = memberships::remove(store, &shop, &ids[4]).await.unwrap_err();
    assert_eq!(gone.kind(), FailureKind::NotFound);
    contexts::delete(store, &ids[0], Forget::default()).await.unwrap();
    assert_eq!(names(store, &shop).await, ["queue", "app-a", "app-b"]);
    assert_eq!(names(store, &bank).await, Vec::<String>::new());
    groups::delete(store, &shop).await.unwrap();
    assert_eq!(database.number("SELECT COUNT(*) FROM vm_group_memberships").await, 0);
    assert_eq!(contexts::list(store, 10).await.unwrap().len(), 4, "a group's end is not its VMs' end");
    for (group_id, vm) in [("nothing", ids[1].as_str()), (bank.as_str(), "nobody")] {
        let error = memberships::put(store, group_id, vm, member(0, 0), "admin").await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::NotFound, "{error}");
    }
}

async fn groups_and_members_have_a_bound(database: &Database<'_>) {
    let store = &database.store;
    let shop = groups::create(store, &group("shop"), "admin").await.unwrap().id;
    let now = "'2026-01-01 00:00:00.0'";
    let row = |number: u64| format!("('g{number}', 'g{number}', '', NULL, 1, 0, 'admin', {now}, {now})");
    let rows: Vec<String> = (1..MAX_GROUPS).map(row).collect();
    database.sql(&format!("INSERT INTO vm_machine_groups VALUES {}", rows.join(", "))).await.unwrap();
    let full = groups::create(store, &group("one more"), "admin").await.unwrap_err();
    assert!(matches!(full, StoreError::Conflict { .. }), "{full}");
    assert_eq!(groups::list(store).await.unwrap().len() as u64, MAX_GROUPS);

    let mut members = Vec::new();
    for number in 0..=MAX_MEMBERS {
        let vm = DiscoveredVm { disks: Vec::new(), ..fixture::discovered(&format!("vm{number}")) };
        members.push(discovery::upsert(store, &vm, &Assignment::default()).await.unwrap().context_id);
    }
    let row = |vm: &String| format!("('m-{vm}', '{shop}', '{vm}', 1, 0, 0, 0, NULL, 'admin', {now})");
    let one_more = members.pop().unwrap();
    let rows: Vec<String> = members.iter().map(row).collect();
    database.sql(&format!("INSERT INTO vm_group_memberships VALUES {}", rows.join(", "))).await.unwrap();
    let full = memberships::put(store, &shop, &one_more, member(0, 0), "admin").await.unwrap_err();
    assert!(matches!(full, StoreError::Conflict { .. }), "{full}");
    memberships::put(store, &shop, &members[7], member(3, 0), "admin").await.unwrap();
    assert_eq!(memberships::of_group(store, &shop).await.unwrap().len() as u64, MAX_MEMBERS);
}
