//! One row per finding: what is changed on a sound VM, and what is said about it.

use super::*;
use crate::inventory::tests::sound_vm;
use crate::inventory::{VirtualMachine, VmSnapshot};
use crate::moref::MoRef;

type Change = fn(&mut VirtualMachine);

#[test]
fn a_sound_vm_has_no_findings() {
    assert_eq!(findings(&sound_vm()), []);
}

#[test]
fn every_obstacle_is_named_with_a_remedy() {
    use Severity::{Blocker, Info, Warning};
    let cases: [(&str, Severity, bool, Change); 24] = [
        ("vm_inaccessible", Blocker, false, |vm| vm.connection_state = "inaccessible".to_owned()),
        ("vm_template", Blocker, false, |vm| vm.is_template = true),
        ("vm_fault_tolerance", Blocker, false, |vm| vm.fault_tolerance_state = "running".to_owned()),
        ("vm_snapshots_unsupported", Blocker, false, |vm| vm.vm_snapshots_supported = false),
        ("vm_without_disks", Blocker, false, |vm| vm.disks.clear()),
        ("vm_question_pending", Blocker, false, |vm| vm.question = Some("copied?".to_owned())),
        ("vm_encrypted", Blocker, false, |vm| vm.key_id = Some("k".to_owned())),
        ("vm_consolidation_needed", Warning, false, |vm| vm.consolidation_needed = true),
        ("vm_snapshots_exist", Warning, false, |vm| {
            vm.vm_snapshots.push(VmSnapshot {
                moref: MoRef::vm_snapshot("snapshot-1"),
                name: "nightly".to_owned(),
                description: String::new(),
                created_at: None,
                is_quiesced: false,
                parent: None,
            });
        }),
        ("hardware_version_old", Warning, false, |vm| vm.hardware_version = Some(4)),
        ("cbt_unsupported", Warning, false, |vm| vm.change_tracking_supported = false),
        ("cbt_disabled", Info, false, |vm| vm.change_tracking_enabled = false),
        ("tools_not_running", Warning, false, |vm| vm.tools.running_status = "guestToolsNotRunning".to_owned()),
        ("vm_suspended", Warning, false, |vm| vm.power_state = PowerState::Suspended),
        ("disk_rdm_physical", Blocker, true, |vm| vm.disks[0].rdm_mode = Some(RdmMode::Physical)),
        ("disk_rdm_virtual", Warning, true, |vm| vm.disks[0].rdm_mode = Some(RdmMode::Virtual)),
        ("disk_independent", Blocker, true, |vm| vm.disks[0].disk_mode = "independent_persistent".to_owned()),
        ("disk_independent", Blocker, true, |vm| vm.disks[0].disk_mode = "independent_nonpersistent".to_owned()),
        ("disk_shared", Blocker, true, |vm| vm.disks[0].sharing = "sharingMultiWriter".to_owned()),
        ("disk_shared", Blocker, true, |vm| vm.disks[0].controller_shared_bus = Some("virtualSharing".to_owned())),
        ("disk_encrypted", Blocker, true, |vm| vm.disks[0].key_id = Some("k".to_owned())),
        ("disk_unidentified", Blocker, true, |vm| vm.disks[0].disk_uuid.clear()),
        ("disk_cbt_disabled", Warning, true, |vm| vm.disks[0].is_change_tracking_set = Some(false)),
        ("disk_cbt_unset", Info, true, |vm| vm.disks[0].is_change_tracking_set = None),
    ];
    for (code, severity, is_about_disk, change) in cases {
        let mut vm = sound_vm();
        change(&mut vm);
        let found = findings(&vm);
        let [finding] = found.as_slice() else { panic!("{code}: {found:?}") };
        assert_eq!((finding.code.as_str(), finding.severity), (code, severity));
        assert_eq!(finding.disk.as_deref(), is_about_disk.then_some("disk-2000"), "{code}");
        assert!(!finding.message.is_empty() && !finding.remedy.is_empty(), "{code}");
    }
}

#[test]
fn tools_of_a_vm_that_is_off_do_not_matter_and_the_worst_comes_first() {
    let mut vm = sound_vm();
    vm.power_state = PowerState::PoweredOff;
    vm.tools.running_status.clear();
    assert_eq!(findings(&vm), []);
    vm.change_tracking_enabled = false;
    vm.consolidation_needed = true;
    vm.is_template = true;
    let order: Vec<_> = findings(&vm).iter().map(|finding| finding.severity).collect();
    assert_eq!(order, [Severity::Blocker, Severity::Warning, Severity::Info]);
}
