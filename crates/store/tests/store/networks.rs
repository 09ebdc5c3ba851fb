//! Network mappings: two sides of a card that are set together or alone, and what remains of a pair.

use model::status::{MappingType, NicStrategy, ValidationStatus};
use model::{FailureKind, MacAddress};
use store::network_mappings::{self as mappings, MAX_PER_VM, NetworkMapping, NewMapping, Validation};
use store::{StoreError, Timestamp};

use crate::backend::{Backend, Database};
use crate::fixture;

#[tokio::test]
async fn networks_on_sqlite() {
    networks(&Backend::sqlite()).await;
}

#[tokio::test]
async fn networks_on_mariadb() {
    networks(&Backend::mariadb()).await;
}

async fn networks(backend: &Backend) {
    both_is_two_rows_and_a_later_half_parts_them(&backend.database("halves").await).await;
    all_or_none_are_written(&backend.database("bounds").await).await;
    a_finding_about_an_older_mapping_is_dropped(&backend.database("findings").await).await;
    live_networks_are_told_with_a_vm(&backend.database("uses").await).await;
    many_writers_leave_one_pair(&backend.database("writers").await).await;
}

const MAC: &str = "00:50:56:00:00:01";

fn mapping(mac: &str, network: &str, mapping_type: MappingType) -> NewMapping {
    NewMapping {
        source_mac: mac.parse().unwrap(),
        source_network_name: "VM Network".to_owned(),
        destination_network_id: network.to_owned(),
        destination_network_name: format!("the {network}"),
        mapping_type,
        live_strategy: NicStrategy::KeepIp,
        test_strategy: NicStrategy::NewMac,
        ip_address: Some("10.1.1.9".to_owned()),
        validation: Validation { status: ValidationStatus::Valid, message: None, at: Timestamp::now() },
    }
}

/// (network, whether for tests, type) of every row.
fn told(rows: &[NetworkMapping]) -> Vec<(&str, bool, MappingType)> {
    rows.iter().map(|row| (row.destination_network_id.as_str(), row.is_test_network, *row.mapping_type)).collect()
}

async fn both_is_two_rows_and_a_later_half_parts_them(database: &Database<'_>) {
    let store = &database.store;
    let vm = fixture::vm(store, "web").await;
    let made = mappings::set(store, &vm, &[mapping("00-50-56-00-00-01", "net-a", MappingType::Both)]).await.unwrap();
    let rows = mappings::of_context(store, &vm).await.unwrap();
    assert_eq!(rows, made);
    assert_eq!(told(&rows), [("net-a", false, MappingType::Both), ("net-a", true, MappingType::Both)]);
    assert!(rows.iter().all(|row| row.source_mac == MAC && row.vm_id == "uuid-web"), "{rows:#?}");
    let kept: Vec<_> = rows.iter().map(|row| (*row.strategy, row.ip_address.as_deref())).collect();
    assert_eq!(kept, [(NicStrategy::KeepIp, Some("10.1.1.9")), (NicStrategy::NewMac, None)]);

    mappings::set(store, &vm, &[mapping(MAC, "net-b", MappingType::Live)]).await.unwrap();
    let parted = mappings::of_context(store, &vm).await.unwrap();
    assert_eq!(told(&parted), [("net-b", false, MappingType::Live), ("net-a", true, MappingType::Test)]);
    assert_eq!((&parted[0].id, parted[0].created_at), (&rows[0].id, rows[0].created_at), "replaced, not made anew");

    mappings::set(store, &vm, &[mapping(MAC, "net-c", MappingType::Both)]).await.unwrap();
    let gone = mappings::delete(store, &parted[1].id).await.unwrap();
    assert_eq!((gone.is_test_network, gone.destination_network_id.as_str()), (true, "net-c"));
    let left = mappings::of_context(store, &vm).await.unwrap();
    assert_eq!(told(&left), [("net-c", false, MappingType::Live)]);
    assert_eq!(mappings::delete(store, &gone.id).await.unwrap_err().kind(), FailureKind::NotFound);
    assert_eq!(mappings::by_id(store, &left[0].id).await.unwrap(), left[0]);
}

