//! What stands against a failover, case by case.

use super::*;
use crate::failover::decide::decide;
use crate::failover::fixture::{disk, facts, identity, request};

/// What stands against it, in words.
fn blockers(facts: &Facts, request: &StartFailover) -> Vec<String> {
    let decision = decide(facts, request, &identity());
    assert!(decision.blockers.iter().all(|problem| problem.remedy.is_some() || problem.detail.contains("no disks")));
    decision.blockers.into_iter().map(|problem| problem.detail).collect()
}

#[test]
fn a_complete_replica_can_be_failed_over() {
    for failover_type in [FailoverType::Live, FailoverType::Test] {
        assert_eq!(blockers(&facts(), &request(failover_type)), Vec::<String>::new());
    }
}

#[test]
fn every_reason_is_told_at_once() {
    let mut facts = facts();
    facts.vm.status = ContextStatus::Discovered;
    facts.disks[0].volume = None;
    facts.disks[1].sync_status = DiskSyncStatus::Failed;
    facts.mappings.clear();
    facts.vm.name = "web_1".to_owned();
    let found = blockers(&facts, &StartFailover { final_sync: true, ..request(FailoverType::Test) });
    for part in [
        "a test leaves the source alone",
        "web_1 is discovered, not ready_for_failover",
        "disk-2000 of web_1 has no replica",
        "the replica of disk-2001 is not complete",
        "\"web_1-test-a1b2c3\" cannot be the name",
        "00:50:56:00:00:01",
        "00:50:56:00:00:02",
    ] {
        assert!(found.iter().any(|detail| detail.contains(part)), "{part} in {found:#?}");
    }
}

#[test]
fn what_holds_the_vm_is_named() {
    let mut running = facts();
    running.running_job = Some("job-1".to_owned());
    assert!(blockers(&running, &request(FailoverType::Test))[0].contains("a job works on the replica"));
    let mut held = facts();
    held.held_by = Some("failover-1".to_owned());
    held.vm.status = ContextStatus::FailedOverTest;
    assert_eq!(blockers(&held, &request(FailoverType::Test)), ["web1 is failed over already"]);
    let mut elsewhere = facts();
    elsewhere.disks[2].volume.as_mut().unwrap().held_by_vm = Some("vm-9".to_owned());
    assert!(blockers(&elsewhere, &request(FailoverType::Live))[0].contains("attached to another VM"));
}

#[test]
fn the_target_s_limits_count() {
    let mut facts = facts();
    facts.disks[0].capacity_bytes = 2000 << 30;
    facts.disks[0].volume.as_mut().unwrap().size_bytes = 2000 << 30;
    let target = facts.target.as_mut().unwrap();
    target.capabilities.kvm_snapshot_enabled = false;
    let found = blockers(&facts, &request(FailoverType::Test));
    assert!(found.iter().any(|detail| detail.contains("takes no snapshots")), "{found:?}");
    assert!(found.iter().any(|detail| detail.contains("larger than the zone's largest volume")), "{found:?}");
    facts.target = Err(Problem::new(FailureKind::Unavailable, "the cloud is away").remedy("wait"));
    assert_eq!(blockers(&facts, &request(FailoverType::Test)), ["the cloud is away"]);
}

#[test]
fn the_source_is_asked_only_through_a_connected_agent() {
    let mut facts = facts();
    facts.vm.agent_connected = false;
    assert_eq!(blockers(&facts, &request(FailoverType::Live)), Vec::<String>::new(), "the source may be dead");
    let wanted = StartFailover { power_off_source: PowerOff::Graceful, ..request(FailoverType::Live) };
    assert!(blockers(&facts, &wanted)[0].contains("not connected"));
}

#[test]
fn a_guest_that_needs_conversion_needs_the_tool() {
    let mut facts = facts();
    (facts.vm.guest_id, facts.vm.os_type) =
        ("windows2019srv_64Guest".to_owned(), "Microsoft Windows Server 2019 (64-bit)".to_owned());
    let wanted = request(FailoverType::Test);
    assert!(blockers(&facts, &wanted)[0].contains("virt-v2v-in-place is not installed"));
    let never = StartFailover { guest_conversion: ConversionPolicy::Never, ..wanted.clone() };
    let decision = decide(&facts, &never, &identity());
    assert!(decision.blockers.is_empty(), "{:?}", decision.blockers);
    assert_eq!(decision.conversion.drivers, Drivers::Emulated);
    facts.disks.push(disk(2017, false));
    assert!(blockers(&facts, &never)[0].contains("BIOS guest without virtio"));
    facts.has_conversion_tool = true;
    assert_eq!(blockers(&facts, &wanted), Vec::<String>::new());
    facts.has_windows_drivers = false;
    assert!(blockers(&facts, &wanted)[0].contains("virtio drivers"));
    facts.has_windows_drivers = true;
    facts.disks[0].volume.as_mut().unwrap().device_path = None;
    assert!(blockers(&facts, &wanted)[0].contains("has no device on this hub"));
}

#[test]
fn a_running_source_that_is_left_running_is_worth_a_word() {
    let warnings = |request: &StartFailover| decide(&facts(), request, &identity()).warnings;
    assert!(warnings(&request(FailoverType::Live))[0].contains("both will answer"));
    assert!(warnings(&request(FailoverType::Test)).is_empty());
    let orderly =
        StartFailover { power_off_source: PowerOff::Graceful, final_sync: true, ..request(FailoverType::Live) };
    assert!(warnings(&orderly).is_empty());
}

#[test]
fn names_follow_rfc_1123() {
    for good in ["web1", "a", "Web-01", &"x".repeat(63)] {
        assert_eq!(name_trouble(good), None, "{good}");
    }
    for bad in ["", "1web", "-web", "web-", "web_1", "wéb", "web.example", &"x".repeat(64)] {
        assert!(name_trouble(bad).is_some(), "{bad}");
    }
}
