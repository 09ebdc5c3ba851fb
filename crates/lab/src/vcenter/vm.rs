//! A simulated VM: its hardware, power, VM snapshots, and the operations on them.
//!
//! Operations run on a blocking thread; answers and faults are values, the wire is elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use time::OffsetDateTime;

use super::change_tracking::TrackedPoint;
use super::devices::{self, AttachedDisk, Controller, Nic};
use super::fault::Fault;
use super::spec::{Tools, VmSpec};
use super::value::MoRef;

/// Longest chain of VM snapshots a host allows.
const MAX_VM_SNAPSHOTS: usize = 32;

/// A disk as a VM snapshot recorded it.
#[derive(Debug, Clone)]
pub(crate) struct RecordedDisk {
    pub(crate) device: AttachedDisk,
    pub(crate) point: Option<TrackedPoint>,
}

/// A VM snapshot; the tree of a VM is always a single line, oldest first.
#[derive(Debug, Clone)]
pub(crate) struct VmSnapshot {
    pub(crate) moref: MoRef,
    pub(crate) number: i32,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) created: OffsetDateTime,
    pub(crate) quiesced: bool,
    pub(crate) powered_on: bool,
    pub(crate) disks: Vec<RecordedDisk>,
}

/// What of a VM changes.
#[derive(Debug)]
pub(crate) struct VmState {
    pub(crate) powered_on: bool,
    pub(crate) booted: Option<OffsetDateTime>,
    /// `config.changeTrackingEnabled`; unset before it is first configured.
    pub(crate) change_tracking: Option<bool>,
    pub(crate) annotation: String,
    pub(crate) extra_config: Vec<(String, String)>,
    pub(crate) controllers: Vec<Controller>,
    pub(crate) disks: Vec<AttachedDisk>,
    pub(crate) vm_snapshots: Vec<VmSnapshot>,
    pub(crate) removed_vm_snapshots: Vec<String>,
    pub(crate) consolidation_needed: bool,
    pub(crate) busy: Option<MoRef>,
    next_number: i32,
}

/// A VM of the laboratory.
#[derive(Debug)]
pub(crate) struct Vm {
    pub(crate) spec: VmSpec,
    pub(crate) moref: MoRef,
    pub(crate) parent: MoRef,
    pub(crate) host: MoRef,
    pub(crate) resource_pool: MoRef,
    pub(crate) uuid: String,
    pub(crate) instance_uuid: String,
    pub(crate) created: OffsetDateTime,
    pub(crate) nics: Vec<Nic>,
    pub(crate) state: Mutex<VmState>,
    /// Where copies of frozen content go when a VM snapshot is removed; none = not kept.
    pub(crate) retained: Option<PathBuf>,
}

/// What `CreateSnapshot_Task` asks for.
#[derive(Debug, Clone)]
pub(crate) struct NewVmSnapshot {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) quiesce: bool,
}

impl VmState {
    /// The state a VM starts in.
    pub(crate) fn new(spec: &VmSpec, disks: Vec<AttachedDisk>, now: OffsetDateTime) -> Self {
        Self {
            powered_on: spec.powered_on,
            booted: spec.powered_on.then_some(now),
            change_tracking: spec.change_tracking_enabled.then_some(true),
            annotation: spec.annotation.clone(),
            extra_config: Vec::new(),
            controllers: devices::controllers(spec),
            disks,
            vm_snapshots: Vec::new(),
            removed_vm_snapshots: Vec::new(),
            consolidation_needed: false,
            busy: None,
            next_number: 1,
        }
    }

    /// The VM snapshot with that id.
    pub(crate) fn vm_snapshot(&self, id: &str) -> Option<&VmSnapshot> {
        self.vm_snapshots.iter().find(|snapshot| snapshot.moref.id == id)
    }

    /// A stun: tracking that was switched on or off takes effect.
    fn settle_tracking(&self, vm_snapshots_existed: bool) {
        let wanted = self.change_tracking == Some(true);
        for disk in self.disks.iter().filter(|disk| disk.is_in_vm_snapshots()) {
            if let Some(own) = disk.own() {
                own.settle_tracking(wanted, vm_snapshots_existed);
            }
        }
    }
}

