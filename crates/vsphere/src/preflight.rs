//! What stands in the way of replicating a VM, found before anything is changed. Pure: asks nobody.
//!
//! Every finding names its remedy. Blockers are things that would make a replica wrong or impossible.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::inventory::{PowerState, RdmMode, VirtualDisk, VirtualMachine};

/// First virtual hardware version with change tracking.
const FIRST_TRACKING_HARDWARE_VERSION: u32 = 7;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The VM cannot be replicated like this.
    Blocker,
    /// It can, with a consequence.
    Warning,
    /// Worth knowing.
    Info,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocker => "blocker",
            Self::Warning => "warning",
            Self::Info => "info",
        })
    }
}

/// One thing preflight found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Stable name, such as `disk_independent`.
    pub code: String,
    /// The disk concerned, `disk-<device key>`.
    pub disk: Option<String>,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// Everything worth saying about `vm`, the worst first.
#[must_use]
pub fn findings(vm: &VirtualMachine) -> Vec<Finding> {
    let mut list = Vec::new();
    state_of_vm(vm, &mut list);
    tracking(vm, &mut list);
    guest(vm, &mut list);
    for disk in &vm.disks {
        about_disk(disk, vm, &mut list);
    }
    list.sort_by_key(|finding| finding.severity);
    list
}

fn about(severity: Severity, code: &str, message: impl Into<String>, remedy: &str) -> Finding {
    Finding { severity, code: code.to_owned(), disk: None, message: message.into(), remedy: remedy.to_owned() }
}

fn state_of_vm(vm: &VirtualMachine, list: &mut Vec<Finding>) {
    use Severity::{Blocker, Warning};
    if !matches!(vm.connection_state.as_str(), "" | "connected") {
        let message = format!("the VM is {}: the server has no access to it", vm.connection_state);
        list.push(about(Blocker, "vm_inaccessible", message, "reconnect its host, or register the VM again"));
    }
    if vm.is_template {
        let remedy = "convert it to a VM, or clone a VM from it";
        list.push(about(Blocker, "vm_template", "this is a template: it cannot have vm_snapshots", remedy));
    }
    if !matches!(vm.fault_tolerance_state.as_str(), "" | "notConfigured") {
        let message = format!("fault tolerance is configured ({})", vm.fault_tolerance_state);
        list.push(about(Blocker, "vm_fault_tolerance", message, "turn fault tolerance off for this VM"));
    }
    if !vm.vm_snapshots_supported {
        let message = "the platform does not allow vm_snapshots of this VM";
        list.push(about(Blocker, "vm_snapshots_unsupported", message, "see the other findings for the reason"));
    }
    if vm.disks.is_empty() {
        list.push(about(Blocker, "vm_without_disks", "the VM has no disks", "there is nothing to replicate"));
    }
    if let Some(question) = &vm.question {
        let message = format!("the VM stands still until a question is answered: {question}");
        list.push(about(Blocker, "vm_question_pending", message, "answer the question in vCenter"));
    }
    if let Some(key) = &vm.key_id {
        let message = format!("the VM is encrypted (key {key}): a copy of its files could not be read anywhere else");
        list.push(about(Blocker, "vm_encrypted", message, "decrypt the VM, or copy its contents within the guest"));
    }
    if vm.consolidation_needed {
        let message = "disks still depend on files of removed vm_snapshots";
        list.push(about(Warning, "vm_consolidation_needed", message, "consolidate the VM's disks in vCenter first"));
    }
    if !vm.vm_snapshots.is_empty() {
        let names: Vec<&str> = vm.vm_snapshots.iter().map(|vm_snapshot| vm_snapshot.name.as_str()).collect();
        let message = format!("the VM has vm_snapshots: {}", names.join(", "));
        let remedy = "remove them: with them the first copy reads everything, and slower";
        list.push(about(Warning, "vm_snapshots_exist", message, remedy));
    }
}

