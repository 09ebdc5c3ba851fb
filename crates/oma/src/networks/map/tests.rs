//! The map is a bijection by MAC address that keeps the VM's order; whatever stands against a card names it.

use std::collections::HashSet;

use model::status::{FailoverType, NicStrategy};
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, proptest};

use super::*;

fn nic(number: u8) -> SourceNic {
    SourceNic {
        label: format!("Network adapter {number}"),
        network_name: format!("source {number}"),
        mac_address: format!("00:50:56:00:00:{number:02x}"),
        adapter_type: "vmxnet3".into(),
        connected: true,
    }
}

fn network(number: u8) -> Network {
    Network {
        id: format!("net-{number}"),
        name: format!("target {number}"),
        network_type: Some("Isolated".into()),
        state: Some("Implemented".into()),
        zone_id: Some("zone-1".into()),
        zone_name: Some("first".into()),
        cidr: Some(format!("10.0.{number}.0/24")),
        gateway: Some(format!("10.0.{number}.1")),
        netmask: Some("255.255.255.0".into()),
        vlan: None,
        account: Some("admin".into()),
        domain_path: None,
        vpc_id: None,
        usable_for_deploy: true,
    }
}

fn row(number: u8, is_test_network: bool, strategy: Option<NicStrategy>) -> NicMapping {
    NicMapping {
        source_mac: nic(number).mac_address,
        network_id: format!("net-{number}"),
        network_name: format!("target {number}"),
        is_test_network,
        strategy,
        ip_address: (strategy == Some(NicStrategy::KeepIp)).then(|| format!("10.0.{number}.9")),
    }
}

/// A VM whose cards 1 to `count` go to networks 1 to `count`, live and in tests.
struct Case {
    nics: Vec<SourceNic>,
    mappings: Vec<NicMapping>,
    target: TargetNetworks,
    purpose: FailoverType,
}

impl Case {
    fn new(count: u8, purpose: FailoverType) -> Self {
        Self {
            nics: (1..=count).map(nic).collect(),
            mappings: (1..=count).flat_map(|number| [row(number, false, None), row(number, true, None)]).collect(),
            target: TargetNetworks {
                zone_id: "zone-1".into(),
                zone_name: "first".into(),
                networks: (1..=count).map(network).collect(),
            },
            purpose,
        }
    }

    fn placement(&self) -> Placement<'_> {
        Placement {
            vm_name: "web1",
            nics: &self.nics,
            mappings: &self.mappings,
            purpose: self.purpose,
            target: &self.target,
        }
    }

    fn map(&self) -> Result<Vec<MappedNic>, Vec<Problem>> {
        map(&self.placement())
    }

    /// The mapping of a card on the side that counts.
    fn mapping(&mut self, number: u8) -> &mut NicMapping {
        let (mac, is_test) = (nic(number).mac_address, self.purpose == FailoverType::Test);
        self.mappings.iter_mut().find(|row| row.source_mac == mac && row.is_test_network == is_test).unwrap()
    }

    fn network(&mut self, number: u8) -> &mut Network {
        self.target.networks.iter_mut().find(|network| network.id == format!("net-{number}")).unwrap()
    }
}

#[test]
fn a_live_failover_keeps_what_a_test_replaces() {
    let live = Case::new(2, FailoverType::Live).map().unwrap();
    let test = Case::new(2, FailoverType::Test).map().unwrap();
    assert_eq!(live[1].mac.as_deref(), Some("00:50:56:00:00:02"));
    assert_eq!((test[1].mac.as_deref(), test[1].source_mac.as_str()), (None, "00:50:56:00:00:02"));
    assert_eq!(live.iter().map(|nic| nic.is_default).collect::<Vec<_>>(), [true, false]);
    let expected = ("Network adapter 2", "source 2", "net-2", "target 2");
    let seen = (live[1].label.as_str(), live[1].source_network.as_str(), &*live[1].network_id, &*live[1].network_name);
    assert_eq!(seen, expected);
    assert_eq!(Case::new(0, FailoverType::Live).map(), Ok(vec![]));
}

#[test]
fn each_strategy_carries_what_it_says() {
    for (strategy, mac, ip) in [
        (NicStrategy::KeepMac, true, false),
        (NicStrategy::KeepIp, true, true),
        (NicStrategy::NewMac, false, false),
        (NicStrategy::Dhcp, false, false),
    ] {
        let mut case = Case::new(1, FailoverType::Test);
        *case.mapping(1) = row(1, true, Some(strategy));
        let mapped = case.map().unwrap().remove(0);
        assert_eq!((mapped.mac.is_some(), mapped.ip.is_some()), (mac, ip), "{strategy}");
    }
}