/// `poweredOn` or `poweredOff`.
pub(crate) fn power_text(powered_on: bool) -> &'static str {
    if powered_on { "poweredOn" } else { "poweredOff" }
}

impl Vm {
    /// Whether VMware Tools run right now.
    pub(crate) fn tools_running(&self, state: &VmState) -> bool {
        state.powered_on && self.spec.tools == Tools::Running
    }

    /// Tracking that the specification wants from the start takes effect without a stun.
    pub(crate) fn settle_tracking_at_start(&self) {
        self.state.lock().settle_tracking(false);
    }

    /// Why a VM snapshot cannot be taken, if it cannot.
    fn vm_snapshot_refusal(&self, state: &VmState, name: &str) -> Option<Fault> {
        if name.is_empty() || name.len() > 80 {
            return Some(Fault::new("InvalidName", format!("The name '{name}' is invalid.")));
        }
        if self.spec.template || self.spec.fault_tolerant {
            return Some(Fault::not_supported());
        }
        let shared_bus = state.controllers.iter().any(|controller| controller.shared_bus != "noSharing");
        let unfit = |disk: &AttachedDisk| {
            disk.sharing == "sharingMultiWriter" || disk.raw_device_mode.as_deref() == Some("physicalMode")
        };
        if shared_bus || state.disks.iter().any(unfit) {
            let text = "A device of the virtual machine does not allow snapshots.";
            return Some(Fault::new("SnapshotIncompatibleDeviceInVm", text));
        }
        (state.vm_snapshots.len() >= MAX_VM_SNAPSHOTS)
            .then(|| Fault::new("TooManySnapshotLevels", "Snapshot hierarchy is too deep."))
    }

    /// Takes a VM snapshot: all its disks freeze at one moment.
    pub(crate) fn create_vm_snapshot(&self, wanted: &NewVmSnapshot, now: OffsetDateTime) -> Result<MoRef, Fault> {
        let mut state = self.state.lock();
        if let Some(fault) = self.vm_snapshot_refusal(&state, &wanted.name) {
            return Err(fault);
        }
        let disks = freeze_together(&state.disks, &wanted.id)
            .map_err(|error| Fault::system_error(format!("a disk cannot be frozen: {error}")))?;
        let moref = MoRef::new("VirtualMachineSnapshot", wanted.id.clone());
        let snapshot = VmSnapshot {
            moref: moref.clone(),
            number: state.next_number,
            name: wanted.name.clone(),
            description: wanted.description.clone(),
            created: now,
            quiesced: wanted.quiesce && self.tools_running(&state),
            powered_on: state.powered_on,
            disks,
        };
        state.next_number += 1;
        let existed = !state.vm_snapshots.is_empty();
        state.vm_snapshots.push(snapshot);
        state.settle_tracking(existed);
        Ok(moref)
    }

    /// Removes a VM snapshot (and those above it, if asked) and merges its deltas.
    pub(crate) fn remove_vm_snapshot(&self, id: &str, with_children: bool) -> Result<(), Fault> {
        let doomed: Vec<VmSnapshot> = {
            let mut state = self.state.lock();
            let at = state
                .vm_snapshots
                .iter()
                .position(|snapshot| snapshot.moref.id == id)
                .ok_or_else(|| Fault::not_found_reference(&MoRef::new("VirtualMachineSnapshot", id)))?;
            let end = if with_children { state.vm_snapshots.len() } else { at + 1 };
            state.vm_snapshots.drain(at..end).collect()
        };
        for snapshot in doomed.iter().rev() {
            self.consolidate(snapshot).map_err(|error| {
                self.state.lock().consolidation_needed = true;
                Fault::system_error(format!("consolidation failed: {error}"))
            })?;
        }
        let mut state = self.state.lock();
        state.removed_vm_snapshots.extend(doomed.into_iter().map(|snapshot| snapshot.moref.id));
        let remain = !state.vm_snapshots.is_empty();
        state.settle_tracking(remain);
        Ok(())
    }