fn tracking(vm: &VirtualMachine, list: &mut Vec<Finding>) {
    use Severity::{Info, Warning};
    let too_old = vm.hardware_version.filter(|&version| version < FIRST_TRACKING_HARDWARE_VERSION);
    if let Some(version) = too_old {
        let message =
            format!("virtual hardware version {version} has no change tracking: every cycle compares everything");
        list.push(about(Warning, "hardware_version_old", message, "upgrade the virtual hardware while the VM is off"));
    } else if !vm.change_tracking_supported {
        let message = "the platform cannot track changes of this VM: every cycle compares everything";
        let remedy = "see the other findings; the host may also be too old";
        list.push(about(Warning, "cbt_unsupported", message, remedy));
    } else if !vm.change_tracking_enabled {
        let message = "change tracking is off";
        let remedy = "nothing: the first replication switches it on, without a reboot";
        list.push(about(Info, "cbt_disabled", message, remedy));
    }
}

fn guest(vm: &VirtualMachine, list: &mut Vec<Finding>) {
    if vm.power_state == PowerState::PoweredOn && !vm.tools.is_running() {
        let message = "VMware Tools do not run: copies are crash-consistent, and the guest cannot be shut down cleanly";
        let remedy = "install or start VMware Tools (open-vm-tools) in the guest";
        list.push(about(Severity::Warning, "tools_not_running", message, remedy));
    }
    if vm.power_state == PowerState::Suspended {
        let message = "the VM is suspended: what it holds in memory is not replicated";
        list.push(about(Severity::Warning, "vm_suspended", message, "resume the VM, or shut it down"));
    }
}

fn about_disk(disk: &VirtualDisk, vm: &VirtualMachine, list: &mut Vec<Finding>) {
    use Severity::{Blocker, Info, Warning};
    let mut found = |severity, code: &str, message: String, remedy: &str| {
        list.push(Finding { disk: Some(disk.disk_id()), ..about(severity, code, message, remedy) });
    };
    let label = &disk.label;
    if disk.rdm_mode == Some(RdmMode::Physical) {
        let message =
            format!("{label} is a raw device in physical mode: it has neither vm_snapshots nor change tracking");
        found(Blocker, "disk_rdm_physical", message, "change the mapping to virtual mode, or copy it within the guest");
    } else if disk.rdm_mode == Some(RdmMode::Virtual) {
        let message = format!("{label} is a raw device in virtual mode: the folder reader cannot read it");
        found(Warning, "disk_rdm_virtual", message, "choose the nbd reader for this disk");
    }
    if disk.is_independent() {
        let message = format!("{label} is {}: vm_snapshots leave it out", disk.disk_mode);
        found(Blocker, "disk_independent", message, "set the disk's mode to dependent while the VM is off");
    }
    if disk.is_shared() {
        let mode = disk.controller_shared_bus.as_deref().filter(|mode| *mode != "noSharing").unwrap_or(&disk.sharing);
        let message = format!("{label} is shared with other VMs ({mode}): vm_snapshots are refused");
        found(Blocker, "disk_shared", message, "end the sharing, or copy the disk within the guest");
    }
    if disk.key_id.is_some() && vm.key_id.is_none() {
        let message = format!("{label} is encrypted: a copy of its file could not be read anywhere else");
        found(Blocker, "disk_encrypted", message, "decrypt the disk, or copy its contents within the guest");
    }
    if disk.disk_uuid.is_empty() || disk.capacity_bytes == 0 {
        let message = format!("{label} has no uuid or no size, so it cannot be told from another disk");
        found(Blocker, "disk_unidentified", message, "look at the disk in vCenter: its files may be inaccessible");
    }
    if vm.change_tracking_enabled && disk.is_change_tracking_set == Some(false) {
        let message = format!("{label} is left out of change tracking: every cycle compares it");
        let remedy = "remove the disk's ctkEnabled=FALSE from the VM's settings, or switch tracking off and on again";
        found(Warning, "disk_cbt_disabled", message, remedy);
    } else if vm.change_tracking_enabled && disk.is_change_tracking_set.is_none() {
        let message = format!("{label} has no change tracking setting of its own yet");
        found(Info, "disk_cbt_unset", message, "nothing: the first replication finds out whether it is tracked");
    }
}

#[cfg(test)]
mod tests;
