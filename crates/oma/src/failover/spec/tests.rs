//! The VM that is made, case by case, and its cards in any order.

use proptest::prelude::*;

use super::*;
use crate::failover::fixture::{MACS, custom, facts, identity, offering, request};
use crate::failover::hardware::Drivers;

fn conversion() -> Conversion {
    Conversion { converts: false, drivers: Drivers::Virtio, reason: String::new() }
}

fn made(facts: &Facts, request: &StartFailover) -> DestinationVm {
    spec(facts, request, &conversion(), &identity()).unwrap()
}

#[test]
fn the_vm_is_the_source_s_likeness() {
    let vm = made(&facts(), &request(FailoverType::Live));
    assert_eq!((vm.name.as_str(), vm.display_name.as_str()), ("web1", "web1"));
    assert_eq!((vm.cpu_count, vm.memory_mib, vm.service_offering_id.as_str()), (2, 2048, "exact"));
    assert_eq!(vm.template_id, "small", "its disk is thrown away");
    assert_eq!(vm.custom_id, Some(identity().custom_id));
    let disks: Vec<_> = vm.disks.iter().map(|disk| (disk.disk_id.as_str(), disk.device_id)).collect();
    assert_eq!(disks, [("disk-2001", 0), ("disk-2000", 1), ("disk-2016", 2)], "the boot disk is the root");
    let order = order(&vm);
    assert!(!order.start && order.firmware == Some(BootFirmware::Bios));
    assert_eq!(order.details["rootDiskController"], "virtio");
}

#[test]
fn a_test_has_a_name_of_its_own_and_new_addresses() {
    let vm = made(&facts(), &request(FailoverType::Test));
    assert_eq!(vm.name, "web1-test-a1b2c3");
    assert!(vm.display_name.contains(&identity().job_id));
    assert!(vm.nics.iter().all(|nic| nic.mac_address.is_none() && nic.network_id.starts_with("test-")));
    let mut long = facts();
    long.vm.name = "x".repeat(63);
    let name = made(&long, &request(FailoverType::Test)).name;
    assert!(name.len() == 63 && name.ends_with("-test-a1b2c3"), "{name}");
}

#[test]
fn a_name_that_is_taken_or_illegal_is_refused() {
    let named = |name: &str| StartFailover { destination_name: Some(name.to_owned()), ..request(FailoverType::Live) };
    for (name, part) in [("WEB10", "already"), ("web_1", "cannot be the name"), ("web1.example", "cannot be the name")]
    {
        let problems = spec(&facts(), &named(name), &conversion(), &identity()).unwrap_err();
        assert!(problems.len() == 1 && problems[0].detail.contains(part), "{name}: {problems:?}");
    }
    assert_eq!(made(&facts(), &named("web-2")).name, "web-2");
}

#[test]
fn the_offering_is_exact_or_custom_or_larger_or_nothing() {
    let with = |offerings: Vec<ServiceOffering>, wanted: Option<&str>| {
        let mut facts = facts();
        let target = facts.target.as_mut().unwrap();
        (target.offerings, target.wanted_offering_id) = (offerings, wanted.map(str::to_owned));
        spec(&facts, &request(FailoverType::Live), &conversion(), &identity())
    };
    let chosen = with(vec![offering("large", 4, 8192), custom("custom")], None).unwrap();
    assert_eq!((chosen.service_offering_id.as_str(), chosen.cpu_count), ("custom", 2));
    assert_eq!((chosen.details["cpuNumber"].as_str(), chosen.details["memory"].as_str()), ("2", "2048"));
    let larger = with(vec![offering("huge", 16, 65_536), offering("large", 4, 8192)], None).unwrap();
    assert_eq!((larger.service_offering_id.as_str(), larger.memory_mib), ("large", 8192));
    assert!(!larger.details.contains_key("cpuNumber"), "refused for a fixed offering");
    assert!(with(vec![offering("small", 1, 4096)], None).unwrap_err()[0].detail.contains("no service offering"));
    assert!(with(vec![offering("small", 1, 4096)], Some("small")).unwrap_err()[0].detail.contains("too small"));
    assert!(with(Vec::new(), Some("gone")).unwrap_err()[0].detail.contains("not in the zone"));
}

#[test]
fn without_the_right_to_choose_an_id_there_is_none() {
    let mut facts = facts();
    facts.target.as_mut().unwrap().is_root_admin = false;
    assert_eq!(made(&facts, &request(FailoverType::Live)).custom_id, None);
}

proptest! {
    /// However mappings are ordered, every card keeps its place and its MAC address, and none is doubled or lost.
    #[test]
    fn cards_keep_their_order_and_their_addresses(swapped in proptest::collection::vec((0_usize..4, 0_usize..4), 0..8)) {
        let mut facts = facts();
        for (a, b) in swapped {
            facts.mappings.swap(a, b);
        }
        let vm = made(&facts, &request(FailoverType::Live));
        let kept: Vec<&str> = vm.nics.iter().filter_map(|nic| nic.mac_address.as_deref()).collect();
        prop_assert_eq!(kept, MACS);
        let networks: Vec<&str> = vm.nics.iter().map(|nic| nic.network_id.as_str()).collect();
        prop_assert_eq!(networks, ["live-02", "live-01"]);
    }
}