    fn consolidate(&self, snapshot: &VmSnapshot) -> std::io::Result<()> {
        for recorded in &snapshot.disks {
            let Some(disk) = recorded.device.own() else { continue };
            if let Some(directory) = self.retained.as_deref().filter(|_| recorded.device.is_in_vm_snapshots()) {
                let path = retained_path(directory, &snapshot.moref.id, recorded.device.key);
                disk.copy_to(&path, Some(&snapshot.moref.id))?;
            }
            disk.consolidate(&snapshot.moref.id)?;
        }
        Ok(())
    }

    /// Removes every VM snapshot.
    pub(crate) fn remove_all_vm_snapshots(&self) -> Result<(), Fault> {
        let first = self.state.lock().vm_snapshots.first().map(|snapshot| snapshot.moref.id.clone());
        first.map_or(Ok(()), |id| self.remove_vm_snapshot(&id, true))
    }

    /// Goes back to the newest VM snapshot; the disks lose what was written since, the VM is off afterwards.
    pub(crate) fn revert(&self, id: &str) -> Result<(), Fault> {
        let mut state = self.state.lock();
        let snapshot = state
            .vm_snapshot(id)
            .cloned()
            .ok_or_else(|| Fault::not_found_reference(&MoRef::new("VirtualMachineSnapshot", id)))?;
        if state.vm_snapshots.last().map(|last| last.moref.id.as_str()) != Some(id) {
            return Err(Fault::not_supported());
        }
        for recorded in &snapshot.disks {
            let Some(disk) = recorded.device.own() else { continue };
            let point = recorded.point.map(|point| point.to_string());
            disk.revert(id, point.as_deref()).map_err(|error| Fault::system_error(error.to_string()))?;
        }
        state.powered_on = false;
        state.booted = None;
        Ok(())
    }

    /// Turns the VM on or off.
    pub(crate) fn set_power(&self, on: bool, now: OffsetDateTime) -> Result<(), Fault> {
        let mut state = self.state.lock();
        if self.spec.template {
            return Err(Fault::not_supported());
        }
        if state.powered_on == on {
            return Err(Fault::invalid_power_state(Some(power_text(on)), power_text(on)));
        }
        state.powered_on = on;
        state.booted = on.then_some(now);
        if on {
            let existed = !state.vm_snapshots.is_empty();
            state.settle_tracking(existed);
        }
        Ok(())
    }

    /// Checks whether the guest can be asked to shut down.
    pub(crate) fn guest_shutdown_refusal(&self) -> Option<Fault> {
        let state = self.state.lock();
        if self.spec.template {
            return Some(Fault::not_supported());
        }
        if !state.powered_on {
            return Some(Fault::invalid_power_state(Some("poweredOff"), "poweredOff"));
        }
        (!self.tools_running(&state)).then(|| {
            Fault::new(
                "ToolsUnavailable",
                "Cannot complete operation because VMware Tools is not running in this virtual machine.",
            )
        })
    }

    /// The attached disk with that key.
    pub(crate) fn disk(&self, key: i32) -> Option<AttachedDisk> {
        self.state.lock().disks.iter().find(|disk| disk.key == key).cloned()
    }
}

/// Where the frozen content of a disk is kept after its VM snapshot was removed.
pub(crate) fn retained_path(directory: &Path, vm_snapshot: &str, disk_key: i32) -> PathBuf {
    directory.join(format!("{vm_snapshot}-{disk_key}.raw"))
}

/// Stops writes on all disks, freezes each, and lets them go on: one moment for all.
fn freeze_together(disks: &[AttachedDisk], vm_snapshot: &str) -> std::io::Result<Vec<RecordedDisk>> {
    let mut stopped = Vec::new();
    for device in disks {
        let own = device.own().filter(|_| device.is_in_vm_snapshots()).map(Arc::clone);
        stopped.push((device, own));
    }
    let mut locks: Vec<_> =
        stopped.iter().map(|(device, own)| (*device, own.as_ref().map(|disk| disk.stop_writes()))).collect();
    locks
        .iter_mut()
        .map(|(device, lock)| {
            let point = match lock {
                Some(disk) => disk.freeze(vm_snapshot)?,
                None => None,
            };
            Ok(RecordedDisk { device: (*device).clone(), point })
        })
        .collect()
}