#[test]
fn a_mac_address_is_one_in_every_spelling() {
    let mut case = Case::new(1, FailoverType::Live);
    case.nics[0].mac_address = "00-50-56-00-00-01".into();
    case.mapping(1).source_mac = "00:50:56:00:00:01".to_uppercase();
    assert_eq!(case.map().unwrap()[0].mac.as_deref(), Some("00:50:56:00:00:01"));
}

/// One way in which card 2 of 3 cannot be carried over, and a word of what is said about it.
type Breakage = (fn(&mut Case), &'static str);

const BREAKAGES: [Breakage; 16] = [
    (|case| case.mapping(2).source_mac = "00:50:56:ff:ff:ff".into(), "has no network for a"),
    (|case| case.mapping(2).network_id = "gone".into(), "does not exist"),
    (|case| case.network(2).zone_id = Some("zone-2".into()), "is in another zone"),
    (|case| case.network(2).usable_for_deploy = false, "takes no VMs"),
    (|case| case.mapping(2).network_id = "net-1".into(), "as Network adapter 1"),
    (|case| keep_ip(case, "10.0.3.9"), "cannot have the IP address 10.0.3.9"),
    (|case| keep_ip(case, "10.0.2.1"), "cannot have the IP address"),
    (|case| keep_ip(case, "10.0.2.255"), "cannot have the IP address"),
    (|case| keep_ip(case, "web1"), "cannot have the IP address web1"),
    (|case| keep_ip(case, "fe80::1"), "cannot have the IP address fe80::1"),
    (
        |case| *case.mapping(2) = NicMapping { strategy: Some(NicStrategy::KeepIp), ..case.mapping(2).clone() },
        "none is named",
    ),
    (|case| case.mapping(2).ip_address = Some("10.0.2.9".into()), "leaves that to the network"),
    (|case| in_l2(case), "cannot have the IP address"),
    (|case| rename(case, "01:50:56:00:00:02"), "is a multicast address"),
    (|case| rename(case, "00:00:00:00:00:00"), "is all zeros"),
    (|case| rename(case, "assigned"), "has no usable MAC address"),
];

fn keep_ip(case: &mut Case, address: &str) {
    let mapping = case.mapping(2);
    mapping.strategy = Some(NicStrategy::KeepIp);
    mapping.ip_address = Some(address.into());
}

fn in_l2(case: &mut Case) {
    keep_ip(case, "10.0.2.9");
    let network = case.network(2);
    (network.network_type, network.cidr) = (Some("L2".into()), None);
}

/// Another MAC address for card 2, and for its mapping.
fn rename(case: &mut Case, mac: &str) {
    case.mapping(2).source_mac = mac.into();
    case.nics[1].mac_address = mac.into();
}

#[test]
fn every_way_to_be_wrong_names_the_card_and_a_remedy() {
    for purpose in [FailoverType::Live, FailoverType::Test] {
        for (breakage, word) in BREAKAGES {
            let mut case = Case::new(3, purpose);
            breakage(&mut case);
            let problems = case.map().unwrap_err();
            let name = format!("Network adapter 2 ({})", case.nics[1].mac_address);
            let said = |problem: &&Problem| problem.detail.contains(&name) && problem.detail.contains(word);
            let problem = problems.iter().find(said).unwrap_or_else(|| panic!("{word}: {problems:#?}"));
            assert!(problem.remedy.is_some(), "{word}: {problem:#?}");
        }
    }
}

#[test]
fn the_other_side_does_not_count() {
    let mut case = Case::new(1, FailoverType::Test);
    case.mappings.retain(|row| !row.is_test_network);
    let problems = case.map().unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(
        problems[0].remedy.as_deref(),
        Some(
            "migratekit network map web1 --mac 00:50:56:00:00:01 --for test --to NETWORK; `migratekit target networks` lists them"
        )
    );
    case.purpose = FailoverType::Live;
    assert!(case.map().is_ok());
}

#[test]
fn cards_with_one_mac_address_are_both_named() {
    let mut case = Case::new(3, FailoverType::Live);
    case.nics[2].mac_address = case.nics[1].mac_address.to_uppercase();
    let named: Vec<String> = case.map().unwrap_err().into_iter().map(|problem| problem.detail).collect();
    for label in ["Network adapter 2", "Network adapter 3"] {
        let said = format!("{label} (00:50:56:00:00:02) of web1 has the same MAC address");
        assert!(named.iter().any(|detail| detail.starts_with(&said)), "{named:#?}");
    }
}

#[test]
fn a_test_beside_live_vms_or_strangers_is_told() {
    let mut case = Case::new(3, FailoverType::Test);
    case.network(2).network_type = Some("Shared".into());
    let live = [LiveUse { network_id: "net-1".into(), vms: 3, vm_name: "db1".into() }];
    let told = warnings(&case.placement(), &live);
    let codes: Vec<_> = told.iter().map(|warning| (warning.code.as_str(), warning.source_mac.as_str())).collect();
    let expected = [("test_network_is_live", "00:50:56:00:00:01"), ("test_network_is_shared", "00:50:56:00:00:02")];
    assert_eq!(codes, expected);
    assert!(told[0].message.contains("Network adapter 1") && told[0].message.contains("db1 and 2 more"), "{told:#?}");
    assert!(case.map().is_ok(), "a warning stands against nothing");
    case.purpose = FailoverType::Live;
    assert_eq!(warnings(&case.placement(), &live), []);
}

fn strategies() -> impl Strategy<Value = Option<NicStrategy>> {
    let some = [NicStrategy::KeepMac, NicStrategy::NewMac, NicStrategy::KeepIp, NicStrategy::Dhcp];
    proptest::option::of(proptest::sample::select(some.to_vec()))
}

/// Most cards of a VM.
const MOST: u8 = 10;

proptest! {
    /// However the rows lie, each card gets its own network, once, in the VM's order.
    #[test]
    fn the_map_is_a_bijection_by_mac_and_keeps_the_order(
        order in (0..=MOST).prop_flat_map(|count| Just((1..=count).collect::<Vec<u8>>()).prop_shuffle()),
        rows in Just((0..MOST).collect::<Vec<u8>>()).prop_shuffle(),
        chosen in proptest::collection::vec(strategies(), usize::from(MOST)),
        is_test in any::<bool>(),
    ) {
        let purpose = if is_test { FailoverType::Test } else { FailoverType::Live };
        let mut case = Case::new(u8::try_from(order.len()).unwrap(), purpose);
        case.nics = order.iter().map(|number| nic(*number)).collect();
        for number in &order {
            *case.mapping(*number) = row(*number, is_test, chosen[usize::from(*number) - 1]);
        }
        // Any order of the rows, and of the networks.
        case.mappings.sort_by_key(|row| rows[usize::from(row.source_mac.as_bytes()[16] % MOST)]);
        case.target.networks.reverse();
        let mapped = case.map().unwrap();
        prop_assert_eq!(mapped.len(), order.len());
        for (index, (number, mapped)) in order.iter().zip(&mapped).enumerate() {
            prop_assert_eq!(&mapped.source_mac, &nic(*number).mac_address);
            prop_assert_eq!(&mapped.network_id, &format!("net-{number}"));
            prop_assert_eq!(mapped.is_default, index == 0);
            let strategy = chosen[usize::from(*number) - 1].unwrap_or(default_strategy(purpose));
            let keeps = matches!(strategy, NicStrategy::KeepMac | NicStrategy::KeepIp);
            prop_assert_eq!(mapped.mac.as_ref(), keeps.then_some(&mapped.source_mac));
            prop_assert_eq!(mapped.ip.is_some(), strategy == NicStrategy::KeepIp);
        }
        let networks: HashSet<&str> = mapped.iter().map(|nic| nic.network_id.as_str()).collect();
        prop_assert_eq!(networks.len(), mapped.len());
    }

    /// All that cannot be carried over is said at once, and nothing else.
    #[test]
    fn the_problems_name_exactly_the_bad_cards(
        bad in proptest::collection::vec(proptest::option::of(0..6_usize), 1..usize::from(MOST)),
    ) {
        let count = u8::try_from(bad.len()).unwrap();
        let mut case = Case::new(count, FailoverType::Live);
        for (number, way) in (1..).zip(&bad) {
            match way {
                None => {}
                Some(0) => case.mapping(number).source_mac = "none".into(),
                Some(1) => case.mapping(number).network_id = format!("gone-{number}"),
                Some(2) => case.network(number).zone_id = Some("zone-2".into()),
                Some(3) => case.network(number).usable_for_deploy = false,
                Some(4) => case.mapping(number).strategy = Some(NicStrategy::KeepIp),
                Some(_) => case.mapping(number).ip_address = Some("10.0.0.1".into()),
            }
        }
        let problems = case.map().err().unwrap_or_default();
        prop_assert_eq!(problems.len(), bad.iter().flatten().count());
        for (number, way) in (1..).zip(&bad) {
            let name = format!("{} ({})", nic(number).label, nic(number).mac_address);
            let named = problems.iter().any(|problem| problem.detail.contains(&name));
            prop_assert_eq!(named, way.is_some(), "{}", name);
        }
        prop_assert!(problems.iter().all(|problem| problem.remedy.is_some()));
        let good: Vec<String> = judge(&case.placement()).into_iter().filter_map(|judged| judged.mapped).map(|nic| nic.source_mac).collect();
        prop_assert_eq!(good.len(), bad.iter().filter(|way| way.is_none()).count());
    }
}