async fn all_or_none_are_written(database: &Database<'_>) {
    let store = &database.store;
    let vm = fixture::vm(store, "web").await;
    let unknown = mappings::set(store, "nobody", &[mapping(MAC, "net-a", MappingType::Live)]).await;
    assert_eq!(unknown.unwrap_err().kind(), FailureKind::NotFound);
    let cards = |count: usize| -> Vec<NewMapping> {
        let mac = |number: usize| MacAddress::from([2, 0, 0, 0, 0, u8::try_from(number).unwrap()]).to_string();
        (0..count).map(|number| mapping(&mac(number), "net-a", MappingType::Both)).collect()
    };
    let error = mappings::set(store, &vm, &cards(MAX_PER_VM / 2 + 1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
    assert_eq!(mappings::of_context(store, &vm).await.unwrap(), []);
    mappings::set(store, &vm, &cards(MAX_PER_VM / 2)).await.unwrap();
    assert_eq!(mappings::of_context(store, &vm).await.unwrap().len(), MAX_PER_VM);
    let mut wrong = mapping(MAC, &"x".repeat(65), MappingType::Live);
    wrong.source_mac = MacAddress::from([2, 0, 0, 0, 0, 0]);
    assert_eq!(mappings::set(store, &vm, &[wrong]).await.unwrap_err().kind(), FailureKind::Invalid);
    assert!(database.sql("UPDATE network_mappings SET strategy = 'bogus'").await.is_err());
}

async fn a_finding_about_an_older_mapping_is_dropped(database: &Database<'_>) {
    let store = &database.store;
    let vm = fixture::vm(store, "web").await;
    let seen = mappings::set(store, &vm, &[mapping(MAC, "net-a", MappingType::Live)]).await.unwrap().remove(0);
    let finding = Validation {
        status: ValidationStatus::Invalid,
        message: Some("the network is gone".to_owned()),
        at: Timestamp::now(),
    };
    let marked = mappings::set_validation(store, &seen, &finding).await.unwrap().unwrap();
    assert_eq!((*marked.validation_status, marked.last_validated), (ValidationStatus::Invalid, Some(finding.at)));
    assert_eq!(marked.validation_message.as_deref(), Some("the network is gone"));

    let changed = mappings::set(store, &vm, &[mapping(MAC, "net-b", MappingType::Live)]).await.unwrap().remove(0);
    assert_eq!(mappings::set_validation(store, &marked, &finding).await.unwrap(), Some(changed));
    mappings::delete(store, &seen.id).await.unwrap();
    assert_eq!(mappings::set_validation(store, &marked, &finding).await.unwrap(), None);
}

async fn live_networks_are_told_with_a_vm(database: &Database<'_>) {
    let store = &database.store;
    let (web, db) = (fixture::vm(store, "web").await, fixture::vm(store, "db").await);
    for (vm, network, side) in
        [(&web, "net-a", MappingType::Live), (&db, "net-a", MappingType::Both), (&db, "net-b", MappingType::Test)]
    {
        let mac = format!("02:00:00:00:00:{:02x}", network.as_bytes()[4]);
        mappings::set(store, vm, &[mapping(&mac, network, side)]).await.unwrap();
    }
    let asked = ["net-a", "net-b", "net-c"].map(str::to_owned);
    let uses = mappings::live_uses(store, &asked).await.unwrap();
    assert_eq!(uses.len(), 1, "{uses:?}");
    assert_eq!((uses[0].network_id.as_str(), uses[0].vms), ("net-a", 2));
    assert!(["web", "db"].contains(&uses[0].vm_name.as_str()), "{uses:?}");
    assert_eq!(mappings::live_uses(store, &[]).await.unwrap(), []);
}

async fn many_writers_leave_one_pair(database: &Database<'_>) {
    let store = &database.store;
    let vm = fixture::vm(store, "web").await;
    let writers = (0..6).map(|number| {
        let (store, vm) = (store.clone(), vm.clone());
        let side = [MappingType::Both, MappingType::Live, MappingType::Test][number % 3];
        tokio::spawn(async move { mappings::set(&store, &vm, &[mapping(MAC, "net-a", side)]).await })
    });
    for outcome in futures::future::join_all(writers).await {
        outcome.unwrap().unwrap();
    }
    let rows = mappings::of_context(store, &vm).await.unwrap();
    let pairs = [
        [("net-a", false, MappingType::Both), ("net-a", true, MappingType::Both)],
        [("net-a", false, MappingType::Live), ("net-a", true, MappingType::Test)],
    ];
    assert!(pairs.iter().any(|pair| told(&rows) == pair), "{rows:#?}");
}
