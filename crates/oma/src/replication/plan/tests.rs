//! Tables for the plan: what is chosen, and that every reason is said at once.

use api::vma::{PreflightFinding, SourceDisk};
use model::status::Firmware;

use super::*;

fn disk(key: u32, committed: bool) -> DiskFacts {
    DiskFacts {
        disk_id: format!("disk-{key}"),
        disk_uuid: format!("uuid-{key}"),
        capacity_bytes: 1 << 30,
        volume_uuid: committed.then(|| format!("volume-{key}")),
        volume_size_bytes: committed.then_some(1 << 30),
        committed: committed.then(|| "52 aa/7".parse().unwrap()),
        unproven: None,
        diverged: false,
        scrub: ScrubFacts::default(),
    }
}

/// No scrub beside.
fn asked(replication_type: RequestedType) -> Wanted {
    Wanted { replication_type, scrub: ScrubRequest::Auto }
}

fn facts(disks: Vec<DiskFacts>) -> Facts {
    Facts {
        vm_name: "web1".into(),
        status: ContextStatus::Discovered,
        running_job: None,
        has_agent: true,
        agent_connected: true,
        has_credential: true,
        has_target: true,
        disks,
        seen: None,
    }
}

fn seen(disks: &[DiskFacts]) -> SourceVm {
    let disks = disks.iter().map(|disk| SourceDisk {
        disk_id: disk.disk_id.clone(),
        device_key: 2000,
        disk_uuid: disk.disk_uuid.clone(),
        vmdk_path: "[ds] web1/web1.vmdk".into(),
        datastore: "ds".into(),
        label: "Hard disk 1".into(),
        capacity_bytes: disk.capacity_bytes,
        controller_type: "pvscsi".into(),
        controller_bus: 0,
        unit_number: 0,
        provisioning_type: "thin".into(),
        disk_mode: "persistent".into(),
        sharing: "sharingNone".into(),
        is_boot_disk: true,
        backing: "FlatVer2".into(),
    });
    SourceVm {
        moref: "vm-1".into(),
        instance_uuid: "i".into(),
        name: "web1".into(),
        path: "/DC0/vm/web1".into(),
        datacenter: "DC0".into(),
        cpu_count: 1,
        memory_mb: 512,
        os_type: String::new(),
        guest_id: String::new(),
        firmware: Firmware::Bios,
        secure_boot: false,
        power_state: "poweredOn".into(),
        vm_tools_version: String::new(),
        cbt_enabled: true,
        cbt_supported: true,
        vm_snapshots: vec![],
        networks: vec![],
        disks: disks.collect(),
        findings: vec![],
        readers: None,
    }
}

#[test]
fn the_type_follows_from_what_is_committed() {
    use RequestedType::{Auto, Compare, Incremental, Initial};
    let cases = [
        (Auto, vec![disk(1, false)], ReplicationType::Initial, 0),
        (Auto, vec![disk(1, true)], ReplicationType::Incremental, 0),
        (Auto, vec![disk(1, true), disk(2, false)], ReplicationType::Initial, 0),
        (Initial, vec![disk(1, true)], ReplicationType::Initial, 0),
        (Incremental, vec![disk(1, true)], ReplicationType::Incremental, 0),
        (Incremental, vec![disk(1, true), disk(2, false)], ReplicationType::Incremental, 1),
        (Compare, vec![disk(1, true)], ReplicationType::Compare, 0),
        (Compare, vec![disk(1, false)], ReplicationType::Initial, 0),
    ];
    for (requested, disks, expected, blockers) in cases {
        let plan = plan(&facts(disks), &asked(requested), None);
        assert_eq!((plan.replication_type, plan.blockers.len()), (expected, blockers), "{requested:?}");
    }
}

#[test]
fn a_replica_whose_digests_are_lost_is_compared_and_never_an_increment() {
    let lost = || DiskFacts { unproven: Some("the file of its digests is gone".into()), ..disk(1, true) };
    let auto = plan(&facts(vec![disk(2, true), lost()]), &asked(RequestedType::Auto), None);
    assert_eq!((auto.replication_type, auto.blockers.len()), (ReplicationType::Compare, 0));
    assert!(auto.disks[1].reason.starts_with("the file of its digests is gone: everything is read"));
    assert!(auto.disks[1].previous_change_id.is_some(), "a reverted VM is still noticed");
    let increment = plan(&facts(vec![lost()]), &asked(RequestedType::Incremental), None);
    assert_eq!(increment.blockers.len(), 1);
    assert_eq!(increment.blockers[0].evidence.as_deref(), Some("the file of its digests is gone"));
    // Without a replica there is nothing to be lost.
    let fresh = DiskFacts { unproven: Some("no".into()), ..disk(1, false) };
    assert_eq!(plan(&facts(vec![fresh]), &asked(RequestedType::Auto), None).replication_type, ReplicationType::Initial);
}

#[test]
fn a_change_id_without_a_volume_is_never_used() {
    let mut orphan = disk(1, true);
    orphan.volume_uuid = None;
    let plan = plan(&facts(vec![orphan]), &asked(RequestedType::Auto), None);
    assert_eq!(plan.replication_type, ReplicationType::Initial);
    assert_eq!(plan.disks[0].previous_change_id, None);
}

#[test]
fn every_reason_is_said_at_once() {
    let mut small = disk(1, true);
    small.volume_size_bytes = Some(5);
    let mut facts = facts(vec![small]);
    facts.running_job = Some("job-1".into());
    facts.status = ContextStatus::FailedOverLive;
    facts.agent_connected = false;
    facts.has_credential = false;
    facts.has_target = false;
    let plan = plan(&facts, &asked(RequestedType::Auto), None);
    assert_eq!(plan.blockers.len(), 6, "{:#?}", plan.blockers);
    assert!(plan.blockers.iter().all(|blocker| blocker.remedy.is_some()));
}

#[test]
fn a_disk_that_changed_since_discovery_is_named() {
    let disks = vec![disk(1, true), disk(2, true), disk(3, true)];
    let mut now = disks.clone();
    now[0].capacity_bytes += 1;
    now[1].disk_uuid = "another".into();
    now[2].disk_id = "disk-9".into();
    let mut facts = facts(disks);
    facts.seen = Some(seen(&now));
    let named: Vec<String> =
        plan(&facts, &asked(RequestedType::Auto), None).blockers.into_iter().map(|blocker| blocker.detail).collect();
    for disk in ["disk-1", "disk-2", "disk-3", "disk-9"] {
        assert!(named.iter().any(|detail| detail.starts_with(disk)), "{disk}: {named:?}");
    }
}

#[test]
fn preflight_blockers_keep_their_remedy_and_warnings_do_not_block() {
    let mut facts = facts(vec![disk(1, true)]);
    let mut source = seen(&facts.disks);
    let finding = |severity, code: &str| PreflightFinding {
        severity,
        code: code.into(),
        disk_id: Some("disk-1".into()),
        message: "disk-1 is independent".into(),
        remedy: "make it dependent".into(),
    };
    source.findings = vec![finding(FindingSeverity::Blocker, "a"), finding(FindingSeverity::Warning, "b")];
    facts.seen = Some(source);
    let plan = plan(&facts, &asked(RequestedType::Auto), None);
    assert_eq!(plan.blockers.len(), 1);
    assert_eq!(plan.blockers[0].remedy.as_deref(), Some("make it dependent"));
}

#[test]
fn only_an_increment_whose_tracking_is_believed_is_scrubbed() {
    let all = |replication_type| Wanted { replication_type, scrub: ScrubRequest::Full };
    let stretch = |disk: DiskFacts, wanted: &Wanted| plan(&facts(vec![disk]), wanted, None).disks.remove(0).scrub;
    let whole = Some(Stretch { offset: 0, length: 1 << 30 });
    assert_eq!(stretch(disk(1, true), &all(RequestedType::Auto)), whole);
    for other in [RequestedType::Initial, RequestedType::Compare] {
        assert_eq!(stretch(disk(1, true), &all(other)), None, "{other:?} reads everything anyway");
    }
    let lying = DiskFacts { scrub: ScrubFacts { is_distrusted: true, ..ScrubFacts::default() }, ..disk(1, true) };
    let planned = plan(&facts(vec![lying]), &all(RequestedType::Auto), None).disks.remove(0);
    assert_eq!(planned.scrub, None);
    assert!(planned.reason.contains("everything is read"), "{}", planned.reason);
}

#[test]
fn a_reader_is_chosen_for_each_disk_unless_one_is_asked_for() {
    use api::vma::ReaderFacts;
    let mut facts = facts(vec![disk(1, true), disk(2, true)]);
    assert_eq!(plan(&facts, &asked(RequestedType::Auto), None).disks[0].reader, None, "the VM was not looked at");
    let mut source = seen(&facts.disks);
    source.disks[1].datastore = "vsan".into();
    let types = [("ds", "VMFS"), ("vsan", "vsan")];
    let types = types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).into();
    source.readers = Some(ReaderFacts { datastore_types: types, ..ReaderFacts::default() });
    facts.seen = Some(source);
    let chosen = plan(&facts, &asked(RequestedType::Auto), None);
    assert_eq!((&chosen.disks[0].reader, &chosen.disks[1].reader), (&Some(ReaderSpec::Folder), &None));
    assert!(chosen.disks[0].reader_reason.as_deref().is_some_and(|reason| reason.contains("VMFS")));
    assert_eq!(chosen.blockers.len(), 1);
    assert_eq!(chosen.blockers[0].detail, "nothing can read disk-2");
    let asked = plan(&facts, &asked(RequestedType::Auto), Some(&ReaderSpec::Hotadd));
    assert!(asked.blockers.is_empty() && asked.disks.iter().all(|disk| disk.reader == Some(ReaderSpec::Hotadd)));
}
